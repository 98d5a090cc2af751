"""The GRU's recurrence over pieces of streams, as one operation that `torch.compile` takes whole.

How many sequences a piece falls into, and how long they are, hangs on what its flags hold: no compiled graph can look
inside. Forward and backward are an operator each.
"""

from typing import Any

import torch
from torch import Tensor

from recurra.kernels.gru import packed
from recurra.kernels.packing import pack


def pieces(
    projected: Tensor, weight: Tensor, bias: Tensor, state: Tensor, first: Tensor | None, present: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Give h ``(batch, time, dim)`` and each stream's last: see `recurra.kernels.gru`."""
    h, last, _, _ = _forward(projected, weight, bias, state, first, present)
    return h, last


@torch.library.custom_op("recurra::gru", mutates_args=())
def _forward(
    projected: Tensor, weight: Tensor, bias: Tensor, state: Tensor, first: Tensor | None, present: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Give h, the last state, and for the way back gates and n, packed, with room for the tokens that are absent."""
    h, _, gates, n = _room(projected, weight, bias, state, first, present)
    batch, time, width = projected.shape
    packing, fresh = pack((batch, time), first, present, state.device), state.new_zeros(1, 1)
    count = len(packing.tokens)
    gates[count:], n[count:] = 0.0, 0.0
    if not count:
        return h, packing.ends(state, state, fresh).clone(), gates, n
    given = projected.reshape(batch * time, width)[packing.tokens]
    sizes = packing.sizes.tolist()
    starts = packing.starts(state, fresh)
    found = packed.forward(given, weight, bias, starts, sizes, gates=gates[:count], n=n[:count])
    h.view(batch * time, -1).index_copy_(0, packing.tokens, found)
    return h, packing.ends(found[_last(sizes, state.device)], state, fresh), gates, n


@_forward.register_fake
def _room(
    projected: Tensor, weight: Tensor, bias: Tensor, state: Tensor, first: Tensor | None, present: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, time, width = projected.shape
    dim = state.shape[1]
    h = projected.new_zeros(batch, time, dim)
    return h, torch.empty_like(state), projected.new_empty(batch * time, width), projected.new_empty(batch * time, dim)


@torch.library.custom_op("recurra::gru_backward", mutates_args=())
def _backward(
    h_slope: Tensor, last_slope: Tensor, weight: Tensor, state: Tensor, h: Tensor, gates: Tensor, n: Tensor,
    first: Tensor | None, present: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Give the slopes of what `_forward` took."""
    batch, time, dim = h.shape
    packing, fresh = pack((batch, time), first, present, state.device), state.new_zeros(1, 1)
    count, sizes = len(packing.tokens), packing.sizes.tolist()
    # A stream ends in a sequence; or, where it has none since its last reset, as it began, or fresh.
    state_slope = last_slope.masked_fill(((packing.last >= 0) | packing.reset)[:, None], 0.0)
    given_slope = gates.new_zeros(batch * time, 3 * dim)
    if not count:
        return given_slope.view(batch, time, -1), torch.zeros_like(weight), weight.new_zeros(3 * dim), state_slope
    slope = h_slope.reshape(batch * time, dim)[packing.tokens]
    ending = packing.last[packing.last >= 0]
    slope[_last(sizes, state.device)[ending]] += last_slope[packing.last >= 0]
    flat, weight_slope, bias_slope, carried = packed.backward(
        slope, weight, packing.starts(state, fresh), gates[:count], n[:count],
        h.view(batch * time, dim)[packing.tokens], sizes,
    )  # fmt: skip
    given_slope.index_copy_(0, packing.tokens, flat)
    state_slope.index_add_(0, packing.row, carried.masked_fill_(packing.fresh[:, None], 0.0))
    return given_slope.view(batch, time, -1), weight_slope, bias_slope, state_slope


@_backward.register_fake
def _room_back(
    h_slope: Tensor, last_slope: Tensor, weight: Tensor, state: Tensor, h: Tensor, gates: Tensor, n: Tensor,
    first: Tensor | None, present: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    batch, time, dim = h.shape
    return (
        h.new_empty(batch, time, 3 * dim),
        torch.empty_like(weight),
        weight.new_empty(3 * dim),
        torch.empty_like(state),
    )


def _last(sizes: list[int], device: torch.device) -> Tensor:
    """Give the place of each sequence's last token among the packed: it ends where fewer go on."""
    places: list[int] = []
    start = 0
    for size, following in zip(sizes, [*sizes[1:], 0], strict=True):
        places[:0] = range(start + following, start + size)
        start += size
    return torch.tensor(places, device=device)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, weight, _, state, first, present = inputs
    h, _, gates, n = output
    ctx.save_for_backward(weight, state, h, gates, n, first, present)


def _slopes(ctx: Any, h_slope: Tensor, last_slope: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    return *_backward(h_slope, last_slope, *ctx.saved_tensors), None, None


_forward.register_autograd(_slopes, setup_context=_keep)
