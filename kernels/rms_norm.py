"""Root mean square norm with a backward pass in few operations: on a CPU each of torch's own many costs a pass."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def rms_norm(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    """Divide by the root mean square of the last axis (Zhang and Sennrich 2019, arXiv 1910.07467, Eq. 4).

        y = w x / sqrt(mean(x^2) + eps)

    Args:
        x: ``(..., dim)``.
        weight: w ``(dim,)``.
        eps: keeps zeros zeros.

    Returns:
        y ``(..., dim)``; differentiable in x and w, as often as torch is.

    >>> rms_norm(torch.tensor([0.0, 5.0]), torch.tensor([1.0, 2.0]), eps=0.0)
    tensor([0.0000, 2.8284])
    """
    learnt = torch.is_grad_enabled() and x.device.type == "cpu" and x.dtype == weight.dtype
    if learnt and not torch.compiler.is_compiling():
        y: Tensor = _RMSNorm.apply(x, weight, eps)
        return y
    return functional.rms_norm(x, weight.shape, weight, eps)


class _RMSNorm(torch.autograd.Function):
    """With n = x / s, s the root: dL/dx = (w g - n mean(w g n)) / s and dL/dw the sum of g n over all tokens."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = size.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, inverse, weight)
        ctx.eps = eps
        return (x * inverse).mul_(weight)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None]:
        x, inverse, weight = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again: 1 / s is of x
            inverse = (x.square().mean(-1, keepdim=True) + ctx.eps).rsqrt()
        n = x * inverse
        by_channel = slope * n
        along = (by_channel @ weight).unsqueeze(-1)
        of_x = torch.mul(slope, weight).addcmul_(n, along, value=-1 / len(weight)).mul_(inverse)
        return of_x, by_channel.reshape(-1, len(weight)).sum(0), None
