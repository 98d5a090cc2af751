"""Acting in streams: what a rollout says is what one reading of its sequences says, and acting can be saved."""

import math
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.agents import ActorCritic
from recurra.envs import Streams, make_streams
from recurra.envs.vector import SAME_STEP
from recurra.memory import state as states
from recurra.recipes.rollout import Collector, RewardScale, Rollout

MODES = getattr(gymnasium.vector, "AutoresetMode", None)
NEXT_STEP: dict[str, Any] = {"autoreset_mode": MODES.NEXT_STEP} if MODES else {}


class Counter(gymnasium.Env[np.ndarray, Any]):
    """Shows the number of the episode and of the step; rewards 1 a step; ends after ``length`` of them."""

    def __init__(self, length: int, *, terminates: bool) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.length, self.terminates = length, terminates
        self.episode, self.time = 0, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        self.episode, self.time = self.episode + 1, 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.time += 1
        over = self.time == self.length
        return self._observe(), 1.0, over and self.terminates, over and not self.terminates, {}

    def _observe(self) -> np.ndarray:
        return np.array([self.episode / 4, self.time / 4], np.float32)


def counters(*lengths: int, terminates: bool, mode: dict[str, Any] = SAME_STEP) -> Streams:
    makers = [lambda length=length: Counter(length, terminates=terminates) for length in lengths]
    return Streams(SyncVectorEnv(makers, **mode))


def make_agent(streams: Streams, memory: str = "gru") -> ActorCritic:
    torch.manual_seed(1)
    return ActorCritic(streams.observation_space, streams.action_space, memory=memory, dim=16)


def sequences(rollout: Rollout, sequence: int) -> Iterator[tuple[slice, Any]]:
    for index, start in enumerate(rollout.starts):
        yield slice(index * sequence, (index + 1) * sequence), start


