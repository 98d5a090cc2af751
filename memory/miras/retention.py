"""Retention: a matrix per head that fades at the head's own fixed pace."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.kernels import delta_rule
from recurra.kernels.delta_rule import BACKENDS
from recurra.memory.base import Memory, hide
from recurra.memory.checks import check_counts, check_heads
from recurra.memory.positions import positions
from recurra.memory.rotary import angles, turn


class RetentionState(NamedTuple):
    """What retention keeps.

    ``matrix (batch, heads, key_dim, value_dim)``, and ``position (batch,)`` int64, the tokens of the episode so far.
    """

    matrix: Tensor
    position: Tensor


class Retention(Memory):
    """Multi-scale retention, RetNet's layer (Sun et al. 2023, arXiv 2307.08621, Equations 1 to 8).

    Queries and keys turn with their positions (Theta), and head h keeps gamma_h = 1 - 2^(-5 - h) of its matrix at
    each token; outputs are normalised per head and pass a swish gate::

        S_n = gamma S_{n-1} + (Theta_n k_n) v_n^T        o_n = S_n^T (Theta_n q_n) / sqrt(key_dim)
        y = W_O (swish(W_G x) * GroupNorm(o))

    The paper's other normalisations (of the decay matrix and of the scores) only scale o, which the GroupNorm takes
    out again. What was read n tokens ago has faded to gamma^n: even the slowest head forgets.

    Args:
        dim: width of inputs and outputs.
        heads: number of matrices; the key's width ``dim / heads`` must be even.
        value_factor: width of the values over that of the keys, 2 in the paper.
        chunk: tokens computed in parallel: a speed setting.
        backend: see `recurra.kernels.delta_rule`.

    Raises:
        UserError: if heads do not divide half of ``dim``, or ``value_factor`` or ``chunk`` is less than 1.

    >>> y, state = Retention(16, heads=2)(torch.ones(2, 5, 16))
    >>> y.shape, state.matrix.shape, state.position
    (torch.Size([2, 5, 16]), torch.Size([2, 2, 8, 16]), tensor([5, 5]))
    """

    backends = BACKENDS

    def __init__(
        self, dim: int, *, heads: int = 4, value_factor: int = 2, chunk: int = 32, backend: str | None = None
    ) -> None:
        super().__init__()
        check_heads("retention", dim, heads, pairs=True)
        check_counts(value_factor=value_factor, chunk=chunk)
        self.dim, self.heads, self.chunk, self.backend = dim, heads, chunk, backend
        key_dim, value_dim = dim // heads, dim * value_factor // heads
        self.sizes = [key_dim, key_dim, value_dim]
        self.projection = nn.Linear(dim, heads * sum(self.sizes), bias=False)  # queries, keys, values
        self.gate = nn.Linear(dim, heads * value_dim, bias=False)
        self.norm = nn.GroupNorm(heads, heads * value_dim)
        self.output = nn.Linear(heads * value_dim, dim, bias=False)
        # Plain numbers in float64: no buffer, which `.float()` would round.
        self._log_decay = torch.log1p(-(2.0 ** (-5 - torch.arange(heads, dtype=torch.float64))))

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> RetentionState:
        """Give zeros."""
        place = self.placement(device, dtype)
        matrix = torch.zeros(batch, self.heads, self.sizes[0], self.sizes[2], **place)
        return RetentionState(matrix, torch.zeros(batch, dtype=torch.long, device=place["device"]))

    def forward(
        self,
        x: Tensor,
        state: RetentionState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, RetentionState]:
        """Read a piece: see `Memory.forward`."""
        x, state = self.begin(x, state, first, present)
        batch, time, _ = x.shape
        dtype = state.matrix.dtype
        q, k, v = self.projection(x).to(dtype).unflatten(-1, (self.heads, -1)).split(self.sizes, dim=-1)
        place, position = positions(state.position, (batch, time), first, present)
        turning = [part.unsqueeze(-2) for part in angles(place, self.sizes[0])]
        read, matrix = delta_rule(
            turn(q, *turning),
            turn(k, *turning),
            v,
            log_decay=self._log_decay.to(x.device, dtype).expand(batch, time, self.heads),
            scale=self.sizes[0] ** -0.5,
            initial_state=state.matrix,
            first=first,
            present=present,
            chunk=self.chunk,
            backend=self.backend,
        )
        normal = self.norm(read.flatten(-2).flatten(0, 1).to(x.dtype)).unflatten(0, (batch, time))
        y = self.output(functional.silu(self.gate(x)) * normal)
        return hide(y, present), RetentionState(matrix, position)
