"""Each memory against its paper's formula, written token by token in plain loops, in float64."""

import math

import pytest
import torch
from torch.nn import functional

from recurra.memory import build

BATCH, TIME, DIM, HEADS = 2, 37, 8, 2


def case(name, **options):
    """Give a memory with random parameters, inputs, and what it makes of them."""
    torch.manual_seed(0)
    memory = build(name, DIM, **options).double()
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    x = torch.randn(BATCH, TIME, DIM, dtype=torch.float64)
    with torch.no_grad():
        y, state = memory(x)
    return memory, x, y, state


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def clamped(logits):
    return (1.2 * torch.sigmoid(logits) - 0.1).clamp(0, 1)


@pytest.mark.parametrize("closing", [False, True])
@pytest.mark.parametrize("positive", [False, True])
@torch.no_grad()
def test_min_gru(closing, positive):
    memory, x, y, state = case("min_gru", closing=closing, positive=positive)
    opened = clamped if closing else torch.sigmoid
    h = torch.zeros(BATCH, DIM, dtype=torch.float64)
    for t in range(TIME):
        a, c = memory.projection(x[:, t]).split(DIM, -1)
        if positive:
            c = torch.where(c >= 0, c + 0.5, torch.sigmoid(c))
        z = opened(a)
        h = (1 - z) * h + z * c
        close(y[:, t], h)
    close(state.hidden, h)


@pytest.mark.parametrize("closing", [False, True])
@torch.no_grad()
def test_min_lstm(closing):
    memory, x, y, state = case("min_lstm", closing=closing)
    opened = clamped if closing else torch.sigmoid
    h = torch.zeros(BATCH, DIM, dtype=torch.float64)
    for t in range(TIME):
        f, i, c = memory.projection(x[:, t]).split(DIM, -1)
        c = torch.where(c >= 0, c + 0.5, torch.sigmoid(c))
        f, i = opened(f), opened(i)
        f = torch.where(f + i > 0, f / (f + i), 1.0)  # both shut: all is kept
        h = f * h + (1 - f) * c
        close(y[:, t], h)
    close(state.hidden, h)


@torch.no_grad()
def test_min_lstm_keeps_all_where_both_gates_are_shut():
    memory = build("min_lstm", DIM, closing=True).double()
    memory.projection.bias[: 2 * DIM] = -50.0
    _, kept = memory(
        torch.randn(BATCH, 5, DIM).double(), type(memory.initial_state(1))(torch.ones(BATCH, DIM).double())
    )
    assert torch.equal(kept.hidden, torch.ones(BATCH, DIM).double())


