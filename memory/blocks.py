"""What surrounds a memory in a network: short convolution, gating, MLP, and the residual block that joins them."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.errors import UserError
from recurra.memory.base import Memory, hide
from recurra.memory.checks import check_expansion
from recurra.memory.norms import RMSNorm


class ShortConvolutionState(NamedTuple):
    """What a short convolution keeps: ``tail (batch, width - 1, dim)``, the episode's last inputs, oldest first."""

    tail: Tensor


class ShortConvolution(Memory):
    """Causal depthwise convolution over the last ``width`` tokens of the episode, SiLU after it.

    The local mixing of queries, keys and values in DeltaNet (arXiv 2406.06484), Titans and Miras, where the width
    is 4. It starts near the identity, so that a network starts from what its projections say.

    Raises:
        UserError: if ``width`` is less than 2.

    >>> y, state = ShortConvolution(8, width=4)(torch.ones(2, 5, 8))
    >>> y.shape, state.tail.shape
    (torch.Size([2, 5, 8]), torch.Size([2, 3, 8]))
    """

    def __init__(self, dim: int, *, width: int = 4) -> None:
        super().__init__()
        if width < 2:
            raise UserError(f"a short convolution is at least 2 tokens wide, got {width}")
        self.dim, self.width = dim, width
        self.weight = nn.Parameter(torch.empty(width, dim))  # by lag: weight[0] is the token itself
        nn.init.normal_(self.weight, std=0.5 / width)
        with torch.no_grad():
            self.weight[0] += 1.0

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> ShortConvolutionState:
        """Give zeros: before an episode there is silence."""
        return ShortConvolutionState(torch.zeros(batch, self.width - 1, self.dim, **self.placement(device, dtype)))

    def forward(
        self,
        x: Tensor,
        state: ShortConvolutionState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, ShortConvolutionState]:
        """Read a piece: see `Memory.forward`."""
        x, state = self.begin(x, state, first, present)
        time, tail = x.shape[1], self.width - 1
        inputs = torch.cat((state.tail, x.to(torch.promote_types(x.dtype, state.tail.dtype))), 1)
        weight = self.weight.to(inputs.dtype)
        # Each token's episode within the piece; what the state carries is of episode 0.
        episode = None if first is None else functional.pad(first.long().cumsum(1), (tail, 0))
        if present is not None:  # absent tokens to the front, where no window over the present ones meets them
            order = functional.pad(present.byte(), (tail, 0), value=1).argsort(dim=1, stable=True)
            inputs = inputs.take_along_dim(order.unsqueeze(-1), 1)
            episode = None if episode is None else episode.gather(1, order)

        # y_t = SiLU(sum over lags of weight_lag x_{t-lag}), over the tokens of the same episode
        y = inputs[:, tail:] * weight[0]
        for lag in range(1, self.width):
            window = slice(tail - lag, tail - lag + time)
            earlier = inputs[:, window]
            if episode is not None:
                earlier = earlier * (episode[:, window] == episode[:, tail:]).unsqueeze(-1)
            y.addcmul_(earlier, weight[lag])
        y = functional.silu(y).to(torch.promote_types(x.dtype, self.weight.dtype))
        if present is not None:
            back = (~present).sum(1, keepdim=True) + present.cumsum(1) - 1
            y = hide(y.take_along_dim(back.unsqueeze(-1), 1), present)

        last = inputs[:, time:].clone()  # a view would keep the whole piece
        if first is not None and episode is not None:
            ended = episode[:, time:] < first.sum(1, keepdim=True)
            last = last.masked_fill(ended.unsqueeze(-1), 0.0)
        return y, ShortConvolutionState(last)

    def step(
        self, x: Tensor, state: ShortConvolutionState | None = None, *, first: Tensor | None = None
    ) -> tuple[Tensor, ShortConvolutionState]:
        """Read one token of each stream: see `Memory.step`."""
        state = self.begin_step(x, state, first)
        inputs = torch.cat((state.tail, x.unsqueeze(1).to(torch.promote_types(x.dtype, state.tail.dtype))), 1)
        y = functional.silu((inputs * self.weight.flip(0).to(inputs.dtype)).sum(1))
        y = y.to(torch.promote_types(x.dtype, self.weight.dtype))
        return y, ShortConvolutionState(inputs[:, 1:])


class SwiGLU(nn.Module):
    """Gated MLP (Shazeer 2020, arXiv 2002.05202): ``W_3(SiLU(W_1 x) * W_2 x)``, two thirds of ``expansion`` wide.

    Raises:
        UserError: if ``expansion`` is less than 0.
    """

    def __init__(self, dim: int, *, expansion: float = 4.0) -> None:
        super().__init__()
        check_expansion(expansion)
        hidden = max(1, round(dim * expansion * 2 / 3))
        self.rise = nn.Linear(dim, 2 * hidden, bias=False)
        self.fall = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., dim)`` to ``(..., dim)``."""
        gate, value = self.rise(x).chunk(2, dim=-1)
        return self.fall(functional.silu(gate) * value)


class Block(Memory):
    """A memory and an MLP, each behind a norm and beside a residual path; its state is the memory's own.

    ``x = x + memory(norm(x)); x = x + mlp(norm(x))``; ``expansion=0`` leaves the MLP out.

    >>> from recurra.memory import build
    >>> y, state = Block(build("gru", 8))(torch.ones(2, 5, 8))
    >>> y.shape, type(state).__name__
    (torch.Size([2, 5, 8]), 'GRUState')
    """

    def __init__(self, memory: Memory, *, expansion: float = 4.0) -> None:
        super().__init__()
        self.dim = memory.dim
        self.grain, self.bounded, self.team = memory.grain, memory.bounded, memory.team
        self.memory = memory
        self.memory_norm = RMSNorm(self.dim)
        self.mlp = SwiGLU(self.dim, expansion=expansion) if expansion else None
        self.mlp_norm = RMSNorm(self.dim) if expansion else None

    def initial_state(self, batch: int, **options: Any) -> Any:
        """Give the memory's initial state: see `Memory.initial_state`."""
        return self.memory.initial_state(batch, **options)

    def forward(
        self, x: Tensor, state: Any = None, *, first: Tensor | None = None, present: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Read a piece: see `Memory.forward`."""
        x, state = self.begin(x, state, first, present)
        y, state = self.memory(self.memory_norm(x), state, first=first, present=present)
        return hide(self._mix(x + y), present), state

    def step(self, x: Tensor, state: Any = None, *, first: Tensor | None = None) -> tuple[Tensor, Any]:
        """Read one token of each stream: see `Memory.step`."""
        self.expect(x)
        y, state = self.memory.step(self.memory_norm(x), state, first=first)
        return self._mix(x + y), state

    def absorb(
        self, x: Tensor, state: Any = None, *, first: Tensor | None = None, present: Tensor | None = None
    ) -> Any:
        """Let the memory absorb a piece: see `Memory.absorb`."""
        x, state = self.begin(x, state, first, present)
        return self.memory.absorb(self.memory_norm(x), state, first=first, present=present)

    def heed(self, x: Tensor, state: Any, *, present: Tensor | None = None) -> Tensor | None:
        """Ask the memory: see `Memory.heed`."""
        return self.memory.heed(self.memory_norm(x), state, present=present)

    def _mix(self, x: Tensor) -> Tensor:
        return x if self.mlp is None or self.mlp_norm is None else x + self.mlp(self.mlp_norm(x))
