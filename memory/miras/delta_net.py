"""DeltaNet and Gated DeltaNet: a matrix that learns each key's value by the delta rule."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.kernels import delta_rule
from recurra.kernels.delta_rule import BACKENDS
from recurra.memory import gates
from recurra.memory.base import Memory, hide
from recurra.memory.blocks import ShortConvolution, ShortConvolutionState
from recurra.memory.checks import check_counts, check_heads


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

    Gated DeltaNet (Yang et al. 2024, arXiv 2412.06464, Equation 10) is this with ``decay``, ``gate`` and wider values:
    the matrix first decays by alpha_t = exp(-exp(log_pace) softplus(W x_t + b)), as in Mamba-2, and outputs are
    multiplied by SiLU(W_g x_t) after their norm.

    Args:
        dim: width of inputs and outputs.
        heads: number of matrices, each with keys of ``dim / heads``.
        value_factor: width of the values over that of the keys.
        decay: let each head's matrix decay, as much as the token says.
        gate: gate the outputs.
        closing: gates that close exactly, see `recurra.memory.gates.gate`: beta, and with it alpha, which then is
            such a gate too, and starts open.
        windowed: decide how much is written and kept by what the short convolution made of the last tokens, not by
            the token alone: only its window says whether a token completes a fact.
        convolution: width of the short convolution; 0 leaves it out (and applies SiLU alone).
        chunk: tokens computed in parallel: a speed setting, the outputs do not depend on it.
        backend: see `recurra.kernels.delta_rule`.

    Raises:
        UserError: if heads do not divide ``dim``, ``value_factor`` or ``chunk`` is less than 1, or
            ``convolution`` is 1.

    >>> y, state = DeltaNet(16, heads=2)(torch.ones(2, 5, 16))
    >>> y.shape, state.matrix.shape
    (torch.Size([2, 5, 16]), torch.Size([2, 2, 8, 8]))
    """

    backends = BACKENDS

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 4,
        value_factor: int = 1,
        decay: bool = False,
        gate: bool = False,
        closing: bool = False,
        windowed: bool = False,
        convolution: int = 4,
        chunk: int = 32,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        check_heads("delta_net", dim, heads)
        check_counts(value_factor=value_factor, chunk=chunk)
        self.dim, self.heads, self.closing, self.chunk, self.backend = dim, heads, closing, chunk, backend
        self.windowed = windowed
        value_dim = dim * value_factor
        self.mixed_dim = 2 * dim + value_dim  # queries, keys, values
        self.projection = nn.Linear(dim, self.mixed_dim, bias=False)
        self.convolution = ShortConvolution(self.mixed_dim, width=convolution) if convolution else None
        decisive = self.mixed_dim if windowed else dim
        self.strength = nn.Linear(decisive, heads)
        self.decay = nn.Linear(decisive, heads) if decay else None
        self.log_pace = nn.Parameter(torch.zeros(heads)) if decay and not closing else None
        self.norm = nn.RMSNorm(value_dim // heads, eps=1e-6)
        self.gate = nn.Linear(dim, value_dim, bias=False) if gate else None
        self.output = nn.Linear(value_dim, dim, bias=False)
        if self.decay is not None:
            _start_decay(self.decay, self.log_pace)

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> DeltaNetState:
        """Give zeros."""
        place = self.placement(device, dtype)
        key_dim, value_dim = self.dim // self.heads, (self.mixed_dim - 2 * self.dim) // self.heads
        matrix = torch.zeros(batch, self.heads, key_dim, value_dim, **place)
        if self.convolution is None:
            return DeltaNetState(matrix, ShortConvolutionState(torch.zeros(batch, 0, self.mixed_dim, **place)))
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
        o, state = self._read(x, state, first, present)
        return hide(self._tell(x, o), present), state

    def absorb(
        self,
        x: Tensor,
        state: DeltaNetState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> DeltaNetState:
        """Read a piece for the state alone: see `Memory.absorb`."""
        x, state = self.begin(x, state, first, present)
        return self._read(x, state, first, present)[1]

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
        o, matrix = self._recall(x.unsqueeze(1), mixed.unsqueeze(1), state.matrix)
        return self._tell(x, o.squeeze(1)), DeltaNetState(matrix, convolution)

    def _read(
        self, x: Tensor, state: DeltaNetState, first: Tensor | None, present: Tensor | None
    ) -> tuple[Tensor, DeltaNetState]:
        """Write a piece and read what it recalls ``(batch, time, heads, value_dim)``."""
        mixed, convolution = self.projection(x), state.convolution
        if self.convolution is None:
            mixed = functional.silu(mixed)
        else:
            mixed, convolution = self.convolution(mixed, convolution, first=first, present=present)
        o, matrix = self._recall(x, mixed, state.matrix, first, present)
        return o, DeltaNetState(matrix, convolution)

    def _recall(
        self, x: Tensor, mixed: Tensor, matrix: Tensor, first: Tensor | None = None, present: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Write to the matrix and read it, given the mixed queries, keys and values of x."""
        keys, v = mixed.split([2 * self.dim, self.mixed_dim - 2 * self.dim], dim=-1)
        q, k = functional.normalize(keys.unflatten(-1, (2, self.heads, -1)), dim=-1).unbind(-3)
        decisive = mixed if self.windowed else x
        found: tuple[Tensor, Tensor] = delta_rule(
            q,
            k,
            v.unflatten(-1, (self.heads, -1)),
            log_decay=self._log_decay(decisive),
            beta=gates.write_gate(self.strength(decisive), closing=self.closing),
            initial_state=matrix,
            first=first,
            present=present,
            chunk=self.chunk,
            backend=self.backend,
        )
        return found

    def _tell(self, x: Tensor, o: Tensor) -> Tensor:
        """Turn what was recalled into outputs."""
        y = self.norm(o.to(self.norm.weight.dtype)).flatten(-2)
        if self.gate is not None:
            y = y * functional.silu(self.gate(x))
        output: Tensor = self.output(y)
        return output

    def _log_decay(self, decisive: Tensor) -> Tensor | None:
        """Give the logarithm of alpha ``(batch, time, heads)``."""
        if self.decay is None:
            return None
        logits = self.decay(decisive)
        if self.log_pace is None:
            # The kernel wants finite logarithms: what keeps less than 1e-30 keeps nothing.
            return gates.log_gate(gates.gate(logits, closing=True)).clamp(min=-70.0)
        return -self.log_pace.exp() * functional.softplus(logits.to(self.log_pace.dtype))


def _start_decay(decay: nn.Linear, log_pace: Tensor | None) -> None:
    """Start as Mamba-2 does: paces up to 16, softplus(bias) between 0.001 and 0.1; a closing gate starts open."""
    with torch.no_grad():
        if log_pace is None:
            decay.bias.fill_(4.0)
            return
        log_pace.copy_(torch.empty_like(log_pace).uniform_(1.0, 16.0).log())
        step = torch.empty_like(decay.bias).uniform_(math.log(0.001), math.log(0.1)).exp()
        decay.bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus
