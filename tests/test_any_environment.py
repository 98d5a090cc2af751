"""Any environment: acting step by step and reading again to learn agree exactly, whatever is shown and done."""

import copy
import itertools
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra import agents
from recurra.agents import ActorCritic
from recurra.agents.moments import Moments
from recurra.agents.spaces import leaves, tensors
from recurra.envs import Streams
from recurra.envs.vector import SAME_STEP, Transition
from recurra.errors import UserError
from recurra.memory import state as states
from recurra.recipes.evaluation import play
from recurra.recipes.ppo import PPO, sequences
from recurra.recipes.rollout import Collector
from recurra.recipes.settings import PPOOptions

MODES = getattr(gymnasium.vector, "AutoresetMode", None)
NEXT_STEP: dict[str, Any] = {"autoreset_mode": MODES.NEXT_STEP} if MODES else {}
BOTH = [SAME_STEP, NEXT_STEP] if MODES else [{}]

PLANE = spaces.Box(-1.0, 1.0, (2,), np.float32)
OBSERVATIONS: dict[str, spaces.Space] = {
    "box": PLANE,
    "discrete": spaces.Discrete(4, start=1),
    "picture": spaces.Box(0, 255, (5, 5, 3), np.uint8),
    "multi-discrete": spaces.MultiDiscrete([3, 2]),
    "multi-binary": spaces.MultiBinary(3),
    "tuple": spaces.Tuple([spaces.Discrete(3), PLANE]),
    "dict": spaces.Dict(
        camera=spaces.Box(0, 255, (4, 4), np.uint8),
        body=spaces.Dict(angle=spaces.Box(-9, 9, (), np.float64), hands=spaces.Tuple([PLANE, spaces.Discrete(2)])),
    ),
}
ACTIONS: dict[str, spaces.Space] = {
    "discrete": spaces.Discrete(3, start=2),
    "multi-discrete": spaces.MultiDiscrete([3, 2]),
    "multi-binary": spaces.MultiBinary(2),
    "box": spaces.Box(-0.5, 0.5, (2, 1), np.float32),
}


