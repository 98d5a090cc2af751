"""The MLP memory's step in Triton: one token of each stream in one launch, read and not learnt from.

A program for each stream's head goes twice through its weights: for the surprise, at the weights of the chunk's start,
and to write, ask and store; so a step costs what reading and storing the state does. Letters are those of
`gpu_forward`; here the new weights are formed, and a token's own.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from recurra.kernels import tiles
from recurra.kernels.mlp_memory import gpu_losses as losses
from recurra.kernels.mlp_memory import gpu_parts as parts
from recurra.kernels.mlp_memory.arguments import Arguments
from recurra.kernels.mlp_memory.fitting import number
from recurra.kernels.mlp_memory.state import MLPState


@triton.jit
def _held(pointer, fresh, begins, rows, columns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, ACC: tl.constexpr):
    """Load rows and columns of what a stream holds, or of what is fresh where its episode begins."""
    if begins:
        x = parts.tile(fresh, rows, columns, HEIGHT, WIDTH, ACC)
    else:
        x = parts.tile(pointer, rows, columns, HEIGHT, WIDTH, ACC)
    return x


@triton.jit
def _token(pointer, row, channels, WIDTH: tl.constexpr, ACC: tl.constexpr):
    """Load the row's token, one channel or all."""
    return tl.load(pointer + row * WIDTH + channels, mask=channels < WIDTH, other=0.0).to(ACC)


@triton.jit
def _of_all(pointer, row, channels, WIDTH: tl.constexpr, ACC: tl.constexpr):
    """Load the row's gate: of each channel, or one for all."""
    if WIDTH > 1:
        return _token(pointer, row, channels, WIDTH, ACC)
    else:
        return tl.load(pointer + row + channels * 0).to(ACC)


