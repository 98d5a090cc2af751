"""Acting in many environments at once, and keeping what an update needs of it."""

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recurra.agents import Acting, ActorCritic
from recurra.agents.encoder import Leaves
from recurra.agents.moments import Moments
from recurra.agents.spaces import tensors
from recurra.envs import Streams, Teams
from recurra.memory import state as states
from recurra.recipes.compiling import compiled


class Rollout(NamedTuple):
    """What happened in ``time`` steps of ``batch`` environments; every tensor is ``(batch, time, ...)``.

    Where they are of teams, all but ``first`` have an axis of agents next.

    Attributes:
        tokens: what was acted upon: a tensor for each leaf of the observations, and for what the agent is told of what
            was before.
        first: whether the observation begins an episode.
        present: whether the observation was to be acted upon; what is absent counts nowhere.
        actions: as the policy drew them.
        log_probs: of the actions, under the policy that drew them.
        values: the critic's, of the observations.
        rewards: that followed, scaled; where an episode was truncated, with the discounted value of its last
            observation, computed with the memory before its reset.
        ends: whether the episode ended after the action, terminated or truncated.
        next_value: ``(batch,)`` the critic's value of the observation after the last.
        starts: the memory's states at the starts of sequences of equal length: a state of ``batch`` streams for each.
    """

    tokens: Leaves
    first: Tensor
    present: Tensor
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    rewards: Tensor
    ends: Tensor
    next_value: Tensor
    starts: list[Any]


class Episode(NamedTuple):
    """An episode that ended: its return, its length in steps, its success (NaN where the environment tells none)."""

    total: float
    length: int
    success: float


@dataclass
class _Acted:
    """What is known while acting, step by step; all else is found for all steps at once.

    Attributes:
        taken: of each step what was read, the features and the actions.
        came: of each step the rewards, the ends (of agents, and of episodes), the successes, and the ``first`` and
            ``present`` of what was read.
        cut: where episodes were truncated the step, the streams and the values that they would have gone on with.
        starts: see `Rollout`.
        following: features of the observations after the last step.
    """

    taken: list[tuple[Leaves, Tensor, Tensor]] = field(default_factory=list)
    came: list[tuple[np.ndarray, ...]] = field(default_factory=list)
    cut: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)
    starts: list[Any] = field(default_factory=list)
    following: Tensor = field(default_factory=lambda: torch.empty(0))


def fresh(agent: Acting, streams: Streams | Teams) -> Any:
    """Give the state that an agent's steps begin from, in all streams."""
    return agent.begin(streams.num, streams.shape[1] if agent.team else None)


@contextmanager
def drawing(sample: bool, seed: int) -> Iterator[None]:
    """Draw actions by a seed of their own, if they are drawn; random numbers of others go on as they would without."""
    with torch.random.fork_rng(enabled=sample):
        if sample:
            torch.manual_seed(seed)
        yield


