"""The GRU's recurrence computes what torch.nn.GRU computes, forward and backward."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from recurra.errors import UserError
from recurra.kernels import gru
from recurra.memory import build


def draw(sizes, dim, seed=0):
    torch.manual_seed(seed)
    network = nn.GRU(3, dim).double()
    x = torch.randn(sum(sizes), 3, dtype=torch.float64, requires_grad=True)
    return network, x, torch.randn(sizes[0], dim, dtype=torch.float64, requires_grad=True)


def ours(network, x, state, sizes):
    weight_in, weight, bias_in, bias = network.all_weights[0]
    return gru(functional.linear(x, weight_in, bias_in), weight, bias, initial_state=state, sizes=sizes)


def slopes(outputs, inputs):
    random = torch.Generator().manual_seed(1)
    loss = sum((y * torch.randn(y.shape, generator=random, dtype=y.dtype)).sum() for y in outputs)
    return torch.autograd.grad(loss, inputs)


@settings(deadline=None, max_examples=40)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6), dim=st.integers(1, 5), seed=st.integers(0, 99))
def test_it_is_torchs_own_gradients_too(lengths, dim, seed):
    sizes = [sum(length > t for length in lengths) for t in range(max(lengths))]
    network, x, state = draw(sizes, dim, seed)
    packed, last = network(PackedSequence(x, torch.tensor(sizes)), state[None])
    found, expected = ours(network, x, state, sizes), (packed.data, last[0])
    inputs = [x, state, *network.parameters()]
    for a, b in zip((*found, *slopes(found, inputs)), (*expected, *slopes(expected, inputs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_gradcheck():
    torch.manual_seed(0)
    shapes = ((6, 9), (9, 3), (9,), (3, 3))
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    sizes = [3, 2, 1]

    def operation(projected, weight, bias, state):
        return gru(projected, weight, bias, initial_state=state, sizes=sizes)

    assert torch.autograd.gradcheck(operation, inputs)


def test_a_second_derivative_is_refused_not_wrong():
    network, x, state = draw([2, 1], 3)
    h, _ = ours(network, x, state, [2, 1])
    (slope,) = torch.autograd.grad(h.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_a_memory_in_training_is_the_one_that_infers():
    torch.manual_seed(0)
    memory, x = build("gru", 8), torch.randn(3, 40, 8)
    first, present = torch.rand(3, 40) < 0.1, torch.rand(3, 40) < 0.9
    for flags in ({}, {"first": first, "present": present}):
        y, state = memory(x, **flags)
        with torch.no_grad():
            expected, expected_state = memory(x, **flags)
        assert y.requires_grad
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(state.hidden, expected_state.hidden)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": []}, "sizes must be"),
        ({"sizes": [1, 2]}, "sizes must be"),
        ({"sizes": [2, 0, 1]}, "sizes must be"),
        ({"sizes": [2]}, "projected must be of shape"),
        ({"weight": torch.zeros(5, 2)}, "weight must be of shape"),
        ({"bias": torch.zeros(3)}, "bias must be of shape"),
        ({"initial_state": torch.zeros(1, 2)}, "initial_state must be of shape"),
    ],
)
def test_mistakes(change, message):
    arguments = {
        "projected": torch.zeros(3, 6),
        "weight": torch.zeros(6, 2),
        "bias": torch.zeros(6),
        "initial_state": torch.zeros(2, 2),
        "sizes": [2, 1],
    }
    with pytest.raises(UserError, match=message):
        gru(**{**arguments, **change})
