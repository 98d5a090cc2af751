"""An agent that remembers: an encoder, a network of memories, a policy head and a value head."""

import math
from typing import Any, NamedTuple

from gymnasium import Space
from torch import Tensor, nn
from torch.distributions import Distribution

from recurra.agents import spaces as space_tools
from recurra.agents.acting import Acting
from recurra.agents.actions import Actions, exact
from recurra.agents.encoder import ENCODERS, Encoder, Leaves, Numbers
from recurra.agents.moments import Moments
from recurra.errors import UserError, nearest
from recurra.memory import Memory, stack
from recurra.memory.shared import Alone


class Output(NamedTuple):
    """What an agent makes of observations: ``policy``, a distribution over actions, and ``value``."""

    policy: Distribution
    value: Tensor


class ActorCritic(Acting):
    """An actor and a critic that share an encoder and a memory.

    Args:
        observation_space: Box (flattened; pictures of bytes through a small convolutional network), Discrete,
            MultiDiscrete and MultiBinary (one-hot), and Dict and Tuple of these, nested.
        action_space: Discrete, MultiDiscrete, MultiBinary (categorical policies) or Box (Gaussians, clipped to the
            bounds).
        memory: a memory's name, or the dotted path ``package.module:Class`` of a user's own.
        dim: width of the network.
        layers: number of blocks.
        expansion: width of the blocks' MLPs over ``dim``; 0 leaves them out.
        memory_options: the memory's own options.
        previous_action: tell the agent its last action with each observation (0 where an episode begins).
        previous_reward: tell it the last reward, which `act` then takes.
        normalize_observations: normalise numbers that are observed, and the last reward, by running moments, which
            learning updates (`watch`) and which are saved with the weights.
        encoder: how planes of numbers, such as a grid world's, are encoded: ``plain``, laid in a row, or ``residual``,
            see `recurra.agents.encoder.Residual`.
        encoder_options: the residual encoder's: ``filters``, ``blocks``.
        team: act for teams: the spaces are those of one agent, all act by the same weights, and share the memory if it
            is a team's; any other is each agent's own (`recurra.memory.shared.Alone`). What is said of a batch below is
            then ``(batch, agents)``, and of a batch and time ``(batch, time, agents)``, but for ``first``, which is the
            team's. Teams are not told previous actions or rewards, nor are their observations normalised.

    Attributes:
        returns: moments of discounted returns, by which learning scales rewards; training hands them over here.

    Raises:
        UserError: if a space, the memory or an option of it is not supported.

    >>> import numpy as np
    >>> from gymnasium import spaces
    >>> agent = ActorCritic(spaces.Box(-1, 1, (2,)), spaces.Discrete(4), memory="gru", dim=16)
    >>> action, state = agent.act(np.zeros((3, 2), np.float32))
    >>> action.shape
    (3,)
    """

    def __init__(
        self,
        observation_space: Space,
        action_space: Space,
        *,
        memory: str = "delta_net",
        dim: int = 64,
        layers: int = 1,
        expansion: float = 4.0,
        memory_options: dict[str, Any] | None = None,
        previous_action: bool = False,
        previous_reward: bool = False,
        normalize_observations: bool = False,
        encoder: str = "plain",
        encoder_options: dict[str, Any] | None = None,
        team: bool = False,
    ) -> None:
        super().__init__()
        if encoder not in ENCODERS:
            raise UserError(f"there is no encoder {encoder!r}; {nearest(encoder, ENCODERS)}")
        if encoder_options and encoder != "residual":
            raise UserError("encoder_options are the residual encoder's: name it with encoder")
        if team and (previous_action or previous_reward or normalize_observations):
            raise UserError("a team has no previous_action, previous_reward or normalize_observations: leave them out")
        space_tools.check(observation_space, "observation")
        space_tools.check(action_space, "action")
        self.observation_space, self.action_space = observation_space, action_space
        self.config: dict[str, Any] = {
            "observation_space": space_tools.to_json(observation_space),
            "action_space": space_tools.to_json(action_space),
            "memory": memory,
            "dim": dim,
            "layers": layers,
            "expansion": expansion,
            "memory_options": dict(memory_options or {}),
            "previous_action": previous_action,
            "previous_reward": previous_reward,
            "normalize_observations": normalize_observations,
            "encoder": encoder,
            "encoder_options": dict(encoder_options or {}),
            "team": team,
        }
        self.actions = Actions(action_space)
        self.previous_action, self.previous_reward = previous_action, previous_reward
        previous = [Numbers((self.actions.width,))] * previous_action
        previous += [Numbers((), normalize=normalize_observations)] * previous_reward
        residual = self.config["encoder_options"] if encoder == "residual" else None
        self.encoder = Encoder(
            observation_space, dim, previous=previous, normalize=normalize_observations, residual=residual
        )
        self.team = team
        self.memory: Memory = stack(
            memory, dim, layers=layers, expansion=expansion, memory_options=self.config["memory_options"]
        )
        if team and not self.memory.team:
            self.memory = Alone(dim, memory=self.memory)
        if self.memory.team and not team:
            raise UserError(f"memory {memory} is shared by a team, and this agent acts alone: recurra train bottleneck")
        self.returns = Moments(())
        self.actor = nn.Linear(dim, self.actions.width)
        self.critic = nn.Linear(dim, 1)
        for layer, gain in ((self.encoder.join, math.sqrt(2.0)), (self.actor, 0.01), (self.critic, 1.0)):
            nn.init.orthogonal_(layer.weight, gain)
            nn.init.zeros_(layer.bias)

    def forward(
        self, tokens: Leaves | Tensor, state: Any = None, *, first: Tensor | None = None, present: Tensor | None = None
    ) -> tuple[Output, Any]:
        """Read a piece of each stream of observations.

        Args:
            tokens: the leaves of the observations (`observe`) and of what was before them (`previous`), each
                ``(batch, time, *leaf_shape)``; one tensor where there is but one.
            state: the memory's, from an earlier call; None means the beginning.
            first: ``(batch, time)`` bool, True where an episode begins; what was before it does not count.
            present: ``(batch, time)`` bool, False for padding.

        Returns:
            Policy and value ``(batch, time)`` for each observation, and the next state.
        """
        x = self._encode(tokens, first, present)
        if self.team:  # memories have agents before time
            x, present = x.transpose(1, 2), None if present is None else present.transpose(1, 2)
        features, state = self.memory(x, state, first=first, present=present)
        return self.decide(features.transpose(1, 2) if self.team else features), state

    def step(
        self, tokens: Leaves | Tensor, state: Any = None, *, first: Tensor | None = None, present: Tensor | None = None
    ) -> tuple[Output, Any]:
        """Read one observation of each stream: leaves ``(batch, *leaf_shape)``, first and present ``(batch,)``."""
        features, state = self.read(tokens, state, first=first, present=present)
        return self.decide(features), state

    def read(
        self, tokens: Leaves | Tensor, state: Any = None, *, first: Tensor | None = None, present: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Do what `step` does but for the decision: give features ``(batch, dim)`` and the next state."""
        x = self._encode(tokens, first, present)
        if present is None:
            return self.memory.step(x, state, first=first)
        flags = {"first": None if first is None else first.unsqueeze(-1), "present": present.unsqueeze(-1)}
        features, state = self.memory(x.unsqueeze(-2), state, **flags)
        return features.squeeze(-2), state

    def heed(self, tokens: Leaves | Tensor, state: Any, *, present: Tensor | None = None) -> Tensor | None:
        """Say how strongly a team's agents attend to each other's memories as they read, before `step` does.

        Args:
            tokens: see `step`.
            state: see `step`; episodes are under way, or it is the beginning.
            present: see `step`.

        Returns:
            ``(batch, agents, agents)``; None where the memory has no such weights: see `recurra.memory.Memory.heed`.
        """
        return self.memory.heed(self._encode(tokens, None, present), state, present=present)

    def decide(self, features: Tensor) -> Output:
        """Give the policy and the value ``(...)`` that features ``(..., dim)`` lead to."""
        value = self.critic(features).squeeze(-1)
        return Output(self.actions.policy(self.numbers(features)), value.to(exact(value.dtype)))

    def respond(
        self, tokens: Leaves | Tensor, state: Any = None, *, noise: Tensor | None, first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Any]:  # fmt: skip
        """Read one observation of each stream, as `read` does, and choose actions.

        Args:
            tokens: see `read`.
            state: see `read`.
            noise: what draws the actions, `Actions.noise` of a batch; None takes the policy's likeliest.
            first: see `read`.
            present: see `read`.

        Returns:
            Features ``(batch, dim)``, actions and the next state.
        """
        features, state = self.read(tokens, state, first=first, present=present)
        return features, self.actions.chosen(self.numbers(features), noise), state

    def begin(self, batch: int, agents: int | None = None) -> Any:
        """Give the memory's state at the beginning of ``batch`` streams, or teams of so many agents."""
        options: dict[str, Any] = {"agents": agents} if self.team else {}
        return self.memory.initial_state(batch, **options)

    def watch(self, tokens: Leaves, *, first: Tensor, present: Tensor) -> None:
        """Take tokens that were learnt from into account in the moments that observations are normalised by."""
        self.encoder.watch(tokens, first=first, present=present)

    def _encode(self, tokens: Leaves | Tensor, first: Tensor | None, present: Tensor | None) -> Tensor:
        leaves = (tokens,) if isinstance(tokens, Tensor) else tokens
        return self.encoder(leaves, first=first, present=present)
