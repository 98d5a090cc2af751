"""An agent that remembers: an encoder, a network of memories, a policy head and a value head."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal
from torch.nn import functional

from recurra.agents import spaces as space_tools
from recurra.errors import UserError
from recurra.memory import stack
from recurra.memory.base import hide


class Output(NamedTuple):
    """What an agent makes of observations: ``policy``, a distribution over actions, and ``value``."""

    policy: Distribution
    value: Tensor


class ActorCritic(nn.Module):
    """An actor and a critic that share an encoder and a memory.

    Args:
        observation_space: Box (flattened; bytes scaled to 0..1) or Discrete (one-hot).
        action_space: Discrete (a categorical policy) or Box of one axis (a Gaussian, clipped to the bounds).
        memory: a memory's name, or the dotted path ``package.module:Class`` of a user's own.
        dim: width of the network.
        layers: number of blocks.
        expansion: width of the blocks' MLPs over ``dim``; 0 leaves them out.
        memory_options: the memory's own options.

    Raises:
        UserError: if a space, the memory or an option of it is not supported.

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
    ) -> None:
        super().__init__()
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
        }
        self.encoder = nn.Linear(space_tools.width(observation_space), dim)
        self.memory = stack(memory, dim, layers=layers, expansion=expansion, **self.config["memory_options"])
        self.actor = nn.Linear(dim, space_tools.width(action_space))
        self.critic = nn.Linear(dim, 1)
        for layer, gain in ((self.encoder, math.sqrt(2.0)), (self.actor, 0.01), (self.critic, 1.0)):
            nn.init.orthogonal_(layer.weight, gain)
            nn.init.zeros_(layer.bias)
        self.log_std = nn.Parameter(torch.zeros(action_space.shape)) if isinstance(action_space, spaces.Box) else None

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ActorCritic":
        """Build an agent, untrained, from what another's ``config`` says."""
        options = dict(config)
        given = [space_tools.from_json(options.pop(role)) for role in ("observation_space", "action_space")]
        return cls(*given, **options)

    def forward(
        self, obs: Tensor, state: Any = None, *, first: Tensor | None = None, present: Tensor | None = None
    ) -> tuple[Output, Any]:
        """Read a piece of each stream of observations.

        Args:
            obs: ``(batch, time, *observation_shape)``.
            state: the memory's, from an earlier call; None means the beginning.
            first: ``(batch, time)`` bool, True where an episode begins.
            present: ``(batch, time)`` bool, False for padding.

        Returns:
            Policy and value ``(batch, time)`` for each observation, and the next state.
        """
        features, state = self.memory(self._encode(obs, present), state, first=first, present=present)
        return self._decide(features), state

    def step(
        self, obs: Tensor, state: Any = None, *, first: Tensor | None = None, present: Tensor | None = None
    ) -> tuple[Output, Any]:
        """Read one observation of each stream: obs ``(batch, *observation_shape)``, first and present ``(batch,)``."""
        x = self._encode(obs, present)
        if present is None:
            features, state = self.memory.step(x, state, first=first)
        else:
            flags = {"first": None if first is None else first[:, None], "present": present[:, None]}
            features, state = self.memory(x[:, None], state, **flags)
            features = features[:, 0]
        return self._decide(features), state

    @torch.no_grad()
    def act(self, obs: Any, state: Any = None, first: Any = None, *, greedy: bool = True) -> tuple[np.ndarray, Any]:
        """Choose actions: the door for whoever deploys the agent.

        Args:
            obs: observations of a batch of environments ``(batch, *observation_shape)``, or of one without the
                batch axis; an array or a tensor.
            state: what the last call returned; None at the start of the first episode.
            first: ``(batch,)`` bool (one bool for one environment), True where obs begins a new episode.
            greedy: take the likeliest action (a Gaussian's mean); otherwise draw one.

        Returns:
            Actions as the environment takes them, with a batch axis if obs has one, and the next state.

        Raises:
            UserError: if the observations have another shape.
        """
        device = self.critic.weight.device
        obs = torch.as_tensor(obs, device=device)
        shape = self.observation_space.shape or ()
        single = obs.shape == shape
        if not single and obs.shape[1:] != shape:
            raise UserError(
                f"observations have shape {tuple(shape)}, with a batch axis or without; got {tuple(obs.shape)}"
            )
        if first is not None:
            first = torch.as_tensor(first, dtype=torch.bool, device=device).reshape(-1)
        output, state = self.step(obs[None] if single else obs, state, first=first)
        actions = self.to_environment(output.policy.mode if greedy else output.policy.sample())
        return actions[0] if single else actions, state

    def to_environment(self, actions: Tensor) -> np.ndarray:
        """Turn the policy's actions into what the environment takes: integers from its start, or clipped floats."""
        array = actions.cpu().numpy()
        if isinstance(self.action_space, spaces.Discrete):
            return array + self.action_space.start
        assert isinstance(self.action_space, spaces.Box)
        return array.clip(self.action_space.low, self.action_space.high).astype(self.action_space.dtype)

    def _encode(self, obs: Tensor, present: Tensor | None) -> Tensor:
        if isinstance(self.observation_space, spaces.Discrete):
            numbers = functional.one_hot(obs.long() - int(self.observation_space.start), int(self.observation_space.n))
        else:
            own = len(self.observation_space.shape or ())
            numbers = obs.reshape(*obs.shape[: obs.dim() - own], self.encoder.in_features)
            numbers = numbers / 255 if obs.dtype == torch.uint8 else numbers
        # Absent observations are hidden here too: the encoder's gradient would be NaN where they are.
        return self.encoder(hide(numbers.to(self.critic.weight.dtype), present)).tanh()

    def _decide(self, features: Tensor) -> Output:
        choice, value = self.actor(features).float(), self.critic(features).squeeze(-1).float()
        if self.log_std is None:
            return Output(Categorical(logits=choice, validate_args=False), value)
        normal = Normal(choice, self.log_std.float().exp().expand_as(choice), validate_args=False)
        return Output(Independent(normal, 1, validate_args=False), value)
