"""The delta rule's kernels backward; d_x is the gradient of x, and the rest is named as in the kernels forward.

What the forward kernels leave in memory (N, U, W, T and the states of the chunks' starts) is made again before these
run, and held only while they do.
"""

import triton
import triton.language as tl

from recurra.kernels.delta_rule.gpu_chunk import (
    add_others,
    entering,
    find_tokens,
    keeping,
    leaving,
    load_decay,
    load_rows,
    match,
    match_back,
    store_rows,
)
from recurra.kernels.tiles import dot


@triton.jit
def answer(
    q, k, d_output, log_decay, first, present, d_n, scale, time, heads, key_dim, value_dim, DECAY: tl.constexpr,
    BY_CHANNEL: tl.constexpr, FIRST: tl.constexpr, PRESENT: tl.constexpr, LEVELS: tl.constexpr, CHUNK: tl.constexpr,
    PART: tl.constexpr, VALUE: tl.constexpr, FACTOR: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """d_N = Bᵀ d_O, the part of it that comes by the reads of the same chunk."""
    chunk = tl.program_id(1).to(tl.int64)
    token, there, episode = find_tokens(first, present, chunk * CHUNK, time, heads, FIRST, PRESENT, CHUNK)
    b = match(
        q, k, log_decay, token, there, episode, key_dim, DECAY, BY_CHANNEL, LEVELS, CHUNK, PART, FACTOR, ACC
    )  # fmt: skip
    b = tl.trans(scale * b)
    within = chunk * CHUNK + tl.arange(0, CHUNK) < time
    for begin in range(0, value_dim, VALUE):
        d_o = load_rows(d_output, token, there, begin, value_dim, VALUE, ACC)
        store_rows(d_n, dot(b, d_o, FACTOR, ACC), token, within, begin, value_dim, VALUE)


@triton.jit
def carry_back(
    q, k, w, d_output, log_decay, first, present, d_last, d_states, d_n, d_state, scale, time, heads, key_dim,
    value_dim, DELTA: tl.constexpr, DECAY: tl.constexpr, BY_CHANNEL: tl.constexpr, FIRST: tl.constexpr,
    PRESENT: tl.constexpr, CHUNK: tl.constexpr, KEY: tl.constexpr, VALUE: tl.constexpr, FACTOR: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """d_N += (L_C ⊙ K) d_S and d_S ← E_C ⊙ d_S + (E ⊙ Q)ᵀ d_O - Wᵀ d_N, from the last chunk to the first.

    Kept are d_N and, of each chunk, d_S of its end.
    """
    begin = tl.program_id(1) * VALUE
    stream = tl.program_id(0).to(tl.int64)
    channel, column = tl.arange(0, KEY)[:, None], begin + tl.arange(0, VALUE)[None, :]
    inside = (channel < key_dim) & (column < value_dim)
    count = tl.cdiv(time, CHUNK)
    place = channel * value_dim + column
    d_s = tl.load(d_last + stream * key_dim * value_dim + place, mask=inside, other=0.0).to(ACC)
    for back in range(0, count):
        chunk = tl.cast(count - 1 - back, tl.int64)
        tl.store(d_states + (stream * count + chunk) * key_dim * value_dim + place, d_s, mask=inside)
        token, there, episode = find_tokens(first, present, chunk * CHUNK, time, heads, FIRST, PRESENT, CHUNK)
        q_rows = load_rows(q, token, there, 0, key_dim, KEY, ACC) * scale
        k_rows = load_rows(k, token, there, 0, key_dim, KEY, ACC)
        g = load_decay(log_decay, token, there, 0, key_dim, DECAY, BY_CHANNEL, CHUNK, KEY, ACC)
        within = chunk * CHUNK + tl.arange(0, CHUNK) < time
        left = leaving(g, episode, BY_CHANNEL) * k_rows
        d_found = load_rows(d_n, token, within, begin, value_dim, VALUE, ACC) + dot(left, d_s, FACTOR, ACC)
        store_rows(d_n, d_found, token, within, begin, value_dim, VALUE)
        kept = keeping(g, episode)
        if BY_CHANNEL:
            d_s *= kept[:, None]
        else:
            d_s *= kept
        asked = entering(g, episode, BY_CHANNEL) * q_rows
        d_s += dot(tl.trans(asked), load_rows(d_output, token, there, begin, value_dim, VALUE, ACC), FACTOR, ACC)
        if DELTA:
            d_s -= dot(tl.trans(load_rows(w, token, there, 0, key_dim, KEY, ACC)), d_found, FACTOR, ACC)
    tl.store(d_state + stream * key_dim * value_dim + place, d_s, mask=inside)


@triton.jit
def differ(
    v, beta, first, present, u, w, n, inverse, states, d_output, d_n, d_states, d_v, d_b, d_a, d_asked, d_left,
    d_entered, d_kept, d_step, time, heads, key_dim, value_dim, DELTA: tl.constexpr, FIRST: tl.constexpr,
    PRESENT: tl.constexpr, CHUNK: tl.constexpr, PART: tl.constexpr, VALUE: tl.constexpr, FACTOR: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """What goes through the values of one chunk: the gradients of what is multiplied with N, S, d_S, and of V.

    O = B N + (E ⊙ Q) S, S ← E_C ⊙ S + (L_C ⊙ K)ᵀ N, N = U - W S, and of T = (I + A)⁻¹ in U = T βV and W = T β(E ⊙ K)
    it is d_A = -Tᵀ d_T Tᵀ = -(Tᵀ d_U) Uᵀ - (Tᵀ d_W) Wᵀ.
    """
    chunk = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + chunk
    states += at * key_dim * value_dim
    d_states += at * key_dim * value_dim
    token, there, _ = find_tokens(first, present, chunk * CHUNK, time, heads, FIRST, PRESENT, CHUNK)
    square = at * CHUNK * CHUNK + tl.arange(0, CHUNK)[:, None] * CHUNK + tl.arange(0, CHUNK)[None, :]
    if DELTA:
        step = tl.load(beta + token, mask=there, other=0.0).to(ACC)[:, None]
        t = tl.trans(tl.load(inverse + square).to(ACC))
    b_rows = tl.zeros([CHUNK, CHUNK], dtype=ACC)
    a_rows = tl.zeros([CHUNK, CHUNK], dtype=ACC)
    stepped = tl.zeros([CHUNK], dtype=ACC)
    for begin in range(0, value_dim, VALUE):
        found = load_rows(n, token, there, begin, value_dim, VALUE, ACC)
        d_o = load_rows(d_output, token, there, begin, value_dim, VALUE, ACC)
        d_found = load_rows(d_n, token, there, begin, value_dim, VALUE, ACC)
        b_rows += dot(d_o, tl.trans(found), FACTOR, ACC)
        if DELTA:
            d_found = dot(t, d_found, FACTOR, ACC)  # Tᵀ d_U
            known = load_rows(u, token, there, begin, value_dim, VALUE, ACC)
            a_rows -= dot(d_found, tl.trans(known), FACTOR, ACC)
            stepped += tl.sum(d_found * load_rows(v, token, there, begin, value_dim, VALUE, ACC), 1)
            d_found *= step
        store_rows(d_v, d_found, token, there, begin, value_dim, VALUE)
    tl.store(d_b + square, b_rows)
    for part in range(0, key_dim, PART):
        channel = part + tl.arange(0, PART)
        asked = tl.zeros([CHUNK, PART], dtype=ACC)
        left = tl.zeros([CHUNK, PART], dtype=ACC)
        entered = tl.zeros([CHUNK, PART], dtype=ACC)
        kept = tl.zeros([PART], dtype=ACC)
        for begin in range(0, value_dim, VALUE):
            s = load_rows(states, channel, channel < key_dim, begin, value_dim, VALUE, ACC)
            d_s = load_rows(d_states, channel, channel < key_dim, begin, value_dim, VALUE, ACC)
            d_o = load_rows(d_output, token, there, begin, value_dim, VALUE, ACC)
            asked += dot(d_o, tl.trans(s), FACTOR, ACC)
            found = load_rows(n, token, there, begin, value_dim, VALUE, ACC)
            left += dot(found, tl.trans(d_s), FACTOR, ACC)
            kept += tl.sum(s * d_s, 1)
            if DELTA:
                d_found = load_rows(d_n, token, there, begin, value_dim, VALUE, ACC)
                entered -= dot(d_found, tl.trans(s), FACTOR, ACC)
        store_rows(d_asked, asked, token, there, part, key_dim, PART)
        store_rows(d_left, left, token, there, part, key_dim, PART)
        tl.store(d_kept + at * key_dim + channel, kept, mask=channel < key_dim)
        if DELTA:
            entered = dot(t, entered, FACTOR, ACC)  # Tᵀ d_W
            store_rows(d_entered, entered, token, there, part, key_dim, PART)
            w_rows = load_rows(w, token, there, part, key_dim, PART, ACC)
            a_rows -= dot(entered, tl.trans(w_rows), FACTOR, ACC)
    if DELTA:
        tl.store(d_a + square, a_rows)
        tl.store(d_step + token, stepped, mask=there)


@triton.jit
def learn(
    q, k, log_decay, beta, first, present, d_b, d_a, d_asked, d_left, d_entered, d_kept, d_step, d_q, d_k, d_log_decay,
    d_beta, scale, time, heads, key_dim, DELTA: tl.constexpr, DECAY: tl.constexpr, BY_CHANNEL: tl.constexpr,
    FIRST: tl.constexpr, PRESENT: tl.constexpr, LEVELS: tl.constexpr, CHUNK: tl.constexpr, PART: tl.constexpr,
    FACTOR: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """What queries, keys, decays and steps of one chunk have to do with what `differ` found."""
    chunk = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + chunk
    token, there, episode = find_tokens(first, present, chunk * CHUNK, time, heads, FIRST, PRESENT, CHUNK)
    i, j = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    square = at * CHUNK * CHUNK + i * CHUNK + j
    d_shared = tl.zeros([CHUNK], dtype=ACC)
    stepped = tl.zeros([CHUNK], dtype=ACC)
    for begin in range(0, key_dim, PART):
        g = load_decay(log_decay, token, there, begin, key_dim, DECAY, BY_CHANNEL, CHUNK, PART, ACC)
        k_rows = load_rows(k, token, there, begin, key_dim, PART, ACC)
        q_rows = load_rows(q, token, there, begin, key_dim, PART, ACC) * scale
        d_rows, d_keys, d_g = match_back(
            tl.load(d_b + square), q_rows, k_rows, g, episode, DECAY, BY_CHANNEL, LEVELS, CHUNK, FACTOR, ACC
        )
        enter = entering(g, episode, BY_CHANNEL)
        asked = load_rows(d_asked, token, there, begin, key_dim, PART, ACC)
        store_rows(d_q, scale * (d_rows + enter * asked), token, there, begin, key_dim, PART)
        d_enter = q_rows * asked
        if DELTA:
            step = tl.load(beta + token, mask=there, other=0.0).to(ACC)[:, None]
            slope = tl.where(i > j, tl.load(d_a + square), 0.0)
            d_rows, d_matched, d_matching = match_back(
                slope, step * k_rows, k_rows, g, episode, DECAY, BY_CHANNEL, LEVELS, CHUNK, FACTOR, ACC
            )
            entered = load_rows(d_entered, token, there, begin, key_dim, PART, ACC)
            d_rows += enter * entered  # of βK, which is read by A and by W
            d_enter += step * k_rows * entered
            d_keys += step * d_rows + d_matched
            d_g += d_matching
            stepped += tl.sum(d_rows * k_rows, 1)
        left = leaving(g, episode, BY_CHANNEL) * load_rows(d_left, token, there, begin, key_dim, PART, ACC)
        store_rows(d_k, d_keys + left, token, there, begin, key_dim, PART)
        if DECAY:
            channel = begin + tl.arange(0, PART)
            kept = tl.load(d_kept + at * key_dim + channel, mask=channel < key_dim, other=0.0) * keeping(g, episode)
            d_enter *= enter
            left *= k_rows
            if BY_CHANNEL:
                d_g += tl.cumsum(d_enter, 0, reverse=True) + add_others(left, AFTER=False) + kept[None, :]
                store_rows(d_log_decay, d_g, token, there, begin, key_dim, PART)
            else:
                d_shared += d_g + tl.cumsum(tl.sum(d_enter, 1), 0, reverse=True)
                d_shared += add_others(tl.sum(left, 1), AFTER=False) + tl.sum(kept, 0)
    if DELTA:
        tl.store(d_beta + token, stepped + tl.load(d_step + token, mask=there, other=0.0), mask=there)
    if DECAY and not BY_CHANNEL:
        tl.store(d_log_decay + token, d_shared, mask=there)
