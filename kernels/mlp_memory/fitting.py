"""What of the MLP memory its Triton kernels take, and in which blocks. Nothing here imports triton."""

from functools import partial
from typing import Any

import torch

from recurra.kernels import biases, launching
from recurra.kernels.biases import Bias

LARGEST = 128  # channels of keys, the row of a layer's bias counted, and of values
LARGEST_CHUNK = 64

#: The biases by number, those with a threshold last; lp has four: 1 is p = 2, and then p = 3, p > 3 and p < 3.
NUMBERS: dict[Bias, int] = {
    biases.dot: 0,
    biases.l2: 1,
    biases.huber: 5,
    biases.huber_norm: 6,
    biases.huber_mixture: 7,
    biases.robust: 8,
}


def number(bias: Bias) -> tuple[int, float] | None:
    """Give a bias's number and exponent; None for a function that the kernels do not know, and for a tensor's exponent.

    >>> number(biases.l2), number(partial(biases.lp, p=4.0)), number(lambda prediction, value, threshold: value)
    ((1, 2.0), (3, 4.0), None)
    >>> number(partial(biases.lp, p=torch.tensor(4.0)))
    """
    if isinstance(bias, partial) and bias.func is biases.lp and not bias.args and set(bias.keywords) == {"p"}:
        p = bias.keywords["p"]
        if not isinstance(p, int | float):  # a tensor, which may learn
            return None
        return 1 if p == 2.0 else 2 if p == 3.0 else 3 if p > 3.0 else 4, float(p)
    return (NUMBERS[bias], 2.0) if bias in NUMBERS else None


def unfit(
    bias: Bias, keys: int, values: int, places: int, dtype: torch.dtype, *, narrow: bool, wide: bool
) -> str | None:
    """Say what the kernels take, where they do not take these arguments.

    Args:
        bias: the gradient of the loss.
        keys: rows of the first layer's weights, that of its bias among them.
        values: channels of values.
        places: tokens of a chunk.
        dtype: to compute in.
        narrow: multiply in bfloat16.
        wide: channels have decays of their own.
    """
    dim = max(keys, values)
    if number(bias) is None:
        return "the biases of recurra.kernels.biases, and this is another"
    if dim > LARGEST:
        return f"up to {LARGEST} channels of a head, the row of a layer's bias among them, not {dim}"
    # Of float32, more would not fit the shared memory of an A100: products of it take tiles thrice.
    largest = LARGEST_CHUNK if narrow or dim <= (32 if wide else 64) else 32 if dim <= 64 else 16
    if places > largest:
        kind = "" if largest == LARGEST_CHUNK else f" of float32 heads of {dim} channels"
        return f"chunks of up to {largest} tokens{kind}, not {places}"
    if dtype == torch.float64 and not launching.INTERPRETED:
        return "float64 only where it is interpreted"
    return None


def blocks(dim: int, chunk: int) -> dict[str, Any]:
    """Give the hidden units of a block, the warps and the stages of loads, for heads of up to ``dim`` channels.

    Weights come by blocks of hidden units, so that what a program holds at once hangs on the head and the chunk alone;
    with more than one stage, blocks to come would lie in shared memory too, and chunks of 64 tokens would not fit.
    """
    return {
        "UNITS": 32,
        "num_warps": 8 if dim > 32 and chunk > 16 else 4 if dim > 32 or chunk > 16 else 2,
        "num_stages": 1,
    }
