"""Acting in many environments at once, and keeping what an update needs of it."""

from collections import deque
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recurra.agents import ActorCritic
from recurra.agents.encoder import Leaves
from recurra.agents.moments import Moments
from recurra.agents.spaces import tensors
from recurra.envs import Streams
from recurra.memory import state as states


class Rollout(NamedTuple):
    """What happened in ``time`` steps of ``batch`` environments; every tensor is ``(batch, time, ...)``.

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


class _Step(NamedTuple):
    """What is kept of a step of all environments; see `Rollout`."""

    tokens: Leaves
    first: Tensor
    present: Tensor
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    rewards: Tensor
    ends: Tensor


class Episode(NamedTuple):
    """An episode that ended: its return, its length in steps, its success (NaN where the environment tells none)."""

    total: float
    length: int
    success: float


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
        """Take the rewards ``(streams,)`` of a step into account where they are ``present``, and scale them."""
        self.returns = self.discount * self.returns + rewards
        seen = self.returns[present]
        if len(seen):  # merged as in `Moments`, but in plain numbers: this happens at every step
            count, mean = self.count + len(seen), float(seen.mean())
            self.squares += float(seen.var()) * len(seen) + (mean - self.mean) ** 2 * self.count * len(seen) / count
            self.mean += (mean - self.mean) * len(seen) / count
            self.count = count
        self.returns[ends] = 0.0
        return rewards / np.sqrt(self.squares / self.count + 1e-8)

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
        streams: the environments.
        seed: of their first reset.
        discount: gamma, of the values that cut episodes are continued with.
        scale_rewards: see `RewardScale`; the figures of episodes are of the rewards as they came.
        window: how many of the last episodes the running figures are over.
    """

    def __init__(
        self, streams: Streams, *, seed: int, discount: float, scale_rewards: bool = True, window: int = 256
    ) -> None:
        self.streams, self.discount = streams, discount
        self.scale = RewardScale(streams.num, discount) if scale_rewards else None
        self._begin(seed)
        self.returns, self.lengths = np.zeros(streams.num), np.zeros(streams.num, np.int64)
        self.episodes: deque[Episode] = deque(maxlen=window)
        self._finished: list[Episode] = []

    def _begin(self, seed: int) -> None:
        obs, self.first = self.streams.reset(seed=seed)
        self.obs = tensors(self.streams.observation_space, obs)
        self.present = np.ones(self.streams.num, bool)
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
            taken, following, starts = self._act(agent, steps, sequence)
        if self.scale is not None:
            self.scale.hand_over(agent.returns)
        # Outside again: what is made in inference mode cannot be learnt from.
        columns = states.transform(lambda *column: torch.stack(column, 1), *taken)
        return Rollout(*columns, following.clone(), [states.transform(torch.clone, start) for start in starts])

    def _act(self, agent: ActorCritic, steps: int, sequence: int) -> tuple[list[_Step], Tensor, list[Any]]:
        """Give the steps, the critic's value of the observation after the last, and the starts of sequences."""
        if self.memory is None:
            self.memory = agent.memory.initial_state(self.streams.num)
        if self.previous is None:
            self.previous = agent.no_previous(self.streams.num)
        self.memory, self.previous = states.move((self.memory, self.previous), agent.device)  # a checkpoint's: CPU
        taken: list[_Step] = []
        starts = []
        for time in range(steps):
            if time % sequence == 0:
                starts.append(self.memory)
            tokens, first, present = self._token(agent)
            output, after = agent.step(
                tokens,
                self.memory,
                first=first if self.first.any() else None,
                present=None if self.present.all() else present,
            )
            actions = output.policy.sample()
            step = self.streams.step(agent.actions.to_environment(actions))
            ended = step.terminated | step.truncated
            earned = np.where(self.present, step.reward, 0.0)
            reward = earned if self.scale is None else self.scale(earned, ended, self.present)
            rewards = torch.tensor(reward, dtype=output.value.dtype, device=agent.device)
            previous = agent.previous(actions, earned)
            cut = step.truncated & ~step.terminated
            if cut.any():
                rows = torch.as_tensor(cut, device=agent.device)
                final = (*agent.observe(step.final_obs), *previous)
                last, _ = agent.step(*states.select((final, after), rows))
                rewards[rows] += self.discount * last.value
            ends = torch.as_tensor(ended, device=agent.device)
            log_probs = output.policy.log_prob(actions)
            taken.append(_Step(tokens, first, present, actions, log_probs, output.value, rewards, ends))
            self._count(earned, ended, step.success)
            self.obs, self.previous = tensors(self.streams.observation_space, step.obs), previous
            self.memory, self.first, self.present = after, step.first, step.present
        tokens, first, present = self._token(agent)
        following, _ = agent.step(tokens, self.memory, first=first, present=None if self.present.all() else present)
        return taken, following.value, starts

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
            self.memory = states.rebuild(saved["memory"], agent.memory.initial_state(self.streams.num))
        if self.scale is not None:
            self.scale.load_state_dict(saved["scale"])
        self.returns, self.lengths = np.array(saved["returns"]), np.array(saved["lengths"], np.int64)
        self.episodes.clear()
        self.episodes.extend(Episode(*episode) for episode in saved["episodes"])

    def _token(self, agent: ActorCritic) -> tuple[Leaves, Tensor, Tensor]:
        flags = torch.as_tensor(self.first), torch.as_tensor(self.present)
        return states.move(((*self.obs, *(self.previous or ())), *flags), agent.device)

    def _count(self, rewards: np.ndarray, ends: np.ndarray, success: np.ndarray) -> None:
        self.returns += rewards
        self.lengths += self.present
        for index in np.flatnonzero(ends):
            episode = Episode(float(self.returns[index]), int(self.lengths[index]), float(success[index]))
            self.episodes.append(episode)
            self._finished.append(episode)
        self.returns[ends], self.lengths[ends] = 0, 0
