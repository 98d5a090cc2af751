"""What the Triton kernels of the MLP memory share: where things lie, GELU, and how a chunk's reads see its writes.

Tokens lie as ``(slots, rows, chunk, ...)``, a row being a stream's head; weights as ``(slots, rows, ...)``. Sizes need
be no powers of two: tiles are the next ones, and hold 0 beyond.
"""

import triton
import triton.language as tl

from recurra.kernels import tiles


@triton.jit
def tile(pointer, rows, columns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, ACC: tl.constexpr):
    """Load rows and columns of a matrix."""
    inside = (rows < HEIGHT)[:, None] & (columns < WIDTH)[None, :]
    return tl.load(pointer + rows[:, None] * WIDTH + columns[None, :], mask=inside, other=0.0).to(ACC)


@triton.jit
def put(pointer, x, rows, columns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """Store rows and columns of a matrix."""
    inside = (rows < HEIGHT)[:, None] & (columns < WIDTH)[None, :]
    tl.store(pointer + rows[:, None] * WIDTH + columns[None, :], x, mask=inside)


@triton.jit
def gate(pointer, rows, columns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr):
    """Load a gate of each token: of each channel, or one for all."""
    if WIDE:
        return tile(pointer, rows, columns, HEIGHT, WIDTH, ACC)
    else:
        return tl.load(pointer + rows, mask=rows < HEIGHT, other=0.0).to(ACC)[:, None]


@triton.jit
def put_gate(pointer, x, rows, columns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, WIDE: tl.constexpr):
    """Store the gradient of a gate, given channel by channel."""
    if WIDE:
        put(pointer, x, rows, columns, HEIGHT, WIDTH)
    else:
        tl.store(pointer + rows, tl.sum(x, 1), mask=rows < HEIGHT)


@triton.jit
def add(pointer, x, rows, columns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, ACC: tl.constexpr):
    """Add to rows and columns of a matrix that is the program's own."""
    put(pointer, tile(pointer, rows, columns, HEIGHT, WIDTH, ACC) + x, rows, columns, HEIGHT, WIDTH)


@triton.jit
def put_both(
    pointer, x_keys, x_values, rows, keys, values, HEIGHT: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """Store the gradient of a gate that acts on both layers."""
    if WIDE:  # keys are as wide as values then
        put(pointer, x_keys + x_values, rows, values, HEIGHT, VALUES)
    else:
        tl.store(pointer + rows, tl.sum(x_keys, 1) + tl.sum(x_values, 1), mask=rows < HEIGHT)


@triton.jit
def put_span(pointer, x_keys, x_values, keys, values, KEYS: tl.constexpr, VALUES: tl.constexpr, WIDE: tl.constexpr):
    """Store the gradient of a gate of the whole chunk that acts on both layers."""
    if WIDE:
        tl.store(pointer + values, x_keys + x_values, mask=values < VALUES)
    else:
        tl.store(pointer, tl.sum(x_keys) + tl.sum(x_values))


@triton.jit
def span(pointer, channels, WIDTH: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr):
    """Load a gate of the whole chunk: of each channel, or one for all."""
    if WIDE:
        return tl.load(pointer + channels, mask=channels < WIDTH, other=0.0).to(ACC)
    else:
        return tl.load(pointer + channels * 0).to(ACC)


@triton.jit
def normal(x):
    """Φ(x), the normal distribution: GELU(x) = x Φ(x)."""
    return 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def density(x):
    """Φ'(x)."""
    return 0.3989422804014327 * tl.exp(-0.5 * x * x)


@triton.jit
def gelu(hidden, units, HIDDEN: tl.constexpr, ACTIVE: tl.constexpr):
    """GELU of the hidden units; after the last there is a 1, where the second layer has a bias."""
    return tl.where(((units >= HIDDEN) & (units < ACTIVE))[None, :], 1.0, hidden * normal(hidden))


@triton.jit
def gelu_slope(hidden, units, HIDDEN: tl.constexpr):
    """GELU' of the hidden units, 0 after the last."""
    return tl.where((units < HIDDEN)[None, :], normal(hidden) + hidden * density(hidden), 0.0)


@triton.jit
def gelu_bend(hidden):
    """GELU''."""
    return density(hidden) * (2.0 - hidden * hidden)


@triton.jit
def across(scores, place, level):
    """Keep the scores of the late half of each span of 2^(level + 1) tokens for its early half."""
    late, early = (place >> level) & 1 == 1, (place >> level) & 1 == 0
    together = (place >> (level + 1))[:, None] == (place >> (level + 1))[None, :]
    return tl.where(together & late[:, None] & early[None, :], scores, 0.0)


@triton.jit
def own(x):
    """Take the diagonal of a square tile, as a column."""
    return tl.sum(diagonal(x), 1)[:, None]


@triton.jit
def diagonal(x):
    """Keep the diagonal of a square tile."""
    place = tl.arange(0, x.shape[0])
    return tl.where(place[:, None] == place[None, :], x, 0.0)


@triton.jit
def mix(
    scores, writes, matrix, bridges, momenta, at, channels, CHUNK: tl.constexpr, VALUES: tl.constexpr,
    LEVELS: tl.constexpr, MOMENTUM: tl.constexpr, FACTOR: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Σ_{j≤t} scores_tj G_tjc writes_jc, of the chunk ``at``: see `recurra.kernels.mlp_memory.decays`.

    Where channels have decays of their own (LEVELS above 0), G is of rank 2 between the halves of a span: its
    bridges hold, for the tokens of an early half, what of a write is left in the middle, and for those of a late one,
    what of the middle is left then.
    """
    place = tl.arange(0, CHUNK)
    if LEVELS == 0:
        between = tile(matrix + at * CHUNK * CHUNK, place, place, CHUNK, CHUNK, ACC)
        return tiles.dot(scores * between, writes, FACTOR, ACC)
    else:
        mixed = own(scores) * writes
        for level in range(LEVELS):
            seen, to = across(scores, place, level), (at * LEVELS + level) * CHUNK * VALUES
            bridge = tile(bridges + to, place, channels, CHUNK, VALUES, ACC)
            mixed += bridge * tiles.dot(seen, bridge * writes, FACTOR, ACC)
            if MOMENTUM:
                bridge = tile(momenta + to, place, channels, CHUNK, VALUES, ACC)
                mixed += bridge * tiles.dot(seen, bridge * writes, FACTOR, ACC)
        return mixed


@triton.jit
def _bridge_backward(d_mixed, seen, writes, bridges, d_bridges, to, place, channels, level, CHUNK: tl.constexpr,
                     VALUES: tl.constexpr, FACTOR: tl.constexpr, ACC: tl.constexpr):  # fmt: skip
    bridge = tile(bridges + to, place, channels, CHUNK, VALUES, ACC)
    back, left = bridge * d_mixed, bridge * writes
    forth = tiles.dot(tl.trans(seen), back, FACTOR, ACC)
    put(d_bridges + to, d_mixed * tiles.dot(seen, left, FACTOR, ACC) + writes * forth, place, channels, CHUNK, VALUES)
    return across(tiles.dot(back, tl.trans(left), FACTOR, ACC), place, level), bridge * forth


@triton.jit
def mix_backward(
    d_mixed, scores, writes, matrix, bridges, momenta, d_matrix, d_bridges, d_momenta, at, channels,
    CHUNK: tl.constexpr, VALUES: tl.constexpr, LEVELS: tl.constexpr, MOMENTUM: tl.constexpr, FACTOR: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Give the gradients of scores and writes, and store those of the decays."""
    place = tl.arange(0, CHUNK)
    if LEVELS == 0:
        to = at * CHUNK * CHUNK
        between = tile(matrix + to, place, place, CHUNK, CHUNK, ACC)
        product = tiles.dot(d_mixed, tl.trans(writes), FACTOR, ACC)
        put(d_matrix + to, product * scores, place, place, CHUNK, CHUNK)
        return product * between, tiles.dot(tl.trans(scores * between), d_mixed, FACTOR, ACC)
    else:
        d_writes = own(scores) * d_mixed
        row = tl.sum(d_mixed * writes, 1)[:, None]
        d_scores = diagonal(row + tl.zeros_like(scores))
        for level in range(LEVELS):
            seen, to = across(scores, place, level), (at * LEVELS + level) * CHUNK * VALUES
            more, added = _bridge_backward(
                d_mixed, seen, writes, bridges, d_bridges, to, place, channels, level, CHUNK, VALUES, FACTOR, ACC
            )
            d_scores += more
            d_writes += added
            if MOMENTUM:
                more, added = _bridge_backward(
                    d_mixed, seen, writes, momenta, d_momenta, to, place, channels, level, CHUNK, VALUES, FACTOR, ACC
                )
                d_scores += more
                d_writes += added
        return d_scores, d_writes


@triton.jit
def norm_of(gain, shift, row, channels, VALUES: tl.constexpr, NORM: tl.constexpr, ACC: tl.constexpr):
    """Load LayerNorm's gain and shift of a row."""
    if NORM:
        scale = tl.load(gain + row * VALUES + channels, mask=channels < VALUES, other=0.0).to(ACC)[None, :]
        move = tl.load(shift + row * VALUES + channels, mask=channels < VALUES, other=0.0).to(ACC)[None, :]
        return scale, move
    else:
        return 1.0, 0.0


@triton.jit
def wanted(
    key, value, threshold, at, place, channels, CHUNK: tl.constexpr, KEYS: tl.constexpr, VALUES: tl.constexpr,
    RESIDUAL: tl.constexpr, THRESHOLD: tl.constexpr, WIDE_THRESHOLD: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Load what the answers of the chunk ``at`` are held against: what is added to them, values, thresholds."""
    v = tile(value + at * CHUNK * VALUES, place, channels, CHUNK, VALUES, ACC)
    added, limit = v, v  # where there are none, they are not looked at
    if RESIDUAL:  # the key, without the 1 of a layer's bias
        added = tile(key + at * CHUNK * KEYS, place, channels, CHUNK, KEYS, ACC)
        added = tl.where((channels < VALUES)[None, :], added, 0.0)
    if THRESHOLD:
        if WIDE_THRESHOLD:
            limit = tile(threshold + at * CHUNK * VALUES, place, channels, CHUNK, VALUES, ACC)
        else:
            limit = gate(threshold + at * CHUNK, place, channels, CHUNK, 1, False, ACC) + tl.zeros_like(v)
    return added, v, limit