@triton.jit
def step_all(
    query, key, value, rate, log_decay, log_momentum, threshold, gain, shift, fresh_a, fresh_b, start_a, start_b,
    weights_a, weights_b, momentum_a, momentum_b, first, position, next_start_a, next_start_b, next_weights_a,
    next_weights_b, next_momentum_a, next_momentum_b, output, chunk, HEADS: tl.constexpr, DIM: tl.constexpr,
    KEYS: tl.constexpr, HIDDEN: tl.constexpr, ACTIVE: tl.constexpr, VALUES: tl.constexpr, KEY_TILE: tl.constexpr,
    UNITS: tl.constexpr, VALUE_TILE: tl.constexpr, RATE: tl.constexpr, DECAY: tl.constexpr, LIMIT: tl.constexpr,
    FIRST: tl.constexpr, MOMENTUM: tl.constexpr, NORM: tl.constexpr, RESIDUAL: tl.constexpr, EPSILON: tl.constexpr,
    BIAS: tl.constexpr, POWER: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Read one token of a stream's head. RATE, DECAY and LIMIT are how many channels have one of their own."""
    row = tl.program_id(0).to(tl.int64)
    stream, head = row // HEADS, row % HEADS
    keys, values = tl.arange(0, KEY_TILE), tl.arange(0, VALUE_TILE)
    inside = (values < VALUES)[None, :]
    k, q = _token(key, row, keys, DIM, ACC), _token(query, row, keys, DIM, ACC)
    one = (keys >= DIM) & (keys < KEYS)  # a layer's bias
    k, q = tl.where(one, 1.0, k)[:, None], tl.where(one, 1.0, q)[:, None]
    v = _token(value, row, values, VALUES, ACC)[None, :]
    added, asked_for, limit = v, v, v
    if RESIDUAL:
        added, asked_for = _token(key, row, values, DIM, ACC)[None, :], _token(query, row, values, DIM, ACC)[None, :]
    if LIMIT > 0:
        limit = _of_all(threshold, row, values, LIMIT, ACC)[None, :] + tl.zeros_like(v)
    scale, move = parts.norm_of(gain, shift, head, values, VALUES, NORM, ACC)
    begins = row < 0
    if FIRST:
        begins = tl.load(first + stream) != 0
    opens = begins | (tl.load(position + stream) % chunk == 0)
    fresh_upper, fresh_lower = fresh_a + head * KEYS * HIDDEN, fresh_b + head * ACTIVE * VALUES
    at_a, at_b = row * KEYS * HIDDEN, row * ACTIVE * VALUES

    # The surprise, at the weights of the chunk's start, which are those that enter where it opens.
    z = tl.zeros([1, VALUE_TILE], dtype=ACC)
    for base in range(0, ACTIVE, UNITS):
        units = base + tl.arange(0, UNITS)
        if opens:
            upper = _held(weights_a + at_a, fresh_upper, begins, keys, units, KEYS, HIDDEN, ACC)
            lower = _held(weights_b + at_b, fresh_lower, begins, units, values, ACTIVE, VALUES, ACC)
        else:
            upper = parts.tile(start_a + at_a, keys, units, KEYS, HIDDEN, ACC)
            lower = parts.tile(start_b + at_b, units, values, ACTIVE, VALUES, ACC)
        parts.put(next_start_a + at_a, upper, keys, units, KEYS, HIDDEN)
        parts.put(next_start_b + at_b, lower, units, values, ACTIVE, VALUES)
        active = parts.gelu(tl.sum(k * upper, 0)[None, :], units, HIDDEN, ACTIVE)
        z += tl.sum(tl.trans(active) * lower, 0)[None, :]
    e = losses.surprise(z, added, v, limit, scale, move, inside, VALUES, NORM, RESIDUAL, EPSILON, BIAS, POWER)
    tl.debug_barrier()  # the start's weights, stored by other threads of the program

    write_k = -k * _of_all(rate, row, keys, RATE, ACC)[:, None]
    write_e = -e * _of_all(rate, row, values, RATE, ACC)[None, :]
    keep_k = tl.exp(_of_all(log_decay, row, keys, DECAY, ACC))[:, None]
    keep_v = tl.exp(_of_all(log_decay, row, values, DECAY, ACC))[None, :]
    if MOMENTUM:
        stays = tl.exp(tl.load(log_momentum + row).to(ACC))
        stays = tl.where(begins, 0.0, stays)
    y = tl.zeros([1, VALUE_TILE], dtype=ACC)
    for base in range(0, ACTIVE, UNITS):
        units = base + tl.arange(0, UNITS)
        upper = parts.tile(next_start_a + at_a, keys, units, KEYS, HIDDEN, ACC)
        lower = parts.tile(next_start_b + at_b, units, values, ACTIVE, VALUES, ACC)
        hidden = tl.sum(k * upper, 0)[None, :]
        g = tl.sum(lower * e, 1)[None, :] * parts.gelu_slope(hidden, units, HIDDEN)
        moved_a = write_k * g
        moved_b = tl.trans(parts.gelu(hidden, units, HIDDEN, ACTIVE)) * write_e
        if MOMENTUM:
            moved_a += stays * parts.tile(momentum_a + at_a, keys, units, KEYS, HIDDEN, ACC)
            moved_b += stays * parts.tile(momentum_b + at_b, units, values, ACTIVE, VALUES, ACC)
            parts.put(next_momentum_a + at_a, moved_a, keys, units, KEYS, HIDDEN)
            parts.put(next_momentum_b + at_b, moved_b, units, values, ACTIVE, VALUES)
        now_a = keep_k * _held(weights_a + at_a, fresh_upper, begins, keys, units, KEYS, HIDDEN, ACC) + moved_a
        now_b = keep_v * _held(weights_b + at_b, fresh_lower, begins, units, values, ACTIVE, VALUES, ACC) + moved_b
        parts.put(next_weights_a + at_a, now_a, keys, units, KEYS, HIDDEN)
        parts.put(next_weights_b + at_b, now_b, units, values, ACTIVE, VALUES)
        read = parts.gelu(tl.sum(q * now_a, 0)[None, :], units, HIDDEN, ACTIVE)
        y += tl.sum(tl.trans(read) * now_b, 0)[None, :]
    if NORM:
        y = scale * losses.standardise(y, inside, VALUES, EPSILON)[0] + move
    if RESIDUAL:
        y += asked_for
    tl.store(output + row * VALUES + values[None, :], y, mask=inside)


@torch.library.custom_op("recurra::mlp_memory_step", mutates_args=())
def mlp_memory_step(
    tokens: list[Tensor], parameters: list[Tensor], state: list[Tensor], first: Tensor | None, position: Tensor,
    chunk: int, residual: bool, epsilon: float, bias: int, power: float,
) -> list[Tensor]:  # fmt: skip
    """Give the answers and the next start, weights and momentum; what there is none of has no numbers."""
    query, key, value, rate, log_decay, log_momentum, threshold = (x.contiguous() for x in tokens)
    parameters, state = [x.contiguous() for x in parameters], [x.contiguous() for x in state]
    batch, _, heads, dim = query.shape
    (_, keys, hidden), (_, active, values) = (x.shape for x in parameters[2:])
    after, output = [torch.empty_like(x) for x in state], torch.empty_like(value)
    begins, position = position if first is None else first.contiguous(), position.contiguous()
    with tiles.on(query):
        step_all[(batch * heads,)](
            query, key, value, rate, log_decay, log_momentum, threshold, *parameters, *state,
            begins, position, *after, output, chunk, HEADS=heads, DIM=dim, KEYS=keys,
            HIDDEN=hidden, ACTIVE=active, VALUES=values, KEY_TILE=tiles.power(keys), VALUE_TILE=tiles.power(values),
            UNITS=32, RATE=rate.shape[-1], DECAY=log_decay.shape[-1],
            LIMIT=threshold.shape[-1] if threshold.numel() else 0, FIRST=first is not None,
            MOMENTUM=log_momentum.numel() > 0, NORM=parameters[0].numel() > 0, RESIDUAL=residual, EPSILON=epsilon,
            BIAS=bias, POWER=power, ACC=tiles.accumulator(query.dtype), num_warps=4,
        )  # fmt: skip
    return [output, *after]


@mlp_memory_step.register_fake
def _(
    tokens: list[Tensor], parameters: list[Tensor], state: list[Tensor], first: Tensor | None, position: Tensor,
    chunk: int, residual: bool, epsilon: float, bias: int, power: float,
) -> list[Tensor]:  # fmt: skip
    return [x.new_empty(x.shape) for x in (tokens[2], *state)]


def triton_step(given: Arguments, state: MLPState, first: Tensor | None, chunk: int) -> tuple[Tensor, MLPState]:
    """Read one token of each stream, all present."""
    known, none = number(given.bias), given.q.new_empty(0)
    assert known is not None
    if given.threshold is None:
        given.bias(given.v, given.v, None)  # refuses, if it needs one
    gates = (none if x is None else x for x in (given.log_momentum, given.threshold))
    output, *after = mlp_memory_step(
        [given.q, given.k, given.v, given.rate, given.log_decay, *gates],
        [*(given.norm or (none, none)), *(x[0] for x in given.weights)],
        [*state.start, *state.weights, *(state.momentum or (none, none))],
        first,
        state.position,
        chunk,
        given.residual,
        given.epsilon,
        *known,
    )
    position = state.position if first is None else state.position.masked_fill(first[:, 0], 0)
    momentum = tuple(after[4:]) if state.momentum else ()
    return output, MLPState((after[0], after[1]), (after[2], after[3]), momentum, position + 1)
