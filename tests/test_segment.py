"""Segment memories obey the laws, and are what their papers say, segment by segment and token by token."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from recurra.errors import UserError
from recurra.memory import Network, build, laws, stack
from recurra.memory.segment import ARMT, ELMUR, RMT, TransformerXL
from recurra.memory.segment.association import dpfp
from recurra.memory.segment.valves import VALVES

DIM, HEADS, HEAD, TIME = 8, 2, 4, 23
MEMORIES = {
    "rmt": lambda: RMT(DIM, segment=4, slots=2, heads=HEADS),
    "rmt, segments of 1": lambda: RMT(DIM, segment=1, slots=1, heads=HEADS, layers=1),
    "rmt, fewer keys": lambda: RMT(DIM, segment=5, slots=3, heads=HEADS, kv_heads=1, expansion=0, replay=True),
    **{
        f"rate, {valve}": lambda valve=valve: build("rate", DIM, segment=4, slots=2, heads=HEADS, valve=valve)
        for valve in VALVES
    },
    "rate, shorter cache": lambda: build("rate", DIM, segment=5, slots=2, heads=HEADS, cache=3, replay=True),
    "rate, longer cache": lambda: build("rate", DIM, segment=4, slots=2, heads=HEADS, kv_heads=1, cache=9),
    "elmur": lambda: ELMUR(DIM, segment=4, slots=3, heads=HEADS),
    "elmur, blended": lambda: ELMUR(DIM, segment=3, slots=2, heads=HEADS, blend=0.3, reach=5, replay=True),
    "armt": lambda: ARMT(DIM, segment=4, slots=2, heads=HEADS),
    "armt, fewer keys": lambda: ARMT(DIM, segment=3, slots=1, heads=HEADS, kv_heads=1, layers=3, replay=True),
    "armt, by diagonals": lambda: ARMT(DIM, segment=4, slots=2, heads=HEADS, kv_heads=1, layers=3, diagonal=True),
    "transformer_xl": lambda: TransformerXL(DIM, segment=4, heads=HEADS),
    "transformer_xl, longer cache": lambda: TransformerXL(DIM, segment=3, cache=5, heads=HEADS, kv_heads=1),
    "transformer_xl, shorter cache": lambda: TransformerXL(DIM, segment=5, cache=2, heads=HEADS, replay=True),
}


def make(name):
    torch.manual_seed(0)
    return MEMORIES[name]()


def exact(memory):
    """Give it in float64, every parameter away from where it starts."""
    memory = memory.double()
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return memory


def draw(batch=3, time=TIME, seed=1):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, time, DIM, generator=random, dtype=torch.float64)
    first = torch.rand(batch, time, generator=random) < 0.08
    present = torch.rand(batch, time, generator=random) < 0.8
    return x, first, present


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)


# The laws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MEMORIES)
def test_it_obeys_the_laws(name):
    laws.check(make(name), cases=1 if "," in name else 2, time=16)


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(list(MEMORIES)), st.sampled_from(list(laws.LAWS)), st.integers(0, 10**9))
def test_it_obeys_whatever_the_case(name, law, seed):
    laws.check(make(name), laws=[law], cases=1, seed=seed, time=20)


@pytest.mark.parametrize("name", ["rmt", "rate", "elmur", "armt", "transformer_xl"])
def test_a_stack_of_it_is_one_of_as_many_layers(name):
    network = stack(name, DIM, layers=3, expansion=2.0, segment=4, heads=HEADS)
    assert isinstance(network, Network)
    assert [(len((layer if name == "elmur" else layer.backbone).stack), layer.segment) for layer in network.layers] == [
        (3, 4)
    ]
    laws.check(network, cases=1, time=12, laws=["split", "first", "present"])


@pytest.mark.parametrize("name", [name for name in MEMORIES if "diagonals" not in name])
def test_streams_at_different_places_in_their_segments_are_read_together(name, monkeypatch):
    """A part of a segment is one pass whatever places the streams stand at, and a step is one of a single token."""
    memory = make(name)
    widths = []
    read = memory._read
    monkeypatch.setattr(memory, "_read", lambda part, *rest: widths.append(part.x.shape[1]) or read(part, *rest))
    x = torch.randn(3, TIME, DIM)
    _, state = memory(x, present=torch.arange(TIME) >= torch.arange(3).unsqueeze(1))
    assert state.position.tolist() == [TIME, TIME - 1, TIME - 2]
    widths.clear()
    memory.step(x[:, 0], state)
    assert widths == [1]
    widths.clear()
    memory(x, state)
    assert len(widths) <= TIME // memory.segment + 2


# What they compute ----------------------------------------------------------------------------------------------------


def norm(x, weight):
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def turned(x, place):
    """Rotary positions as complex numbers, x (heads, head)."""
    half = HEAD // 2
    speed = torch.tensor([10_000 ** -(j / half) for j in range(half)], dtype=torch.float64)
    pairs = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(speed), place * speed)
    return torch.cat((pairs.real, pairs.imag), -1)


def asked(layer, token):
    """Queries, keys and values of one token, keys as many as queries."""
    token = norm(token, layer.norm.weight)
    q = (layer.query.weight @ token).view(HEADS, HEAD)
    k, v = (layer.key_value.weight @ token).view(2, -1, HEAD)
    return q, *(part.repeat_interleave(HEADS // len(part), 0) for part in (k, v))


def answered(layer, token, scores, values):
    """The rest of the layer, from scores (heads, tokens) and values [(heads, head)]."""
    found = torch.einsum("hn,nhd->hd", scores.softmax(-1), torch.stack(values)).flatten()
    token = token + layer.output.weight @ found
    if layer.mlp is None:
        return token
    gate, value = (layer.mlp.rise.weight @ norm(token, layer.mlp_norm.weight)).chunk(2)
    return token + layer.mlp.fall.weight @ (functional.silu(gate) * value)


def rotary_layer(layer, tokens, sees=lambda place: place + 1):
    """One layer over a sequence, token by token, each of which sees the first ``sees(place)``."""
    outputs = []
    queries, keys, values = zip(*(asked(layer, token) for token in tokens), strict=True)
    keys = [turned(k, place) for place, k in enumerate(keys)]
    for place, (token, q) in enumerate(zip(tokens, queries, strict=True)):
        end = sees(place)
        scores = torch.stack([(turned(q, place) * key).sum(-1) for key in keys[:end]], -1) / math.sqrt(HEAD)
        outputs.append(answered(layer, token, scores, values[:end]))
    return torch.stack(outputs)


def by_hand(memory, x, first, present, read):
    """Cut each stream into its episodes' segments; ``read(tokens, state) -> (outputs, state)`` reads one from the
    start, and is asked again for an unfinished one, whose state is not handed on."""
    y = torch.zeros_like(x)
    for row in range(len(x)):
        state, places = None, []
        for t in range(x.shape[1]):
            if first[row, t]:
                state, places = None, []
            if not present[row, t]:
                continue
            places.append(t)
            outputs, after = read(x[row, places], state)
            y[row, t] = outputs[-1]
            if len(places) == memory.segment:
                y[row, places] = outputs
                state, places = after, []
    return y


@pytest.mark.parametrize("name", [name for name in MEMORIES if name.startswith("rmt")])
@torch.no_grad()
def test_rmt(name):
    """Bulatov et al. 2022 (arXiv 2207.06881): [M; X; M] through the transformer, the last outputs are the new M."""
    memory = exact(make(name))

    def read(tokens, state):
        slots = memory.initial if state is None else state
        x = torch.cat((slots, tokens, slots))
        if len(tokens) < memory.segment:
            x = x[: memory.slots + len(tokens)]
        for layer in memory.backbone.stack:
            x = rotary_layer(layer, x)
        x = norm(x, memory.backbone.norm.weight)
        return x[memory.slots : memory.slots + len(tokens)], x[-memory.slots :]

    x, first, present = draw()
    close(memory(x, first=first, present=present)[0], by_hand(memory, x, first, present, read))


def heads_of(x):
    return x.view(HEADS, HEAD)


def cross(valve, asking, asked):
    """Attention of tokens over others, head by head."""
    outputs = []
    for token in asking:
        q = heads_of(valve.query.weight @ token)
        k, v = zip(
            *((heads_of(part) for part in (valve.key_value.weight @ other).chunk(2)) for other in asked), strict=True
        )
        scores = torch.stack([(q * key).sum(-1) for key in k], -1) / math.sqrt(HEAD)
        outputs.append(valve.output.weight @ torch.einsum("hn,nhd->hd", scores.softmax(-1), torch.stack(v)).flatten())
    return torch.stack(outputs)


def kept_by(name, valve, old, new):
    """What each valve keeps, memory token by memory token; an LSTM's cells lie behind its hidden states."""
    if name == "none":
        return new
    if name == "ca2":
        return cross(valve, old, new.relu())
    if name == "ca1":
        return cross(valve, new.relu(), old)
    if name == "gate":
        w_r, w_z, w_g = valve.of_written.weight.chunk(3)
        u_r, u_z = valve.of_kept.weight.chunk(2)
        r = torch.sigmoid(new @ w_r.T + old @ u_r.T)
        z = torch.sigmoid(new @ w_z.T + old @ u_z.T - valve.bias)
        return (1 - z) * old + z * torch.tanh(new @ w_g.T + (r * old) @ valve.of_reset.weight.T)
    of_new = new @ valve.cell.weight_ih.T + valve.cell.bias_ih
    hidden = old[:, :DIM]
    of_old = hidden @ valve.cell.weight_hh.T + valve.cell.bias_hh
    if name == "gru":
        (r, z, n), (r_old, z_old, n_old) = of_new.chunk(3, 1), of_old.chunk(3, 1)
        z = torch.sigmoid(z + z_old)
        return (1 - z) * torch.tanh(n + torch.sigmoid(r + r_old) * n_old) + z * hidden
    i, f, g, o = (of_new + of_old).chunk(4, 1)
    cell = torch.sigmoid(f) * old[:, DIM:] + torch.sigmoid(i) * torch.tanh(g)
    return torch.cat((torch.sigmoid(o) * torch.tanh(cell), cell), 1)


