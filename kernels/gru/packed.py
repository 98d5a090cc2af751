"""The GRU's recurrence: inside the loop over time only what depends on the step before."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def packed(projected: Tensor, weight: Tensor, bias: Tensor, state: Tensor, sizes: list[int]) -> Tensor:
    """Give h of every token: see `recurra.kernels.gru`."""
    h: Tensor = _PackedGRU.apply(projected, weight, bias, state, sizes)
    return h


class _PackedGRU(torch.autograd.Function):
    """The backward pass by hand.

    A step back is four operations: how dL/dh_t becomes the slopes of the gates is found for all tokens beforehand, and
    what the slopes say of the weights for all tokens afterwards, in one product.
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, weight: Tensor, bias: Tensor, state: Tensor, sizes: list[int]) -> Tensor:
        tokens, dim = len(projected), state.shape[1]
        h, n = projected.new_empty(2, tokens, dim).unbind()
        # What the hidden state adds to each gate, and then in place: r, z, and n's part W_n h + b_n.
        gates = torch.empty_like(projected)
        steps = zip(
            gates.split(sizes),
            gates[:, : 2 * dim].split(sizes),
            gates[:, :dim].split(sizes),
            gates[:, dim : 2 * dim].split(sizes),
            gates[:, 2 * dim :].split(sizes),
            projected[:, : 2 * dim].split(sizes),
            projected[:, 2 * dim :].split(sizes),
            n.split(sizes),
            h.split(sizes),
            sizes,
            strict=True,
        )
        turned, held = weight.t(), state
        for all_t, rz_t, r_t, z_t, inner_t, given_rz, given_n, n_t, h_t, size in steps:
            held = held if size == len(held) else held[:size]
            torch.addmm(bias, held, turned, out=all_t)
            rz_t.add_(given_rz).sigmoid_()
            torch.addcmul(given_n, r_t, inner_t, out=n_t).tanh_()
            held = torch.lerp(n_t, held, z_t, out=h_t)
        ctx.save_for_backward(weight, state, gates, n, h)
        ctx.sizes = sizes
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        weight, state, gates, n, h = ctx.saved_tensors
        sizes, dim = ctx.sizes, state.shape[1]
        r, z, inner = gates.split(dim, dim=1)
        earlier = torch.cat([state, *(h_t[:size] for h_t, size in zip(h.split(sizes), sizes[1:], strict=False))])
        # dL/dh_t, times these, is the slope of what r, z and n's part of the hidden state are made of. In place: fresh
        # memory for every product costs more than the products.
        factors = h.new_empty(len(h), 3, dim)
        to_r, to_z, to_inner = factors.unbind(1)
        to_n = 1 - z
        torch.sub(earlier, n, out=to_z).mul_(z).mul_(to_n)  # (h_{t-1} - n) z (1 - z)
        to_n.addcmul_(to_n, torch.mul(n, n, out=to_inner), value=-1)  # (1 - z) (1 - n^2)
        torch.mul(to_n, r, out=to_inner)
        torch.addcmul(r, r, r, value=-1, out=to_r).mul_(inner).mul_(to_n)  # (1 - z) (1 - n^2) (W_n h + b_n) r (1 - r)
        total = torch.empty_like(h)  # dL/dh_t, what comes by later tokens included
        slopes = torch.empty_like(factors)
        carried = torch.zeros_like(state)
        steps = zip(
            slope.split(sizes),
            total.split(sizes),
            total.unsqueeze(1).split(sizes),
            z.split(sizes),
            factors.split(sizes),
            slopes.split(sizes),
            slopes.flatten(1).split(sizes),
            sizes,
            strict=True,
        )
        for slope_t, total_t, each_t, z_t, factors_t, slopes_t, flat_t, size in reversed(list(steps)):
            carried_t = carried if size == len(carried) else carried[:size]
            torch.add(slope_t, carried_t, out=total_t)
            torch.mul(each_t, factors_t, out=slopes_t)
            torch.mul(total_t, z_t, out=carried_t).addmm_(flat_t, weight)
        flat = slopes.flatten(1)
        weight_slope, bias_slope = flat.t() @ earlier, flat.sum(0)
        torch.mul(total, to_n, out=slopes[:, 2])  # of the inputs' part of n
        return flat, weight_slope, bias_slope, carried, None
