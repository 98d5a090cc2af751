"""The MLP memory's forward kernels: writes chunk after chunk, then the reads of all chunks at once.

What a chunk writes hangs on its keys alone, so only that is done one chunk after another, a program for each stream's
head; queries meet the weights at each chunk's start afterwards, a program for each chunk. With h = k U_a, e as in
`gpu_losses` and U the weights at the chunk's start, V and S the weights and momentum that enter it (see `chunked`):

    z = GELU(h) U_b      e = ∂ℓ/∂z      g = (e U_bᵀ) ⊙ GELU'(h)
    V_a ← α V_a + β S_a + (λ ⊙ k)ᵀ g            V_b ← α V_b + β S_b + GELU(h)ᵀ (λ ⊙ e)
    S_a ← κ S_a + (μ ⊙ k)ᵀ g                    S_b ← κ S_b + GELU(h)ᵀ (μ ⊙ e)
    r = P g + (A ⊙ q) V_a + (B ⊙ q) S_a
    y = mix(GELU(r) GELU(h)ᵀ, w ⊙ e) + A ⊙ (GELU(r) V_b) + B ⊙ (GELU(r) S_b)

Hidden units are taken a block at a time, and weights stay in global memory, where the second level of cache holds
them: so any width fits a program's shared memory, and what each chunk starts from is there for its reads.
"""

import triton
import triton.language as tl

from recurra.kernels import tiles
from recurra.kernels.mlp_memory import gpu_losses as losses
from recurra.kernels.mlp_memory import gpu_parts as parts


