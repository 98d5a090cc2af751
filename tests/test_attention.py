"""Attention within bounds is attention, and Titans' blocks are their equations."""

import math

import pytest
import torch
from torch.nn import functional

from recurra.errors import UserError
from recurra.memory import build, laws, stack
from recurra.memory.attention import MemoryAsContext, SlidingWindow, WithAttention
from recurra.memory.miras import DeltaNet

DIM, HEADS, HEAD, TIME = 8, 2, 4, 17


def exact(memory):
    torch.manual_seed(0)
    memory = memory.double()
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return memory


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-11)


def turned(x, place):
    """Rotary positions as complex numbers, x (heads, dim)."""
    half = HEAD // 2
    speed = torch.tensor([10_000 ** -(j / half) for j in range(half)], dtype=torch.float64)
    pairs = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(speed), place * speed)
    return torch.cat((pairs.real, pairs.imag), -1)


def split(memory, token):
    return memory.projection(token).view(3, HEADS, HEAD)


def attended(memory, q, place, keys, places, values):
    """Attention of q at its place over keys at theirs, and over what persists, of no place."""
    nothing = torch.zeros(2, HEADS, 0, HEAD, dtype=q.dtype)
    always, told = (nothing if memory.persistent is None else memory.persistent).transpose(1, 2)
    scores = [(turned(q, place) * turned(key, at)).sum(-1) for key, at in zip(keys, places, strict=True)]
    scores += [(q * key).sum(-1) for key in always]
    weights = (torch.stack(scores, -1) / math.sqrt(HEAD)).softmax(-1)
    return torch.einsum("hn,nhd->hd", weights, torch.stack([*values, *told])).flatten()


@pytest.mark.parametrize("persistent", [0, 3])
@torch.no_grad()
def test_a_window_is_attention_to_the_last_tokens_of_the_episode(persistent):
    memory = exact(SlidingWindow(DIM, heads=HEADS, window=5, persistent=persistent))
    x = torch.randn(2, TIME, DIM, dtype=torch.float64)
    first, present = torch.rand(2, TIME) < 0.2, torch.rand(2, TIME) < 0.8
    y, state = memory(x, first=first, present=present)
    for row in range(2):
        seen = []
        for t in range(TIME):
            seen = [] if first[row, t] else seen
            if not present[row, t]:
                assert not y[row, t].any()
                continue
            q, k, v = split(memory, x[row, t])
            seen.append((k, v))
            window = seen[-5:]
            places = range(len(seen) - len(window), len(seen))
            keys, values = zip(*window, strict=True)
            close(y[row, t], memory.output(attended(memory, q, len(seen) - 1, keys, places, values)))
        assert int(state.position[row]) == len(seen)


def norm(module, x):
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * module.weight


@torch.no_grad()
def test_mag_and_mal():
    """Behrouz et al. 2025 (arXiv 2501.00663), Equations 26 to 31."""
    x = torch.randn(2, TIME, DIM, dtype=torch.float64)
    gate = exact(WithAttention(DIM, heads=HEADS, window=5, memory={"chunk": 4}))
    near, far = gate.attention(x)[0], gate.memory(x)[0]
    expected = functional.silu(norm(gate.norms[0], near) * norm(gate.norms[1], far)) @ gate.output.weight.T
    close(gate(x)[0], expected)
    layer = exact(WithAttention(DIM, join="layer", heads=HEADS, window=5, memory={"chunk": 4}))
    close(layer(x)[0], layer.attention(norm(layer.norms[0], x + layer.memory(x)[0]))[0])
    assert gate.memory.rule.summary == "mlp, l2, scalar, momentum"


@torch.no_grad()
def test_mac():
    """Behrouz et al. 2025 (arXiv 2501.00663), Equations 21 to 25, token by token."""
    segment = 5
    memory = exact(MemoryAsContext(DIM, heads=HEADS, segment=segment, persistent=2))
    x = torch.randn(1, TIME, DIM, dtype=torch.float64)
    taught, outputs = memory.memory.initial_state(1), []
    for t in range(TIME):
        if t % segment == 0:
            opening, keys, values, places = taught.written, [], [], []
        asked = memory.question(x[0, t]).view(HEADS, 1, HEAD)
        asked = asked / asked.square().sum(-1, keepdim=True).sqrt()
        inside = functional.gelu(asked @ opening[0][0]) @ opening[1][0]
        scale, shift = (part.unsqueeze(1) for part in memory.memory.inner_norm)
        recalled = asked + functional.layer_norm(inside, (HEAD,), eps=1e-6) * scale + shift
        q, k, v = split(memory, x[0, t])
        _, k_recalled, v_recalled = split(memory, recalled.flatten())
        keys, values, places = [*keys, k, k_recalled], [*values, v, v_recalled], [*places, t, t]
        y = memory.attended(attended(memory, q, t, keys, places, values))
        far, taught = memory.memory.step(y.unsqueeze(0), taught)
        outputs.append(memory.output(functional.silu(norm(memory.norms[0], y) * norm(memory.norms[1], far[0]))))
    close(memory(x)[0][0], torch.stack(outputs))


@pytest.mark.parametrize("name", ["mamba2", "gated_delta_net", "yaad", "moneta"])
def test_a_hybrid_obeys_the_laws(name):
    torch.manual_seed(0)
    laws.check(build("samba", DIM, memory=name, heads=HEADS, window=5, expansion=2.0), cases=1, time=10)


@pytest.mark.parametrize("name", ["none", "gru", "lstm", "min_gru", "min_lstm", "attention", "rmt"])
def test_a_hybrid_is_of_any_memory_of_one_stream(name):
    memory = build("samba", 16, memory=name)
    x = torch.randn(2, 5, 16)
    y, state = memory(x)
    y_step, _ = memory.step(x[:, 0], state)
    assert (y.shape, y_step.shape) == (x.shape, x[:, 0].shape)


def test_a_stack_of_hybrids_is_blocks_of_memories_and_of_windows_by_turns():
    torch.manual_seed(0)
    network = exact(stack("samba", DIM, layers=2, expansion=2.0, memory="delta_net", heads=HEADS, window=5))
    x = torch.randn(1, 12, DIM, dtype=torch.float64)
    y, expected = network(x)[0], x
    for pair in network.layers:
        for block, kind in ((pair.memory, DeltaNet), (pair.attention, SlidingWindow)):
            assert isinstance(block.memory, kind)
            expected = expected + block.memory(block.memory_norm(expected))[0]
            expected = expected + block.mlp(block.mlp_norm(expected))
    close(y, network.norm(expected))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("window", {"heads": 3}, "heads that divide half its dim: 3 does not divide 8 / 2"),
        ("window", {"window": 1}, "a window holds at least 2 tokens"),
        ("titans_mag", {"join": "side"}, "join is gate or layer, got 'side'"),
        ("titans_mac", {"segment": 1}, "a segment is at least 2 tokens"),
        (
            "titans_mac",
            {"memory": {"architecture": "matrix", "bias": "dot", "algorithm": "gradient"}},
            "keeps no weights",
        ),
        ("titans_mac", {"memory": {"bias": "l4"}}, "there is no bias 'l4'"),
        ("samba", {"memory": "srmt"}, "samba reads one stream, and srmt is a team's memory"),
        ("samba", {"memory": "alone"}, "samba reads one stream, and alone is a team's memory"),
        ("samba", {"memory": "gru", "memory_options": {"heads": 2}}, "memory gru has no option 'heads'"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(name, options, message):
    with pytest.raises(UserError, match=message) as caught:
        build(name, DIM, **options)
    assert "\n" not in str(caught.value)
