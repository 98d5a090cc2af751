"""Linear attention: a matrix that adds up what it is shown, read in proportion."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.kernels import delta_rule
from recurra.kernels.delta_rule import BACKENDS
from recurra.memory.base import Memory, hide
from recurra.memory.checks import check_counts, check_heads

_EPSILON = 1e-6


class LinearAttentionState(NamedTuple):
    """What linear attention keeps, all additive.

    ``matrix (batch, heads, key_dim, value_dim)``: the sum of keys times values; ``keys (batch, heads, key_dim)``:
    the sum of keys.
    """

    matrix: Tensor
    keys: Tensor


class LinearAttention(Memory):
    """Linear attention (Katharopoulos et al. 2020, arXiv 2006.16236, Equations 16 to 20).

    Softmax's kernel is replaced by a feature map phi(x) = elu(x) + 1, and attention becomes a recurrence::

        S_t = S_{t-1} + phi(k_t) v_t^T        z_t = z_{t-1} + phi(k_t)        o_t = S_t^T phi(q_t) / z_t^T phi(q_t)

    Nothing is ever forgotten, and what is read is an average over everything: long streams drown what is rare.

    Args:
        dim: width of inputs and outputs.
        heads: number of matrices, each ``dim / heads`` square.
        chunk: tokens computed in parallel: a speed setting.
        backend: see `recurra.kernels.delta_rule`.

    Raises:
        UserError: if heads do not divide ``dim``, or ``chunk`` is less than 1.

    >>> y, state = LinearAttention(16, heads=2)(torch.ones(2, 5, 16))
    >>> y.shape, state.matrix.shape, state.keys.shape
    (torch.Size([2, 5, 16]), torch.Size([2, 2, 8, 8]), torch.Size([2, 2, 8]))
    """

    backends = BACKENDS

    def __init__(self, dim: int, *, heads: int = 4, chunk: int = 32, backend: str | None = None) -> None:
        super().__init__()
        check_heads("linear_attention", dim, heads)
        check_counts(chunk=chunk)
        self.dim, self.heads, self.chunk, self.backend = dim, heads, chunk, backend
        self.projection = nn.Linear(dim, 3 * dim, bias=False)  # queries, keys, values
        self.output = nn.Linear(dim, dim, bias=False)

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> LinearAttentionState:
        """Give zeros."""
        place, head = self.placement(device, dtype), self.dim // self.heads
        return LinearAttentionState(
            torch.zeros(batch, self.heads, head, head, **place), torch.zeros(batch, self.heads, head, **place)
        )

    def forward(
        self,
        x: Tensor,
        state: LinearAttentionState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, LinearAttentionState]:
        """Read a piece: see `Memory.forward`."""
        x, state = self.begin(x, state, first, present)
        q, k, v = self.projection(x).to(state.matrix.dtype).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        # The sum of keys is one more column of the matrix, under a value that is always 1.
        read, last = delta_rule(
            functional.elu(q) + 1,
            functional.elu(k) + 1,
            functional.pad(v, (0, 1), value=1.0),
            initial_state=torch.cat((state.matrix, state.keys.unsqueeze(-1)), -1),
            first=first,
            present=present,
            chunk=self.chunk,
            backend=self.backend,
        )
        o = read[..., :-1] / (read[..., -1:] + _EPSILON)
        return hide(self.output(o.flatten(-2).to(x.dtype)), present), LinearAttentionState(
            last[..., :-1], last[..., -1]
        )
