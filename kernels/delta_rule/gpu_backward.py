"""The delta rule's kernels backward; d_x is the gradient of x, and the rest is named as in the kernels forward.

What the forward kernels leave in memory (N, U, W, T and the states of the chunks' starts) is made again before these
run, and held only while they do.
"""

import triton
import triton.language as tl

from recurra.kernels.delta_rule.gpu_chunk import (
    after,
    entering,
    find_tokens,
    hand_back,
    keeping,
    leaving,
    load_decay,
    load_rows,
    match,
    match_back,
    store_rows,
    up_to,
)
from recurra.kernels.tiles import dot


@triton.jit
def answer(
    q, k, d_output, log_decay, first, present, d_n, scale, time, heads, key_dim, value_dim, DECAY: tl.constexpr,
    BY_CHANNEL: tl.constexpr, FIRST: tl.constexpr, PRESENT: tl.constexpr, LEVELS: tl.constexpr, CHUNK: tl.constexpr,
    KEY: tl.constexpr, VALUE: tl.constexpr, FACTOR: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """d_N = Bᵀ d_O, the part of it that comes by the reads of the same chunk."""
    chunk = tl.program_id(1).to(tl.int64)
    token, there, episode = find_tokens(first, present, chunk * CHUNK, time, heads, FIRST, PRESENT, CHUNK)
    q_rows = load_rows(q, token, there, 0, key_dim, KEY, ACC) * scale
    k_rows = load_rows(k, token, there, 0, key_dim, KEY, ACC)
    g = load_decay(log_decay, token, there, key_dim, DECAY, BY_CHANNEL, CHUNK, KEY, ACC)
    b = tl.trans(match(q_rows, k_rows, g, episode, BY_CHANNEL, LEVELS, CHUNK, FACTOR, ACC))
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
        g = load_decay(log_decay, token, there, key_dim, DECAY, BY_CHANNEL, CHUNK, KEY, ACC)
        within = chunk * CHUNK + tl.arange(0, CHUNK) < time
        left = leaving(g, episode, BY_CHANNEL, CHUNK, ACC) * k_rows
        d_found = load_rows(d_n, token, within, begin, value_dim, VALUE, ACC) + dot(left, d_s, FACTOR, ACC)
        store_rows(d_n, d_found, token, within, begin, value_dim, VALUE)
        kept = keeping(g, episode)
        if BY_CHANNEL:
            d_s *= kept[:, None]
        else:
            d_s *= kept
        asked = entering(g, episode, BY_CHANNEL, CHUNK, ACC) * q_rows
        d_s += dot(tl.trans(asked), load_rows(d_output, token, there, begin, value_dim, VALUE, ACC), FACTOR, ACC)
        if DELTA:
            d_s -= dot(tl.trans(load_rows(w, token, there, 0, key_dim, KEY, ACC)), d_found, FACTOR, ACC)
    tl.store(d_state + stream * key_dim * value_dim + place, d_s, mask=inside)


@triton.jit
def differ(
    v, beta, first, present, u, n, inverse, states, d_output, d_n, d_states, d_v, d_b, d_a, d_asked, d_left, d_w,
    d_kept, d_step, time, heads, key_dim, value_dim, DELTA: tl.constexpr, FIRST: tl.constexpr,
    PRESENT: tl.constexpr, CHUNK: tl.constexpr, KEY: tl.constexpr, VALUE: tl.constexpr, FACTOR: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """What goes through the values of one chunk: the gradients of what is multiplied with N, S, d_S, and of V.

    O = B N + (E ⊙ Q) S, S ← E_C ⊙ S + (L_C ⊙ K)ᵀ N, N = U - W S and U = T βV; of T = (I + A)⁻¹ it is
    d_A = -Tᵀ d_T Tᵀ with d_T = d_U (βV)ᵀ + d_W (β(E ⊙ K))ᵀ, whose first part is found here, -(Tᵀ d_U) Uᵀ.
    """
    chunk = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + chunk
    states += at * key_dim * value_dim
    d_states += at * key_dim * value_dim
    token, there, _ = find_tokens(first, present, chunk * CHUNK, time, heads, FIRST, PRESENT, CHUNK)
    channel = tl.arange(0, KEY)
    square = at * CHUNK * CHUNK + tl.arange(0, CHUNK)[:, None] * CHUNK + tl.arange(0, CHUNK)[None, :]
    if DELTA:
        step = tl.load(beta + token, mask=there, other=0.0).to(ACC)[:, None]
        t = tl.trans(tl.load(inverse + square).to(ACC))
    b_rows = tl.zeros([CHUNK, CHUNK], dtype=ACC)
    a_rows = tl.zeros([CHUNK, CHUNK], dtype=ACC)
    asked = tl.zeros([CHUNK, KEY], dtype=ACC)
    left = tl.zeros([CHUNK, KEY], dtype=ACC)
    w_rows = tl.zeros([CHUNK, KEY], dtype=ACC)
    kept = tl.zeros([KEY], dtype=ACC)
    stepped = tl.zeros([CHUNK], dtype=ACC)
    for begin in range(0, value_dim, VALUE):
        s = load_rows(states, channel, channel < key_dim, begin, value_dim, VALUE, ACC)
        d_s = load_rows(d_states, channel, channel < key_dim, begin, value_dim, VALUE, ACC)
        found = load_rows(n, token, there, begin, value_dim, VALUE, ACC)
        d_o = load_rows(d_output, token, there, begin, value_dim, VALUE, ACC)
        d_found = load_rows(d_n, token, there, begin, value_dim, VALUE, ACC)
        b_rows += dot(d_o, tl.trans(found), FACTOR, ACC)
        asked += dot(d_o, tl.trans(s), FACTOR, ACC)
        left += dot(found, tl.trans(d_s), FACTOR, ACC)
        kept += tl.sum(s * d_s, 1)
        if DELTA:
            w_rows -= dot(d_found, tl.trans(s), FACTOR, ACC)
            d_found = dot(t, d_found, FACTOR, ACC)  # Tᵀ d_U
            known = load_rows(u, token, there, begin, value_dim, VALUE, ACC)
            a_rows -= dot(d_found, tl.trans(known), FACTOR, ACC)
            stepped += tl.sum(d_found * load_rows(v, token, there, begin, value_dim, VALUE, ACC), 1)
            d_found *= step
        store_rows(d_v, d_found, token, there, begin, value_dim, VALUE)
    tl.store(d_b + square, b_rows)
    store_rows(d_asked, asked, token, there, 0, key_dim, KEY)
    store_rows(d_left, left, token, there, 0, key_dim, KEY)
    tl.store(d_kept + at * key_dim + channel, kept, mask=channel < key_dim)
    if DELTA:
        tl.store(d_a + square, a_rows)
        store_rows(d_w, w_rows, token, there, 0, key_dim, KEY)
        tl.store(d_step + token, stepped, mask=there)


@triton.jit
def learn(
    q, k, log_decay, beta, first, present, w, inverse, d_b, d_a, d_asked, d_left, d_w, d_kept, d_step, d_q, d_k,
    d_log_decay, d_beta, scale, time, heads, key_dim, DELTA: tl.constexpr, DECAY: tl.constexpr,
    BY_CHANNEL: tl.constexpr, FIRST: tl.constexpr, PRESENT: tl.constexpr, LEVELS: tl.constexpr, CHUNK: tl.constexpr,
    KEY: tl.constexpr, FACTOR: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """What queries, keys, decays and steps of one chunk have to do with what `differ` found."""
    chunk = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + chunk
    token, there, episode = find_tokens(first, present, chunk * CHUNK, time, heads, FIRST, PRESENT, CHUNK)
    i, j = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    square = at * CHUNK * CHUNK + i * CHUNK + j
    g = load_decay(log_decay, token, there, key_dim, DECAY, BY_CHANNEL, CHUNK, KEY, ACC)
    k_rows = load_rows(k, token, there, 0, key_dim, KEY, ACC)
    q_rows = load_rows(q, token, there, 0, key_dim, KEY, ACC) * scale
    d_rows, d_keys, d_g = match_back(
        tl.load(d_b + square), q_rows, k_rows, g, episode, DECAY, BY_CHANNEL, LEVELS, CHUNK, FACTOR, ACC
    )
    enter = entering(g, episode, BY_CHANNEL, CHUNK, ACC)
    asked = load_rows(d_asked, token, there, 0, key_dim, KEY, ACC)
    store_rows(d_q, scale * (d_rows + enter * asked), token, there, 0, key_dim, KEY)
    d_enter = q_rows * asked
    if DELTA:
        step = tl.load(beta + token, mask=there, other=0.0).to(ACC)[:, None]
        t = tl.trans(tl.load(inverse + square).to(ACC))
        d_entered = dot(t, load_rows(d_w, token, there, 0, key_dim, KEY, ACC), FACTOR, ACC)  # Tᵀ d_W
        w_rows = load_rows(w, token, there, 0, key_dim, KEY, ACC)
        slope = tl.load(d_a + square) - dot(d_entered, tl.trans(w_rows), FACTOR, ACC)
        d_rows, d_matched, d_matching = match_back(
            tl.where(i > j, slope, 0.0), step * k_rows, k_rows, g, episode, DECAY, BY_CHANNEL, LEVELS, CHUNK, FACTOR,
            ACC,
        )  # fmt: skip
        d_rows += enter * d_entered  # of βK, which is read by A and by W
        d_enter += step * k_rows * d_entered
        d_keys += step * d_rows + d_matched
        d_g += d_matching
        stepped = tl.load(d_step + token, mask=there, other=0.0) + tl.sum(d_rows * k_rows, 1)
        tl.store(d_beta + token, stepped, mask=there)
    leave = leaving(g, episode, BY_CHANNEL, CHUNK, ACC)
    left = leave * load_rows(d_left, token, there, 0, key_dim, KEY, ACC)
    store_rows(d_k, d_keys + left, token, there, 0, key_dim, KEY)
    if DECAY:
        d_g += hand_back(up_to(CHUNK, CHUNK), enter * d_enter, BY_CHANNEL, ACC)
        d_g += hand_back(after(CHUNK, CHUNK), left * k_rows, BY_CHANNEL, ACC)
        channel = tl.arange(0, KEY)
        kept = tl.load(d_kept + at * key_dim + channel, mask=channel < key_dim, other=0.0) * keeping(g, episode)
        if BY_CHANNEL:
            store_rows(d_log_decay, d_g + kept[None, :], token, there, 0, key_dim, KEY)
        else:
            tl.store(d_log_decay + token, d_g + tl.sum(kept, 0), mask=there)
