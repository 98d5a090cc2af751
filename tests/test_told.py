"""What agents are told is learnt from: their last action and reward, without a memory, and pictures."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from recurra.recipes import train


class Lottery(gymnasium.Env[int, int]):
    """Two urns, one of which pays, another in each episode of ten draws; there is nothing to see."""

    observation_space, action_space = spaces.Discrete(1), spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict]:
        super().reset(seed=seed)
        self.pays, self.left = int(self.np_random.integers(2)), 10
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict]:
        self.left -= 1
        return 0, float(action == self.pays), self.left == 0, False, {}


class Dot(gymnasium.Env[np.ndarray, int]):
    """A bright dot in the left or the right half of a dark picture; to say where earns 1, ten times."""

    observation_space, action_space = spaces.Box(0, 255, (8, 8, 3), np.uint8), spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.left = 10
        return self.show(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.left -= 1
        earned = float(action == self.side)  # of the picture that was shown
        return self.show(), earned, self.left == 0, False, {}

    def show(self) -> np.ndarray:
        picture = np.zeros((8, 8, 3), np.uint8)
        row, column = self.np_random.integers(8, size=2)
        picture[row, column] = 255
        self.side = int(column >= 4)
        return picture


gymnasium.register("Lottery-v0", entry_point=Lottery)
gymnasium.register("Dot-v0", entry_point=Dot)
SHORT = {"memory": "none", "dim": 16, "environments": 16, "ppo.rollout": 32, "ppo.sequence": 32, "threads": 1}


@pytest.mark.parametrize(
    ("told", "reached"),
    [
        ({"previous_action": True, "previous_reward": True}, (9.0, 9.8)),  # the first draw is luck
        ({"previous_action": True}, (4.0, 6.0)),
        ({"previous_reward": True}, (4.0, 6.0)),  # which urn it was is forgotten
    ],
)
def test_an_agent_without_memory_draws_again_where_it_was_paid(
    told: dict[str, bool], reached: tuple[float, float], tmp_path: Path
) -> None:
    options = {**SHORT, **told, "env.id": "Lottery-v0", "steps": 8_000, "ppo.learning_rate": 1e-2}
    result = train("gym", root=str(tmp_path), **options)
    assert reached[0] < result["metrics"]["mean_return"] < reached[1]


def test_an_agent_sees_where_a_dot_is(tmp_path: Path) -> None:
    options = {**SHORT, "env.id": "Dot-v0", "steps": 8_000, "ppo.learning_rate": 3e-3}
    assert train("gym", root=str(tmp_path), **options)["metrics"]["mean_return"] > 8.5
