"""An episode is recorded as it was played, and the writing of any memory is measured alike."""

from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from recurra.agents import ActorCritic
from recurra.envs import TMaze
from recurra.memory import build, names
from recurra.memory.state import fields
from recurra.recipes.episode import record, write_strength


def agent_for(name: str, memory: str = "gru", layers: int = 1, **options: Any) -> ActorCritic:
    env = gymnasium.make(name, **options)
    torch.manual_seed(0)
    return ActorCritic(env.observation_space, env.action_space, memory=memory, dim=16, layers=layers)


@pytest.mark.parametrize("name", names(team=False))
@torch.no_grad()
def test_every_memory_has_a_write_strength(name: str) -> None:
    memory = build(name, 16)
    torch.manual_seed(0)
    states = [memory.initial_state(1)]
    for x in torch.randn(20, 1, 16):
        states.append(memory.step(x, states[-1])[1])
    written = [write_strength(before, after) for before, after in pairwise(states)]
    assert all(0 <= strength <= 2 for strength in written)
    if name == "none":
        assert written == [0.0] * 20
    else:
        assert all(written)
        if not any(tensor.any() for _, tensor in fields(states[0])):  # some begin with weights that were learnt
            assert written[0] == pytest.approx(1)  # into nothing
            assert write_strength(states[-1], states[0]) == pytest.approx(1)  # all erased
    assert write_strength(states[-1], states[-1]) == 0


class Parts(NamedTuple):
    numbers: Tensor
    position: Tensor


def test_strength_is_the_change_over_the_size_and_positions_do_not_count() -> None:
    def strength(before: list[float], after: list[float]) -> float:
        return write_strength(
            Parts(torch.tensor([before]), torch.tensor([3])), Parts(torch.tensor([after]), torch.tensor([4]))
        )

    assert strength([3.0, 4.0], [3.0, 4.0]) == 0
    assert strength([3.0, 4.0], [-3.0, -4.0]) == pytest.approx(2)
    assert strength([30.0, 40.0], [33.0, 44.0]) == pytest.approx(1 / 11)
    assert strength([33.0, 44.0], [30.0, 40.0]) == pytest.approx(1 / 11)
    assert strength([3.0], [3.0, 4.0]) == pytest.approx(4 / 5)  # a state that grows


def test_a_recording_is_what_the_agent_did_there() -> None:
    agent = agent_for("recurra/TMazeActive-v0", layers=2, memory="delta_net")
    episode = record(agent, {"id": "recurra/TMazeActive-v0", "corridor": 4}, seed=3)
    steps = len(episode.rewards)
    assert steps == 7
    assert episode.strengths.shape == (steps, 2)
    assert len(episode.observations) == len(episode.actions) == len(episode.places) == steps
    assert len(episode.pictures) == len(episode.captions) == steps + 1
    assert "success" in episode.captions[-1] or "failure" in episode.captions[-1]
    maze = TMaze(corridor=4, oracle=1)
    obs, _ = maze.reset(seed=3)
    state: Any = None
    for step in range(steps):
        assert episode.places[step] == maze.place[0]
        np.testing.assert_array_equal(episode.observations[step], obs)
        action, state = agent.act(obs, state)
        assert episode.actions[step] == action
        obs, reward, *_ = maze.step(int(action))
        assert episode.rewards[step] == reward


def test_a_recording_stops_where_it_is_told() -> None:
    agent = agent_for("recurra/TMaze-v0")
    episode = record(agent, {"id": "recurra/TMaze-v0", "corridor": 10_000}, seed=0, most=20)
    assert len(episode.rewards) == 20


def test_an_environment_that_is_no_maze_is_recorded_too(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from recurra.recipes.report import strengths

    episode = record(agent_for("CartPole-v1"), {"id": "CartPole-v1"}, seed=0)
    assert episode.pictures == episode.places == []
    assert episode.strengths.shape == (len(episode.rewards), 1)
    strengths(episode, tmp_path / "memory.svg")
    assert "<svg" in (tmp_path / "memory.svg").read_text()


@pytest.mark.parametrize("name", ["recurra/TMaze-v0", "recurra/TMazeActive-v0", "recurra/TMazeEndless-v0"])
def test_the_picture_of_a_maze(tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    from recurra.recipes.report import strengths

    for memory in ("none", "delta_net"):
        episode = record(agent_for(name, memory=memory, layers=2), {"id": name, "corridor": 3}, seed=0)
        strengths(episode, tmp_path / f"{memory}.svg")
        assert "<svg" in (tmp_path / f"{memory}.svg").read_text()
