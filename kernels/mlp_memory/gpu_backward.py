"""The MLP memory's backward kernel of the writes: chunk after chunk, the last first.

Letters are those of `gpu_forward`, a for GELU(h) and f for e U_bᵀ; x̄ is what comes back for x: V̄ and S̄ for the weights
and momentum, from all that later chunks make of them, Ū for the weights at the chunk's start. After the chunk:

    ḡ += (λ ⊙ k) V̄_a + (μ ⊙ k) S̄_a            λ ⊙ k hears g V̄_aᵀ, μ ⊙ k hears g S̄_aᵀ
    ā += (λ ⊙ e) V̄_bᵀ + (μ ⊙ e) S̄_bᵀ          λ ⊙ e hears a V̄_b,  μ ⊙ e hears a S̄_b

The gradient that the chunk has written, g = f ⊙ GELU'(h), and e, back to z (see `gpu_losses`) and the key:

    f̄ = ḡ ⊙ GELU'(h)      ē += f̄ U_b      z̄ from ē      h̄ = ḡ ⊙ f ⊙ GELU''(h) + (ā + z̄ U_bᵀ) ⊙ GELU'(h)
    Ū_a += kᵀ h̄           Ū_b += f̄ᵀ e + aᵀ z̄            k̄ += h̄ U_aᵀ

Before the chunk:

    V̄_a ← α V̄_a + (A ⊙ q)ᵀ r̄                  V̄_b ← α V̄_b + GELU(r)ᵀ (A ⊙ ȳ)
    S̄_a ← κ S̄_a + β V̄_a + (B ⊙ q)ᵀ r̄          S̄_b ← κ S̄_b + β V̄_b + GELU(r)ᵀ (B ⊙ ȳ)
    α hears V ⊙ V̄, β hears S ⊙ V̄, κ hears S ⊙ S̄

Ū joins V̄ where the chunk begins; where an episode begins, V̄ goes to the fresh weights and nothing further back.
"""

import triton
import triton.language as tl

from recurra.kernels import tiles
from recurra.kernels.mlp_memory import gpu_losses as losses
from recurra.kernels.mlp_memory import gpu_parts as parts


