"""The delta rule: every backend computes the recurrence that its docstring writes down."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.errors import UserError
from recurra.kernels import delta_rule
from recurra.kernels.delta_rule import BACKENDS

PLAIN = [name for name in BACKENDS if name != "triton"]  # tests/gpu has the Triton kernels
every_backend = pytest.mark.parametrize("backend", PLAIN)
every_rule = pytest.mark.parametrize(
    ("decay", "beta"), [(decay, beta) for decay in ("none", "head", "channel") for beta in (False, True)]
)


def draw(
    batch=2, time=21, heads=2, key_dim=3, value_dim=4, decay="head", beta=True, flags=True, state=True, seed=0,
    dtype=torch.float64,
):  # fmt: skip
    """Give arguments of the operation, drawn at random; keys are not normalised."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype)

    tokens = (batch, time, heads)
    arguments = {"q": normal(*tokens, key_dim), "k": normal(*tokens, key_dim) / 2, "v": normal(*tokens, value_dim)}
    if decay != "none":
        shape = tokens if decay == "head" else (*tokens, key_dim)
        arguments["log_decay"] = torch.nn.functional.logsigmoid(normal(*shape) + 1)
    if beta:
        arguments["beta"] = torch.sigmoid(normal(*tokens))
    if state:
        arguments["initial_state"] = normal(batch, heads, key_dim, value_dim)
    if flags:
        arguments["first"] = torch.rand(batch, time, generator=random) < 0.15
        arguments["present"] = torch.rand(batch, time, generator=random) < 0.8
    return arguments


def leaves(arguments):
    """Let gradients reach the floating-point arguments."""
    return {name: x.clone().requires_grad_(x.is_floating_point()) for name, x in arguments.items()}


def results(arguments, **options):
    """Give outputs, final state and, of a random weighing of both, the gradient of every argument."""
    arguments = leaves(arguments)
    output, state = delta_rule(**arguments, **options)
    random = torch.Generator().manual_seed(1)
    loss = sum((x * torch.randn(x.shape, generator=random, dtype=torch.float64)).sum() for x in (output, state))
    inputs = {name: x for name, x in arguments.items() if x.requires_grad}
    if loss.requires_grad:  # an empty piece from no state depends on nothing
        gradients = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True, materialize_grads=True)
    else:
        gradients = inputs.values()
    return {"output": output, "state": state, **dict(zip(inputs, gradients, strict=True))}


def assert_equal(found, expected, tolerance=1e-10):
    for name, x in expected.items():
        assert found[name].shape == x.shape, name
        error = (found[name].double() - x.double()).norm()
        assert error <= tolerance * max(x.double().norm(), 1e-3), (name, error.item(), x.norm().item())


def naive(q, k, v, log_decay=None, beta=None, initial_state=None, first=None, present=None, scale=1.0):
    """One row, one head, one token after another, in numpy."""
    batch, time, heads, key_dim = q.shape
    output = np.zeros(v.shape)
    state = np.zeros((batch, heads, key_dim, v.shape[-1])) if initial_state is None else initial_state.copy()
    for b, h in np.ndindex(batch, heads):
        memory = state[b, h]
        for t in range(time):
            if first is not None and first[b, t]:
                memory = np.zeros_like(memory)
            if present is not None and not present[b, t]:
                continue
            if log_decay is not None:
                memory = np.diag(np.exp(np.broadcast_to(log_decay[b, t, h], key_dim))) @ memory
            if beta is None:
                memory = memory + np.outer(k[b, t, h], v[b, t, h])
            else:
                memory = memory + beta[b, t, h] * np.outer(k[b, t, h], v[b, t, h] - memory.T @ k[b, t, h])
            output[b, t, h] = scale * memory.T @ q[b, t, h]
        state[b, h] = memory
    return output, state


@every_backend
@every_rule
def test_it_is_the_published_recurrence(backend, decay, beta):
    arguments = draw(decay=decay, beta=beta)
    output, state = delta_rule(**arguments, scale=0.7, backend=backend, chunk=8)
    expected = naive(**{name: x.numpy() for name, x in arguments.items()}, scale=0.7)
    np.testing.assert_allclose(output, expected[0], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(state, expected[1], rtol=1e-10, atol=1e-12)


shapes = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 3),
        "time": st.sampled_from([0, 1, 2, 17, 63, 64, 65, 100]),
        "heads": st.integers(1, 3),
        "key_dim": st.integers(1, 5),
        "value_dim": st.integers(1, 5),
        "decay": st.sampled_from(["none", "head", "channel"]),
        "beta": st.booleans(),
        "flags": st.booleans(),
        "state": st.booleans(),
        "seed": st.integers(0, 2**31),
    }
)


