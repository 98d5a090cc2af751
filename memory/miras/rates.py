"""Rates: how much of a memory is kept and how far it steps, as each token says."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.memory import gates


class Rate(nn.Module):
    """Logits of each head, or of each head's channels, for each token: a low-rank projection where that is less.

    Args:
        dim: width of the tokens.
        shape: of a token's logits, ``(heads, 1)`` or ``(heads, channels)``.
        start: the logits to begin with.
        rank: of the projection.
        by_token: False leaves the learnt constant alone.
    """

    def __init__(self, dim: int, shape: tuple[int, ...], *, start: float, rank: int, by_token: bool) -> None:
        super().__init__()
        self.shape = shape
        outputs = math.prod(shape)
        self.start = nn.Parameter(torch.full((outputs,), start))
        self.rise: nn.Module | None = None
        if by_token and rank * (dim + outputs) < dim * outputs:
            self.rise = nn.Sequential(nn.Linear(dim, rank, bias=False), nn.Linear(rank, outputs, bias=False))
        elif by_token:
            self.rise = nn.Linear(dim, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, time, dim)`` to ``(batch, time, *shape)``."""
        if isinstance(self.rise, nn.Linear):
            logits = functional.linear(x, self.rise.weight, self.start)
        else:
            logits = self.start.expand(*x.shape[:-1], -1) if self.rise is None else self.rise(x) + self.start
        return logits.unflatten(-1, self.shape)


class Decay(nn.Module):
    """The logarithm of what is kept, at most 0.

    ``sigmoid``: α = σ(logits)^(1 / root) (root 16 in Gated Linear Attention), which starts nearly open; with
    ``closing`` it is `recurra.memory.gates.gate` instead of σ. ``softplus``: α = exp(-exp(log_pace) Δ) with
    Δ = softplus(logits), Mamba-2's, started as it starts them. Other options are those of `Rate`; a closing gate starts
    at 0.98 at most, since beyond what it keeps whole it has no slope.
    """

    def __init__(
        self,
        dim: int,
        shape: tuple[int, ...],
        *,
        pace: str,
        root: float,
        closing: bool,
        rank: int,
        by_token: bool,
        start: float,
    ) -> None:
        super().__init__()
        self.root, self.closing = root, closing
        self.rate = Rate(dim, shape, start=min(start, 2.2) if closing else start, rank=rank, by_token=by_token)
        self.log_pace: nn.Parameter | None = None
        if pace == "softplus":
            self.log_pace = nn.Parameter(torch.empty(shape).uniform_(1.0, 16.0).log())
            with torch.no_grad():
                step = torch.empty_like(self.rate.start).uniform_(math.log(0.001), math.log(0.1)).exp()
                self.rate.start.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Give log α ``(batch, time, *shape)``, and Δ where there is one."""
        logits = self.rate(x)
        if self.log_pace is not None:
            delta = functional.softplus(logits.to(self.log_pace.dtype))
            return -self.log_pace.exp() * delta, delta
        if self.closing:
            # Finite logarithms: what keeps less than 1e-30 keeps nothing.
            return (gates.log_gate(gates.gate(logits, closing=True)) / self.root).clamp(min=-70.0), None
        log_kept = functional.logsigmoid(logits)
        return log_kept if self.root == 1 else log_kept / self.root, None
