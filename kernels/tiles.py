"""What all Triton kernels share: their numbers, and what is done with tiles.

Kernels hold tiles in an accumulator type, float32, or float64 for arguments in float64: every load is cast to it at
once (the interpreter cannot compute in bfloat16), and a product of matrices casts its operands to the type that it
multiplies in. What works in the interpreter and not on a GPU, or the other way round, is left out: pointers to blocks,
libdevice, inline assembly, autotuning, loads with a mask and nothing to stand in for what it hides.
"""

from contextlib import AbstractContextManager

import torch
import triton
import triton.language as tl
from torch import Tensor

from recurra.kernels.launching import INTERPRETED

# Products of float32 matrices: three products of tf32, which lose next to nothing against float32 and run on the
# tensor cores; "ieee" runs beside them, compiles for minutes and takes twice the shared memory.
PRECISION = tl.constexpr("tf32x3")


def accumulator(dtype: torch.dtype) -> tl.dtype:
    """Give the type to compute in: float64 for float64, else float32."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def factor(dtype: torch.dtype) -> torch.dtype:
    """Give the dtype that matrices are multiplied in, where the arguments that fill them are of ``dtype``."""
    if dtype == torch.float64:
        return dtype
    return dtype if dtype in (torch.bfloat16, torch.float16) and not INTERPRETED else torch.float32


def language(dtype: torch.dtype) -> tl.dtype:
    """Give Triton's name of a floating-point dtype."""
    return {torch.float64: tl.float64, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}.get(dtype, tl.float32)


def power(size: int, *, least: int = 16) -> int:
    """Give the smallest side of a tile that holds ``size``: a power of two, for products at least 16.

    >>> power(5), power(48), power(1, least=1)
    (16, 64, 1)
    """
    return max(least, triton.next_power_of_2(size))


def on(tensor: Tensor) -> AbstractContextManager[None]:
    """Launch on the device that holds a tensor, which need not be the current one."""
    return torch.cuda.device_of(tensor)


@triton.jit
def dot(a, b, FACTOR: tl.constexpr, ACC: tl.constexpr):
    """Multiply matrices in the type FACTOR, and add up in the type ACC."""
    return tl.dot(a.to(FACTOR), b.to(FACTOR), out_dtype=ACC, input_precision=PRECISION)