@settings(deadline=None, max_examples=150)
@given(shapes, st.sampled_from([1, 3, 16, 64, 1000]))
def test_backends_agree_in_outputs_states_and_gradients(shape, chunk):
    arguments = draw(**shape)
    expected = results(arguments, backend="reference")
    assert_equal(results(arguments, backend="chunked", chunk=chunk), expected)


@settings(deadline=None, max_examples=60)
@given(shapes, st.lists(st.integers(0, 100), max_size=4), st.sampled_from([None, *PLAIN]))
def test_cutting_the_stream_anywhere_changes_nothing(shape, cuts, backend):
    whole = leaves(draw(**shape))
    time = shape["time"]
    tokens = {name: x for name, x in whole.items() if name != "initial_state"}
    state, outputs = whole.get("initial_state"), []
    edges = [0, *sorted(min(cut, time) for cut in cuts), time]
    for start, stop in pairwise(edges):
        piece = {name: x[:, start:stop] for name, x in tokens.items()}
        output, state = delta_rule(**piece, initial_state=state, backend=backend, chunk=16)
        outputs.append(output)
    output, final = delta_rule(**whole, chunk=16)
    assert_equal({"output": torch.cat(outputs, 1), "state": state}, {"output": output, "state": final})
    if time:
        inputs = [whole["v"], whole["k"]]
        pieces = torch.autograd.grad(state.sum() + torch.cat(outputs, 1).sum(), inputs)
        assert_equal(dict(enumerate(pieces)), dict(enumerate(torch.autograd.grad(final.sum() + output.sum(), inputs))))


@every_backend
@every_rule
def test_gradients_are_those_of_finite_differences(backend, decay, beta):
    arguments = leaves(draw(time=9, decay=decay, beta=beta))
    names = list(arguments)

    def run(*values):
        return delta_rule(**dict(zip(names, values, strict=True)), backend=backend, chunk=4)

    assert torch.autograd.gradcheck(run, tuple(arguments.values()), fast_mode=True)


@every_backend
@every_rule
def test_what_absent_tokens_hold_reaches_nothing(backend, decay, beta):
    arguments = draw(decay=decay, beta=beta)
    absent = ~arguments["present"]
    poisoned = {
        name: x.masked_fill(absent.reshape(*absent.shape, *[1] * (x.dim() - 2)), torch.nan)
        if name in ("q", "k", "v", "log_decay", "beta")
        else x
        for name, x in arguments.items()
    }
    clean, found = results(arguments, backend=backend, chunk=8), results(poisoned, backend=backend, chunk=8)
    assert_equal(found, clean, 0.0)
    assert (found["output"][absent] == 0).all()
    assert (found["v"][absent] == 0).all()


@every_backend
def test_an_absent_first_token_still_begins_an_episode(backend):
    arguments = draw(time=5, flags=False)
    first, present = torch.zeros(2, 5, dtype=torch.bool), torch.ones(2, 5, dtype=torch.bool)
    first[:, 2], present[:, 2] = True, False
    output, state = delta_rule(**arguments, first=first, present=present, backend=backend)
    tail = {name: x[:, 3:] for name, x in arguments.items() if name != "initial_state"}
    expected = delta_rule(**tail, backend=backend)
    assert_equal({"output": output[:, 3:], "state": state}, {"output": expected[0], "state": expected[1]})