@pytest.mark.parametrize("name", VALVES)
@torch.no_grad()
def test_rate(name):
    """Cherepanov et al. 2023 (arXiv 2306.09459): what M is read, X, what is written; a valve between the two."""
    memory = exact(make(f"rate, {name}"))
    slots, segment = memory.slots, memory.segment

    def sees(place):
        return slots if place < slots else place + 1 if place < slots + segment else 2 * slots + segment

    def read(tokens, state):
        old = functional.pad(memory.initial, (0, DIM * (name == "lstm"))) if state is None else state
        x = torch.cat((old[:, :DIM], tokens, old[:, :DIM]))
        if len(tokens) < segment:
            x = x[: slots + len(tokens)]
        for layer in memory.backbone.stack:
            x = rotary_layer(layer, x, sees)
        x = norm(x, memory.backbone.norm.weight)
        return x[slots : slots + len(tokens)], kept_by(name, memory.valve, old, x[-slots:])

    x, first, present = draw()
    close(memory(x, first=first, present=present)[0], by_hand(memory, x, first, present, read))


@pytest.mark.parametrize("name", ["rate, shorter cache", "rate, longer cache"])
@torch.no_grad()
def test_a_cache_is_the_tokens_before_the_segment(name):
    """Dai et al. 2019 (arXiv 1901.02860) in RATE: what each layer reads of the last tokens, at their places in time."""
    memory = exact(make(name))
    slots, segment = memory.slots, memory.segment

    def read(tokens, state):
        old, number, caches = state or (memory.initial, 0, [[] for _ in memory.backbone.stack])
        x = torch.cat((old, tokens, old))
        x = x if len(tokens) == segment else x[: slots + len(tokens)]
        after = []
        for layer, cache in zip(memory.backbone.stack, caches, strict=True):
            pairs, outputs = [], []
            for place, token in enumerate(x):
                _, k, v = asked(layer, token)
                pairs.append((turned(k, number * segment + place), v))
            for place, token in enumerate(x):
                end = slots if place < slots else place + 1 if place < slots + segment else 2 * slots + segment
                q = turned(asked(layer, token)[0], number * segment + place)
                seen = cache + pairs[:end]
                scores = torch.stack([(q * key).sum(-1) for key, _ in seen], -1) / math.sqrt(HEAD)
                outputs.append(answered(layer, token, scores, [value for _, value in seen]))
            x = torch.stack(outputs)
            after.append((cache + pairs[slots : slots + segment])[-memory.cache :])
        x = norm(x, memory.backbone.norm.weight)
        return x[slots : slots + len(tokens)], (kept_by("ca2", memory.valve, old, x[-slots:]), number + 1, after)

    x, first, present = draw()
    close(memory(x, first=first, present=present)[0], by_hand(memory, x, first, present, read))


