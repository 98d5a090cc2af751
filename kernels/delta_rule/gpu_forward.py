"""The delta rule's kernels forward: what a chunk needs of itself, the states from chunk to chunk, what is read.

Shapes are those of `recurra.kernels.delta_rule`; states of chunks are ``(batch, heads, chunks, key_dim, value_dim)``.
"""

import triton
import triton.language as tl

from recurra.kernels.delta_rule.gpu_chunk import (
    entering,
    find_tokens,
    invert,
    keeping,
    leaving,
    load_decay,
    load_rows,
    match,
    store_rows,
)
from recurra.kernels.tiles import dot


@triton.jit
def solve(
    k, v, log_decay, beta, first, present, u, w, inverse, time, heads, key_dim, value_dim, DECAY: tl.constexpr,
    BY_CHANNEL: tl.constexpr, FIRST: tl.constexpr, PRESENT: tl.constexpr, HALF: tl.constexpr, LEVELS: tl.constexpr,
    CHUNK: tl.constexpr, PART: tl.constexpr, VALUE: tl.constexpr, FACTOR: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """T = (I + A)⁻¹ with A_ij = β_i k_iᵀ (L_ij ⊙ k_j) for i > j, U = T βV and W = T β(E ⊙ K): of one chunk."""
    chunk = tl.program_id(1).to(tl.int64)
    token, there, episode = find_tokens(first, present, chunk * CHUNK, time, heads, FIRST, PRESENT, CHUNK)
    a = match(
        k, k, log_decay, token, there, episode, key_dim, DECAY, BY_CHANNEL, LEVELS, CHUNK, PART, FACTOR, ACC
    )  # fmt: skip
    step = tl.load(beta + token, mask=there, other=0.0).to(ACC)[:, None]
    i, j = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    t = invert(tl.where(i > j, step * a, 0.0), HALF, LEVELS, CHUNK, ACC)
    at = (tl.program_id(0).to(tl.int64) * tl.num_programs(1) + chunk) * CHUNK * CHUNK
    tl.store(inverse + at + i * CHUNK + j, t)
    within = chunk * CHUNK + tl.arange(0, CHUNK) < time
    for begin in range(0, key_dim, PART):
        k_rows = load_rows(k, token, there, begin, key_dim, PART, ACC)
        g = load_decay(log_decay, token, there, begin, key_dim, DECAY, BY_CHANNEL, CHUNK, PART, ACC)
        entered = step * entering(g, episode, BY_CHANNEL) * k_rows
        store_rows(w, dot(t, entered, FACTOR, ACC), token, within, begin, key_dim, PART)
    for begin in range(0, value_dim, VALUE):
        v_rows = load_rows(v, token, there, begin, value_dim, VALUE, ACC)
        store_rows(u, dot(t, step * v_rows, FACTOR, ACC), token, within, begin, value_dim, VALUE)


@triton.jit
def carry(
    k, u, w, log_decay, first, present, state, states, n, last, time, heads, key_dim, value_dim, DELTA: tl.constexpr,
    DECAY: tl.constexpr, BY_CHANNEL: tl.constexpr, FIRST: tl.constexpr, PRESENT: tl.constexpr, CHUNK: tl.constexpr,
    KEY: tl.constexpr, VALUE: tl.constexpr, FACTOR: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """N = U - W S and S ← E_C ⊙ S + (L_C ⊙ K)ᵀ N, chunk after chunk: for some channels of the values.

    Without DELTA the values are what is written: ``u`` is v, and N.
    """
    begin = tl.program_id(1) * VALUE
    stream = tl.program_id(0).to(tl.int64)
    channel, column = tl.arange(0, KEY)[:, None], begin + tl.arange(0, VALUE)[None, :]
    inside = (channel < key_dim) & (column < value_dim)
    count = tl.cdiv(time, CHUNK)
    place = channel * value_dim + column
    s = tl.load(state + stream * key_dim * value_dim + place, mask=inside, other=0.0).to(ACC)
    for chunk in range(0, count):
        start = tl.cast(chunk, tl.int64) * CHUNK
        tl.store(states + (stream * count + chunk) * key_dim * value_dim + place, s, mask=inside)
        token, there, episode = find_tokens(first, present, start, time, heads, FIRST, PRESENT, CHUNK)
        k_rows = load_rows(k, token, there, 0, key_dim, KEY, ACC)
        g = load_decay(log_decay, token, there, 0, key_dim, DECAY, BY_CHANNEL, CHUNK, KEY, ACC)
        found = load_rows(u, token, there, begin, value_dim, VALUE, ACC)
        if DELTA:
            found -= dot(load_rows(w, token, there, 0, key_dim, KEY, ACC), s, FACTOR, ACC)
            within = start + tl.arange(0, CHUNK) < time
            store_rows(n, found, token, within, begin, value_dim, VALUE)
        left = leaving(g, episode, BY_CHANNEL) * k_rows
        kept = keeping(g, episode)
        if BY_CHANNEL:
            s *= kept[:, None]
        else:
            s *= kept
        s += dot(tl.trans(left), found, FACTOR, ACC)
    tl.store(last + stream * key_dim * value_dim + place, s, mask=inside)


@triton.jit
def read(
    q, k, n, log_decay, first, present, states, output, scale, time, heads, key_dim, value_dim, DECAY: tl.constexpr,
    BY_CHANNEL: tl.constexpr, FIRST: tl.constexpr, PRESENT: tl.constexpr, LEVELS: tl.constexpr, CHUNK: tl.constexpr,
    KEY: tl.constexpr, PART: tl.constexpr, VALUE: tl.constexpr, FACTOR: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """O = B N + (E ⊙ Q) S with B_ij = q_iᵀ (L_ij ⊙ k_j): of one chunk."""
    chunk = tl.program_id(1).to(tl.int64)
    token, there, episode = find_tokens(first, present, chunk * CHUNK, time, heads, FIRST, PRESENT, CHUNK)
    b = scale * match(
        q, k, log_decay, token, there, episode, key_dim, DECAY, BY_CHANNEL, LEVELS, CHUNK, PART, FACTOR, ACC
    )  # fmt: skip
    q_rows = load_rows(q, token, there, 0, key_dim, KEY, ACC) * scale
    g = load_decay(log_decay, token, there, 0, key_dim, DECAY, BY_CHANNEL, CHUNK, KEY, ACC)
    q_rows *= entering(g, episode, BY_CHANNEL)
    states += (tl.program_id(0).to(tl.int64) * tl.num_programs(1) + chunk) * key_dim * value_dim
    within = chunk * CHUNK + tl.arange(0, CHUNK) < time
    rows = tl.arange(0, KEY)
    for begin in range(0, value_dim, VALUE):
        s = load_rows(states, rows, rows < key_dim, begin, value_dim, VALUE, ACC)
        found = load_rows(n, token, there, begin, value_dim, VALUE, ACC)
        o = dot(b, found, FACTOR, ACC) + dot(q_rows, s, FACTOR, ACC)
        store_rows(output, o, token, within, begin, value_dim, VALUE)


@triton.jit
def read_token(
    q, k, v, log_decay, beta, first, present, state, output, last, scale, key_dim, value_dim, heads,
    DELTA: tl.constexpr, DECAY: tl.constexpr, BY_CHANNEL: tl.constexpr, FIRST: tl.constexpr, PRESENT: tl.constexpr,
    KEY: tl.constexpr, VALUE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Decay, write and read: one token, for some channels of the values, with the state read and written once."""
    stream = tl.program_id(0).to(tl.int64)
    channel, column = tl.arange(0, KEY), tl.program_id(1) * VALUE + tl.arange(0, VALUE)
    inside, there = channel < key_dim, column < value_dim
    place = stream * key_dim * value_dim + channel[:, None] * value_dim + column[None, :]
    s = tl.load(state + place, mask=inside[:, None] & there[None, :], other=0.0).to(ACC)
    if FIRST:
        s = tl.where(tl.load(first + stream // heads) != 0, 0.0, s)
    read, written = inside, there
    if PRESENT:
        here = tl.load(present + stream // heads) != 0
        read, written = inside & (channel * 0 + here != 0), there & (column * 0 + here != 0)
    q_row = tl.load(q + stream * key_dim + channel, mask=read, other=0.0).to(ACC) * scale
    k_row = tl.load(k + stream * key_dim + channel, mask=read, other=0.0).to(ACC)
    n = tl.load(v + stream * value_dim + column, mask=written, other=0.0).to(ACC)
    if BY_CHANNEL:
        s *= tl.exp(tl.load(log_decay + stream * key_dim + channel, mask=read, other=0.0).to(ACC))[:, None]
    elif DECAY:
        decay = tl.load(log_decay + stream + channel * 0, mask=read, other=0.0).to(ACC)
        s *= tl.exp(decay)[:, None]
    if DELTA:
        step = tl.load(beta + stream + column * 0, mask=written, other=0.0).to(ACC)
        n = step * (n - tl.sum(k_row[:, None] * s, 0))
    s += k_row[:, None] * n[None, :]
    tl.store(last + place, s, mask=inside[:, None] & there[None, :])
    tl.store(output + stream * value_dim + column, tl.sum(q_row[:, None] * s, 0), mask=there)
