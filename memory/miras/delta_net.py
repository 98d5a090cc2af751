"""DeltaNet: a matrix that learns each key's value by the delta rule."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.errors import UserError
from recurra.kernels import delta_rule
from recurra.memory.base import Memory, hide
from recurra.memory.blocks import ShortConvolution, ShortConvolutionState


class DeltaNetState(NamedTuple):
    """What a DeltaNet keeps: ``matrix (batch, heads, key_dim, value_dim)`` and the short convolution's inputs."""

    matrix: Tensor
    convolution: ShortConvolutionState


class DeltaNet(Memory):
    """DeltaNet (Yang et al. 2024, arXiv 2406.06484; delta rule: Schlag et al. 2021, arXiv 2102.11174).

    Queries, keys and values go through a short convolution with SiLU; queries and keys are l2-normalised. Each
    head's matrix S is corrected towards the value by the strength beta in (0, 1), and read by the query::

        S_t = S_{t-1} + beta_t k_t (v_t - S_{t-1}^T k_t)^T        o_t = S_t^T q_t

    Writing the same pair again changes nothing, and nothing decays: what is written stays until its key is
    written anew. Outputs are normalised per head.

    Args:
        dim: width of inputs and outputs.
        heads: number of matrices, each ``dim / heads`` square.
        convolution: width of the short convolution; 0 leaves it out (and applies SiLU alone).
        chunk: tokens computed in parallel: a speed setting, the outputs do not depend on it.
        backend: see `recurra.kernels.delta_rule`.

    >>> y, state = DeltaNet(16, heads=2)(torch.ones(2, 5, 16))
    >>> y.shape, state.matrix.shape
    (torch.Size([2, 5, 16]), torch.Size([2, 2, 8, 8]))
    """

    backends = ("reference", "chunked")

    def __init__(
        self, dim: int, *, heads: int = 4, convolution: int = 4, chunk: int = 32, backend: str | None = None
    ) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise UserError(f"delta_net needs heads that divide its dim: {heads} does not divide {dim}")
        self.dim, self.heads, self.chunk, self.backend = dim, heads, chunk, backend
        self.projection = nn.Linear(dim, 3 * dim, bias=False)  # queries, keys, values
        self.convolution = ShortConvolution(3 * dim, width=convolution) if convolution else None
        self.strength = nn.Linear(dim, heads)
        self.norm = nn.RMSNorm(dim // heads, eps=1e-6)
        self.output = nn.Linear(dim, dim, bias=False)

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> DeltaNetState:
        """Give zeros."""
        place = self.placement(device, dtype)
        head = self.dim // self.heads
        matrix = torch.zeros(batch, self.heads, head, head, **place)
        if self.convolution is None:
            return DeltaNetState(matrix, ShortConvolutionState(torch.zeros(batch, 0, 3 * self.dim, **place)))
        return DeltaNetState(matrix, self.convolution.initial_state(batch, **place))

    def forward(
        self,
        x: Tensor,
        state: DeltaNetState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, DeltaNetState]:
        """Read a piece: see `Memory.forward`."""
        x, state = self.begin(x, state, first, present)
        mixed, convolution = self.projection(x), state.convolution
        if self.convolution is None:
            mixed = functional.silu(mixed)
        else:
            mixed, convolution = self.convolution(mixed, convolution, first=first, present=present)
        y, matrix = self._recall(x, mixed, state.matrix, first, present)
        return hide(y, present), DeltaNetState(matrix, convolution)

    def step(
        self, x: Tensor, state: DeltaNetState | None = None, *, first: Tensor | None = None
    ) -> tuple[Tensor, DeltaNetState]:
        """Read one token of each stream: see `Memory.step`."""
        state = self.begin_step(x, state, first)
        mixed, convolution = self.projection(x), state.convolution
        if self.convolution is None:
            mixed = functional.silu(mixed)
        else:
            mixed, convolution = self.convolution.step(mixed, convolution)
        y, matrix = self._recall(x.unsqueeze(1), mixed.unsqueeze(1), state.matrix)
        return y.squeeze(1), DeltaNetState(matrix, convolution)

    def _recall(
        self, x: Tensor, mixed: Tensor, matrix: Tensor, first: Tensor | None = None, present: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Write to the matrix and read it, given the mixed queries, keys and values of x."""
        mixed = mixed.unflatten(-1, (3, self.heads, self.dim // self.heads))
        q, k = functional.normalize(mixed[..., :2, :, :], dim=-1).unbind(-3)
        o, matrix = delta_rule(
            q,
            k,
            mixed[..., 2, :, :],
            beta=self.strength(x).sigmoid(),
            initial_state=matrix,
            first=first,
            present=present,
            chunk=self.chunk,
            backend=self.backend,
        )
        return self.output(self.norm(o.to(self.norm.weight.dtype)).flatten(-2)), matrix