class RewardScale:
    """Divides rewards by the running standard deviation of discounted returns, so that the critic's errors are near 1.

    As in the reward scaling of PPO's first implementation (Engstrom et al. 2020, arXiv 2005.12729, Section 2). An agent
    keeps the moments for whoever goes on training it; meanwhile they stand here, each process's its own.
    """

    def __init__(self, streams: int, discount: float) -> None:
        self.discount = discount
        self.returns = np.zeros(streams)
        # Of all returns seen: number, mean, sum of squared deviations. Every stream's return of 0 before its first step
        # counts, or equal rewards in the first step would have no deviation to be divided by.
        self.count, self.mean, self.squares = streams, 0.0, 0.0

    def __call__(self, rewards: np.ndarray, ends: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Take rewards ``(time, streams)`` into account where they are ``present``; scale each by all until then."""
        seen = np.empty_like(rewards)
        for time, (reward, end) in enumerate(zip(rewards, ends, strict=True)):
            seen[time] = self.returns = self.discount * self.returns + reward
            self.returns[end] = 0.0
        # Moments after each step, from sums of how far the returns are from the mean before.
        away = np.where(present, seen - self.mean, 0.0)
        counts = self.count + present.sum(1).cumsum()
        sums = away.sum(1).cumsum()
        squares = self.squares + np.square(away).sum(1).cumsum() - sums**2 / counts
        self.mean += float(sums[-1] / counts[-1])
        self.count, self.squares = int(counts[-1]), float(squares[-1])
        return rewards / np.sqrt(squares / counts + 1e-8)[:, None]

    def take_up(self, moments: Moments) -> None:
        """Go on from what an agent knows, if it knows any and nothing was seen here yet."""
        if self.count == len(self.returns) and moments.count:
            self.count, self.mean, self.squares = int(moments.count), float(moments.mean), float(moments.squares)

    def hand_over(self, moments: Moments) -> None:
        """Let the agent know."""
        for buffer, number in ((moments.count, self.count), (moments.mean, self.mean), (moments.squares, self.squares)):
            buffer.fill_(number)

    def state_dict(self) -> dict[str, Any]:
        """Hold the moments and the returns under way."""
        return {name: getattr(self, name) for name in ("count", "mean", "squares")} | {"returns": self.returns.tolist()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken."""
        self.count, self.mean, self.squares = saved["count"], saved["mean"], saved["squares"]
        self.returns = np.array(saved["returns"])


class Collector:
    """Environments, the agent's place in each of their episodes, and a memory state for each.

    Args:
        streams: the environments, or teams.
        seed: of their first reset.
        discount: gamma, of the values that cut episodes are continued with.
        scale_rewards: see `RewardScale`; the figures of episodes are of the rewards as they came.
        window: how many of the last episodes the running figures are over.
        compile: compile what is acted by, see `recurra.recipes.compiling`.
    """

    def __init__(
        self,
        streams: Streams | Teams,
        *,
        seed: int,
        discount: float,
        scale_rewards: bool = True,
        window: int = 256,
        compile: bool = False,
    ) -> None:
        self.streams, self.discount = streams, discount
        self.scale = RewardScale(math.prod(streams.shape), discount) if scale_rewards else None
        self._begin(seed)
        self.returns, self.lengths = np.zeros(streams.num), np.zeros(streams.num, np.int64)
        self.episodes: deque[Episode] = deque(maxlen=window)
        self._finished: list[Episode] = []
        self._responder = compiled(ActorCritic.respond) if compile else ActorCritic.respond

    def _begin(self, seed: int) -> None:
        obs, self.first = self.streams.reset(seed=seed)
        self.obs = tensors(self.streams.observation_space, obs)
        self.present = self.streams.present
        self.memory: Any = None
        self.previous: Leaves | None = None

    def restart(self, seed: int) -> None:
        """Begin every environment's episode anew: what a checkpoint of environments that cannot be saved needs."""
        self._begin(seed)
        self.returns[:], self.lengths[:] = 0, 0
        if self.scale is not None:
            self.scale.returns[:] = 0

    def collect(self, agent: ActorCritic, *, steps: int, sequence: int) -> Rollout:
        """Act for ``steps`` steps, keeping the memory's state at the start of every ``sequence`` of them."""
        if self.scale is not None:
            self.scale.take_up(agent.returns)
        with torch.inference_mode():  # quicker than no_grad, where steps are many and small
            acted = self._act(agent, steps, sequence)
        # Outside again: what is made in inference mode cannot be learnt from.
        tokens, features, actions = states.transform(lambda *column: torch.stack(column, 1), *acted.taken)
        earned, ended, over, successes, began, there = (np.stack(column) for column in zip(*acted.came, strict=True))
        self._count(earned, over, successes, there)
        scaled = earned
        if self.scale is not None:
            flat = (array.reshape(steps, -1) for array in (earned, ended, there))
            scaled = self.scale(*flat).reshape(earned.shape)
            self.scale.hand_over(agent.returns)
        with torch.no_grad():
            policy, values = agent.decide(features)
            log_probs = policy.log_prob(actions)
            next_value = agent.decide(acted.following.clone()).value
        rewards, ends, first, present = (
            torch.as_tensor(array.swapaxes(0, 1), device=agent.device).contiguous()
            for array in (scaled, ended, began, there)
        )
        rewards = rewards.to(values.dtype)
        for time, rows, value in acted.cut:
            rewards[rows, time] += self.discount * value
        return Rollout(
            tokens=tokens,
            first=first,
            present=present,
            actions=actions,
            log_probs=log_probs,
            values=values,
            rewards=rewards,
            ends=ends,
            next_value=next_value,
            starts=[states.transform(torch.clone, start) for start in acted.starts],
        )

    def _act(self, agent: ActorCritic, steps: int, sequence: int) -> _Acted:
        if self.memory is None:
            self.memory = fresh(agent, self.streams)
        if self.previous is None:
            self.previous = agent.no_previous(self.streams.num)
        # A checkpoint's are on the CPU.
        self.obs, self.memory, self.previous = states.move((self.obs, self.memory, self.previous), agent.device)
        acted = _Acted()
        # Of all steps at once: small draws cost as large ones.
        noise = agent.actions.noise(steps + 1, *self.streams.shape)
        for time in range(steps):
            if time % sequence == 0:
                acted.starts.append(self.memory)
            tokens = (*self.obs, *self.previous)
            features, actions, after = self._respond(agent, tokens, noise[time])
            step = self.streams.step(agent.actions.to_environment(actions))
            earned = np.where(self.present, step.reward, 0.0)
            previous = agent.previous(actions, earned)
            lost = step.truncated & ~step.terminated
            if lost.any():
                final = (*agent.observe(step.final_obs), *previous)
                acted.cut.append((time, *self._missed(agent, final, after, lost)))
            acted.taken.append((tokens, features, actions))
            ended = step.terminated | step.truncated
            acted.came.append((earned, ended, step.over, step.success, self.first, self.present))
            self.obs, self.previous, self.memory = agent.observe(step.obs), previous, after
            self.first, self.present = step.first, step.present
        acted.following, _, _ = self._respond(agent, (*self.obs, *self.previous), noise[steps])
        return acted

    def _respond(self, agent: ActorCritic, tokens: Leaves, noise: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Read an observation of each stream and draw actions; flags that say nothing are left out: that is quicker."""
        first = torch.as_tensor(self.first, device=agent.device) if self.first.any() else None
        present = None if self.present.all() else torch.as_tensor(self.present, device=agent.device)
        return self._responder(agent, tokens, self.memory, noise=noise, first=first, present=present)

    def _missed(self, agent: ActorCritic, final: Leaves, after: Any, lost: np.ndarray) -> tuple[Tensor, Tensor]:
        """Value the final observations of what was cut: which streams, and their values, of a team's agents all."""
        there = torch.as_tensor(lost, device=agent.device)
        rows = there.reshape(len(there), -1).any(1)
        final, after, present = states.select((final, after, (there,)), rows)
        output, _ = agent.step(final, after, present=present[0] if agent.team else None)
        return rows, output.value * present[0]

    def take_finished(self) -> list[Episode]:
        """Give the episodes that ended since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def state_dict(self) -> dict[str, Any]:
        """Hold all that acting goes on from, in plain containers and tensors."""
        return {
            "streams": self.streams.state_dict() if self.streams.saves else None,
            "obs": list(self.obs),
            "previous": None if self.previous is None else list(self.previous),
            "first": torch.as_tensor(self.first),
            "present": torch.as_tensor(self.present),
            "memory": None if self.memory is None else dict(states.fields(self.memory)),
            "scale": None if self.scale is None else self.scale.state_dict(),
            "returns": self.returns.tolist(),
            "lengths": self.lengths.tolist(),
            "episodes": [list(episode) for episode in self.episodes],
        }

    def load_state_dict(self, saved: dict[str, Any], agent: ActorCritic) -> None:
        """Go on from where `state_dict` was taken."""
        if saved["streams"] is not None:
            self.streams.load_state_dict(saved["streams"])
        self.obs = tuple(saved["obs"])
        self.previous = None if saved["previous"] is None else tuple(saved["previous"])
        self.first, self.present = (saved[name].numpy() for name in ("first", "present"))
        self.memory = None
        if saved["memory"] is not None:
            self.memory = states.rebuild(saved["memory"], fresh(agent, self.streams))
        if self.scale is not None:
            self.scale.load_state_dict(saved["scale"])
        self.returns, self.lengths = np.array(saved["returns"]), np.array(saved["lengths"], np.int64)
        self.episodes.clear()
        self.episodes.extend(Episode(*episode) for episode in saved["episodes"])

    def _count(self, rewards: np.ndarray, ends: np.ndarray, successes: np.ndarray, present: np.ndarray) -> None:
        """Count episodes in what came of steps ``(time, streams)``; of a team its agents' mean return."""
        if rewards.ndim == 3:
            rewards, present = np.mean(rewards, 2), np.any(present, 2)
        for time, ended in enumerate(ends):
            self.returns += rewards[time]
            self.lengths += present[time]
            for index in np.flatnonzero(ended):
                episode = Episode(float(self.returns[index]), int(self.lengths[index]), float(successes[time, index]))
                self.episodes.append(episode)
                self._finished.append(episode)
            self.returns[ended], self.lengths[ended] = 0, 0