@torch.no_grad()
def test_linear_attention_is_attention_with_a_feature_map():
    """As attention over all earlier tokens, quadratic: Katharopoulos et al. 2020, Equations 7 and 9."""
    memory, x, y, state = case("linear_attention", heads=HEADS)
    q, k, v = memory.projection(x).unflatten(-1, (3, HEADS, DIM // HEADS)).unbind(2)
    q, k = functional.elu(q) + 1, functional.elu(k) + 1
    weights = torch.einsum("bihd,bjhd->bhij", q, k).tril()
    o = torch.einsum("bhij,bjhd->bihd", weights / (weights.sum(-1, keepdim=True) + 1e-6), v)
    close(y, memory.output(o.flatten(-2)))
    close(state.keys, k.sum(1))
    close(state.matrix, torch.einsum("bjhd,bjhe->bhde", k, v))


@torch.no_grad()
def test_retention_is_the_paper_s_parallel_form():
    """Sun et al. 2023, Equation 5, with its three normalisations (Section 2.4), which the GroupNorm makes vanish."""
    memory, x, _, _ = case("retention", heads=HEADS, value_factor=2)
    memory.norm.eps = 0.0  # it is not scaled along
    y, _ = memory(x)
    key_dim, value_dim = DIM // HEADS, 2 * DIM // HEADS
    q, k, v = memory.projection(x).unflatten(-1, (HEADS, -1)).split([key_dim, key_dim, value_dim], -1)
    half = key_dim // 2

    def turned(x):  # as complex numbers: x e^{i n theta}
        pairs = torch.complex(x[..., :half], x[..., half:])
        speed = torch.tensor([10_000 ** -(j / half) for j in range(half)], dtype=torch.float64)
        angle = torch.arange(TIME).double()[:, None, None] * speed
        return pairs * torch.polar(torch.ones_like(angle), angle)

    scores = torch.einsum("bihd,bjhd->bhij", turned(q), turned(k).conj()).real / math.sqrt(key_dim)
    n = torch.arange(TIME)
    heads = []
    for h in range(HEADS):
        gamma = 1 - 2.0 ** (-5 - h)
        decay = torch.where(n[:, None] >= n, gamma ** (n[:, None] - n).clamp(min=0).double(), 0.0)
        decay = decay / decay.sum(1, keepdim=True).sqrt()
        retention = scores[:, h] * decay
        retention = retention / retention.sum(-1, keepdim=True).abs().clamp(min=1)
        o = retention @ v[:, :, h]
        normal = (o - o.mean(-1, keepdim=True)) / o.std(-1, unbiased=False, keepdim=True)
        heads.append(normal)
    normal = torch.cat(heads, -1) * memory.norm.weight + memory.norm.bias
    expected = memory.output(functional.silu(memory.gate(x)) * normal)
    torch.testing.assert_close(y, expected, rtol=1e-8, atol=1e-10)


@torch.no_grad()
def test_retention_recurrence():
    """Sun et al. 2023, Equation 6, exactly."""
    memory, x, y, state = case("retention", heads=HEADS)
    key_dim, value_dim = DIM // HEADS, 2 * DIM // HEADS
    half = key_dim // 2
    angles = torch.tensor([10_000 ** -(j / half) for j in range(half)], dtype=torch.float64)
    matrix = torch.zeros(BATCH, HEADS, key_dim, value_dim, dtype=torch.float64)
    gamma = 1 - 2.0 ** (-5 - torch.arange(HEADS).double())

    def turn(x, n):
        a, b = x[..., :half], x[..., half:]
        c, s = (n * angles).cos(), (n * angles).sin()
        return torch.cat((a * c - b * s, a * s + b * c), -1)

    for n in range(TIME):
        parts = memory.projection(x[:, n]).unflatten(-1, (HEADS, -1)).split([key_dim, key_dim, value_dim], -1)
        q, k, v = turn(parts[0], n), turn(parts[1], n), parts[2]
        matrix = gamma[:, None, None] * matrix + k[..., None] * v[..., None, :]
        o = torch.einsum("bhk,bhkv->bhv", q, matrix) / math.sqrt(key_dim)
        close(y[:, n], memory.output(functional.silu(memory.gate(x[:, n])) * memory.norm(o.flatten(1))))
    close(state.matrix, matrix)
    assert state.position.tolist() == [TIME] * BATCH


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("closing", [False, True])
@torch.no_grad()
def test_gated_delta_net(closing, windowed):
    """Yang et al. 2024 (arXiv 2412.06464), Equation 10, with its layer's gates, convolution and norm."""
    memory, x, y, state = case("gated_delta_net", heads=HEADS, convolution=4, closing=closing, windowed=windowed)
    key_dim, value_dim = DIM // HEADS, 2 * DIM // HEADS
    mixed = memory.projection(x)
    padded = functional.pad(mixed, (0, 0, 3, 0))
    mixed = functional.silu(
        sum(memory.convolution.weight[lag] * padded[:, 3 - lag : 3 - lag + TIME] for lag in range(4))
    )
    decisive = mixed if windowed else x
    q, k, v = mixed.split([DIM, DIM, 2 * DIM], -1)
    q, k = (functional.normalize(part.unflatten(-1, (HEADS, key_dim)), dim=-1) for part in (q, k))
    v = v.unflatten(-1, (HEADS, value_dim))
    matrix = torch.zeros(BATCH, HEADS, key_dim, value_dim, dtype=torch.float64)
    identity = torch.eye(key_dim, dtype=torch.float64)
    for t in range(TIME):
        logits = memory.strength(decisive[:, t])
        if closing:
            beta, alpha = clamped(logits), clamped(memory.decay(decisive[:, t]))
        else:
            beta = torch.sigmoid(logits)
            alpha = torch.exp(-memory.log_pace.exp() * functional.softplus(memory.decay(decisive[:, t])))
        k_t = k[:, t]
        step = alpha[..., None, None] * (identity - beta[..., None, None] * k_t[..., None] * k_t[..., None, :])
        matrix = step @ matrix + beta[..., None, None] * k_t[..., None] * v[:, t, :, None, :]
        o = torch.einsum("bhk,bhkv->bhv", q[:, t], matrix)
        o = o / (o.square().mean(-1, keepdim=True) + 1e-6).sqrt() * memory.norm.weight
        close(y[:, t], memory.output(o.flatten(1) * functional.silu(memory.gate(x[:, t]))))
    close(state.matrix, matrix)
