"""A chunk in Triton: its tokens, their decays, and what rows find under keys; see `chunked` for the formulas.

Here too decays are sums of logarithms from one token to another, never differences. A decay is held as ``(chunk,)``
where all channels share it and as ``(chunk, key_dim)`` where each has its own (BY_CHANNEL), factors made of it as
``(chunk, 1 or key_dim)``.
"""

import triton
import triton.language as tl

from recurra.kernels.tiles import PRECISION, dot


@triton.jit
def find_tokens(first, present, start, time, heads, FIRST: tl.constexpr, PRESENT: tl.constexpr, CHUNK: tl.constexpr):
    """Give where the tokens of a chunk lie among all (batch, time, heads), which are to be read, and their episodes.

    Episodes are counted from the chunk's start; those of tokens past the end of the piece are the last one's.
    """
    row, head = tl.program_id(0).to(tl.int64) // heads, tl.program_id(0).to(tl.int64) % heads
    t = start + tl.arange(0, CHUNK)
    there = t < time
    token = row * time + t
    episode = tl.zeros([CHUNK], dtype=tl.int32)
    if FIRST:
        episode = tl.cumsum(tl.load(first + token, mask=there, other=0).to(tl.int32), 0)
    if PRESENT:
        there = there & (tl.load(present + token, mask=there, other=0) != 0)
    return token * heads + head, there, episode


@triton.jit
def load_rows(source, token, there, begin, size, WIDTH: tl.constexpr, ACC: tl.constexpr):
    """Load channels from ``begin`` on of the vectors of tokens: (chunk, WIDTH), 0 where there is none."""
    d = begin + tl.arange(0, WIDTH)
    return tl.load(source + token[:, None] * size + d, mask=there[:, None] & (d < size), other=0.0).to(ACC)


@triton.jit
def store_rows(target, rows, token, there, begin, size, WIDTH: tl.constexpr):
    """Store what `load_rows` loads."""
    d = begin + tl.arange(0, WIDTH)
    tl.store(target + token[:, None] * size + d, rows, mask=there[:, None] & (d < size))


