"""The MLP memory's backward kernel of the reads: all chunks at once.

Letters are those of `gpu_forward`, and x̄ is what comes back for x. With T = GELU(r) GELU(h)ᵀ, and a for GELU(h):

    T̄ and what w ⊙ e hears: as `gpu_parts.mix_backward` gives them for ȳ
    r̄ = (T̄ a + (A ⊙ ȳ) V_bᵀ + (B ⊙ ȳ) S_bᵀ) ⊙ GELU'(r)
    P̄ = r̄ gᵀ      ḡ = Pᵀ r̄      ā = T̄ᵀ GELU(r)      q̄ = A ⊙ (r̄ V_aᵀ) + B ⊙ (r̄ S_aᵀ)
    A hears q ⊙ (r̄ V_aᵀ) and ȳ ⊙ (GELU(r) V_b); B with S

What V and S hear is left to `gpu_backward`, where they are at hand: that kernel goes from chunk to chunk.
"""

import triton
import triton.language as tl

from recurra.kernels import tiles
from recurra.kernels.mlp_memory import gpu_parts as parts


@triton.jit
def read_chunks_backward(
    query, key, write, entering, passing, scores, matrix, bridges, bridges_m, states_a, states_b, momenta_a, momenta_b,
    starts, surprises, d_read, d_query, d_write, d_entering, d_passing, d_scores, d_matrix, d_bridges, d_bridges_m,
    d_surprises, reads, d_reads, d_inner, d_active, CHUNK: tl.constexpr, KEYS: tl.constexpr,
    HIDDEN: tl.constexpr, ACTIVE: tl.constexpr, VALUES: tl.constexpr, KEY_TILE: tl.constexpr, UNITS: tl.constexpr,
    VALUE_TILE: tl.constexpr, WIDE: tl.constexpr, MOMENTUM: tl.constexpr, LEVELS: tl.constexpr, FACTOR: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Go back through the reads of one chunk.

    Beside the gradients of what belongs to the chunk, this stores r, r̄ and what g and GELU(h) hear from the reads,
    ``(chunk, hidden)`` each, for the kernel that goes back through the writes.
    """
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

    # As forward, for T and what the gates scaled.
    met = tl.zeros([CHUNK, CHUNK], dtype=ACC)
    y = tl.zeros([CHUNK, VALUE_TILE], dtype=ACC)
    y_m = tl.zeros([CHUNK, VALUE_TILE], dtype=ACC)
    for base in range(0, ACTIVE, UNITS):
        units = base + tl.arange(0, UNITS)
        hidden = tiles.dot(k, parts.tile(start_a, keys, units, KEYS, HIDDEN, ACC), FACTOR, ACC)
        lower = parts.tile(start_b, units, values, ACTIVE, VALUES, ACC)
        g = tiles.dot(e, tl.trans(lower), FACTOR, ACC) * parts.gelu_slope(hidden, units, HIDDEN)
        r = tiles.dot(seen, g, FACTOR, ACC)
        here = q * parts.gate(entering + tokens * width, place, keys, CHUNK, KEYS, WIDE, ACC)
        r += tiles.dot(here, parts.tile(now_a, keys, units, KEYS, HIDDEN, ACC), FACTOR, ACC)
        if MOMENTUM:
            upper = parts.tile(momenta_a + at * KEYS * HIDDEN, keys, units, KEYS, HIDDEN, ACC)
            here = q * parts.gate(passing + tokens * width, place, keys, CHUNK, KEYS, WIDE, ACC)
            r += tiles.dot(here, upper, FACTOR, ACC)
        parts.put(reads + tokens * HIDDEN, r, place, units, CHUNK, HIDDEN)
        asked = parts.gelu(r, units, HIDDEN, ACTIVE)
        met += tiles.dot(asked, tl.trans(parts.gelu(hidden, units, HIDDEN, ACTIVE)), FACTOR, ACC)
        y += tiles.dot(asked, parts.tile(now_b, units, values, ACTIVE, VALUES, ACC), FACTOR, ACC)
        if MOMENTUM:
            lower = parts.tile(momenta_b + at * ACTIVE * VALUES, units, values, ACTIVE, VALUES, ACC)
            y_m += tiles.dot(asked, lower, FACTOR, ACC)

    d_y = parts.tile(d_read + tokens * VALUES, place, values, CHUNK, VALUES, ACC)
    w = parts.gate(write + tokens * width, place, values, CHUNK, VALUES, WIDE, ACC)
    d_met, d_writes = parts.mix_backward(
        d_y, met, w * e, matrix, bridges, bridges_m, d_matrix, d_bridges, d_bridges_m, at, values, CHUNK, VALUES,
        LEVELS, MOMENTUM, FACTOR, ACC,
    )  # fmt: skip
    parts.put(d_surprises + tokens * VALUES, w * d_writes, place, values, CHUNK, VALUES)
    parts.put_gate(d_write + tokens * width, e * d_writes, place, values, CHUNK, VALUES, WIDE)
    y *= d_y  # what the entering gates hear in the second layer
    if MOMENTUM:
        y_m *= d_y
        d_there = tl.zeros([CHUNK, KEY_TILE], dtype=ACC)
    d_here = tl.zeros([CHUNK, KEY_TILE], dtype=ACC)
    d_seen = tl.zeros([CHUNK, CHUNK], dtype=ACC)
    tl.debug_barrier()  # r, stored by other threads of the program
    for base in range(0, ACTIVE, UNITS):
        units = base + tl.arange(0, UNITS)
        hidden = tiles.dot(k, parts.tile(start_a, keys, units, KEYS, HIDDEN, ACC), FACTOR, ACC)
        lower = parts.tile(start_b, units, values, ACTIVE, VALUES, ACC)
        g = tiles.dot(e, tl.trans(lower), FACTOR, ACC) * parts.gelu_slope(hidden, units, HIDDEN)
        r = parts.tile(reads + tokens * HIDDEN, place, units, CHUNK, HIDDEN, ACC)
        asked = parts.gelu(r, units, HIDDEN, ACTIVE)
        heard = tiles.dot(tl.trans(d_met), asked, FACTOR, ACC)
        parts.put(d_active + tokens * HIDDEN, heard, place, units, CHUNK, HIDDEN)
        d_r = tiles.dot(d_met, parts.gelu(hidden, units, HIDDEN, ACTIVE), FACTOR, ACC)
        lower = parts.tile(now_b, units, values, ACTIVE, VALUES, ACC)
        here = d_y * parts.gate(entering + tokens * width, place, values, CHUNK, VALUES, WIDE, ACC)
        d_r += tiles.dot(here, tl.trans(lower), FACTOR, ACC)
        if MOMENTUM:
            lower = parts.tile(momenta_b + at * ACTIVE * VALUES, units, values, ACTIVE, VALUES, ACC)
            here = d_y * parts.gate(passing + tokens * width, place, values, CHUNK, VALUES, WIDE, ACC)
            d_r += tiles.dot(here, tl.trans(lower), FACTOR, ACC)
        d_r *= parts.gelu_slope(r, units, HIDDEN)
        parts.put(d_reads + tokens * HIDDEN, d_r, place, units, CHUNK, HIDDEN)
        d_seen += tiles.dot(d_r, tl.trans(g), FACTOR, ACC)
        heard = tiles.dot(tl.trans(seen), d_r, FACTOR, ACC)
        parts.put(d_inner + tokens * HIDDEN, heard, place, units, CHUNK, HIDDEN)
        upper = parts.tile(now_a, keys, units, KEYS, HIDDEN, ACC)
        d_here += tiles.dot(d_r, tl.trans(upper), FACTOR, ACC)
        if MOMENTUM:
            upper = parts.tile(momenta_a + at * KEYS * HIDDEN, keys, units, KEYS, HIDDEN, ACC)
            d_there += tiles.dot(d_r, tl.trans(upper), FACTOR, ACC)
    parts.put(d_scores + tokens * CHUNK, d_seen, place, place, CHUNK, CHUNK)
    parts.put_both(d_entering + tokens * width, q * d_here, y, place, keys, values, CHUNK, KEYS, VALUES, WIDE)
    d_q = d_here * parts.gate(entering + tokens * width, place, keys, CHUNK, KEYS, WIDE, ACC)
    if MOMENTUM:
        parts.put_both(d_passing + tokens * width, q * d_there, y_m, place, keys, values, CHUNK, KEYS, VALUES, WIDE)
        d_q += d_there * parts.gate(passing + tokens * width, place, keys, CHUNK, KEYS, WIDE, ACC)
    parts.put(d_query + tokens * KEYS, d_q, place, keys, CHUNK, KEYS)