@every_backend
@pytest.mark.parametrize("decay", ["head", "channel"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_strong_decays_stay_finite_and_cost_later_tokens_no_digits(backend, decay, dtype):
    arguments = draw(time=100, decay=decay, dtype=dtype)
    gates = arguments["log_decay"]
    gates[:, 5:50] = -50.0
    gates[:, 60:70] = 0.0
    gates[:, 80] = -1e30
    found = results(arguments, backend=backend)
    assert all(x.isfinite().all() for x in found.values())
    exact = {name: x.double() if x.is_floating_point() else x for name, x in arguments.items()}
    assert_equal(found, results(exact, backend="reference"), 1e-5 if dtype == torch.float32 else 1e-10)


@settings(deadline=None, max_examples=40)
@given(shapes, st.sampled_from(PLAIN))
def test_single_precision_agrees_with_double(shape, backend):
    single = draw(**shape, dtype=torch.float32)
    double = {name: x.double() if x.is_floating_point() else x for name, x in single.items()}
    assert_equal(results(single, backend=backend), results(double, backend=backend), 1e-4)


@every_backend
def test_states_are_held_in_float32_or_more(backend):
    def dtypes(inputs, **options):
        output, state = delta_rule(**inputs, **options, backend=backend)
        return output.dtype, state.dtype

    half = draw(state=False, dtype=torch.bfloat16)
    assert dtypes(half) == (torch.bfloat16, torch.float32)
    assert dtypes(half, initial_state=torch.zeros(2, 2, 3, 4)) == (torch.bfloat16, torch.float32)
    assert dtypes(draw(dtype=torch.float64)) == (torch.float64, torch.float64)
    assert dtypes({name: x[:, :0] for name, x in half.items()}) == (torch.bfloat16, torch.float32)


@every_backend
def test_autocast_does_not_lower_the_precision(backend):
    arguments = draw(dtype=torch.float32)
    plain = delta_rule(**arguments, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = delta_rule(**arguments, backend=backend)
    assert torch.equal(cast[0], plain[0])
    assert torch.equal(cast[1], plain[1])


@pytest.mark.parametrize("flags", [False, True])
@pytest.mark.parametrize("chunk", [1, 8, 64])
def test_what_writes_nothing_is_read_all_the_same(chunk, flags):
    """Where nobody learns it is read in one product: the answer of the recurrence."""
    arguments = draw(decay="none", flags=flags)
    arguments.pop("first", None)
    arguments["beta"] = torch.zeros_like(arguments["beta"])
    wanted = delta_rule(**arguments, backend="reference")
    with torch.no_grad():
        found = delta_rule(**arguments, chunk=chunk, backend="chunked")
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
        arguments["beta"][0, 3] = 0.5  # one that writes is enough
        wanted, found = (delta_rule(**arguments, chunk=chunk, backend=backend) for backend in PLAIN)
        torch.testing.assert_close(found[1], wanted[1], rtol=1e-12, atol=1e-12)


@every_backend
@pytest.mark.parametrize("state", [False, True])
def test_an_empty_piece_leaves_the_state_as_it_is(backend, state):
    arguments = draw(time=0, state=state)
    output, final = delta_rule(**arguments, backend=backend)
    assert output.shape == (2, 0, 2, 4)
    assert torch.equal(final, arguments.get("initial_state", torch.zeros(2, 2, 3, 4, dtype=torch.float64)))


@pytest.mark.parametrize("decay", ["none", "head", "channel"])
def test_it_compiles_whole(decay):
    arguments = draw(time=21, decay=decay)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def compiled(arguments):
        return delta_rule(**arguments, chunk=8)

    inputs, same = leaves(arguments), leaves(arguments)
    found, expected = compiled(inputs), delta_rule(**same, chunk=8)
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)
    for output, state in (found, expected):
        (output.square().sum() + state.sum()).backward()
    for name, x in inputs.items():
        if x.requires_grad:
            torch.testing.assert_close(x.grad, same[name].grad, rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.zeros(2, 5, 3)}, r"q must be \(batch, time, heads, key_dim\), got \(2, 5, 3\)"),
        ({"k": torch.zeros(2, 5, 2, 4)}, r"k must be of shape \(2, 5, 2, 3\), got \(2, 5, 2, 4\)"),
        ({"v": torch.zeros(2, 4, 2, 4)}, r"v must be of shape \(2, 5, 2, value_dim\), got \(2, 4, 2, 4\)"),
        ({"log_decay": torch.zeros(2, 5, 2, 4)}, r"log_decay must be of shape \(2, 5, 2\) or \(2, 5, 2, 3\), got"),
        ({"beta": torch.zeros(2, 5, 1)}, r"beta must be of shape \(2, 5, 2\), got \(2, 5, 1\)"),
        ({"initial_state": torch.zeros(2, 2, 4, 3)}, r"initial_state must be of shape \(2, 2, 3, 4\), got"),
        ({"first": torch.zeros(2, 4, dtype=torch.bool)}, r"first must be of shape \(2, 5\), got \(2, 4\)"),
        ({"present": torch.zeros(2, 5)}, r"present must be bool, got torch.float32"),
        ({"beta": torch.ones(2, 5, 2, dtype=torch.int64)}, r"beta must be floating point, got torch.int64"),
        ({"chunk": 0}, r"chunk must be at least 1, got 0"),
        ({"backend": "chunk"}, r"no backend 'chunk': did you mean 'chunked'\? \(known: chunked, reference, triton\)"),
        (
            {"backend": "triton"},
            r"on NVIDIA GPUs from Ampere on, its tensors are on cpu: move them, take backend=None",
        ),
    ],
)
def test_errors_say_what_to_do(change, message):
    with pytest.raises(UserError, match=message):
        delta_rule(**{**draw(time=5), **change})