@triton.jit
def load_decay(
    log_decay, token, there, begin, key_dim, DECAY: tl.constexpr, BY_CHANNEL: tl.constexpr, CHUNK: tl.constexpr,
    WIDTH: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Load the logarithms of decays, of channels from ``begin`` on; 0 where nothing decays."""
    if BY_CHANNEL:
        return load_rows(log_decay, token, there, begin, key_dim, WIDTH, ACC)
    elif DECAY:
        return tl.load(log_decay + token, mask=there, other=0.0).to(ACC)
    else:
        return tl.zeros([CHUNK], dtype=ACC)


# Sums of decays -------------------------------------------------------------------------------------------------------


@triton.jit
def _join(own, others, next_own, next_others):
    """Go one token on: what came before it is now among the others."""
    return next_own, next_others + own + others


@triton.jit
def add_others(x, AFTER: tl.constexpr):
    """For every token add up what comes after it, or else before it."""
    return tl.associative_scan((x, tl.zeros_like(x)), 0, _join, reverse=AFTER)[1]


@triton.jit
def entering(g, episode, BY_CHANNEL: tl.constexpr):
    """E: what is left of the chunk's first state at each token."""
    e = tl.exp(tl.cumsum(g, 0))
    return tl.where((episode == 0)[:, None], e if BY_CHANNEL else e[:, None], 0.0)


@triton.jit
def leaving(g, episode, BY_CHANNEL: tl.constexpr):
    """L_C: what is left of each token at the chunk's end."""
    stays = (episode == tl.max(episode, 0))[:, None]
    e = tl.exp(add_others(g, AFTER=True))
    return tl.where(stays, e if BY_CHANNEL else e[:, None], 0.0)


@triton.jit
def keeping(g, episode):
    """E_C: what is left of the chunk's first state at its end, (key_dim,) or one number."""
    return tl.where(tl.max(episode, 0) == 0, tl.exp(tl.sum(g, 0)), 0.0)


# What rows find under keys --------------------------------------------------------------------------------------------


@triton.jit
def _below(episode, CHUNK: tl.constexpr):
    """Mark [i, j]: token i sees token j."""
    i, j = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    return (i >= j) & (episode[:, None] == episode[None, :])


@triton.jit
def _within(g, CHUNK: tl.constexpr):
    """L of a decay that all channels share, where i ≥ j."""
    i, j = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    return tl.exp(tl.cumsum(tl.where(i > j, g[:, None], 0.0), 0))


@triton.jit
def _neighbours(level, CHUNK: tl.constexpr):
    """Mark [i, j]: j is in a block of 2^level tokens, i in the next, which are the halves of a block of twice that."""
    i, j = tl.arange(0, CHUNK)[:, None] >> level, tl.arange(0, CHUNK)[None, :] >> level
    return (i == j + 1) & (i % 2 == 1)


@triton.jit
def _to_middle(level, CHUNK: tl.constexpr):
    """Mark [i, l]: token l's decay lies between i, of one of two such blocks, and the middle of the two."""
    i, j = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    return (i >> level == j >> level) & ((j <= i) == ((i >> level) % 2 == 1))


@triton.jit
def match(
    rows, keys, log_decay, token, there, episode, key_dim, DECAY: tl.constexpr, BY_CHANNEL: tl.constexpr,
    LEVELS: tl.constexpr, CHUNK: tl.constexpr, PART: tl.constexpr, FACTOR: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """rows_iᵀ (L_ij ⊙ k_j) for i ≥ j: (chunk, chunk), added up over parts of the channels, which need fewer registers.

    With a decay for each channel, what the later half of a block sees of the earlier passes the middle, where L_ij
    falls into a factor of i and one of j, both at most 1; blocks are all of one size, then of twice that. The loop
    over sizes is left to run time: unrolled, it takes ptxas many minutes.
    """
    i, j = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    found = tl.zeros([CHUNK, CHUNK], dtype=ACC)
    for begin in range(0, key_dim, PART):
        q_rows = load_rows(rows, token, there, begin, key_dim, PART, ACC)
        k_rows = load_rows(keys, token, there, begin, key_dim, PART, ACC)
        if BY_CHANNEL:
            g = load_rows(log_decay, token, there, begin, key_dim, PART, ACC)
            found += tl.where(i == j, tl.sum(q_rows * k_rows, 1)[:, None], 0.0)
            for level in range(LEVELS):
                decay = tl.exp(dot(_to_middle(level, CHUNK), g, ACC, ACC))
                across = dot(decay * q_rows, tl.trans(decay * k_rows), FACTOR, ACC)
                found += tl.where(_neighbours(level, CHUNK), across, 0.0)
        else:
            found += dot(q_rows, tl.trans(k_rows), FACTOR, ACC)
    if DECAY and not BY_CHANNEL:
        found *= _within(tl.load(log_decay + token, mask=there, other=0.0).to(ACC), CHUNK)
    return tl.where(_below(episode, CHUNK), found, 0.0)


@triton.jit
def match_back(
    slope, rows, k, g, episode, DECAY: tl.constexpr, BY_CHANNEL: tl.constexpr, LEVELS: tl.constexpr,
    CHUNK: tl.constexpr, FACTOR: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Give the gradients of rows, k and g from that of `match`, of some channels; a shared g's is added up."""
    i, j = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    slope = tl.where(_below(episode, CHUNK), slope, 0.0)
    d_g = tl.zeros_like(g)
    if BY_CHANNEL:
        itself = tl.sum(tl.where(i == j, slope, 0.0), 1)[:, None]
        d_rows, d_k = itself * k, itself * rows
        for level in range(LEVELS):
            between = _to_middle(level, CHUNK)
            decay = tl.exp(dot(between, g, ACC, ACC))
            across = tl.where(_neighbours(level, CHUNK), slope, 0.0)
            d_late = decay * dot(across, decay * k, FACTOR, ACC)
            d_early = decay * dot(tl.trans(across), decay * rows, FACTOR, ACC)
            d_rows += d_late
            d_k += d_early
            d_g += dot(tl.trans(between.to(ACC)), rows * d_late + k * d_early, ACC, ACC)
        return d_rows, d_k, d_g
    else:
        if DECAY:  # g_l is in L_ij for j < l ≤ i
            slope *= _within(g, CHUNK)
            spread = tl.cumsum(slope * dot(rows, tl.trans(k), FACTOR, ACC), 0, reverse=True)
            d_g = tl.sum(tl.where(j < i, spread, 0.0), 1)
        return dot(slope, k, FACTOR, ACC), dot(tl.trans(slope), rows, FACTOR, ACC), d_g


@triton.jit
def invert(a, HALF: tl.constexpr, LEVELS: tl.constexpr, CHUNK: tl.constexpr, ACC: tl.constexpr):
    """(I + A)⁻¹ of A strictly below the diagonal: the inverses of blocks, then of blocks of twice their size.

        ⎡I + A₁     0   ⎤⁻¹   ⎡    T₁       0 ⎤
        ⎣  A₂₁    I + A₂⎦   = ⎣−T₂ A₂₁ T₁   T₂⎦

    Each block on the diagonal is the inverse of one in A, so nothing grows on the way that does not in the end. One
    product of tf32 is enough for what is of HALF precision before and after.
    """
    PRECISE: tl.constexpr = "tf32" if HALF else PRECISION
    i, j = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    t = tl.where(i == j, 1.0, 0.0).to(ACC) - tl.where(_neighbours(0, CHUNK), a, 0.0)
    for level in range(1, LEVELS):
        below = tl.where(_neighbours(level, CHUNK), a, 0.0)
        below = tl.dot(t, below, out_dtype=ACC, input_precision=PRECISE)
        t -= tl.dot(below, t, out_dtype=ACC, input_precision=PRECISE)
    return t