def test_a_valve_learns_from_what_is_read_after_it_unless_memory_is_detached_between_segments():
    x = torch.randn(2, 12, DIM)
    for horizon, learns in ((None, True), (0, False)):
        memory = build("rate", DIM, segment=4, slots=2, heads=HEADS, horizon=horizon)
        memory(x)[0][:, -1].sum().backward()
        gradients = [parameter.grad for parameter in memory.valve.parameters()]
        assert all(slope is not None and bool(slope.any()) == learns for slope in gradients) or not (
            learns or any(slope is not None for slope in gradients)
        )


@pytest.mark.parametrize("name", ["elmur", "elmur, blended"])
@torch.no_grad()
def test_elmur(name):
    """Cherepanov et al. 2025 (arXiv 2510.07151), token by token: a slot a segment, the one written longest ago."""
    memory = exact(make(name))
    count, segment = memory.slots, memory.segment

    def crossed(module, asking, others, distances):
        """``distances[i][j]``: of the asking i from the other j; None where a slot was never written."""
        outputs = []
        for token, far in zip(asking, distances, strict=True):
            q = heads_of(module.query.weight @ norm(token, module.norm.weight))
            scores, values = [], []
            for other, distance in zip(others, far, strict=True):
                k, v = (module.key_value.weight @ norm(other, module.asked_norm.weight)).chunk(2)
                bias = module.bias[0 if distance is None else min(distance, memory.reach)]
                scores.append((q * heads_of(k)).sum(-1) / math.sqrt(HEAD) + bias)
                values.append(heads_of(v))
            found = torch.einsum("hn,nhd->hd", torch.stack(scores, -1).softmax(-1), torch.stack(values)).flatten()
            token = token + module.output.weight @ found
            gate, value = (module.mlp.rise.weight @ norm(token, module.mlp_norm.weight)).chunk(2)
            outputs.append(token + module.mlp.fall.weight @ (functional.silu(gate) * value))
        return torch.stack(outputs)

    def read(tokens, state):
        """The state: how many segments there were, and of each layer the slots and where they were written."""
        number, layers = state or (0, [(layer.initial, [None] * count) for layer in memory.stack])
        x, after = tokens, []
        for layer, (slots, anchors) in zip(memory.stack, layers, strict=True):
            begin = number * segment
            far = [[None if a is None else begin + t - a for a in anchors] for t in range(len(x))]
            x = crossed(layer.reading, rotary_layer(layer.attention, x), slots, far)
            told = crossed(layer.writing, slots, x, list(zip(*far, strict=True)))
            never = None in anchors
            i = anchors.index(None) if never else anchors.index(min(anchors))
            slots, anchors = slots.clone(), list(anchors)
            slots[i] = told[i] if never else memory.blend * told[i] + (1 - memory.blend) * slots[i]
            anchors[i] = begin + segment - 1
            after.append((slots, anchors))
        return norm(x, memory.norm.weight), (number + 1, after)

    x, first, present = draw()
    close(memory(x, first=first, present=present)[0], by_hand(memory, x, first, present, read))


