"""Titans' blocks: a memory for what is long ago beside attention for what is near (arXiv 2501.00663, Section 4)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.errors import UserError
from recurra.memory.attention.window import SlidingWindow
from recurra.memory.base import Memory, hide
from recurra.memory.miras import PRESETS, Associative
from recurra.memory.options import made


class TitansState(NamedTuple):
    """What a memory with attention keeps: the state of each."""

    memory: Any
    attention: Any


class WithAttention(Memory):
    """Titans' memory as a gate of attention (MAG) or as a layer before it (MAL).

    ::

        gate     y = W_g SiLU(norm(SWA(x)) ⊙ norm(M(x)))      Equations 26 to 28
        layer    y = SWA(norm(x + M(x)))                      Equations 29 to 31

    Norms have learnt weights. The persistent memory are keys and values that attention always sees; the memory's own
    learnt beginning stands for what the papers have it read of them before each sequence.

    Args:
        dim: width of inputs and outputs.
        join: ``gate`` or ``layer``.
        heads: of the memory and of attention.
        window: see `SlidingWindow`.
        persistent: see `SlidingWindow`.
        memory: options of the memory, an `Associative`, on top of those of the preset ``titans``.

    Raises:
        UserError: if there is no such join, or as `Associative` and `SlidingWindow` do.

    >>> y, state = WithAttention(16, heads=2, window=4)(torch.ones(2, 5, 16))
    >>> y.shape, state.attention.position
    (torch.Size([2, 5, 16]), tensor([5, 5]))
    """

    def __init__(
        self,
        dim: int,
        *,
        join: str = "gate",
        heads: int = 4,
        window: int = 64,
        persistent: int = 4,
        memory: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if join not in ("gate", "layer"):
            raise UserError(f"join is gate or layer, got {join!r}")
        self.dim, self.join = dim, join
        options = {**PRESETS["titans"].options, "heads": heads, **(memory or {})}
        self.memory = made("titans", Associative, dim, options)
        self.attention = SlidingWindow(dim, heads=heads, window=window, persistent=persistent)
        gated = join == "gate"
        self.norms = nn.ModuleList(nn.RMSNorm(dim, eps=1e-6) for _ in range(2 if gated else 1))
        self.output = nn.Linear(dim, dim, bias=False) if gated else None

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> TitansState:
        """Give the beginning of each."""
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        return TitansState(self.memory.initial_state(batch, **options), self.attention.initial_state(batch, **options))

    def forward(
        self,
        x: Tensor,
        state: TitansState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, TitansState]:
        """Read a piece: see `Memory.forward`."""
        x, state = self.begin(x, state, first, present)
        flags = {"first": first, "present": present}
        far, memory = self.memory(x, state.memory, **flags)
        if self.output is None:
            near, attention = self.attention(self.norms[0](x + far), state.attention, **flags)
            return near, TitansState(memory, attention)
        near, attention = self.attention(x, state.attention, **flags)
        y = self.output(functional.silu(self.norms[0](near) * self.norms[1](far)))
        return hide(y, present), TitansState(memory, attention)
