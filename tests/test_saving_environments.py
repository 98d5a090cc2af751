"""Environments that offer their state go on from it exactly; others begin anew at checkpoints, and the run says so."""

import io
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from safetensors.torch import load_file

from recurra.envs import Streams, make_streams
from recurra.envs.vector import SAME_STEP
from recurra.errors import UserError
from recurra.recipes import train
from recurra.recipes.callbacks import Checkpoints


class Walk(gymnasium.Env):
    """A random walk that ends where it leaves -3..3; it can be saved."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place = float(self.np_random.normal())
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        self.place += float(self.np_random.normal()) + 0.1 * int(action)
        return self._seen(), self.place, abs(self.place) > 3, False, {}

    def _seen(self) -> np.ndarray:
        return np.array([self.place, self.np_random.normal()], np.float32)

    def state_dict(self) -> dict[str, Any]:
        return {"place": self.place, "random": self.np_random.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.place = state["place"]
        self.np_random.bit_generator.state = state["random"]


class Arrays(Walk):
    def state_dict(self) -> dict[str, Any]:
        return {"place": [np.float64(self.place)]}


class Doubling(gymnasium.ActionWrapper):
    """A wrapper that may keep anything."""

    def action(self, action: Any) -> Any:
        return action


class Remembered(gymnasium.Wrapper):
    """A wrapper of the user's own that answers for all that it wraps."""

    def state_dict(self) -> dict[str, Any]:
        return {"inner": self.env.unwrapped.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.env.unwrapped.load_state_dict(state["inner"])


KINDS = {"SavedWalk-v0": Walk, "SavedArrays-v0": Arrays, "UnsavedPole-v0": CartPoleEnv}


@pytest.fixture(scope="module", autouse=True)
def registered() -> Any:
    for name, kind in KINDS.items():
        gymnasium.register(name, entry_point=kind, max_episode_steps=7)
    yield
    for name in KINDS:
        del gymnasium.registry[name]


def walk(streams: Streams, actions: np.ndarray) -> list[list[Any]]:
    return [[np.asarray(part).tolist() for part in streams.step(row)] for row in actions]


@settings(max_examples=25, deadline=None)
@given(before=st.integers(0, 30), after=st.integers(1, 30), seed=st.integers(0, 1000))
def test_a_restored_environment_goes_on_as_the_saved_one(before: int, after: int, seed: int) -> None:
    actions = np.random.default_rng(seed).integers(0, 2, (before + after, 3))
    streams = make_streams("SavedWalk-v0", 3)
    assert streams.saves
    streams.reset(seed=seed)
    walk(streams, actions[:before])
    saved = json.loads(json.dumps(streams.state_dict()))
    other = make_streams("SavedWalk-v0", 3)
    other.load_state_dict(saved)
    assert str(walk(other, actions[before:])) == str(walk(streams, actions[before:]))  # as text: NaN is NaN


def test_only_what_is_whole_is_saved() -> None:
    def saves(make: Any, **mode: Any) -> bool:
        return Streams(SyncVectorEnv([make] * 2, **mode)).saves

    assert saves(Walk, **SAME_STEP)
    assert saves(lambda: TimeLimit(Walk(), 5), **SAME_STEP)
    assert saves(lambda: TimeLimit(Remembered(Doubling(Walk())), 5), **SAME_STEP)
    assert not saves(lambda: Doubling(Walk()), **SAME_STEP)
    assert not saves(CartPoleEnv, **SAME_STEP)
    if SAME_STEP:  # elsewhere the vector environment keeps a state of its own
        assert not saves(Walk)


SMALL: dict[str, Any] = {"steps": 6 * 64, "environments": 4, "ppo.rollout": 16, "ppo.sequence": 16, "dim": 8}
SMALL |= {"memory": "gru", "threads": 1, "checkpoint_every": 2}


def crashed(name: str, crash: int, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Train, with a crash at a checkpoint on the way."""
    write, written = Checkpoints.write, []

    def fail(self: Checkpoints, trainer: Any, module: Any) -> None:
        written.append(module.done)
        if len(written) == crash:
            raise OSError("the power is cut")
        write(self, trainer, module)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "write", fail)
        with pytest.raises(UserError, match="the power is cut"):
            train("gym", root=str(root), **{**SMALL, "env.id": name})
    return Path(train("gym", resume="auto", root=str(root))["run"])


@pytest.mark.parametrize("name", ["SavedWalk-v0", "UnsavedPole-v0"])
@pytest.mark.parametrize("crash", [1, 2, 3])
def test_a_crash_changes_nothing(name: str, crash: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    console = Console(file=said, width=200)
    whole = train("gym", root=str(tmp_path / "whole"), console=console, **{**SMALL, "env.id": name})["run"]
    begins_anew = "this environment cannot be saved: episodes begin anew at each checkpoint, every 2 updates"
    assert (begins_anew in said.getvalue()) == (name == "UnsavedPole-v0")
    other = crashed(name, crash, tmp_path / "crashed", monkeypatch)
    weights, others = (load_file(Path(run, "agent", "model.safetensors")) for run in (whole, other))
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_what_can_be_saved_is_not_interrupted_by_checkpoints(tmp_path: Path) -> None:
    def weights(name: str, every: int) -> dict[str, torch.Tensor]:
        run = train("gym", root=str(tmp_path), **{**SMALL, "env.id": name, "checkpoint_every": every})["run"]
        return load_file(Path(run, "agent", "model.safetensors"))

    often, rarely = weights("SavedWalk-v0", 1), weights("SavedWalk-v0", 100)
    assert all(torch.equal(often[name], rarely[name]) for name in often)


def test_a_state_that_a_checkpoint_cannot_hold_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="state_dict of Arrays holds a float64: give dicts, lists, numbers"):
        train("gym", root=str(tmp_path), **{**SMALL, "env.id": "SavedArrays-v0"})
    assert not list(tmp_path.iterdir())