@pytest.mark.parametrize("memory", ["gru", "delta_net"])
@pytest.mark.parametrize("sequence", [24, 8, 3])
@pytest.mark.parametrize("mode", [SAME_STEP, NEXT_STEP], ids=["same-step", "next-step"])
def test_one_reading_of_the_sequences_gives_what_stepping_gave(
    memory: str, sequence: int, mode: dict[str, Any]
) -> None:
    streams = counters(3, 5, 7, 100, terminates=True, mode=mode)
    agent = make_agent(streams, memory)
    collector = Collector(streams, seed=0, discount=0.9)
    collector.collect(agent, steps=7, sequence=7)  # so that the next begins amid episodes
    rollout = collector.collect(agent, steps=24, sequence=sequence)
    assert len(rollout.starts) == 24 // sequence
    for piece, start in sequences(rollout, sequence):
        present = rollout.present[:, piece]
        output, _ = agent(rollout.tokens[0][:, piece], start, first=rollout.first[:, piece], present=present)
        log_probs = output.policy.log_prob(rollout.actions[:, piece])
        torch.testing.assert_close(output.value[present], rollout.values[:, piece][present], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(log_probs[present], rollout.log_probs[:, piece][present], atol=1e-5, rtol=1e-5)
    flags = {name: torch.as_tensor(getattr(collector, name)) for name in ("first", "present")}
    with torch.no_grad():  # the collector's own state cannot be learnt from
        following, _ = agent.step(collector.obs, collector.memory, **flags)
    torch.testing.assert_close(following.value, rollout.next_value)


@pytest.mark.parametrize("mode", [SAME_STEP, NEXT_STEP], ids=["same-step", "next-step"])
def test_a_cut_episode_goes_on_with_the_value_of_its_last_observation(mode: dict[str, Any]) -> None:
    lengths, discount = (3, 5, 7), 0.9
    streams = counters(*lengths, terminates=False, mode=mode)
    agent = make_agent(streams)
    rollout = Collector(streams, seed=0, discount=discount, scale_rewards=False).collect(agent, steps=16, sequence=16)
    for row, length in enumerate(lengths):
        start = 0
        for end in rollout.ends[row].nonzero().flatten().tolist():
            assert rollout.first[row, start]
            assert end - start + 1 == length
            episode = rollout.tokens[0][row, start : end + 1]
            # The last observation is not in the rollout: it is the one that the next episode's replaced.
            last = torch.tensor([[float(episode[0, 0]), length / 4]])
            output, _ = agent(torch.cat((episode, last)).unsqueeze(0))
            assert rollout.rewards[row, end].item() == pytest.approx(
                1 + discount * output.value[0, -1].item(), rel=1e-5
            )
            torch.testing.assert_close(rollout.rewards[row, start:end], torch.ones(length - 1))
            start = int(rollout.first[row, end + 1 :].int().argmax()) + end + 1
        assert rollout.ends[row].any()


@pytest.mark.parametrize("mode", [SAME_STEP, NEXT_STEP], ids=["same-step", "next-step"])
def test_an_episode_that_terminated_does_not_go_on(mode: dict[str, Any]) -> None:
    streams = counters(3, 5, terminates=True, mode=mode)
    collector = Collector(streams, seed=0, discount=0.9, scale_rewards=False)
    rollout = collector.collect(make_agent(streams), steps=16, sequence=16)
    assert torch.equal(rollout.rewards, rollout.present.float())
    assert rollout.ends.any()


@pytest.mark.skipif(MODES is None, reason="gymnasium before 1.1 knows no NEXT_STEP")
def test_a_terminal_observation_shown_in_its_own_step_is_absent_and_counts_nowhere() -> None:
    streams = counters(3, 5, terminates=True, mode=NEXT_STEP)
    collector = Collector(streams, seed=0, discount=0.9, scale_rewards=False)
    rollout = collector.collect(make_agent(streams), steps=13, sequence=13)
    # An episode of length n takes n steps and one that shows where it ended.
    for row, length in enumerate((3, 5)):
        phase = torch.arange(13) % (length + 1)
        assert torch.equal(rollout.present[row], phase != length)
        assert torch.equal(rollout.first[row], phase == 0)
        assert torch.equal(rollout.ends[row], phase == length - 1)
    figures = sorted((episode.total, episode.length) for episode in collector.take_finished())
    assert figures == [(3.0, 3)] * 3 + [(5.0, 5)] * 2
    assert all(math.isnan(episode.success) for episode in collector.episodes)
    assert collector.take_finished() == []


@settings(max_examples=25, deadline=None)
@given(
    streams=st.integers(1, 5), steps=st.integers(1, 30), discount=st.sampled_from([0.0, 0.9, 1.0]), seed=st.integers(0)
)
def test_rewards_are_scaled_by_the_deviation_of_all_discounted_returns_so_far(
    streams: int, steps: int, discount: float, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    rewards, ends = draw.normal(3.0, 2.0, (steps, streams)), draw.random((steps, streams)) < 0.2
    under_way, seen, expected = np.zeros(streams), [np.zeros(streams)], []
    for reward, end in zip(rewards, ends, strict=True):
        under_way = discount * under_way + reward
        seen.append(under_way.copy())
        expected.append(reward / np.sqrt(np.var(seen) + 1e-8))
        under_way[end] = 0.0
    scale, present, cut = RewardScale(streams, discount), np.ones((steps, streams), bool), steps // 3
    pieces = [slice(0, cut), slice(cut, steps)] if cut else [slice(0, steps)]  # in however many pieces they come
    scaled = np.concatenate([scale(rewards[piece], ends[piece], present[piece]) for piece in pieces])
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e5])
def test_the_first_rewards_are_scaled_to_order_one_though_they_are_equal(size: float) -> None:
    scaled = RewardScale(16, 0.99)(np.full((1, 16), size), np.zeros((1, 16), bool), np.ones((1, 16), bool))
    np.testing.assert_allclose(scaled, 2.0, rtol=0.05)


