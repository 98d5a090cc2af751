"""The linear recurrence in Triton: all chunks at once, and their starts by the same again.

Each token is the map h ↦ g h + x, and maps compose, as in the chunked form. One kernel composes the tokens of every
chunk but the last into one map; what these maps make of the state are the starts of the chunks, the same problem a
chunk's length shorter; a second kernel walks through every chunk from its start. Going backward is the same walk from
the end, so that all is read twice at most, however long the stream.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from recurra.kernels import tiles

CHANNELS = 128  # of a program, side by side: a row of them is one access to memory for each warp
CHUNK = 64  # tokens of a program, one after another
WARPS = CHANNELS // 32


@triton.jit
def _place(batch, time, dim, CHANNELS: tl.constexpr):
    """Give where the program's channels begin in (batch, time, dim), their numbers, and which there are."""
    channel = tl.program_id(0).to(tl.int64) * CHANNELS + tl.arange(0, CHANNELS)
    return channel // dim * time * dim + channel % dim, channel, channel < batch * dim


@triton.jit
def _gate_at(gate, at, t, time, dim, there, REVERSE: tl.constexpr, ACC: tl.constexpr):
    """Load what is kept on the way to token t: g_t, and coming from the end g_{t+1} (any at the end, where a is 0)."""
    if REVERSE:
        t = tl.minimum(t + 1, time - 1)
    return tl.load(gate + at + t * dim, mask=there, other=0.0).to(ACC)


@triton.jit
def _compose(
    x, gate, moved, kept, batch, time, dim, CHANNELS: tl.constexpr, CHUNK: tl.constexpr, REVERSE: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Compose the tokens of a whole chunk: h ↦ kept h + moved."""
    at, channel, there = _place(batch, time, dim, CHANNELS)
    chunk, count = tl.program_id(1).to(tl.int64), tl.num_programs(1).to(tl.int64)
    moves = tl.zeros([CHANNELS], dtype=ACC)
    keeps = tl.full([CHANNELS], 1.0, dtype=ACC)
    for step in tl.range(0, CHUNK, num_stages=4):
        t = chunk * CHUNK + step
        if REVERSE:
            t = time - 1 - t
        g = _gate_at(gate, at, t, time, dim, there, REVERSE, ACC)
        moves = g * moves + tl.load(x + at + t * dim, mask=there, other=0.0).to(ACC)
        keeps = g * keeps
    # The maps are laid out as tokens are, (batch, chunks, dim), in the order of the walk.
    to = channel // dim * count * dim + chunk * dim + channel % dim
    tl.store(moved + to, moves, mask=there)
    tl.store(kept + to, keeps, mask=there)


@triton.jit
def _walk(
    x, gate, starts, h, before, state, slopes, batch, time, dim, CHANNELS: tl.constexpr, CHUNK: tl.constexpr,
    REVERSE: tl.constexpr, SLOPES: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Walk through a chunk from its start: h_t = g_t h_{t-1} + x_t.

    From the end this is a_t = dL/dy_t + g_{t+1} a_{t+1}, and with SLOPES the gate's is a_t times h_{t-1}, ``before``.
    """
    at, channel, there = _place(batch, time, dim, CHANNELS)
    chunk, count = tl.program_id(1).to(tl.int64), tl.num_programs(1).to(tl.int64)
    held = tl.load(starts + channel // dim * count * dim + chunk * dim + channel % dim, mask=there, other=0.0).to(ACC)
    if SLOPES:
        entry = tl.load(state + channel, mask=there, other=0.0).to(ACC)
    for step in tl.range(0, tl.minimum(time - chunk * CHUNK, CHUNK), num_stages=4):
        t = chunk * CHUNK + step
        if REVERSE:
            t = time - 1 - t
        g = _gate_at(gate, at, t, time, dim, there, REVERSE, ACC)
        held = g * held + tl.load(x + at + t * dim, mask=there, other=0.0).to(ACC)
        tl.store(h + at + t * dim, held, mask=there)
        if SLOPES:
            earlier = tl.load(before + at + tl.maximum(t - 1, 0) * dim, mask=there, other=0.0).to(ACC)
            tl.store(slopes + at + t * dim, held * tl.where(t > 0, earlier, entry), mask=there)


def _scan(
    x: Tensor,
    gate: Tensor,
    state: Tensor,
    *,
    reverse: bool = False,
    before: Tensor | None = None,
    slopes: Tensor | None = None,
) -> Tensor:
    """Give h of every token; from the end a, and then, given h as ``before``, fill in the gates' ``slopes``."""
    batch, time, dim = x.shape
    count = triton.cdiv(time, CHUNK)
    blocks = triton.cdiv(batch * dim, CHANNELS)
    sizes = {"batch": batch, "time": time, "dim": dim}
    options = {"CHANNELS": CHANNELS, "CHUNK": CHUNK, "ACC": tiles.accumulator(x.dtype), "num_warps": WARPS}
    start = torch.zeros_like(state) if reverse else state
    starts = start.unsqueeze(1)
    if count > 1:
        moved, kept = x.new_empty(2, batch, count - 1, dim).unbind()
        _compose[(blocks, count - 1)](x, gate, moved, kept, **sizes, REVERSE=reverse, **options)
        starts = torch.cat((starts, _scan(moved, kept, start)), 1)
    h = torch.empty_like(x)
    _walk[(blocks, count)](
        x, gate, starts, h, h if before is None else before, state, h if slopes is None else slopes, **sizes,
        REVERSE=reverse, SLOPES=slopes is not None, **options,
    )  # fmt: skip
    return h


@torch.library.custom_op("recurra::linear_recurrence_forward", mutates_args=())
def linear_recurrence_forward(x: Tensor, gate: Tensor, state: Tensor) -> Tensor:
    """Give h of every token ``(batch, time, dim)``: see `recurra.kernels.linear_recurrence`."""
    with tiles.on(x):
        return _scan(x.contiguous(), gate.contiguous(), state.contiguous())


@torch.library.custom_op("recurra::linear_recurrence_backward", mutates_args=())
def linear_recurrence_backward(slope: Tensor, gate: Tensor, state: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Give a, which is the gradient of x, and that of the gates, from that of h."""
    with tiles.on(slope):
        slopes = torch.empty_like(h)
        a = _scan(
            slope.contiguous(), gate.contiguous(), state.contiguous(), reverse=True, before=h, slopes=slopes
        )  # fmt: skip
        return a, slopes


@linear_recurrence_forward.register_fake
def _(x: Tensor, gate: Tensor, state: Tensor) -> Tensor:
    return x.new_empty(x.shape)


@linear_recurrence_backward.register_fake
def _(slope: Tensor, gate: Tensor, state: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    return h.new_empty(h.shape), h.new_empty(h.shape)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    _, gate, state = inputs
    ctx.save_for_backward(gate, state, output)


def _backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    gate, state, h = ctx.saved_tensors
    a, slopes = linear_recurrence_backward(slope, gate, state, h)
    return a, slopes, gate[:, 0] * a[:, 0]


linear_recurrence_forward.register_autograd(_backward, setup_context=_save)


def scan(x: Tensor, gate: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Read at least one token; shapes ``(batch, time, dim)``."""
    h = linear_recurrence_forward(x, gate, state)
    return h, h[:, -1]
