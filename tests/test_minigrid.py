"""MiniGrid's worlds, whose observations hold codes, a direction and a text, are trained in, measured and recorded."""

import math
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Text

from recurra import agents
from recurra.envs import make_streams
from recurra.envs.cells import Cells
from recurra.envs.making import make_single
from recurra.envs.seeking import plan
from recurra.envs.trajectories import Store
from recurra.errors import UserError
from recurra.recipes import evaluate, record, train

SMALL = {"environments": 4, "steps": 512, "dim": 8, "memory": "gru", "ppo.rollout": 64, "ppo.sequence": 64}


class Telling(gymnasium.Env):
    """Shows a view of cells, and says what is to be done."""

    action_space = Discrete(3)
    observation_space = Dict(
        image=Box(0, 255, (5, 5, 3), np.uint8),
        mission=Text(40, charset="abcdefghijklmnopqrstuvwxyz "),
        place=Discrete(4),
    )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._show(), {}

    def step(self, action):
        return self._show(), 0.0, bool(self.np_random.integers(2)), False, {}

    def _show(self):
        image = self.np_random.integers([11, 6, 4], size=(5, 5, 3), dtype=np.uint8)
        return {"image": image, "mission": "go to the matching object", "place": 2}


gymnasium.register("Telling/Memory-v0", entry_point=Telling)
for other in ("MiniGrid-Alike-v0", "MiniGrid-Other-v0"):
    gymnasium.register(other, entry_point=Telling)


def test_parts_are_left_out_by_their_names() -> None:
    streams = make_streams("Telling/Memory-v0", 3, leave_out="mission")
    assert list(streams.observation_space) == ["image", "place"]
    obs, _ = streams.reset(seed=0)
    assert list(obs) == ["image", "place"]
    assert list(make_streams("Telling/Memory-v0", 1, leave_out=["mission", "image"]).observation_space) == ["place"]
    with pytest.raises(UserError, match="no part 'misson' to leave out; did you mean 'mission'"):
        make_streams("Telling/Memory-v0", 1, leave_out="misson")
    with pytest.raises(UserError, match="have none"):
        make_streams("CartPole-v1", 1, leave_out="mission")
    with pytest.raises(UserError, match="have none"):
        make_streams("recurra/TMaze-v0", 1, leave_out="mission")


def test_what_cannot_be_read_is_told_with_the_way_around_it(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"part mission: Text is not supported; .*--env\.leave_out mission does without$"
    ):
        train("gym", root=str(tmp_path), **{"env.id": "Telling/Memory-v0", **SMALL})


def test_views_are_codes_of_cells_and_stay_as_they_are(tmp_path: Path) -> None:
    env = make_single("MiniGrid-Alike-v0", leave_out="mission")
    assert env.observation_space["image"] == MultiDiscrete(np.tile([11, 6, 4], (5, 5, 1)), dtype=np.uint8)
    obs, _ = env.reset(seed=0)
    assert obs in env.observation_space
    np.testing.assert_array_equal(obs["image"], Telling().reset(seed=0)[0]["image"])
    plain = gymnasium.make("CartPole-v1")
    assert Cells(plain).observation_space == plain.observation_space


def test_agents_of_cells_are_trained_measured_recorded_and_act_on_what_the_world_shows(tmp_path: Path) -> None:
    result = train("minigrid", root=str(tmp_path), **{"env.id": "MiniGrid-Alike-v0", **SMALL})
    assert math.isfinite(result["metrics"]["policy_loss"])
    assert evaluate(result["run"], episodes=3)["episodes"] == 3
    assert evaluate(result["run"], env={"id": "MiniGrid-Other-v0"}, episodes=3)["episodes"] == 3
    told = record("MiniGrid-Alike-v0", str(tmp_path / "store"), policy=result["run"], episodes=5)
    assert told["episodes"] == 5
    assert Store(tmp_path / "store")[0].observations["image"].dtype == np.uint8
    agent = agents.load(result["run"])
    action, _ = agent.act(Telling().reset(seed=0)[0])  # with the mission, and bytes for cells
    assert action in range(3)


@pytest.mark.parametrize("id", ["MiniGrid-MemoryS7-v0", "MiniGrid-MemoryS13Random-v0", "MiniGrid-DoorKey-5x5-v0"])
def test_worlds_of_minigrid_keep_to_the_codes(id: str, tmp_path: Path) -> None:
    pytest.importorskip("minigrid")
    streams = make_streams(id, 2, leave_out="mission")
    obs, _ = streams.reset(seed=0)
    for _ in range(50):
        assert {name: part[0] for name, part in obs.items()} in streams.observation_space
        obs = streams.step(np.random.default_rng(0).integers(7, size=2)).obs
    result = train("minigrid", root=str(tmp_path), **{"env.id": id, **SMALL})
    assert math.isfinite(evaluate(result["run"], episodes=2)["mean_return"])


@pytest.mark.parametrize("size", ["S7", "S13", "S17Random"])
def test_the_oracle_sees_the_object_before_it_goes_to_the_one_that_is_alike(size: str, tmp_path: Path) -> None:
    pytest.importorskip("minigrid")
    id = f"MiniGrid-Memory{size}-v0"
    told = record(id, str(tmp_path), policy="oracle", episodes=60, options={"leave_out": "mission"})
    assert told["mean_return"] > 0.97  # 1, less a little for every step
    assert Store(tmp_path).returns.min() > 0.9
    world = make_single(id, leave_out="mission").unwrapped
    for seed in range(20):
        before, _ = world.reset(seed=seed)
        actions = plan(world)
        np.testing.assert_array_equal(world.gen_obs()["image"], before["image"])  # planning moves nothing
        seen, over, reward = False, False, 0.0
        for action in actions:
            assert not over
            place = world.relative_coords(1, world.height // 2 - 1)
            seen = seen or (place is not None and world.gen_obs()["image"][place][0] in (5, 6))
            _, reward, over, *_ = world.step(action)
        assert seen
        assert over
        assert reward > 0.9


def test_where_there_is_no_oracle_the_message_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="MiniGrid-Alike-v0 has no oracle"):
        record("MiniGrid-Alike-v0", str(tmp_path / "new"), policy="oracle", options={"leave_out": "mission"})