@triton.jit
def _heard(
    k, e, leaving, start_a, start_b, d_a, d_b, d_inner, d_active, place, keys, values, CHUNK: tl.constexpr,
    KEYS: tl.constexpr, HIDDEN: tl.constexpr, ACTIVE: tl.constexpr, VALUES: tl.constexpr, UNITS: tl.constexpr,
    WIDE: tl.constexpr, FACTOR: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Give what λ ⊙ k and λ ⊙ e hear of V̄, and add what g and GELU(h) hear to what they have heard; so with μ and S̄."""
    d_left_k, d_left_e = tl.zeros_like(k), tl.zeros_like(e)
    for base in range(0, ACTIVE, UNITS):
        units = base + tl.arange(0, UNITS)
        hidden = tiles.dot(k, parts.tile(start_a, keys, units, KEYS, HIDDEN, ACC), FACTOR, ACC)
        lower = parts.tile(start_b, units, values, ACTIVE, VALUES, ACC)
        g = tiles.dot(e, tl.trans(lower), FACTOR, ACC) * parts.gelu_slope(hidden, units, HIDDEN)
        a = parts.tile(d_a, keys, units, KEYS, HIDDEN, ACC)
        b = parts.tile(d_b, units, values, ACTIVE, VALUES, ACC)
        d_left_k += tiles.dot(g, tl.trans(a), FACTOR, ACC)
        d_left_e += tiles.dot(parts.gelu(hidden, units, HIDDEN, ACTIVE), b, FACTOR, ACC)
        left = k * parts.gate(leaving, place, keys, CHUNK, KEYS, WIDE, ACC)
        parts.add(d_inner, tiles.dot(left, a, FACTOR, ACC), place, units, CHUNK, HIDDEN, ACC)
        left = e * parts.gate(leaving, place, values, CHUNK, VALUES, WIDE, ACC)
        parts.add(d_active, tiles.dot(left, tl.trans(b), FACTOR, ACC), place, units, CHUNK, HIDDEN, ACC)
    tl.debug_barrier()
    return d_left_k, d_left_e


@triton.jit(do_not_specialize=["slots"])
def write_chunks_backward(
    key, value, threshold, leaving, fading, keep, carry, kept, gain, shift, states_a, states_b, momenta_a, momenta_b,
    starts, before, surprises, query, entering, passing, d_read, opens, resets, d_surprises, reads, d_reads, d_inner,
    d_active, d_key, d_value, d_threshold, d_leaving, d_fading, d_keep, d_carry, d_kept, d_gain, d_shift, d_fresh_a,
    d_fresh_b, d_start_a, d_start_b, d_weights_a, d_weights_b, d_momentum_a, d_momentum_b, slots,
    CHUNK: tl.constexpr, KEYS: tl.constexpr, HIDDEN: tl.constexpr, ACTIVE: tl.constexpr, VALUES: tl.constexpr,
    KEY_TILE: tl.constexpr, UNITS: tl.constexpr, VALUE_TILE: tl.constexpr, WIDE: tl.constexpr,
    WIDE_THRESHOLD: tl.constexpr, THRESHOLD: tl.constexpr, MOMENTUM: tl.constexpr, NORM: tl.constexpr,
    RESIDUAL: tl.constexpr, EPSILON: tl.constexpr, BIAS: tl.constexpr, POWER: tl.constexpr, FACTOR: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Go back through the writes, last chunk first.

    ``d_weights``, ``d_momentum`` and ``d_start`` hold V̄, S̄ and Ū after the last chunk, and in the end those before
    the first; ``d_fresh`` is added to. ``opens`` and ``resets`` say of a slot whether a chunk, or an episode, begins.
    """
    row, rows = tl.program_id(0).to(tl.int64), tl.num_programs(0).to(tl.int64)
    place, keys, values = tl.arange(0, CHUNK), tl.arange(0, KEY_TILE), tl.arange(0, VALUE_TILE)
    inside, width = (values < VALUES)[None, :], KEYS if WIDE else 1
    scale, move = parts.norm_of(gain, shift, row, values, VALUES, NORM, ACC)
    at_a, at_b = row * KEYS * HIDDEN, row * ACTIVE * VALUES
    for index in range(slots):
        at = (slots - 1 - index) * rows + row
        tokens = at * CHUNK
        start = tl.load(starts + at) * rows + row
        start_a, start_b = states_a + start * KEYS * HIDDEN, states_b + start * ACTIVE * VALUES
        k = parts.tile(key + tokens * KEYS, place, keys, CHUNK, KEYS, ACC)
        e = parts.tile(surprises + tokens * VALUES, place, values, CHUNK, VALUES, ACC)
        # V̄ and S̄, after the chunk.
        d_left_k, d_left_e = _heard(
            k, e, leaving + tokens * width, start_a, start_b, d_weights_a + at_a, d_weights_b + at_b,
            d_inner + tokens * HIDDEN, d_active + tokens * HIDDEN, place, keys, values, CHUNK, KEYS, HIDDEN, ACTIVE,
            VALUES, UNITS, WIDE, FACTOR, ACC,
        )  # fmt: skip
        parts.put_both(
            d_leaving + tokens * width, k * d_left_k, e * d_left_e, place, keys, values, CHUNK, KEYS, VALUES, WIDE
        )
        d_k = d_left_k * parts.gate(leaving + tokens * width, place, keys, CHUNK, KEYS, WIDE, ACC)
        d_e = d_left_e * parts.gate(leaving + tokens * width, place, values, CHUNK, VALUES, WIDE, ACC)
        d_e += parts.tile(d_surprises + tokens * VALUES, place, values, CHUNK, VALUES, ACC)
        if MOMENTUM:
            d_left_k, d_left_e = _heard(
                k, e, fading + tokens * width, start_a, start_b, d_momentum_a + at_a, d_momentum_b + at_b,
                d_inner + tokens * HIDDEN, d_active + tokens * HIDDEN, place, keys, values, CHUNK, KEYS, HIDDEN,
                ACTIVE, VALUES, UNITS, WIDE, FACTOR, ACC,
            )  # fmt: skip
            parts.put_both(
                d_fading + tokens * width, k * d_left_k, e * d_left_e, place, keys, values, CHUNK, KEYS, VALUES, WIDE
            )
            d_k += d_left_k * parts.gate(fading + tokens * width, place, keys, CHUNK, KEYS, WIDE, ACC)
            d_e += d_left_e * parts.gate(fading + tokens * width, place, values, CHUNK, VALUES, WIDE, ACC)

        # g, by its hidden units; h̄ takes the place of ḡ.
        for base in range(0, ACTIVE, UNITS):
            units = base + tl.arange(0, UNITS)
            hidden = tiles.dot(k, parts.tile(start_a, keys, units, KEYS, HIDDEN, ACC), FACTOR, ACC)
            lower = parts.tile(start_b, units, values, ACTIVE, VALUES, ACC)
            d_g = parts.tile(d_inner + tokens * HIDDEN, place, units, CHUNK, HIDDEN, ACC)
            heard = parts.tile(d_active + tokens * HIDDEN, place, units, CHUNK, HIDDEN, ACC)
            rise = parts.gelu_slope(hidden, units, HIDDEN)
            d_hidden = d_g * tiles.dot(e, tl.trans(lower), FACTOR, ACC) * parts.gelu_bend(hidden) + heard * rise
            d_f = d_g * rise
            d_e += tiles.dot(d_f, lower, FACTOR, ACC)
            parts.put(d_inner + tokens * HIDDEN, d_hidden, place, units, CHUNK, HIDDEN)
            d_lower = tiles.dot(tl.trans(d_f), e, FACTOR, ACC)
            parts.add(d_start_b + at_b, d_lower, units, values, ACTIVE, VALUES, ACC)
        tl.debug_barrier()

        # e, back to z.
        z = parts.tile(before + tokens * VALUES, place, values, CHUNK, VALUES, ACC)
        added, v, limit = parts.wanted(
            key, value, threshold, at, place, values, CHUNK, KEYS, VALUES, RESIDUAL, THRESHOLD, WIDE_THRESHOLD, ACC
        )
        d_z, d_added, d_v, d_limit, d_scale = losses.surprise_backward(
            d_e, z, added, v, limit, scale, move, inside, VALUES, NORM, RESIDUAL, EPSILON, BIAS, POWER
        )
        parts.put(d_value + tokens * VALUES, d_v, place, values, CHUNK, VALUES)
        if THRESHOLD:
            across = VALUES if WIDE_THRESHOLD else 1
            parts.put_gate(d_threshold + tokens * across, d_limit, place, values, CHUNK, VALUES, WIDE_THRESHOLD)
        if NORM:
            tl.store(d_gain + at * VALUES + values, tl.sum(d_scale, 0), mask=values < VALUES)
            tl.store(d_shift + at * VALUES + values, tl.sum(d_added, 0), mask=values < VALUES)
        for base in range(0, ACTIVE, UNITS):
            units = base + tl.arange(0, UNITS)
            upper = parts.tile(start_a, keys, units, KEYS, HIDDEN, ACC)
            hidden = tiles.dot(k, upper, FACTOR, ACC)
            lower = parts.tile(start_b, units, values, ACTIVE, VALUES, ACC)
            d_hidden = parts.tile(d_inner + tokens * HIDDEN, place, units, CHUNK, HIDDEN, ACC)
            d_hidden += tiles.dot(d_z, tl.trans(lower), FACTOR, ACC) * parts.gelu_slope(hidden, units, HIDDEN)
            d_k += tiles.dot(d_hidden, tl.trans(upper), FACTOR, ACC)
            d_upper = tiles.dot(tl.trans(k), d_hidden, FACTOR, ACC)
            parts.add(d_start_a + at_a, d_upper, keys, units, KEYS, HIDDEN, ACC)
            d_lower = tiles.dot(tl.trans(parts.gelu(hidden, units, HIDDEN, ACTIVE)), d_z, FACTOR, ACC)
            parts.add(d_start_b + at_b, d_lower, units, values, ACTIVE, VALUES, ACC)
        parts.put(d_key + tokens * KEYS, d_k, place, keys, CHUNK, KEYS)
        if RESIDUAL:
            tl.debug_barrier()
            parts.add(d_key + tokens * KEYS, tl.where(inside, d_added, 0.0), place, values, CHUNK, KEYS, ACC)
        tl.debug_barrier()

        # V̄ and S̄, before the chunk.
        opened, fresh = tl.load(opens + at) != 0, tl.load(resets + at) != 0
        q = parts.tile(query + tokens * KEYS, place, keys, CHUNK, KEYS, ACC)
        d_y = parts.tile(d_read + tokens * VALUES, place, values, CHUNK, VALUES, ACC)
        keep_k = parts.span(keep + at * width, keys, KEYS, WIDE, ACC)[:, None]
        keep_v = parts.span(keep + at * width, values, VALUES, WIDE, ACC)[None, :]
        kept_k, kept_v = tl.zeros([KEY_TILE], dtype=ACC), tl.zeros([VALUE_TILE], dtype=ACC)
        if MOMENTUM:
            carry_k = parts.span(carry + at * width, keys, KEYS, WIDE, ACC)[:, None]
            carry_v = parts.span(carry + at * width, values, VALUES, WIDE, ACC)[None, :]
            stays = tl.load(kept + at).to(ACC)
            moved_k, moved_v = tl.zeros([KEY_TILE], dtype=ACC), tl.zeros([VALUE_TILE], dtype=ACC)
            stayed = tl.zeros([KEY_TILE], dtype=ACC)
        for base in range(0, ACTIVE, UNITS):
            units = base + tl.arange(0, UNITS)
            d_r = parts.tile(d_reads + tokens * HIDDEN, place, units, CHUNK, HIDDEN, ACC)
            r = parts.tile(reads + tokens * HIDDEN, place, units, CHUNK, HIDDEN, ACC)
            asked = tl.trans(parts.gelu(r, units, HIDDEN, ACTIVE))
            d_a = parts.tile(d_weights_a + at_a, keys, units, KEYS, HIDDEN, ACC)
            d_b = parts.tile(d_weights_b + at_b, units, values, ACTIVE, VALUES, ACC)
            here = q * parts.gate(entering + tokens * width, place, keys, CHUNK, KEYS, WIDE, ACC)
            before_a = keep_k * d_a + tiles.dot(tl.trans(here), d_r, FACTOR, ACC)
            here = d_y * parts.gate(entering + tokens * width, place, values, CHUNK, VALUES, WIDE, ACC)
            before_b = keep_v * d_b + tiles.dot(asked, here, FACTOR, ACC)
            now = parts.tile(states_a + (at + rows) * KEYS * HIDDEN, keys, units, KEYS, HIDDEN, ACC)
            kept_k += tl.sum(now * d_a, 1)
            now = parts.tile(states_b + (at + rows) * ACTIVE * VALUES, units, values, ACTIVE, VALUES, ACC)
            kept_v += tl.sum(now * d_b, 0)
            if MOMENTUM:
                d_step = parts.tile(d_momentum_a + at_a, keys, units, KEYS, HIDDEN, ACC)
                now = parts.tile(momenta_a + at * KEYS * HIDDEN, keys, units, KEYS, HIDDEN, ACC)
                moved_k += tl.sum(now * d_a, 1)
                stayed += tl.sum(now * d_step, 1)
                there = q * parts.gate(passing + tokens * width, place, keys, CHUNK, KEYS, WIDE, ACC)
                d_step = stays * d_step + carry_k * d_a + tiles.dot(tl.trans(there), d_r, FACTOR, ACC)
                d_step = tl.where(fresh, 0.0, d_step)
                parts.put(d_momentum_a + at_a, d_step, keys, units, KEYS, HIDDEN)
                d_step = parts.tile(d_momentum_b + at_b, units, values, ACTIVE, VALUES, ACC)
                now = parts.tile(momenta_b + at * ACTIVE * VALUES, units, values, ACTIVE, VALUES, ACC)
                moved_v += tl.sum(now * d_b, 0)
                stayed += tl.sum(now * d_step) / KEY_TILE
                there = d_y * parts.gate(passing + tokens * width, place, values, CHUNK, VALUES, WIDE, ACC)
                d_step = stays * d_step + carry_v * d_b + tiles.dot(asked, there, FACTOR, ACC)
                d_step = tl.where(fresh, 0.0, d_step)
                parts.put(d_momentum_b + at_b, d_step, units, values, ACTIVE, VALUES)
            from_a = parts.tile(d_start_a + at_a, keys, units, KEYS, HIDDEN, ACC)
            from_b = parts.tile(d_start_b + at_b, units, values, ACTIVE, VALUES, ACC)
            before_a += tl.where(opened, from_a, 0.0)
            before_b += tl.where(opened, from_b, 0.0)
            # What is stored hangs on what was loaded, so that no thread can be ahead of another.
            parts.put(d_start_a + at_a, tl.where(opened, 0.0, from_a), keys, units, KEYS, HIDDEN)
            parts.put(d_start_b + at_b, tl.where(opened, 0.0, from_b), units, values, ACTIVE, VALUES)
            if fresh:
                parts.add(d_fresh_a + at_a, before_a, keys, units, KEYS, HIDDEN, ACC)
                parts.add(d_fresh_b + at_b, before_b, units, values, ACTIVE, VALUES, ACC)
                before_a, before_b = tl.zeros_like(before_a), tl.zeros_like(before_b)
            parts.put(d_weights_a + at_a, before_a, keys, units, KEYS, HIDDEN)
            parts.put(d_weights_b + at_b, before_b, units, values, ACTIVE, VALUES)
        parts.put_span(d_keep + at * width, kept_k, kept_v, keys, values, KEYS, VALUES, WIDE)
        if MOMENTUM:
            parts.put_span(d_carry + at * width, moved_k, moved_v, keys, values, KEYS, VALUES, WIDE)
            tl.store(d_kept + at, tl.sum(stayed))
        tl.debug_barrier()  # what the chunk before reads, other threads of the program have stored
