"""RATE's frame: an agent of recorded streams, whose memory reads returns-to-go, observations and actions by turns."""

from typing import Any, NamedTuple

import torch
from gymnasium import Space
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional

from recurra.agents import spaces as space_tools
from recurra.agents.acting import Acting
from recurra.agents.actions import Actions, exact
from recurra.agents.encoder import Encoder, Leaves
from recurra.errors import UserError
from recurra.memory import Memory, stack
from recurra.memory.base import hide


class RATEState(NamedTuple):
    """What the agent keeps of each stream.

    Attributes:
        memory: the network's state.
        to_go: ``(batch,)``, the return that is still to come.
    """

    memory: Any
    to_go: Tensor


class Choice(NamedTuple):
    """What the agent makes of observations: ``policy``, a distribution over actions, and the numbers behind it."""

    policy: Distribution
    numbers: Tensor


class RATE(Acting):
    """An agent that learns from recorded streams what to do (Cherepanov et al. 2023, arXiv 2306.09459).

    Each step is up to three tokens, in the order of the Decision Transformer (Chen et al. 2021, arXiv 2106.01345)::

        … a_{t-1}  R_t  o_t  a_t  R_{t+1}  o_{t+1} …

    with R_t the return from step t on; the action of step t is read off where its observation is. A step is read as
    (a_{t-1}, R_t, o_t), so that the agent acts token by token, all of its context in the state; the first of an episode
    has no action before it. Any memory of the package takes them, and what is known by other names is this agent with
    other options: with ``memory="attention"`` a Decision Transformer, without ``returns`` and ``actions`` behaviour
    cloning, by an MLP (``memory="none"``) or with a memory.

    Args:
        observation_space: see `recurra.agents.ActorCritic`.
        action_space: the same.
        memory: a memory's name, or the dotted path of a user's own.
        dim: width of the network.
        layers: number of blocks, or of a segment memory's layers.
        expansion: width of the MLPs over ``dim``; 0 leaves them out.
        memory_options: the memory's own. Segments and windows are counted in tokens: three to a step.
        returns: read returns-to-go; `act` is then told rewards.
        actions: read actions.
        target: the return that is asked for at the beginning of an episode; an attribute too.
        scale: what returns are divided by.

    Raises:
        UserError: if a space, the memory or an option of it is not supported.

    >>> from gymnasium import spaces
    >>> agent = RATE(spaces.Box(-1, 1, (2,)), spaces.Discrete(4), dim=16, memory_options={"segment": 30})
    >>> action, state = agent.act(torch.zeros(3, 2))
    >>> action.shape, state.memory.to_go
    ((3,), tensor([1., 1., 1.]))
    """

    def __init__(
        self,
        observation_space: Space,
        action_space: Space,
        *,
        memory: str = "rate",
        dim: int = 64,
        layers: int = 2,
        expansion: float = 4.0,
        memory_options: dict[str, Any] | None = None,
        returns: bool = True,
        actions: bool = True,
        target: float = 1.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        space_tools.check(observation_space, "observation")
        space_tools.check(action_space, "action")
        if scale <= 0:
            raise UserError(f"returns are divided by a scale of more than 0, got {scale}")
        self.observation_space, self.action_space = observation_space, action_space
        self.target, self.scale = target, scale
        self._config: dict[str, Any] = {
            "observation_space": space_tools.to_json(observation_space),
            "action_space": space_tools.to_json(action_space),
            "memory": memory,
            "dim": dim,
            "layers": layers,
            "expansion": expansion,
            "memory_options": dict(memory_options or {}),
            "returns": returns,
            "actions": actions,
            "scale": scale,
        }
        self.actions = Actions(action_space)
        self.previous_action, self.previous_reward = actions, returns
        self.encoder = Encoder(observation_space, dim)
        self.action = nn.Linear(self.actions.width, dim) if actions else None
        self.returns = nn.Linear(1, dim) if returns else None
        self.memory: Memory = stack(
            memory, dim, layers=layers, expansion=expansion, memory_options=self._config["memory_options"]
        )
        if self.memory.team:
            raise UserError(f"memory {memory} is shared by a team, and this agent acts alone: choose another")
        self.tokens = 1 + actions + returns
        if self.tokens % self.memory.grain:
            raise UserError(f"memory {memory} looks ahead in grains of {self.memory.grain} tokens: choose another")
        self.actor = nn.Linear(dim, self.actions.width)
        nn.init.orthogonal_(self.actor.weight, 0.01)
        nn.init.zeros_(self.actor.bias)

    @property
    def config(self) -> dict[str, Any]:  # type: ignore[override]
        """What the agent is built from, in JSON."""
        return {**self._config, "target": self.target}

    def begin(self, batch: int, agents: int | None = None) -> RATEState:
        """Give the state before the first step of ``batch`` streams."""
        to_go = torch.full((batch,), self.target, dtype=exact(self.actor.weight.dtype), device=self.device)
        return RATEState(self.memory.initial_state(batch), to_go)

    def forward(
        self,
        tokens: Leaves | Tensor,
        state: RATEState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Choice, RATEState]:
        """Read a piece of each stream.

        Args:
            tokens: the leaves of the observations (`observe`), then what was before them: the action in numbers, and
                the reward, as far as the options ask for them; each ``(batch, time, *leaf_shape)``.
            state: from an earlier call; None means the beginning.
            first: ``(batch, time)`` bool, True where an episode begins; what was before it does not count.
            present: ``(batch, time)`` bool, False for padding.

        Returns:
            The choices ``(batch, time)`` at each observation, and the next state.
        """
        features, state = self._read(tokens, state, first, present)
        return self.decide(features), state

    def _read(
        self, tokens: Leaves | Tensor, state: RATEState | None, first: Tensor | None, present: Tensor | None
    ) -> tuple[Tensor, RATEState]:
        """Do what `forward` does but for the choices: give features ``(batch, time, dim)`` and the next state."""
        leaves = (tokens,) if isinstance(tokens, Tensor) else tokens
        batch, time = leaves[0].shape[:2]
        if first is None:
            first = torch.zeros(batch, time, dtype=torch.bool, device=self.device)
            first[:, :1] = state is None
        state = self.begin(batch) if state is None else state
        given = list(leaves)
        earned = given.pop() if self.returns is not None else torch.zeros(batch, time, device=self.device)
        action = given.pop() if self.action is not None else None
        to_go = self._to_go(earned, state.to_go, first, present)
        features, memory = self.read(tuple(given), action, to_go, state.memory, first=first, present=present)
        after = state.to_go if time == 0 else to_go[:, -1]
        return features, RATEState(memory, after)

    def read(
        self,
        seen: Leaves,
        action: Tensor | None,
        to_go: Tensor,
        memory: Any = None,
        *,
        first: Tensor,
        present: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """Read steps whose returns-to-go are known: features ``(batch, time, dim)`` and the network's next state.

        Args:
            seen: the leaves of the observations, ``(batch, time, *leaf_shape)``.
            action: ``(batch, time, width)``, in numbers, what was done before each; None of an agent without actions.
            to_go: ``(batch, time)``, the returns from each step on.
            memory: the network's state; None means the beginning.
            first: ``(batch, time)`` bool.
            present: ``(batch, time)`` bool.
        """
        time = first.shape[1]
        here = torch.ones_like(first) if present is None else present
        parts, there = [self.encoder(seen, present=present)], [here]
        dtype = parts[0].dtype
        if self.returns is not None:
            told = hide((to_go / self.scale).to(dtype).unsqueeze(-1), present)
            parts, there = [self.returns(told), *parts], [here, *there]
        if self.action is not None and action is not None:
            parts, there = [self.action(hide(action.to(dtype), here & ~first)), *parts], [here & ~first, *there]
        x = torch.stack(parts, 2).flatten(1, 2)
        resets = functional.pad(first.unsqueeze(-1), (0, self.tokens - 1)).flatten(1)
        plain = present is None and (self.action is None or not bool(first.any()))
        y, memory = self.memory(
            x,
            memory,
            first=resets if bool(first.any()) else None,
            present=None if plain else torch.stack(there, 2).flatten(1),
        )
        return y.unflatten(1, (time, self.tokens))[:, :, -1], memory

    def decide(self, features: Tensor) -> Choice:
        """Give the choice ``(...)`` that features ``(..., dim)`` lead to."""
        numbers = self.numbers(features)
        return Choice(self.actions.policy(numbers), numbers)

    def step(
        self,
        tokens: Leaves | Tensor,
        state: RATEState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Choice, RATEState]:
        """Read one step of each stream: leaves ``(batch, *leaf_shape)``, first and present ``(batch,)``."""
        features, state = self._read_step(tokens, state, first, present)
        return self.decide(features), state

    def respond(
        self, tokens: Leaves | Tensor, state: Any = None, *, noise: Tensor | None, first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Any]:  # fmt: skip
        """Read one step of each stream and choose actions: see `Acting.respond`; features are the policy's numbers."""
        features, state = self._read_step(tokens, state, first, present)
        numbers = self.numbers(features)
        return numbers, self.actions.chosen(numbers, noise), state

    def _read_step(
        self, tokens: Leaves | Tensor, state: RATEState | None, first: Tensor | None, present: Tensor | None
    ) -> tuple[Tensor, RATEState]:
        leaves = (tokens,) if isinstance(tokens, Tensor) else tokens
        first, present = (flag if flag is None else flag.unsqueeze(1) for flag in (first, present))
        features, state = self._read(tuple(leaf.unsqueeze(1) for leaf in leaves), state, first, present)
        return features[:, 0], state

    def _to_go(self, earned: Tensor, before: Tensor, first: Tensor, present: Tensor | None) -> Tensor:
        """Give the returns-to-go ``(batch, time)``: what was asked for less what was earned since."""
        counts = ~first if present is None else present & ~first
        spent = earned.to(before).masked_fill(~counts, 0.0).cumsum(1)
        # Since the last beginning of an episode in the piece: the target, and nothing was earned before it.
        at = torch.arange(first.shape[1], device=first.device)
        began = torch.where(first, at, -1).cummax(1).values
        asked = self.target + spent.gather(1, began.clamp(min=0))
        return torch.where(began < 0, before.unsqueeze(1), asked) - spent