def test_dpfp():
    """Schlag et al. 2021 (arXiv 2102.11174), Equation 37, product by product."""
    x = torch.randn(5)
    r = [max(float(a), 0.0) for a in torch.cat((x, -x))]
    expected = [r[i] * r[(i - turns) % 10] for turns in (1, 2, 3) for i in range(10)]
    torch.testing.assert_close(dpfp(x, 3), torch.tensor(expected))
    assert ARMT(16, key_dim=64).associations[0].features == 384


@pytest.mark.parametrize("name", [name for name in MEMORIES if name.startswith("armt")])
@torch.no_grad()
def test_armt(name):
    """Rodkin et al. 2024 (arXiv 2407.04841), one token and one memory token after another."""
    memory = exact(make(name))

    def read(tokens, state):
        state = [None] * memory.backbone.layers if state is None else state
        closing = len(tokens) == memory.segment
        x = torch.cat((tokens, memory.tokens)) if closing else tokens
        after = []
        for layer, module, told in zip(memory.backbone.stack, memory.associations, state, strict=True):
            if told is not None:  # from the second segment on
                matrix, z = told
                rows = []
                for token in x:
                    query = dpfp(module.query.weight @ token, 3)
                    known = z @ query
                    rows.append(token + (matrix @ query / (known + 1e-5) if known > 1e-5 else 0.0))
                x = torch.stack(rows)
            x = rotary_layer(layer, x)
            if closing:
                after.append(written(module, x[-memory.slots :], told))
        return norm(x, memory.backbone.norm.weight)[: len(tokens)], after

    x, first, present = draw()
    close(memory(x, first=first, present=present)[0], by_hand(memory, x, first, present, read))


