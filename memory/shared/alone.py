"""Each agent of a team with a memory of its own: what pooled memories are measured against."""

from typing import Any

import torch
from torch import Tensor

from recurra.errors import UserError
from recurra.memory import state as states
from recurra.memory.base import Memory


class Alone(Memory):
    """Any memory of one stream, for each agent of a team by itself: the weights are shared, nothing else is.

    Args:
        dim: width of inputs and outputs.
        memory: a memory, or the name of one, see `recurra.memory.build`.
        **options: the named memory's.

    Raises:
        UserError: as `recurra.memory.build` does, or if the memory is a team's itself.

    >>> y, state = Alone(8, memory="gru")(torch.ones(2, 3, 5, 8))  # two teams of three agents
    >>> y.shape, state.hidden.shape
    (torch.Size([2, 3, 5, 8]), torch.Size([2, 3, 8]))
    """

    team = True

    def __init__(self, dim: int, *, memory: str | Memory = "gru", **options: Any) -> None:
        from recurra.memory.catalogue import build  # lists this class, too

        super().__init__()
        self.memory = build(memory, dim, **options) if isinstance(memory, str) else memory
        if self.memory.team:
            raise UserError(f"{type(self.memory).__name__} is a team's memory already: it needs no alone")
        self.dim, self.grain, self.bounded = self.memory.dim, self.memory.grain, self.memory.bounded
        self.input_limit = self.memory.input_limit

    def initial_state(
        self,
        batch: int,
        *,
        agents: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Any:
        """Give each agent the memory's own."""
        return apart(self.memory.initial_state(batch * agents, device=device, dtype=dtype), batch)

    def forward(
        self, x: Tensor, state: Any = None, *, first: Tensor | None = None, present: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Read a piece: see `Memory.forward`."""
        x, state = self.begin(x, state, first, present)
        y, state = self.memory(
            x.flatten(0, 1),
            together(state),
            first=None if first is None else first.repeat_interleave(x.shape[1], 0),
            present=None if present is None else present.flatten(0, 1),
        )
        return y.unflatten(0, x.shape[:2]), apart(state, len(x))

    def step(self, x: Tensor, state: Any = None, *, first: Tensor | None = None) -> tuple[Tensor, Any]:
        """Read one token of each agent: see `Memory.step`."""
        self.expect(x)
        state = self._continued(x, state)
        first = None if first is None else first.repeat_interleave(x.shape[1], 0)
        y, state = self.memory.step(x.flatten(0, 1), together(state), first=first)
        return y.unflatten(0, x.shape[:2]), apart(state, len(x))


def together(state: Any) -> Any:
    """Take a state of teams as one of streams: ``(batch, agents, …)`` to ``(batch * agents, …)``."""
    return states.transform(lambda field: field.flatten(0, 1), state)


def apart(state: Any, batch: int) -> Any:
    """Take it back."""
    return states.transform(lambda field: field.unflatten(0, (batch, -1)), state)
