"""Samba: a memory for what is long ago and a window for what is near, one layer after the other (arXiv 2406.07522)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from recurra.errors import UserError
from recurra.memory.attention.window import SlidingWindow
from recurra.memory.base import Memory
from recurra.memory.blocks import Block


class SambaState(NamedTuple):
    """What a hybrid keeps: the state of its memory, and of its window."""

    memory: Any
    attention: Any


class Samba(Memory):
    """A block around any memory of one token stream, then a block around sliding-window attention (Ren et al. 2024).

    ::

        x = x + M(norm(x))        x = x + MLP(norm(x))
        x = x + SWA(norm(x))      x = x + MLP(norm(x))

    With ``memory="yaad"``, ``"moneta"`` or ``"memora"`` it is a pair of layers of Miras' hybrids (arXiv 2504.13173,
    Section 5.3); with ``"gated_delta_net"`` of Gated DeltaNet-H1 (arXiv 2412.06464). It brings its own norms and MLPs:
    `recurra.memory.stack` puts no block around it, so ``stack("samba", dim, layers=2)`` has four layers by turns.

    Args:
        dim: width of inputs and outputs.
        memory: name of a memory of one stream, see `recurra.memory.build`. Samba's own is the Mamba of its day.
        heads: of attention, and of a memory that has any.
        window: see `SlidingWindow`.
        expansion: of the blocks' MLPs, see `Block`.
        memory_options: the memory's options besides.

    Raises:
        UserError: as `recurra.memory.build` and `SlidingWindow` do, or if the memory is a team's.

    >>> import torch
    >>> y, state = Samba(16, memory="gated_delta_net", heads=2, window=4)(torch.ones(2, 5, 16))
    >>> y.shape, state.memory.matrix.shape, state.attention.keys.shape
    (torch.Size([2, 5, 16]), torch.Size([2, 2, 8, 16]), torch.Size([2, 3, 16]))
    """

    def __init__(
        self,
        dim: int,
        *,
        memory: str = "mamba2",
        heads: int = 4,
        window: int = 64,
        expansion: float = 4.0,
        memory_options: Mapping[str, Any] | None = None,
    ) -> None:
        from recurra.memory.catalogue import build, is_team, takes  # lists this class, too

        super().__init__()
        if is_team(memory):
            raise UserError(f"samba reads one stream, and {memory} is a team's memory: choose one of a stream")
        shared = {"heads": heads} if takes(memory, "heads") else {}
        inner = build(memory, dim, **{**shared, **(memory_options or {})})
        self.memory = Block(inner, expansion=expansion)
        self.attention = Block(SlidingWindow(dim, heads=heads, window=window), expansion=expansion)
        self.dim, self.grain, self.bounded = dim, inner.grain, inner.bounded

    def initial_state(self, batch: int, **options: Any) -> SambaState:
        """Give the beginning of each: see `Memory.initial_state`."""
        return SambaState(self.memory.initial_state(batch, **options), self.attention.initial_state(batch, **options))

    def forward(
        self,
        x: Tensor,
        state: SambaState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, SambaState]:
        """Read a piece: see `Memory.forward`."""
        x, state = self.begin(x, state, first, present)
        x, far = self.memory(x, state.memory, first=first, present=present)
        x, near = self.attention(x, state.attention, first=first, present=present)
        return x, SambaState(far, near)

    def step(
        self, x: Tensor, state: SambaState | None = None, *, first: Tensor | None = None
    ) -> tuple[Tensor, SambaState]:
        """Read one token of each stream: see `Memory.step`."""
        state = self.begin_step(x, state, first)
        x, far = self.memory.step(x, state.memory)
        x, near = self.attention.step(x, state.attention)
        return x, SambaState(far, near)
