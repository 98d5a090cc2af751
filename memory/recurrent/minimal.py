"""Minimal recurrent networks, whose gates do not look at the state: minGRU and minLSTM."""

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.kernels import linear_recurrence
from recurra.kernels.linear_recurrence import BACKENDS
from recurra.memory.base import Memory, hide
from recurra.memory.checks import check_counts
from recurra.memory.gates import gate, log_gate, write_gate


class MinimalState(NamedTuple):
    """What a minimal recurrent network keeps: ``hidden (batch, hidden_dim)``."""

    hidden: Tensor


class Minimal(Memory):
    """A recurrent network whose gates do not look at its state, a linear recurrence, computed in parallel.

    ``h_t = (1 - s_t) h_{t-1} + s_t c_t``, with the share ``s_t`` of what is new and the candidate ``c_t`` from
    projections of the input.

    Args:
        dim: width of inputs and outputs.
        expansion: width of the state over dim; beyond 1, outputs are projected back.
        closing: gates that close exactly, see `recurra.memory.gates.gate`.
        positive: candidates through g(x) = x + 1/2 where x >= 0 and sigmoid(x) below, as in the paper's Appendix B;
            otherwise as they are, as in its main text.
        backend: see `recurra.kernels.linear_recurrence`.

    Attributes:
        parts: how many projections of the input there are, the candidate's last.

    Raises:
        UserError: if ``expansion`` is less than 1.
    """

    parts: ClassVar[int]
    backends = BACKENDS

    def __init__(
        self,
        dim: int,
        *,
        expansion: int = 1,
        closing: bool = False,
        positive: bool = True,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        check_counts(expansion=expansion)
        self.dim, self.closing, self.positive, self.backend = dim, closing, positive, backend
        self.projection = nn.Linear(dim, self.parts * dim * expansion)
        self.output: nn.Module = nn.Linear(dim * expansion, dim, bias=False) if expansion > 1 else nn.Identity()

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> MinimalState:
        """Give zeros."""
        return MinimalState(
            torch.zeros(batch, self.projection.out_features // self.parts, **self.placement(device, dtype))
        )

    def forward(
        self,
        x: Tensor,
        state: MinimalState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, MinimalState]:
        """Read a piece: see `Memory.forward`."""
        x, state = self.begin(x, state, first, present)
        share, log_kept, candidate = self._gates(self.projection(x).to(state.hidden.dtype))
        h, last = linear_recurrence(
            share * candidate, log_kept, initial_state=state.hidden, first=first, present=present, backend=self.backend
        )
        return hide(self.output(h.to(x.dtype)), present), MinimalState(last)

    def step(
        self, x: Tensor, state: MinimalState | None = None, *, first: Tensor | None = None
    ) -> tuple[Tensor, MinimalState]:
        """Read one token of each stream: see `Memory.step`."""
        state = self.begin_step(x, state, first)
        share, _, candidate = self._gates(self.projection(x).to(state.hidden.dtype))
        h = torch.lerp(state.hidden, candidate, share)
        return self.output(h.to(x.dtype)), MinimalState(h)

    @abstractmethod
    def _gates(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give s, the logarithm of 1 - s, and the candidate."""


class MinGRU(Minimal):
    """minGRU (Feng et al. 2024, arXiv 2410.01201, Section 3.1 and Appendix B).

    Its gate is the share of what is new; arguments are those of `Minimal`::

        z_t = sigmoid(W_z x_t)        c_t = g(W_h x_t)        h_t = (1 - z_t) h_{t-1} + z_t c_t

    >>> y, state = MinGRU(8, expansion=2)(torch.ones(2, 5, 8))
    >>> y.shape, state.hidden.shape
    (torch.Size([2, 5, 8]), torch.Size([2, 16]))
    """

    parts = 2  # gate, candidate

    def _gates(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give z, the logarithm of 1 - z, and the candidate."""
        logits, candidate = projected.chunk(2, dim=-1)
        z = write_gate(logits, closing=self.closing)
        log_kept = log_gate(1 - z) if self.closing else functional.logsigmoid(-logits)
        return z, log_kept, _positive(candidate) if self.positive else candidate


class MinLSTM(Minimal):
    """minLSTM (Feng et al. 2024, arXiv 2410.01201, Section 3.2 and Appendix B).

    Its two gates are normalised, so that the state's scale does not depend on time::

        f_t = sigmoid(W_f x_t)        i_t = sigmoid(W_i x_t)        c_t = g(W_h x_t)
        h_t = f_t / (f_t + i_t) h_{t-1} + i_t / (f_t + i_t) c_t

    Where both gates are shut (``closing``), all is kept and nothing written. Arguments are those of `Minimal`.

    >>> y, state = MinLSTM(8)(torch.ones(2, 5, 8))
    >>> y.shape, state.hidden.shape
    (torch.Size([2, 5, 8]), torch.Size([2, 8]))
    """

    parts = 3  # forget gate, input gate, candidate

    def _gates(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give i / (f + i), the logarithm of f / (f + i), and the candidate."""
        forget, write, candidate = projected.chunk(3, dim=-1)
        candidate = _positive(candidate) if self.positive else candidate
        if self.closing:
            f, i = gate(forget, closing=True), write_gate(write, closing=True)
            both = f + i
            share = i / both.masked_fill(both == 0, 1.0)
            return share, log_gate(1 - share), candidate
        log_odds = functional.logsigmoid(write) - functional.logsigmoid(forget)
        return write_gate(log_odds, closing=False), functional.logsigmoid(-log_odds), candidate


def _positive(x: Tensor) -> Tensor:
    """Give g(x) = x + 1/2 where x >= 0, sigmoid(x) below: positive and continuous."""
    return torch.where(x >= 0, x + 0.5, x.sigmoid())