@triton.jit(do_not_specialize=["slots"])
def write_chunks(
    key, value, threshold, leaving, fading, keep, carry, kept, gain, shift, fresh_a, fresh_b, states_a, states_b,
    momenta_a, momenta_b, starts, resets, before, surprises, slots, CHUNK: tl.constexpr, KEYS: tl.constexpr,
    HIDDEN: tl.constexpr, ACTIVE: tl.constexpr, VALUES: tl.constexpr, KEY_TILE: tl.constexpr, UNITS: tl.constexpr,
    VALUE_TILE: tl.constexpr, WIDE: tl.constexpr, WIDE_THRESHOLD: tl.constexpr, THRESHOLD: tl.constexpr,
    MOMENTUM: tl.constexpr, NORM: tl.constexpr, RESIDUAL: tl.constexpr, EPSILON: tl.constexpr, BIAS: tl.constexpr,
    POWER: tl.constexpr, FACTOR: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Write chunk after chunk: store z and e of each, and the weights and momentum after it.

    ``states`` hold, before those that enter each slot, the start of a chunk that goes on; ``starts`` says which of
    them a slot's gradients are taken at. ``resets`` says of a slot whether the memory is fresh after it.
    """
    row, rows = tl.program_id(0).to(tl.int64), tl.num_programs(0).to(tl.int64)
    place, keys, values = tl.arange(0, CHUNK), tl.arange(0, KEY_TILE), tl.arange(0, VALUE_TILE)
    inside = (values < VALUES)[None, :]
    scale, move = parts.norm_of(gain, shift, row, values, VALUES, NORM, ACC)
    for slot in range(slots):
        at = slot * rows + row
        tokens = at * CHUNK
        k = parts.tile(key + tokens * KEYS, place, keys, CHUNK, KEYS, ACC)
        start = tl.load(starts + at) * rows + row
        start_a, start_b = states_a + start * KEYS * HIDDEN, states_b + start * ACTIVE * VALUES
        z = tl.zeros([CHUNK, VALUE_TILE], dtype=ACC)
        for base in range(0, ACTIVE, UNITS):
            units = base + tl.arange(0, UNITS)
            hidden = tiles.dot(k, parts.tile(start_a, keys, units, KEYS, HIDDEN, ACC), FACTOR, ACC)
            lower = parts.tile(start_b, units, values, ACTIVE, VALUES, ACC)
            z += tiles.dot(parts.gelu(hidden, units, HIDDEN, ACTIVE), lower, FACTOR, ACC)
        parts.put(before + tokens * VALUES, z, place, values, CHUNK, VALUES)
        added, v, limit = parts.wanted(
            key, value, threshold, at, place, values, CHUNK, KEYS, VALUES, RESIDUAL, THRESHOLD, WIDE_THRESHOLD, ACC
        )
        e = losses.surprise(z, added, v, limit, scale, move, inside, VALUES, NORM, RESIDUAL, EPSILON, BIAS, POWER)
        parts.put(surprises + tokens * VALUES, e, place, values, CHUNK, VALUES)

        width = KEYS if WIDE else 1
        keep_k = parts.span(keep + at * width, keys, KEYS, WIDE, ACC)[:, None]
        keep_v = parts.span(keep + at * width, values, VALUES, WIDE, ACC)[None, :]
        if MOMENTUM:
            carry_k = parts.span(carry + at * width, keys, KEYS, WIDE, ACC)[:, None]
            carry_v = parts.span(carry + at * width, values, VALUES, WIDE, ACC)[None, :]
            stays = tl.load(kept + at).to(ACC)
        reset = tl.load(resets + at) != 0
        entering, after = at + rows, at + 2 * rows  # behind the start of a chunk that goes on
        for base in range(0, ACTIVE, UNITS):
            units = base + tl.arange(0, UNITS)
            hidden = tiles.dot(k, parts.tile(start_a, keys, units, KEYS, HIDDEN, ACC), FACTOR, ACC)
            lower = parts.tile(start_b, units, values, ACTIVE, VALUES, ACC)
            active = tl.trans(parts.gelu(hidden, units, HIDDEN, ACTIVE))
            g = tiles.dot(e, tl.trans(lower), FACTOR, ACC) * parts.gelu_slope(hidden, units, HIDDEN)
            a = keep_k * parts.tile(states_a + entering * KEYS * HIDDEN, keys, units, KEYS, HIDDEN, ACC)
            # Gates are loaded for each block: what is made once would lie in shared memory throughout.
            left = k * parts.gate(leaving + tokens * width, place, keys, CHUNK, KEYS, WIDE, ACC)
            a += tiles.dot(tl.trans(left), g, FACTOR, ACC)
            b = keep_v * parts.tile(states_b + entering * ACTIVE * VALUES, units, values, ACTIVE, VALUES, ACC)
            left = e * parts.gate(leaving + tokens * width, place, values, CHUNK, VALUES, WIDE, ACC)
            b += tiles.dot(active, left, FACTOR, ACC)
            if MOMENTUM:
                step_a = parts.tile(momenta_a + at * KEYS * HIDDEN, keys, units, KEYS, HIDDEN, ACC)
                step_b = parts.tile(momenta_b + at * ACTIVE * VALUES, units, values, ACTIVE, VALUES, ACC)
                a += carry_k * step_a
                b += carry_v * step_b
                left = k * parts.gate(fading + tokens * width, place, keys, CHUNK, KEYS, WIDE, ACC)
                step_a = stays * step_a + tiles.dot(tl.trans(left), g, FACTOR, ACC)
                left = e * parts.gate(fading + tokens * width, place, values, CHUNK, VALUES, WIDE, ACC)
                step_b = stays * step_b + tiles.dot(active, left, FACTOR, ACC)
                step_a, step_b = tl.where(reset, 0.0, step_a), tl.where(reset, 0.0, step_b)
                parts.put(momenta_a + entering * KEYS * HIDDEN, step_a, keys, units, KEYS, HIDDEN)
                parts.put(momenta_b + entering * ACTIVE * VALUES, step_b, units, values, ACTIVE, VALUES)
            if reset:
                a = parts.tile(fresh_a + row * KEYS * HIDDEN, keys, units, KEYS, HIDDEN, ACC)
                b = parts.tile(fresh_b + row * ACTIVE * VALUES, units, values, ACTIVE, VALUES, ACC)
            parts.put(states_a + after * KEYS * HIDDEN, a, keys, units, KEYS, HIDDEN)
            parts.put(states_b + after * ACTIVE * VALUES, b, units, values, ACTIVE, VALUES)
        tl.debug_barrier()  # the next chunk reads what other threads of the program have stored


@triton.jit
def read_chunks(
    query, key, write, entering, passing, scores, matrix, bridges, bridges_m, states_a, states_b, momenta_a, momenta_b,
    starts, surprises, read, CHUNK: tl.constexpr, KEYS: tl.constexpr, HIDDEN: tl.constexpr,
    ACTIVE: tl.constexpr, VALUES: tl.constexpr, KEY_TILE: tl.constexpr, UNITS: tl.constexpr,
    VALUE_TILE: tl.constexpr, WIDE: tl.constexpr, MOMENTUM: tl.constexpr, LEVELS: tl.constexpr, FACTOR: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Read one chunk: store y, what LayerNorm takes of the answers to its queries."""
    rows = tl.num_programs(0).to(tl.int64)
    at = tl.program_id(1) * rows + tl.program_id(0)
    place, keys, values = tl.arange(0, CHUNK), tl.arange(0, KEY_TILE), tl.arange(0, VALUE_TILE)
    tokens, width = at * CHUNK, KEYS if WIDE else 1
    start = tl.load(starts + at) * rows + tl.program_id(0)
    start_a, start_b = states_a + start * KEYS * HIDDEN, states_b + start * ACTIVE * VALUES
    now_a, now_b = states_a + (at + rows) * KEYS * HIDDEN, states_b + (at + rows) * ACTIVE * VALUES
    k = parts.tile(key + tokens * KEYS, place, keys, CHUNK, KEYS, ACC)
    q = parts.tile(query + tokens * KEYS, place, keys, CHUNK, KEYS, ACC)
    e = parts.tile(surprises + tokens * VALUES, place, values, CHUNK, VALUES, ACC)
    seen = parts.tile(scores + tokens * CHUNK, place, place, CHUNK, CHUNK, ACC)
    here_q = q * parts.gate(entering + tokens * width, place, keys, CHUNK, KEYS, WIDE, ACC)
    if MOMENTUM:
        there_q = q * parts.gate(passing + tokens * width, place, keys, CHUNK, KEYS, WIDE, ACC)
    met = tl.zeros([CHUNK, CHUNK], dtype=ACC)
    y = tl.zeros([CHUNK, VALUE_TILE], dtype=ACC)
    if MOMENTUM:
        y_m = tl.zeros([CHUNK, VALUE_TILE], dtype=ACC)
    for base in range(0, ACTIVE, UNITS):
        units = base + tl.arange(0, UNITS)
        hidden = tiles.dot(k, parts.tile(start_a, keys, units, KEYS, HIDDEN, ACC), FACTOR, ACC)
        lower = parts.tile(start_b, units, values, ACTIVE, VALUES, ACC)
        g = tiles.dot(e, tl.trans(lower), FACTOR, ACC) * parts.gelu_slope(hidden, units, HIDDEN)
        r = tiles.dot(seen, g, FACTOR, ACC)
        r += tiles.dot(here_q, parts.tile(now_a, keys, units, KEYS, HIDDEN, ACC), FACTOR, ACC)
        if MOMENTUM:
            upper = parts.tile(momenta_a + at * KEYS * HIDDEN, keys, units, KEYS, HIDDEN, ACC)
            r += tiles.dot(there_q, upper, FACTOR, ACC)
        asked = parts.gelu(r, units, HIDDEN, ACTIVE)
        met += tiles.dot(asked, tl.trans(parts.gelu(hidden, units, HIDDEN, ACTIVE)), FACTOR, ACC)
        y += tiles.dot(asked, parts.tile(now_b, units, values, ACTIVE, VALUES, ACC), FACTOR, ACC)
        if MOMENTUM:
            lower = parts.tile(momenta_b + at * ACTIVE * VALUES, units, values, ACTIVE, VALUES, ACC)
            y_m += tiles.dot(asked, lower, FACTOR, ACC)
    y *= parts.gate(entering + tokens * width, place, values, CHUNK, VALUES, WIDE, ACC)
    if MOMENTUM:
        y += y_m * parts.gate(passing + tokens * width, place, values, CHUNK, VALUES, WIDE, ACC)
    writes = e * parts.gate(write + tokens * width, place, values, CHUNK, VALUES, WIDE, ACC)
    y += parts.mix(met, writes, matrix, bridges, bridges_m, at, values, CHUNK, VALUES, LEVELS, MOMENTUM, FACTOR, ACC)
    parts.put(read + tokens * VALUES, y, place, values, CHUNK, VALUES)