def test_a_saved_scale_goes_on_alike() -> None:
    draw = np.random.default_rng(0)
    scale, other, present = RewardScale(3, 0.9), RewardScale(3, 0.9), np.ones((5, 3), bool)
    scale(draw.normal(size=(5, 3)), draw.random((5, 3)) < 0.3, present)
    other.load_state_dict(scale.state_dict())
    rewards, ends = draw.normal(size=(5, 3)), draw.random((5, 3)) < 0.3
    np.testing.assert_array_equal(scale(rewards, ends, present), other(rewards, ends, present))


def test_an_agent_hands_the_scale_of_its_rewards_to_the_next_collector() -> None:
    streams = counters(3, 5, terminates=True)
    agent = make_agent(streams)
    one, other = (Collector(streams, seed=0, discount=0.9) for _ in range(2))
    one.collect(agent, steps=9, sequence=9)
    assert int(agent.returns.count) == 2 + 18
    under_way, seen = np.zeros(2), [np.zeros(2)]
    for time in range(1, 10):
        under_way = 0.9 * under_way + 1
        seen.append(under_way.copy())
        under_way[[time % 3 == 0, time % 5 == 0]] = 0
    assert float(agent.returns.deviation()) == pytest.approx(np.std(seen))
    other.collect(agent, steps=1, sequence=1)
    assert int(agent.returns.count) == 2 + 18 + 2


def plain(value: Any) -> bool:
    """Whether a checkpoint may hold it: tensors and plain containers only."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(plain(inner) for inner in value)
    return type(value) in (int, float, bool, str, type(None), torch.Tensor)


def test_a_saved_collector_goes_on_alike() -> None:
    def make() -> Collector:
        streams = make_streams("recurra/TMaze-v0", 5, corridor=(1, 4))
        return Collector(streams, seed=3, discount=0.9, window=7)

    collector, other = make(), make()
    agent = make_agent(collector.streams, "delta_net")
    before = collector.state_dict()
    assert before["memory"] is None
    collector.collect(agent, steps=13, sequence=13)
    collector.take_finished()
    saved = collector.state_dict()
    assert plain(saved)
    other.collect(agent, steps=2, sequence=2)  # what is loaded stands alone
    other.take_finished()
    other.load_state_dict(saved, agent)
    assert list(other.episodes) == list(collector.episodes)
    torch.manual_seed(0)
    rollout = collector.collect(agent, steps=11, sequence=11)
    torch.manual_seed(0)
    again = other.collect(agent, steps=11, sequence=11)
    for (name, one), (_, two) in zip(states.fields(rollout), states.fields(again), strict=True):
        assert torch.equal(one, two), name
    assert list(other.episodes) == list(collector.episodes)
    assert other.take_finished() == collector.take_finished() != []
    other.load_state_dict(before, agent)
    assert other.memory is None
    assert other.first.all()


def test_a_restart_begins_every_episode_anew() -> None:
    streams = make_streams("CartPole-v1", 3)
    collector = Collector(streams, seed=0, discount=0.9)
    agent = make_agent(streams)
    torch.manual_seed(0)
    first = collector.collect(agent, steps=5, sequence=5)
    collector.restart(seed=0)
    assert not collector.returns.any()
    assert not collector.lengths.any()
    torch.manual_seed(0)
    again = collector.collect(agent, steps=5, sequence=5)
    assert again.first[:, 0].all()
    assert torch.equal(*first.tokens, *again.tokens)
    for name in ("first", "actions", "values", "ends", "next_value"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name


def test_only_the_last_episodes_are_kept() -> None:
    streams = counters(2, 3, terminates=True)
    collector = Collector(streams, seed=0, discount=0.9, window=4)
    collector.collect(make_agent(streams), steps=30, sequence=30)
    assert len(collector.episodes) == 4
    finished = collector.take_finished()
    assert len(finished) == 15 + 10
    assert {episode.total for episode in finished} == {2.0, 3.0}
    assert finished[-4:] == list(collector.episodes)


def test_absent_steps_do_not_count_in_the_scale() -> None:
    scale = RewardScale(2, 0.9)
    scale(np.array([[3.0, 0.0]]), np.zeros((1, 2), bool), np.array([[True, False]]))
    assert scale.count == 3  # the two at the start, and one
