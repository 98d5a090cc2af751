"""The GRU's recurrence: checks."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from recurra.errors import UserError
from recurra.kernels import checks
from recurra.kernels.gru.packed import packed


def gru(
    projected: Tensor, weight: Tensor, bias: Tensor, *, initial_state: Tensor, sizes: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Run a GRU (Cho et al. 2014, arXiv 1406.1078) in the form of `torch.nn.GRU` over packed sequences.

        r_t = sigmoid(p_r + W_r h_{t-1} + b_r)        z_t = sigmoid(p_z + W_z h_{t-1} + b_z)
        n_t = tanh(p_n + r_t * (W_n h_{t-1} + b_n))   h_t = (1 - z_t) * n_t + z_t * h_{t-1}

    torch's own keeps every operation of every step for its backward pass on a CPU; this one multiplies by the weights
    once a step each way, and finds their gradients in one product for all tokens.

    Args:
        projected: p, the inputs' part of r, z and n ``(tokens, 3 * dim)``, biases included; tokens lie step by step,
            sequences longest first, as in `torch.nn.utils.rnn.PackedSequence`.
        weight: W_r, W_z and W_n ``(3 * dim, dim)``.
        bias: b_r, b_z and b_n ``(3 * dim,)``.
        initial_state: ``(sequences, dim)``.
        sizes: how many sequences have a token at each step.

    Returns:
        h of every token ``(tokens, dim)`` and of each sequence's last ``(sequences, dim)``. Differentiable in every
        tensor, once.

    Raises:
        UserError: if a shape does not fit.

    >>> ones = torch.ones(2, 2)
    >>> h, last = gru(torch.zeros(3, 6), torch.zeros(6, 2), torch.zeros(6), initial_state=ones, sizes=[2, 1])
    >>> h  # two sequences, of two tokens and of one; z is 1/2, n is 0
    tensor([[0.5000, 0.5000],
            [0.5000, 0.5000],
            [0.2500, 0.2500]])
    >>> last
    tensor([[0.2500, 0.2500],
            [0.5000, 0.5000]])
    """
    sizes = list(sizes)
    _check(projected, weight, bias, initial_state, sizes)
    h = packed(projected, weight, bias, initial_state, sizes)
    # A sequence ends at the step after which fewer go on; the shortest lie last.
    steps = zip(h.split(sizes), sizes, [*sizes[1:], 0], strict=True)
    return h, torch.cat([h_t[following:] for h_t, size, following in steps if following < size][::-1])


def _check(projected: Tensor, weight: Tensor, bias: Tensor, initial_state: Tensor, sizes: list[int]) -> None:
    if not sizes or sizes[-1] < 1 or any(after > size for size, after in pairwise(sizes)):
        raise UserError("sizes must be of at least one step, at least 1 and never rising: sequences lie longest first")
    dim = weight.shape[-1]
    checks.shapes(
        {
            "projected": (projected, [(sum(sizes), 3 * dim)]),
            "weight": (weight, [(3 * dim, dim)]),
            "bias": (bias, [(3 * dim,)]),
            "initial_state": (initial_state, [(sizes[0], dim)]),
        }
    )
