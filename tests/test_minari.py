"""Minari data sets become trajectories, and trajectories Minari data sets, bit for bit."""

import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Tuple

from recurra.envs.trajectories import Episode, Store, Writer
from recurra.envs.trajectories import minari as bridge
from recurra.errors import UserError
from recurra.spaces import split

SPACES = {
    "plain": (Box(-1, 1, (3,)), Discrete(4)),
    "pictures": (Box(0, 255, (8, 8, 3), np.uint8), Box(-1, 1, (2,))),
    "rich": (Dict(a=Box(0, 1, (2,)), b=Tuple([Discrete(3), Box(-5, 5, (), np.float64)])), Discrete(2)),
}


def store(path, observation_space, action_space):
    random = np.random.default_rng(0)
    observation_space.seed(0)
    action_space.seed(0)
    with Writer(path, observation_space=observation_space, action_space=action_space) as out:
        for _ in range(5):
            length = int(random.integers(1, 9))
            for t in range(length):
                over, cut = (t == length - 1) * random.permutation([1, random.integers(2)])
                out.add(
                    observation_space.sample(),
                    action_space.sample(),
                    random.normal(),
                    terminated=over,
                    truncated=cut,
                    final=observation_space.sample(),
                )
    return Store(path)


@pytest.mark.parametrize("kind", SPACES)
def test_there_and_back_again_is_the_same(tmp_path, monkeypatch, kind):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    mine = store(tmp_path / "mine", *SPACES[kind])
    made = bridge.write(mine, f"recurra/{kind}-v0", author="who knows")
    assert made.total_episodes == len(mine)
    assert minari.load_dataset(f"recurra/{kind}-v0").total_steps == mine.steps
    back = bridge.read(f"recurra/{kind}-v0", tmp_path / "back")
    back.verify()
    for one, other in zip(mine, back, strict=True):
        leaves = (split(mine.observation_space, episode.observations) for episode in (one, other))
        for ours, theirs in zip(*leaves, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(one.actions, other.actions)
        assert one.rewards.tobytes() == other.rewards.tobytes()
        assert one[3:] == other[3:]
    assert [episode.length for episode in bridge.episodes(made)] == mine.lengths.tolist()
    with pytest.raises(UserError, match="cannot be made"):
        bridge.write(mine, "no id at all -v")


def test_what_minari_recorded_is_read(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    pytest.importorskip("jax")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    env = minari.DataCollector(gymnasium.make("CartPole-v1"))
    for seed in range(3):
        env.reset(seed=seed)
        over = False
        while not over:
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            over = terminated or truncated
    made = env.create_dataset("recurra/cartpole-v0")
    mine = bridge.read(made, tmp_path / "mine")
    assert mine.lengths.tolist() == [len(one) for one in made]
    assert all(isinstance(one, Episode) and one.terminated for one in mine)
    with pytest.raises(UserError, match="minari download"):
        bridge.read("recurra/nothing-v0", tmp_path / "other")


def test_without_the_package_a_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(UserError, match=r"pip install 'recurra\[minari\]'"):
        bridge.read("any/thing-v0", tmp_path)
    with pytest.raises(UserError, match=r"pip install 'recurra\[minari\]'"):
        bridge.write(store(tmp_path / "mine", *SPACES["plain"]), "any/thing-v0")
