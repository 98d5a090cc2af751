"""The GRU's recurrence computes what torch.nn.GRU computes, forward and backward."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from recurra.errors import UserError
from recurra.kernels import gru
from recurra.memory import build


def draw(batch, time, dim, seed=0):
    torch.manual_seed(seed)
    network = nn.GRU(3, dim, batch_first=True).double()
    x = torch.randn(batch, time, 3, dtype=torch.float64, requires_grad=True)
    return network, x, torch.randn(batch, dim, dtype=torch.float64, requires_grad=True)


def ours(network, x, state, first=None, present=None):
    weight_in, weight, bias_in, bias = network.all_weights[0]
    projected = functional.linear(x, weight_in, bias_in)
    return gru(projected, weight, bias, initial_state=state, first=first, present=present)


def torchs(network, x, state, first, present):
    """Token by token: a stream that is reset starts from 0, and an absent token is not read."""
    weights, outputs = network.all_weights[0], []
    for t in range(x.shape[1]):
        state = torch.where(first[:, t, None], 0.0, state)
        after = torch.gru_cell(x[:, t], state, *weights)
        state = torch.where(present[:, t, None], after, state)
        outputs.append(torch.where(present[:, t, None], after, 0.0))
    return torch.stack(outputs, 1), state


def slopes(outputs, inputs):
    random = torch.Generator().manual_seed(1)
    loss = sum((y * torch.randn(y.shape, generator=random, dtype=y.dtype)).sum() for y in outputs)
    return torch.autograd.grad(loss, inputs)


def agree(found, expected, inputs):
    for a, b in zip((*found, *slopes(found, inputs)), (*expected, *slopes(expected, inputs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(batch=st.integers(1, 5), time=st.integers(1, 12), dim=st.integers(1, 5), seed=st.integers(0, 99))
def test_it_is_torchs_own_gradients_too(batch, time, dim, seed):
    network, x, state = draw(batch, time, dim, seed)
    h, last = network(x, state[None])
    agree(ours(network, x, state), (h, last[0]), [x, state, *network.parameters()])


@settings(deadline=None, max_examples=60)
@given(
    batch=st.integers(1, 5),
    time=st.integers(1, 12),
    seed=st.integers(0, 99),
    resets=st.sampled_from([0.0, 0.2, 0.9]),
    absent=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
)
def test_flags_cut_episodes_and_leave_tokens_out(batch, time, seed, resets, absent):
    network, x, state = draw(batch, time, 3, seed)
    first, present = torch.rand(batch, time) < resets, torch.rand(batch, time) >= absent
    inputs = [x, state, *network.parameters()]
    agree(ours(network, x, state, first, present), torchs(network, x, state, first, present), inputs)


def test_gradcheck():
    torch.manual_seed(0)
    shapes = ((2, 3, 9), (9, 3), (9,), (2, 3))
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    first, present = torch.tensor([[0, 1, 0], [0, 0, 0]]).bool(), torch.tensor([[1, 1, 1], [1, 0, 1]]).bool()

    def operation(projected, weight, bias, state):
        return gru(projected, weight, bias, initial_state=state, first=first, present=present)

    assert torch.autograd.gradcheck(operation, inputs)


@pytest.mark.parametrize("flags", [False, True])
def test_an_operator_that_compiles_whole(flags):
    network, x, state = draw(3, 6, 4)
    first, present = (torch.rand(3, 6) < 0.3, torch.rand(3, 6) < 0.8) if flags else (None, None)
    weight_in, weight, bias_in, bias = network.all_weights[0]
    given = functional.linear(x, weight_in, bias_in).detach().requires_grad_()
    torch.library.opcheck(torch.ops.recurra.gru.default, (given, weight, bias, state, first, present))

    def operation(*tensors):
        return gru(*tensors[:3], initial_state=tensors[3], first=first, present=present)

    inputs = given, weight, bias, state
    agree(torch.compile(operation, fullgraph=True, backend="aot_eager")(*inputs), operation(*inputs), inputs)


def test_a_second_derivative_is_refused_not_wrong():
    network, x, state = draw(2, 3, 3)
    h, _ = ours(network, x, state)
    (slope,) = torch.autograd.grad(h.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula"):
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


def test_what_absent_tokens_hold_does_not_matter():
    network, x, state = draw(2, 3, 3)
    weight_in, weight, bias_in, bias = network.all_weights[0]
    given = functional.linear(x, weight_in, bias_in).detach()
    present = torch.tensor([[True, False, True]] * 2)
    spoilt = given.masked_fill(~present[..., None], torch.nan).requires_grad_()
    found = gru(spoilt, weight, bias, initial_state=state, present=present)
    expected = gru(given, weight, bias, initial_state=state, present=present)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert slopes(found, [spoilt])[0].isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"projected": torch.zeros(6, 2)}, "projected must be .batch, time, 3"),
        ({"projected": torch.zeros(3, 2, 5)}, "projected must be of shape"),
        ({"weight": torch.zeros(5, 2)}, "projected must be of shape|weight must be of shape"),
        ({"bias": torch.zeros(3)}, "bias must be of shape"),
        ({"initial_state": torch.zeros(1, 2)}, "initial_state must be of shape"),
        ({"first": torch.zeros(3, 1, dtype=torch.bool)}, "first must be of shape"),
        ({"present": torch.zeros(3, 2)}, "present must be bool"),
        ({"bias": torch.zeros(6, dtype=torch.long)}, "bias must be floating point"),
    ],
)
def test_mistakes(change, message):
    arguments = {
        "projected": torch.zeros(3, 2, 6),
        "weight": torch.zeros(6, 2),
        "bias": torch.zeros(6),
        "initial_state": torch.zeros(3, 2),
    }
    with pytest.raises(UserError, match=message):
        gru(**{**arguments, **change})
