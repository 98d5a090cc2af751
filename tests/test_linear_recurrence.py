"""The linear recurrence: every backend computes the recurrence that its docstring writes down."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.errors import UserError
from recurra.kernels import linear_recurrence
from recurra.kernels.linear_recurrence import BACKENDS

# tests/gpu has the Triton kernels.
every_backend = pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "triton"])


def draw(batch=2, time=21, dim=3, flags=True, state=True, seed=0, dtype=torch.float64):
    """Give arguments of the operation; a fifth of the gates keep nothing, and a fifth all."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype)

    kind = torch.randint(5, (batch, time, dim), generator=random)
    gate = torch.sigmoid(normal(batch, time, dim)).masked_fill(kind == 0, 0.0).masked_fill(kind == 1, 1.0)
    arguments = {"x": normal(batch, time, dim), "log_gate": gate.log()}
    if state:
        arguments["initial_state"] = normal(batch, dim)
    if flags:
        arguments["first"] = torch.rand(batch, time, generator=random) < 0.15
        arguments["present"] = torch.rand(batch, time, generator=random) < 0.8
    return arguments


def results(arguments, **options):
    """Give outputs, final state and, of a random weighing of both, the gradient of every argument."""
    arguments = {name: x.clone().requires_grad_(x.is_floating_point()) for name, x in arguments.items()}
    output, state = linear_recurrence(**arguments, **options)
    random = torch.Generator().manual_seed(1)
    loss = sum((x * torch.randn(x.shape, generator=random, dtype=torch.float64)).sum() for x in (output, state))
    inputs = [x for x in arguments.values() if x.requires_grad]
    if not loss.requires_grad:
        return output, state, *map(torch.zeros_like, inputs)
    return output, state, *torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)


def close(actual, expected, bound=1e-10):
    for a, b in zip(actual, expected, strict=True):
        assert a.shape == b.shape
        assert a.isfinite().all()
        assert (a - b).abs().max() <= bound * max(1.0, b.abs().max()) if a.numel() else True


@every_backend
def test_formula(backend):
    arguments = draw()
    output, state = linear_recurrence(**arguments, backend=backend)
    x, gate, h, first, present = (tensor.numpy() for tensor in arguments.values())
    gate, h = np.exp(gate), h.copy()
    for row in range(x.shape[0]):
        for t in range(x.shape[1]):
            if first[row, t]:
                h[row] = 0
            if present[row, t]:
                h[row] = gate[row, t] * h[row] + x[row, t]
            np.testing.assert_allclose(output[row, t], h[row] * present[row, t], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(state, h, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(
    batch=st.integers(1, 3),
    time=st.sampled_from([0, 1, 2, 3, 15, 16, 17, 63, 100]),
    dim=st.integers(1, 4),
    chunk=st.sampled_from([2, 3, 16, 64]),
    flags=st.booleans(),
    state=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_chunked_is_the_reference_gradients_too(batch, time, dim, chunk, flags, state, seed):
    arguments = draw(batch, time, dim, flags, state, seed)
    close(results(arguments, chunk=chunk, backend="chunked"), results(arguments, backend="reference"))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), cut=st.integers(0, 21))
def test_pieces_are_the_whole(seed, cut):
    arguments = draw(seed=seed)
    whole = linear_recurrence(**arguments)
    state = arguments.pop("initial_state")
    outputs = []
    for piece in (slice(0, cut), slice(cut, None)):
        output, state = linear_recurrence(**{name: x[:, piece] for name, x in arguments.items()}, initial_state=state)
        outputs.append(output)
    close((torch.cat(outputs, 1), state), whole)


@every_backend
def test_gradcheck(backend):
    arguments = draw(time=9)
    arguments["log_gate"] = arguments["log_gate"].clamp(min=-3)  # differences cannot be taken at -inf
    flags = {name: arguments.pop(name) for name in ("first", "present")}
    inputs = [x.clone().requires_grad_() for x in arguments.values()]

    def operation(x, log_gate, state):
        return linear_recurrence(x, log_gate, initial_state=state, **flags, chunk=4, backend=backend)

    assert torch.autograd.gradcheck(operation, inputs)
    assert torch.autograd.gradgradcheck(operation, inputs, fast_mode=True)


@every_backend
def test_absent_tokens_leak_nothing(backend):
    arguments = draw()
    poisoned = dict(arguments)
    for name in ("x", "log_gate"):
        poisoned[name] = arguments[name].masked_fill(~arguments["present"].unsqueeze(-1), torch.nan)
    close(results(poisoned, backend=backend), results(arguments, backend=backend), bound=0)


@every_backend
def test_numbers(backend):
    double = linear_recurrence(**draw(time=100), backend=backend)
    single = linear_recurrence(**draw(time=100, dtype=torch.float32), backend=backend)
    close([x.double() for x in single], double, bound=1e-4)
    half = draw(dtype=torch.bfloat16)
    output, state = linear_recurrence(half["x"], half["log_gate"], backend=backend)
    assert (output.dtype, state.dtype) == (torch.bfloat16, torch.float32)


def test_compiles_whole():
    compiled = torch.compile(linear_recurrence, fullgraph=True, backend="aot_eager")
    arguments = draw(time=37)
    expected = results(arguments)
    inputs = {name: x.clone().requires_grad_(x.is_floating_point()) for name, x in arguments.items()}
    output, state = compiled(**inputs)
    close((output, state), expected[:2])
    (output.sum() + state.sum()).backward()
    assert inputs["log_gate"].grad.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(2, 3)}, "x must be"),
        ({"log_gate": torch.zeros(2, 21, 4)}, "log_gate must be of shape"),
        ({"initial_state": torch.zeros(1, 3)}, "initial_state must be of shape"),
        ({"first": torch.zeros(2, 21)}, "first must be bool"),
        ({"present": torch.zeros(2, 20, dtype=torch.bool)}, "present must be of shape"),
        ({"x": torch.zeros(2, 21, 3, dtype=torch.long)}, "x must be floating point"),
        ({"chunk": 1}, "chunk must be"),
        ({"backend": "chunkd"}, "did you mean 'chunked'"),
        (
            {"backend": "triton"},
            r"on NVIDIA GPUs from Ampere on, its tensors are on cpu: move them, take backend=None",
        ),
    ],
)
def test_mistakes(change, message):
    with pytest.raises(UserError, match=message):
        linear_recurrence(**{**draw(), **change})
