"""Any environment: acting step by step and reading again to learn agree exactly, whatever is shown and done."""

import copy
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

from recurra.agents import ActorCritic
from recurra.agents.spaces import tensors
from recurra.envs import Streams
from recurra.envs.vector import SAME_STEP, Transition
from recurra.recipes.evaluation import play
from recurra.recipes.ppo import sequences
from recurra.recipes.rollout import Collector

MODES = getattr(gymnasium.vector, "AutoresetMode", None)
NEXT_STEP: dict[str, Any] = {"autoreset_mode": MODES.NEXT_STEP} if MODES else {}

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


@pytest.mark.parametrize("mode", [SAME_STEP, NEXT_STEP], ids=["same-step", "next-step"])
@pytest.mark.parametrize("done", ACTIONS)
@pytest.mark.parametrize("seen", OBSERVATIONS)
def test_learning_reads_exactly_what_acting_read(seen: str, done: str, mode: dict[str, Any]) -> None:
    streams: Any = Recorded(noise(seen, done, mode))
    agent = make_agent(streams)
    collector = Collector(streams, seed=0, discount=0.9, scale_rewards=False)
    collector.collect(agent, steps=5, sequence=5)  # so that the next begins amid episodes
    streams.given.clear()
    rollout = collector.collect(agent, steps=24, sequence=8)
    assert (rollout.first & rollout.present).sum() > 5

    batch = sequences(rollout, 8, discount=0.9, trace=0.9)
    output, _ = agent(batch.obs, batch.starts, first=batch.first, present=batch.present)
    present = batch.present
    log_probs = output.policy.log_prob(batch.actions)
    torch.testing.assert_close(log_probs[present], batch.log_probs[present], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(output.value, torch.cat(rollout.values.split(8, 1)), rtol=1e-10, atol=1e-10)

    # Where an episode was cut, its last observation's value follows: read once more, from the episode's first on.
    cuts = 0
    for time, step in enumerate(streams.given):
        expected = torch.from_numpy(step.reward)
        final = tensors(streams.observation_space, step.final_obs)
        known = rollout.first[:, : time + 1].any(1)
        for row in np.flatnonzero(step.truncated & known.numpy()):
            begun = int(rollout.first[row, : time + 1].nonzero()[-1])
            tokens = zip(rollout.obs, final, strict=True)
            read, _ = agent(
                tuple(torch.cat((leaf[row, begun : time + 1], last[row, None]))[None] for leaf, last in tokens)
            )
            expected[row] += 0.9 * read.value[0, -1]
            cuts += 1
        known |= ~torch.from_numpy(step.truncated)
        torch.testing.assert_close(rollout.rewards[known, time], expected[known], rtol=1e-10, atol=1e-10)
    assert cuts > 2


@pytest.mark.parametrize("done", ACTIONS)
@pytest.mark.parametrize("seen", OBSERVATIONS)
def test_evaluation_plays_what_act_plays(seen: str, done: str) -> None:
    agent = make_agent(noise(seen, done, SAME_STEP))
    with torch.inference_mode():
        played = play(agent, noise(seen, done, SAME_STEP), episodes=9, seed=5)
    streams = noise(seen, done, SAME_STEP)
    (obs, first), state, totals = streams.reset(seed=5), None, np.zeros(3)
    acted: list[list[float]] = [[], [], []]
    while min(map(len, acted)) < 3:
        actions, state = agent.act(obs, state, first)
        step = streams.step(actions)
        totals += step.reward
        for row in np.flatnonzero(step.terminated | step.truncated):
            acted[row].append(totals[row])
            totals[row] = 0
        obs, first = step.obs, step.first
    assert sorted(total for row in acted for total in row[:3]) == pytest.approx(sorted(one.total for one in played))
