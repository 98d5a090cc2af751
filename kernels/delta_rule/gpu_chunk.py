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
    log_decay, token, there, key_dim, DECAY: tl.constexpr, BY_CHANNEL: tl.constexpr, CHUNK: tl.constexpr,
    KEY: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Load the logarithms of decays; 0 where nothing decays."""
    if BY_CHANNEL:
        return load_rows(log_decay, token, there, 0, key_dim, KEY, ACC)
    elif DECAY:
        return tl.load(log_decay + token, mask=there, other=0.0).to(ACC)
    else:
        return tl.zeros([CHUNK], dtype=ACC)


# Sums of decays -------------------------------------------------------------------------------------------------------


@triton.jit
def up_to(SIZE: tl.constexpr, CHUNK: tl.constexpr):
    """Mark [i, l]: l is not after i, in the same block of SIZE tokens."""
    i, j = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    return (j <= i) & (j // SIZE == i // SIZE)


@triton.jit
def after(SIZE: tl.constexpr, CHUNK: tl.constexpr):
    """Mark [i, l]: l is after i, in the same block of SIZE tokens."""
    i, j = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    return (j > i) & (j // SIZE == i // SIZE)


@triton.jit
def add_up(marked, g, BY_CHANNEL: tl.constexpr, ACC: tl.constexpr):
    """For every i add up the decays of the tokens marked [i, l]."""
    if BY_CHANNEL:
        return dot(marked, g, ACC, ACC)
    else:
        return tl.sum(tl.where(marked, g[None, :], 0.0), 1)[:, None]


@triton.jit
def hand_back(marked, slope, BY_CHANNEL: tl.constexpr, ACC: tl.constexpr):
    """Give the gradient of g from that of `add_up`, (chunk, key_dim)."""
    if BY_CHANNEL:
        return dot(tl.trans(marked.to(ACC)), slope, ACC, ACC)
    else:
        return tl.sum(tl.where(marked, tl.sum(slope, 1)[:, None], 0.0), 0)


@triton.jit
def entering(g, episode, BY_CHANNEL: tl.constexpr, CHUNK: tl.constexpr, ACC: tl.constexpr):
    """E: what is left of the chunk's first state at each token."""
    return tl.where((episode == 0)[:, None], tl.exp(add_up(up_to(CHUNK, CHUNK), g, BY_CHANNEL, ACC)), 0.0)


@triton.jit
def leaving(g, episode, BY_CHANNEL: tl.constexpr, CHUNK: tl.constexpr, ACC: tl.constexpr):
    """L_C: what is left of each token at the chunk's end."""
    stays = (episode == tl.max(episode, 0))[:, None]
    return tl.where(stays, tl.exp(add_up(after(CHUNK, CHUNK), g, BY_CHANNEL, ACC)), 0.0)


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
def _within(g, episode, CHUNK: tl.constexpr):
    """L of a decay that all channels share."""
    i, j = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    apart = tl.cumsum(tl.where(i > j, g[:, None], 0.0), 0)
    return tl.where(_below(episode, CHUNK), tl.exp(apart), 0.0)


@triton.jit
def _neighbours(SIZE: tl.constexpr, CHUNK: tl.constexpr):
    """Mark [i, j]: j is in the earlier half of a block of 2 SIZE tokens, i in its later half."""
    i, j = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    return (i // SIZE == j // SIZE + 1) & (i // (2 * SIZE) == j // (2 * SIZE))


@triton.jit
def match(
    rows, k, g, episode, BY_CHANNEL: tl.constexpr, LEVELS: tl.constexpr, CHUNK: tl.constexpr, FACTOR: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """rows_iᵀ (L_ij ⊙ k_j) for i ≥ j: (chunk, chunk).

    With a decay for each channel, what the later half of a block sees of the earlier passes the middle, where L_ij
    falls into a factor of i and one of j, both at most 1; blocks are all of one size, then of twice that.
    """
    if BY_CHANNEL:
        i, j = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
        found = tl.where(i == j, tl.sum(rows * k, 1)[:, None], 0.0)
        for level in tl.static_range(LEVELS):
            late = rows * tl.exp(add_up(up_to(2**level, CHUNK), g, True, ACC))
            early = k * tl.exp(add_up(after(2**level, CHUNK), g, True, ACC))
            found = tl.where(_neighbours(2**level, CHUNK), dot(late, tl.trans(early), FACTOR, ACC), found)
        return tl.where(_below(episode, CHUNK), found, 0.0)
    else:
        return dot(rows, tl.trans(k), FACTOR, ACC) * _within(g, episode, CHUNK)


@triton.jit
def match_back(
    slope, rows, k, g, episode, DECAY: tl.constexpr, BY_CHANNEL: tl.constexpr, LEVELS: tl.constexpr,
    CHUNK: tl.constexpr, FACTOR: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Give the gradients of rows, k and g from that of `match`."""
    i, j = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    if BY_CHANNEL:
        slope = tl.where(_below(episode, CHUNK), slope, 0.0)
        itself = tl.sum(tl.where(i == j, slope, 0.0), 1)[:, None]
        d_rows, d_k = itself * k, itself * rows
        d_g = tl.zeros_like(g)
        for level in tl.static_range(LEVELS):
            late = tl.exp(add_up(up_to(2**level, CHUNK), g, True, ACC))
            early = tl.exp(add_up(after(2**level, CHUNK), g, True, ACC))
            across = tl.where(_neighbours(2**level, CHUNK), slope, 0.0)
            d_late = late * dot(across, early * k, FACTOR, ACC)
            d_early = early * dot(tl.trans(across), late * rows, FACTOR, ACC)
            d_rows += d_late
            d_k += d_early
            d_g += hand_back(up_to(2**level, CHUNK), rows * d_late, True, ACC)
            d_g += hand_back(after(2**level, CHUNK), k * d_early, True, ACC)
        return d_rows, d_k, d_g
    else:
        slope *= _within(g, episode, CHUNK)
        d_g = tl.zeros_like(g)
        if DECAY:  # g_l is in L_ij for j < l ≤ i
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
    t = tl.where(i == j, 1.0, 0.0).to(ACC) - tl.where(_neighbours(1, CHUNK), a, 0.0)
    for level in tl.static_range(1, LEVELS):
        below = tl.where(_neighbours(2**level, CHUNK), a, 0.0)
        below = tl.dot(t, below, out_dtype=ACC, input_precision=PRECISE)
        t -= tl.dot(below, t, out_dtype=ACC, input_precision=PRECISE)
    return t
