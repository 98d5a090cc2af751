"""The GRU's recurrence over packed sequences: inside the loops over time only what depends on the step before."""

import torch
from torch import Tensor


def forward(
    projected: Tensor, weight: Tensor, bias: Tensor, state: Tensor, sizes: list[int], *, gates: Tensor, n: Tensor
) -> Tensor:
    """Read at least one token of each sequence, and give h ``(tokens, dim)``.

    Args:
        projected: ``(tokens, 3 * dim)``, see `recurra.kernels.gru`; step by step, sequences longest first.
        weight: see there.
        bias: see there.
        state: ``(sequences, dim)`` that they start from.
        sizes: how many sequences have a token at each step.
        gates: ``(tokens, 3 * dim)``, filled with what `backward` needs: r, z, and n's part W_n h + b_n.
        n: ``(tokens, dim)``, filled for it too.
    """
    dim, h = state.shape[1], torch.empty_like(n)
    # The gates are first what the hidden state adds to each, and then themselves, in place.
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
    return h


def backward(
    slope: Tensor, weight: Tensor, state: Tensor, gates: Tensor, n: Tensor, h: Tensor, sizes: list[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Give dL/d of what `forward` took, from dL/dh ``(tokens, dim)``.

    A step back is four operations: how dL/dh_t becomes the slopes of the gates is found for all tokens beforehand, and
    what the slopes say of the weights for all tokens afterwards, in one product.
    """
    dim = state.shape[1]
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
    return flat, weight_slope, bias_slope, carried