def written(module, tokens, told):
    """Section 2.1: A, of shape (dim, key_dim), and z after a segment's memory tokens."""
    if told is None:
        told = torch.zeros(DIM, module.features).double(), torch.zeros(module.features).double()
    matrix, z = told
    new_matrix, new_z = matrix.clone(), z.clone()
    for token in tokens:
        k, v = dpfp(module.key.weight @ token, 3), module.value.weight @ token
        beta = torch.sigmoid(module.strength.weight @ token)
        known = z @ k
        answer = matrix @ k / (known + 1e-5) if known > 1e-5 else 0.0
        new_matrix += beta * torch.outer(v - answer, k)
        if k.any():
            new_z += (1 - known / (k @ k)).clamp(0, 1) * k
    return new_matrix, new_z


@pytest.mark.parametrize("name", [name for name in MEMORIES if name.startswith("transformer_xl")])
@torch.no_grad()
def test_transformer_xl(name):
    """Dai et al. 2019 (arXiv 1901.02860), Section 3.3, one pair of tokens after another."""
    memory = exact(make(name))

    def wave(distance):
        angle = [distance * 10_000 ** -(j / DIM) for j in range(0, DIM, 2)]
        return torch.tensor([*map(math.sin, angle), *map(math.cos, angle)], dtype=torch.float64)

    def read(tokens, state):
        state = [tokens[:0]] * memory.backbone.layers if state is None else state
        x, after = tokens, []
        for layer, relative, cached in zip(memory.backbone.stack, memory.relatives, state, strict=True):
            u, v_bias = (bias.view(HEADS, HEAD) for bias in (relative.content_bias, relative.distance_bias))
            inputs = torch.cat((cached, x))
            after.append(inputs[-memory.cache :])
            pairs = [asked(layer, token)[1:] for token in inputs]
            outputs = []
            for i in range(len(cached), len(inputs)):
                q = asked(layer, inputs[i])[0]
                scores = []
                for j in range(i + 1):
                    r = (relative.position.weight @ wave(i - j)).view(-1, HEAD)
                    r = r.repeat_interleave(HEADS // len(r), 0)
                    scores.append(((q + u) * pairs[j][0]).sum(-1) + ((q + v_bias) * r).sum(-1))
                scores = torch.stack(scores, -1) / math.sqrt(HEAD)
                outputs.append(answered(layer, inputs[i], scores, [v for _, v in pairs[: i + 1]]))
            x = torch.stack(outputs)
        return norm(x, memory.backbone.norm.weight), after

    x, first, present = draw()
    close(memory(x, first=first, present=present)[0], by_hand(memory, x, first, present, read))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rmt", {"heads": 3}, "heads that divide half its dim: 3 does not divide 8 / 2"),
        ("rmt", {"heads": 2, "kv_heads": 3}, "kv_heads must divide heads: 3 does not divide 2"),
        ("rate", {"valve": "ca3"}, "there is no valve 'ca3'; did you mean"),
        ("rate", {"valve_heads": 3}, "a valve's heads must divide its dim: 3 does not divide 8"),
        ("rate", {"cache": -1}, "a cache is of 0 tokens or more, and of our own backbone, got -1"),
        ("elmur", {"blend": 2.0}, "blend must lie in 0..1, got 2.0"),
        ("armt", {"slots": 0}, "at least 1 token and 1 memory slot, got 64 and 0"),
        ("armt", {"key_dim": 0}, "key_dim and order of at least 1, got 0 and 3"),
        ("armt", {"layers": 0}, "at least one layer, got 0"),
        ("transformer_xl", {"cache": 0}, "at least 1 token, got 64 and 0"),
        ("transformer_xl", {"horizon": -1}, "a horizon is a number of segments"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(name, options, message):
    with pytest.raises(UserError, match=message) as caught:
        build(name, DIM, **options)
    assert "\n" not in str(caught.value)
