"""The GRU's recurrence: checks, and what is common to all dtypes."""

import torch
from torch import Tensor

from recurra.errors import UserError
from recurra.kernels import checks
from recurra.kernels.gru.pieces import pieces


def gru(
    projected: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    initial_state: Tensor | None = None,
    first: Tensor | None = None,
    present: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run a GRU (Cho et al. 2014, arXiv 1406.1078) in the form of `torch.nn.GRU` over a piece of each stream.

        r_t = sigmoid(p_r + W_r h_{t-1} + b_r)        z_t = sigmoid(p_z + W_z h_{t-1} + b_z)
        n_t = tanh(p_n + r_t * (W_n h_{t-1} + b_n))   h_t = (1 - z_t) * n_t + z_t * h_{t-1}

    torch's own keeps every operation of every step for its backward pass on a CPU; this one multiplies by the weights
    once a step each way, and finds their gradients in one product for all tokens. Episodes that ``first`` cuts a piece
    into run side by side, so it takes as many steps as the longest has tokens.

    Args:
        projected: p, the inputs' part of r, z and n ``(batch, time, 3 * dim)``, biases included.
        weight: W_r, W_z and W_n ``(3 * dim, dim)``.
        bias: b_r, b_z and b_n ``(3 * dim,)``.
        initial_state: ``(batch, dim)``; None is zeros.
        first: ``(batch, time)`` bool: h is 0 before these tokens, whether they are present or not.
        present: ``(batch, time)`` bool: tokens where it is False change nothing, and their output is 0; what they hold,
            NaN included, does not matter.

    Returns:
        h ``(batch, time, dim)`` in projected's dtype, and after the last token ``(batch, dim)``, held in the widest
        dtype of the arguments and at least in float32, under autocast too. Differentiable in every tensor, once;
        `torch.compile` takes it whole.

    Raises:
        UserError: if a shape or a dtype does not fit.

    >>> ones = torch.ones(1, 2)
    >>> h, last = gru(torch.zeros(1, 2, 6), torch.zeros(6, 2), torch.zeros(6), initial_state=ones)
    >>> h, last  # z is 1/2, n is 0
    (tensor([[[0.5000, 0.5000],
             [0.2500, 0.2500]]]), tensor([[0.2500, 0.2500]]))
    """
    _check(projected, weight, bias, initial_state, first, present)
    dtype = checks.widest(projected, weight, bias, initial_state)
    batch, time, _ = projected.shape
    if initial_state is None:
        state = projected.new_zeros(batch, weight.shape[1], dtype=dtype)
    else:
        state = initial_state.to(dtype)
    if time == 0:
        return projected.new_empty(batch, 0, weight.shape[1]), state
    with torch.autocast(projected.device.type, enabled=False):
        h, last = pieces(projected.to(dtype), weight.to(dtype), bias.to(dtype), state, first, present)
    return h.to(projected.dtype), last


def _check(
    projected: Tensor,
    weight: Tensor,
    bias: Tensor,
    initial_state: Tensor | None,
    first: Tensor | None,
    present: Tensor | None,
) -> None:
    if projected.dim() != 3 or weight.dim() != 2:
        shapes = f"{tuple(projected.shape)} and {tuple(weight.shape)}"
        raise UserError(f"projected must be (batch, time, 3 * dim) and weight (3 * dim, dim), got {shapes}")
    batch, time, _ = projected.shape
    dim = weight.shape[1]
    expected: dict[str, tuple[Tensor | None, list[checks.Shape]]] = {
        "projected": (projected, [(batch, time, 3 * dim)]),
        "weight": (weight, [(3 * dim, dim)]),
        "bias": (bias, [(3 * dim,)]),
        "initial_state": (initial_state, [(batch, dim)]),
        "first": (first, [(batch, time)]),
        "present": (present, [(batch, time)]),
    }
    checks.shapes(expected)
    checks.flags(first=first, present=present)
    checks.floating(projected=projected, weight=weight, bias=bias, initial_state=initial_state)
