"""What every agent that acts does: it is shown observations as an environment has them, and gives actions back."""

from abc import abstractmethod
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from gymnasium import Space
from torch import Tensor, nn

from recurra.agents import spaces as space_tools
from recurra.agents.actions import Actions, exact
from recurra.agents.encoder import Leaves
from recurra.agents.hub import OnHub
from recurra.errors import UserError
from recurra.memory import Memory


class ActingState(NamedTuple):
    """What an agent that is told its previous action keeps of each stream.

    Attributes:
        memory: the memory's state.
        action: ``(batch, width)``, the last action in numbers, 0 before the first.
    """

    memory: Any
    action: Tensor


class Acting(OnHub, nn.Module):
    """An agent that acts step by step. A subclass says how it responds to what it is shown.

    Attributes:
        observation_space: what it is shown.
        action_space: what it may do.
        config: what it is built from, in JSON.
        memory: its network.
        actor: gives the numbers that `actions` takes.
        previous_action: whether it is told its last action with each observation.
        previous_reward: whether it is told the last reward.
        team: whether it acts for teams.
    """

    observation_space: Space
    action_space: Space
    config: dict[str, Any]
    memory: Memory
    actions: Actions
    actor: nn.Linear
    previous_action: bool
    previous_reward: bool
    team: bool = False

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build an agent, untrained, from what another's ``config`` says."""
        options = dict(config)
        given = [space_tools.from_json(options.pop(role)) for role in ("observation_space", "action_space")]
        return cls(*given, **options)

    @torch.no_grad()
    def act(
        self,
        obs: Any,
        state: Any = None,
        first: Any = None,
        reward: Any = None,
        *,
        present: Any = None,
        greedy: bool = True,
    ) -> tuple[np.ndarray, Any]:
        """Choose actions: the door for whoever deploys the agent.

        Args:
            obs: observations of a batch of environments as a vector environment gives them, every array
                ``(batch, *shape)``, or of one environment without the batch axis; arrays, tensors or numbers, in dicts
                and tuples where the space is one.
            state: what the last call returned; None at the start of the first episode.
            first: ``(batch,)`` bool (one bool for one environment), True where obs begins a new episode.
            reward: ``(batch,)`` (one number for one environment), what the last action earned; only an agent with
                ``previous_reward`` needs it, from the second step of an episode on.
            present: ``(batch,)`` bool, False for those that are not to act; their actions say nothing.
            greedy: take the likeliest action (a Gaussian's mean); otherwise draw one.

        Returns:
            Actions as the environment takes them, with a batch axis if obs has one, and the next state.

        Raises:
            UserError: if the observations have another form or shape, or the reward is missing.
        """
        seen = self.observe(obs)
        single = self._is_single(seen)
        if single:
            seen = tuple(leaf.unsqueeze(0) for leaf in seen)
        batch = len(seen[0])
        begin = torch.full((batch,), state is None, device=self.device)
        begin = begin if first is None else torch.as_tensor(first, dtype=torch.bool, device=self.device).reshape(-1)
        state = self.initial_state(batch, *seen[0].shape[1 : 1 + self.team]) if state is None else state
        memory, before = state if self.previous_action else (state, None)
        if self.previous_reward and reward is None and not begin.all():
            raise UserError("this agent is told its rewards: act(obs, state, first, reward)")
        previous = self._told(before, torch.zeros(batch) if reward is None else reward)
        flags = {} if first is None and not previous else {"first": begin}
        if present is not None:
            present = torch.as_tensor(present, dtype=torch.bool, device=self.device)
            flags["present"] = present.unsqueeze(0) if single else present
        noise = None if greedy else self.actions.noise(*seen[0].shape[: 1 + self.team])
        _, chosen, memory = self.respond((*seen, *previous), memory, noise=noise, **flags)
        after = ActingState(memory, self.actions.features(chosen)) if self.previous_action else memory
        actions = self.actions.to_environment(chosen)
        return actions[0] if single else actions, after

    @abstractmethod
    def begin(self, batch: int, agents: int | None = None) -> Any:
        """Give the state that `respond` begins ``batch`` streams, or teams of so many agents, from."""

    @abstractmethod
    def step(
        self, tokens: Leaves | Tensor, state: Any = None, *, first: Tensor | None = None, present: Tensor | None = None
    ) -> tuple[Any, Any]:
        """Read one observation of each stream: what is made of it, its ``policy`` among that, and the next state."""

    @abstractmethod
    def respond(
        self, tokens: Leaves | Tensor, state: Any = None, *, noise: Tensor | None, first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Any]:  # fmt: skip
        """Read one observation of each stream and choose actions.

        Args:
            tokens: the leaves of the observations and of what was before them, each ``(batch, *leaf_shape)``.
            state: what `begin` or an earlier call gave; None means the beginning.
            noise: what draws the actions, `Actions.noise` of a batch; None takes the policy's likeliest.
            first: ``(batch,)`` bool, True where an episode begins; what was before it does not count.
            present: ``(batch,)`` bool, False for padding.

        Returns:
            Features ``(batch, dim)``, actions and the next state.
        """

    def numbers(self, features: Tensor) -> Tensor:
        """Give the numbers of policies, at least float32, that features ``(..., dim)`` lead to."""
        numbers = self.actor(features)
        return numbers.to(exact(numbers.dtype))

    def initial_state(self, batch: int, agents: int | None = None) -> Any:
        """Give the state that `act` begins ``batch`` streams, or teams of so many agents, from."""
        memory = self.begin(batch, agents)
        return ActingState(memory, self.actions.no_features(batch)) if self.previous_action else memory

    def previous(self, actions: Tensor, rewards: Any) -> Leaves:
        """Give the leaves that join the next observation: what the options ask for of an action and its reward.

        Args:
            actions: a policy's, ``(batch, *action_shape)``.
            rewards: ``(batch,)``.
        """
        return self._told(self.actions.features(actions) if self.previous_action else None, rewards)

    def no_previous(self, batch: int) -> Leaves:
        """Give the leaves that join the first observations."""
        return self._told(self.actions.no_features(batch) if self.previous_action else None, torch.zeros(batch))

    def _told(self, action: Tensor | None, rewards: Any) -> Leaves:
        told = () if action is None else (action,)
        if not self.previous_reward:
            return told
        kind = exact(self.actor.weight.dtype)
        return *told, torch.as_tensor(rewards, dtype=kind, device=self.device).reshape(-1)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.actor.weight.device

    def observe(self, obs: Any) -> Leaves:
        """Take what an environment shows apart: the leaves of the observation space, in its order, as tensors.

        Raises:
            UserError: if obs is not of the form of the observation space.
        """
        return space_tools.tensors(self.observation_space, obs, self.device)

    def _is_single(self, seen: Leaves) -> bool:
        """Tell an observation of one environment from those of a batch."""
        batches = set()
        for leaf, (name, space) in zip(seen, space_tools.leaves(self.observation_space), strict=True):
            shape = space.shape or ()
            batch = tuple(leaf.shape[: leaf.dim() - len(shape)])
            if leaf.shape != (*batch, *shape) or len(batch) - self.team not in (0, 1):
                part = f"observations{', part ' * bool(name)}{name}"
                axes = "axes of a batch and of agents, or of agents alone" if self.team else "a batch axis or without"
                raise UserError(f"{part} have shape {shape}, with {axes}; got {tuple(leaf.shape)}")
            batches.add(batch)
        if len(batches) > 1:
            raise UserError(f"the parts of the observations are of different batches: {sorted(batches)}")
        return all(len(batch) == self.team for batch in batches)