class Noise(gymnasium.Env[Any, Any]):
    """Shows what it draws from a space; its episodes are of 3 to 9 steps and are cut or end."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.left = int(self.np_random.integers(3, 10))
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        assert self.action_space.contains(action)
        self.left -= 1
        ends = self.np_random.random() < 0.5
        over = self.left == 0
        return self.observation_space.sample(), float(self.np_random.normal()), over and ends, over and not ends, {}


def noise(seen: str, done: str, mode: dict[str, Any], count: int = 3) -> Streams:
    def make() -> Noise:
        return Noise(copy.deepcopy(OBSERVATIONS[seen]), copy.deepcopy(ACTIONS[done]))

    return Streams(SyncVectorEnv([make] * count, **mode))


class Recorded:
    """Streams that keep what they gave."""

    def __init__(self, streams: Streams) -> None:
        self.streams, self.given = streams, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.streams, name)

    def step(self, actions: Any) -> Transition:
        self.given.append(self.streams.step(actions))
        return self.given[-1]


def make_agent(streams: Streams, **options: Any) -> ActorCritic:
    torch.manual_seed(1)
    agent = ActorCritic(
        streams.observation_space, streams.action_space, **{"memory": "gru", "dim": 8, "expansion": 0, **options}
    )
    torch.nn.init.normal_(agent.actor.weight)  # a fresh actor is nearly indifferent
    return agent.double()


TOLD: dict[str, dict[str, bool]] = {
    "nothing": {},
    "action": {"previous_action": True},
    "reward": {"previous_reward": True},
    "normalized": {"normalize_observations": True},
    "all": {"previous_action": True, "previous_reward": True, "normalize_observations": True},
}
CASES = [(seen, done, "nothing", SAME_STEP) for seen in OBSERVATIONS for done in ACTIONS]
CASES += [(seen, done, "all", NEXT_STEP) for seen in OBSERVATIONS for done in ACTIONS]
CASES += [(*case, mode) for case in itertools.product(("box", "dict"), ("discrete", "box"), TOLD) for mode in BOTH]


@pytest.mark.parametrize(("seen", "done", "told", "mode"), CASES)
def test_learning_reads_exactly_what_acting_read(seen: str, done: str, told: str, mode: dict[str, Any]) -> None:
    streams: Any = Recorded(noise(seen, done, mode))
    agent = make_agent(streams, **TOLD[told])
    collector = Collector(streams, seed=0, discount=0.9, scale_rewards=False)
    before = collector.collect(agent, steps=5, sequence=5)  # so that the next begins amid episodes
    agent.watch(before.tokens, first=before.first, present=before.present)
    streams.given.clear()
    rollout = collector.collect(agent, steps=24, sequence=8)
    assert (rollout.first & rollout.present).sum() > 5

    batch = sequences(rollout, 8, discount=0.9, gae_lambda=0.9)
    output, _ = agent(batch.tokens, batch.starts, first=batch.first, present=batch.present)
    present = batch.present
    log_probs = output.policy.log_prob(batch.actions)
    torch.testing.assert_close(log_probs[present], batch.log_probs[present], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(output.value, torch.cat(rollout.values.split(8, 1)), rtol=1e-10, atol=1e-10)

    # Where an episode was cut, its last observation's value follows: read once more, from the episode's first on.
    cuts = 0
    for time, step in enumerate(streams.given):
        expected = torch.from_numpy(step.reward)
        final = tensors(streams.observation_space, step.final_obs)
        final = (*final, *agent.previous(rollout.actions[:, time], step.reward))
        known = rollout.first[:, : time + 1].any(1)
        for row in np.flatnonzero(step.truncated & known.numpy()):
            begun = int(rollout.first[row, : time + 1].nonzero()[-1])
            pairs = zip(rollout.tokens, final, strict=True)
            tokens = tuple(torch.cat((leaf[row, begun : time + 1], last[row, None]))[None] for leaf, last in pairs)
            read, _ = agent(tokens, first=torch.arange(len(tokens[0][0]))[None] == 0)
            expected[row] += 0.9 * read.value[0, -1]
            cuts += 1
        known |= ~torch.from_numpy(step.truncated)
        torch.testing.assert_close(rollout.rewards[known, time], expected[known], rtol=1e-10, atol=1e-10)
    assert cuts > 2


EVALUATED = [(seen, done, "nothing") for seen in OBSERVATIONS for done in ACTIONS]
EVALUATED += [("dict", done, told) for done in ACTIONS for told in TOLD]


@pytest.mark.parametrize(("seen", "done", "told"), EVALUATED)
def test_evaluation_plays_what_act_plays(seen: str, done: str, told: str) -> None:
    agent = make_agent(noise(seen, done, SAME_STEP), **TOLD[told])
    collector = Collector(noise(seen, done, SAME_STEP), seed=0, discount=0.9)
    rollout = collector.collect(agent, steps=5, sequence=5)
    agent.watch(rollout.tokens, first=rollout.first, present=rollout.present)
    with torch.inference_mode():
        played = play(agent, noise(seen, done, SAME_STEP), episodes=9, seed=5)
    streams = noise(seen, done, SAME_STEP)
    (obs, first), state, reward, totals = streams.reset(seed=5), None, None, np.zeros(3)
    acted: list[list[float]] = [[], [], []]
    while min(map(len, acted)) < 3:
        actions, state = agent.act(obs, state, first, reward)
        step = streams.step(actions)
        totals += step.reward
        for row in np.flatnonzero(step.terminated | step.truncated):
            acted[row].append(totals[row])
            totals[row] = 0
        obs, first, reward = step.obs, step.first, step.reward
    assert sorted(total for row in acted for total in row[:3]) == pytest.approx(sorted(one.total for one in played))


def test_an_agent_is_told_what_it_did_and_earned_and_nothing_of_other_episodes(tmp_path: Path) -> None:
    streams = noise("box", "box", SAME_STEP)
    agent = make_agent(streams, previous_action=True, previous_reward=True)
    torch.nn.init.normal_(agent.actor.weight, std=0.01)  # within the bounds
    obs, _ = streams.reset(seed=0)
    actions, state = agent.act(obs)

    def acts(first: Any, reward: Any, state: Any = state) -> np.ndarray:
        return agent.act(obs, state, first, reward)[0]

    begun = acts(np.ones(3, bool), [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(begun, actions)  # neither the reward nor the action of before counts at a beginning
    np.testing.assert_array_equal(acts(np.ones(3, bool), np.full(3, np.nan)), actions)
    np.testing.assert_array_equal(acts(np.ones(3, bool), None), actions)
    going_on = acts(None, [1.0, 2.0, 3.0])
    assert (acts(None, [1.0, 2.0, 4.0]) != going_on).any((1, 2)).tolist() == [False, False, True]
    other = state._replace(action=-state.action)
    assert (acts(None, [1.0, 2.0, 3.0], other) != going_on).any()
    np.testing.assert_array_equal(acts(np.array([True, True, False]), [1.0, 2.0, 3.0], other)[:2], actions[:2])
    with pytest.raises(UserError, match=r"is told its rewards: act\(obs, state, first, reward\)"):
        acts(None, None)
    # The state of such an agent is saved like any other.
    states.save(state, tmp_path / "state")
    again = states.load(tmp_path / "state", like=agent.initial_state(1))
    np.testing.assert_array_equal(acts(None, [1.0, 2.0, 3.0], again), going_on)


def test_what_is_told_of_bounded_actions_is_what_was_done() -> None:
    agent = make_agent(noise("box", "box", SAME_STEP), previous_action=True)
    drawn = torch.tensor([[[2.0], [-0.2]]], dtype=torch.float64)
    torch.testing.assert_close(agent.previous(drawn, [0.0])[0], torch.tensor([[0.5, -0.2]], dtype=torch.float64))
    np.testing.assert_allclose(agent.actions.to_environment(drawn), [[[0.5], [-0.2]]])


@settings(max_examples=20, deadline=None)
@given(pieces=st.lists(st.integers(0, 9), max_size=5), offset=st.sampled_from([0.0, 1e4]), seed=st.integers(0, 99))
def test_moments_of_pieces_are_those_of_the_whole(pieces: list[int], offset: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    seen = [offset + torch.randn(count, 2, 3, generator=draw, dtype=torch.float64) for count in pieces]
    moments = Moments((2, 3)).half()  # whatever the agent's precision
    for piece in seen:
        moments.update(piece)
    whole = torch.cat([*seen, torch.zeros(0, 2, 3)])
    assert moments.mean.dtype == torch.float64
    assert int(moments.count) == len(whole)
    if len(whole):
        torch.testing.assert_close(moments.mean, whole.mean(0))
        torch.testing.assert_close(moments.deviation(), whole.std(0, correction=0))
    else:
        assert (moments.deviation() == 1).all()


def test_numbers_are_normalised_and_pictures_and_codes_are_not() -> None:
    agent = make_agent(noise("dict", "discrete", SAME_STEP), normalize_observations=True, previous_reward=True)
    collector = Collector(noise("dict", "discrete", SAME_STEP), seed=0, discount=0.9)
    rollout = collector.collect(agent, steps=50, sequence=50)
    seen = [part(leaf) for part, leaf in zip(agent.encoder.parts, rollout.tokens, strict=True)]
    before = [numbers.double() for numbers in seen]
    agent.watch(rollout.tokens, first=rollout.first, present=rollout.present)
    after = [part(leaf).double() for part, leaf in zip(agent.encoder.parts, rollout.tokens, strict=True)]
    names = [*dict(leaves(OBSERVATIONS["dict"])), "reward"]
    assert names == ["camera", "body.angle", "body.hands.0", "body.hands.1", "reward"]
    for name, was, now in zip(names, before, after, strict=True):
        if name in ("body.hands.1", "camera"):
            assert torch.equal(was, now), name
            continue
        counted = now[~rollout.first] if name == "reward" else now.flatten(0, 1)
        torch.testing.assert_close(counted.mean(0), torch.zeros_like(counted[0]), atol=1e-6, rtol=0)
        torch.testing.assert_close(counted.std(0, correction=0), torch.ones_like(counted[0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("told", TOLD)
def test_an_agent_keeps_what_it_knows_of_observations_and_returns(told: str, tmp_path: Path) -> None:
    streams = noise("dict", "discrete", SAME_STEP)
    agent = make_agent(streams, **TOLD[told]).float()
    rollout = Collector(streams, seed=0, discount=0.9).collect(agent, steps=9, sequence=9)
    agent.watch(rollout.tokens, first=rollout.first, present=rollout.present)
    agents.save(agent, tmp_path)
    loaded = agents.load(tmp_path)
    assert loaded.config == agent.config
    found = loaded.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in agent.state_dict().items())
    assert found["returns.count"] == 3 + 27
    moments = [name for name in found if name.endswith(("count", "mean", "squares"))]
    assert len(moments) == 3 * (1 + 2 * agent.config["normalize_observations"] + (told == "all"))
    assert {found[name].dtype for name in moments} == {torch.float64}


class Patchy:
    """Streams whose absent tokens hold NaN: in every observation, reward and whole number that may hold it."""

    def __init__(self, streams: Streams, garbage: float) -> None:
        self.streams, self.garbage, self.present = streams, garbage, np.ones(streams.num, bool)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.streams, name)

    def step(self, actions: Any) -> Transition:
        step = self.streams.step(actions)
        step.reward[~self.present] = self.garbage
        step.obs[0][~step.present] = -99  # beyond the codes
        step.obs[1][~step.present] = self.garbage
        self.present = step.present
        return step


@pytest.mark.skipif(MODES is None, reason="gymnasium before 1.1 knows no NEXT_STEP")
@pytest.mark.parametrize("told", TOLD)
def test_what_absent_slots_hold_leaks_nowhere(told: str) -> None:
    def learnt(garbage: float) -> tuple[dict[str, torch.Tensor], list[Any], dict[str, float]]:
        streams: Any = Patchy(noise("tuple", "discrete", NEXT_STEP), garbage)
        agent = make_agent(streams, **TOLD[told])
        collector = Collector(streams, seed=0, discount=0.9)
        learner = PPO(agent, collector, options=PPOOptions(rollout=16, sequence=8, minibatches=2), updates=9, seed=0)
        optimizer = learner.configure_optimizers()
        learner.optimizers = lambda *_, **__: optimizer  # type: ignore[method-assign, assignment]
        learner.manual_backward = lambda loss, **_: loss.backward()  # type: ignore[method-assign]
        for update in range(3):
            learner.training_step(None, update)
        assert (~collector.present).any() or len(collector.episodes) > 3
        figures = {name: figure for name, figure in learner.metrics.items() if name != "success_rate"}
        return agent.state_dict(), [episode[:2] for episode in collector.episodes], figures

    (weights, episodes, figures), (others, other_episodes, other_figures) = learnt(0.0), learnt(np.nan)
    assert episodes == other_episodes
    assert figures == other_figures
    assert all(tensor.isfinite().all() for tensor in weights.values())
    assert all(torch.equal(tensor, others[name]) for name, tensor in weights.items())
