"""The linear recurrence: checks, what is common to all backends, and the choice of one."""

import torch
from torch import Tensor

from recurra.errors import UserError
from recurra.kernels import checks
from recurra.kernels.linear_recurrence.chunked import chunked
from recurra.kernels.linear_recurrence.reference import reference

BACKENDS = ("reference", "chunked", "triton")


def linear_recurrence(
    x: Tensor,
    log_gate: Tensor,
    *,
    initial_state: Tensor | None = None,
    first: Tensor | None = None,
    present: Tensor | None = None,
    chunk: int = 16,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Keep part of each channel and add to it, one token after another.

        h_t = exp(log_gate_t) h_{t-1} + x_t

    The recurrence of minGRU and minLSTM (arXiv 2410.01201), and of every diagonal state-space model.

    Args:
        x: what is added ``(batch, time, dim)``.
        log_gate: natural logarithm of what is kept ``(batch, time, dim)``, at most 0; -inf keeps nothing, 0 all.
        initial_state: ``(batch, dim)``; None is zeros.
        first: ``(batch, time)`` bool: h is 0 before these tokens, whether they are present or not.
        present: ``(batch, time)`` bool: tokens where it is False neither decay nor add, and their output is 0; what
            they hold, NaN included, does not matter.
        chunk: tokens that the chunked backend walks in all chunks at once: changes the speed, not the answer.
        backend: ``"reference"`` goes token by token, ``"chunked"`` is parallel, ``"triton"`` runs kernels on a GPU;
            None takes the last for CUDA tensors, else the first for a single token and the second for more. All are
            differentiable in every floating-point argument; the kernels once, the others as often as torch is.

    Returns:
        Outputs h ``(batch, time, dim)`` in x's dtype, and the state after the last token ``(batch, dim)``, held in
        the widest dtype of the arguments and at least in float32, under autocast too.

    Raises:
        UserError: if a shape, a dtype, the chunk or the backend does not fit, or the backend cannot run here.

    >>> import torch
    >>> gates = torch.tensor([1.0, 1.0, 0.5, 0.0]).log().reshape(1, 4, 1)
    >>> output, state = linear_recurrence(torch.ones(1, 4, 1), gates)
    >>> output.flatten(), state.flatten()
    (tensor([1., 2., 2., 1.]), tensor([1.]))
    """
    _check(x, log_gate, initial_state, first, present)
    if chunk < 2:
        raise UserError(f"chunk must be at least 2, got {chunk}")
    backend = checks.backend("linear_recurrence", backend, BACKENDS, time=x.shape[1], device=x.device)

    dtype = checks.widest(x, log_gate, initial_state)
    state = x.new_zeros(x.shape[0], x.shape[2], dtype=dtype) if initial_state is None else initial_state.to(dtype)
    if x.shape[1] == 0:
        return torch.empty_like(x), state
    with torch.autocast(x.device.type, enabled=False):
        added, log_kept = x.to(dtype), log_gate.to(dtype)
        if present is not None:
            absent = ~present.unsqueeze(-1)
            added, log_kept = added.masked_fill(absent, 0.0), log_kept.masked_fill(absent, 0.0)
        gate = log_kept.exp()
        if first is not None:
            gate = gate.masked_fill(first.unsqueeze(-1), 0.0)
        if backend == "reference":
            output, state = reference(added, gate, state)
        elif backend == "triton":
            from recurra.kernels.linear_recurrence.gpu import scan  # imports triton, which the others do without

            output, state = scan(added, gate, state)
        else:
            output, state = chunked(added, gate, state, chunk)
        if present is not None:
            output = output.masked_fill(absent, 0.0)
    return output.to(x.dtype), state


def _check(
    x: Tensor, log_gate: Tensor, initial_state: Tensor | None, first: Tensor | None, present: Tensor | None
) -> None:
    if x.dim() != 3:
        raise UserError(f"x must be (batch, time, dim), got {tuple(x.shape)}")
    batch, time, dim = x.shape
    expected: dict[str, tuple[Tensor | None, list[checks.Shape]]] = {
        "log_gate": (log_gate, [(batch, time, dim)]),
        "initial_state": (initial_state, [(batch, dim)]),
        "first": (first, [(batch, time)]),
        "present": (present, [(batch, time)]),
    }
    checks.shapes(expected)
    checks.flags(first=first, present=present)
    checks.floating(x=x, log_gate=log_gate, initial_state=initial_state)
