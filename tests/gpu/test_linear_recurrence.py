"""The linear recurrence in Triton is the reference, its gradients too."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.kernels import launching, linear_recurrence


def draw(batch=2, time=21, dim=3, flags=True, state=True, seed=0, dtype=torch.float64):
    """Give arguments of the operation; a fifth of the gates keep nothing, and a fifth all."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    kind = torch.randint(5, (batch, time, dim), generator=random)
    gate = torch.sigmoid(normal(batch, time, dim)).masked_fill(kind == 0, 0.0).masked_fill(kind == 1, 1.0)
    arguments = {"x": normal(batch, time, dim).to(dtype), "log_gate": gate.log().to(dtype)}
    if state:
        arguments["initial_state"] = normal(batch, dim).to(dtype)
    if flags:
        arguments["first"] = torch.rand(batch, time, generator=random) < 0.15
        arguments["present"] = torch.rand(batch, time, generator=random) < 0.8
    return arguments


def results(arguments, device, dtype=None, **options):
    """Give outputs, final state and, of a random weighing of both, the gradient of every argument."""
    arguments = {
        name: x.to(device, dtype).requires_grad_() if x.is_floating_point() else x.to(device)
        for name, x in arguments.items()
    }
    output, state = linear_recurrence(**arguments, **options)
    random = torch.Generator().manual_seed(1)
    weights = (torch.randn(x.shape, generator=random, dtype=torch.float64).to(device) for x in (output, state))
    loss = sum((x.double() * weight).sum() for x, weight in zip((output, state), weights, strict=True))
    inputs = [x for x in arguments.values() if x.requires_grad]
    return output, state, *torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)


def close(actual, expected, bound):
    for a, b in zip(actual, expected, strict=True):
        a, b = a.double().cpu(), b.double().cpu()
        assert a.shape == b.shape
        assert (a - b).abs().max() <= bound * max(1.0, b.abs().max())


@settings(deadline=None, max_examples=15)
@given(
    batch=st.integers(1, 3),
    time=st.sampled_from([1, 2, 63, 64, 65, 130]),
    dim=st.sampled_from([1, 5, 32, 100]),
    flags=st.booleans(),
    state=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_it_is_the_reference_gradients_too(batch, time, dim, flags, state, dtype, seed):
    arguments = draw(batch, time, dim, flags, state, seed, dtype)
    device = "cpu" if launching.INTERPRETED else "cuda"
    expected = results(arguments, "cpu", torch.float64, backend="reference")
    close(results(arguments, device, backend="triton"), expected, 1e-12 if dtype == torch.float64 else 1e-5)


def test_chunks_have_chunks_of_their_own(device, monkeypatch):
    gpu = pytest.importorskip("recurra.kernels.linear_recurrence.gpu")
    monkeypatch.setattr(gpu, "CHUNK", 4)
    arguments = draw(time=70)
    expected = results(arguments, device, backend="reference")
    close(results(arguments, device, backend="triton"), expected, 1e-12)


def test_gradcheck(device):
    arguments = draw(time=9)
    arguments["log_gate"] = arguments["log_gate"].clamp(min=-3)  # differences cannot be taken at -inf
    flags = {name: arguments.pop(name).to(device) for name in ("first", "present")}
    inputs = [x.to(device).requires_grad_() for x in arguments.values()]

    def operation(x, log_gate, state):
        return linear_recurrence(x, log_gate, initial_state=state, **flags, backend="triton")

    assert torch.autograd.gradcheck(operation, inputs, fast_mode=True)


def test_absent_tokens_leak_nothing(device):
    arguments = draw()
    poisoned = dict(arguments)
    for name in ("x", "log_gate"):
        poisoned[name] = arguments[name].masked_fill(~arguments["present"].unsqueeze(-1), torch.nan)
    close(results(poisoned, device, backend="triton"), results(arguments, device, backend="triton"), 0)


def test_operators_are_what_torch_wants_of_them(device):
    from recurra.kernels.linear_recurrence.gpu import linear_recurrence_backward, linear_recurrence_forward

    x, gate, slope, h = torch.rand(4, 2, 5, 3, device=device).unbind()
    state = torch.rand(2, 3, device=device)
    inputs = tuple(y.requires_grad_() for y in (x.clone(), gate.mT.contiguous().mT, state.clone()))
    torch.library.opcheck(linear_recurrence_forward, inputs)
    torch.library.opcheck(linear_recurrence_backward, (slope, gate, state, h))


def test_it_compiles_whole(device):
    compiled = torch.compile(linear_recurrence, fullgraph=True, backend="aot_eager")
    inputs = {name: x.to(device) for name, x in draw(time=37).items()}
    inputs = {name: x.requires_grad_(x.is_floating_point()) for name, x in inputs.items()}
    found, expected = compiled(**inputs, backend="triton"), linear_recurrence(**inputs, backend="reference")
    close(found, expected, 1e-12)
    slopes, wanted = (
        torch.autograd.grad(output.sum() + state.sum(), [inputs["x"], inputs["log_gate"], inputs["initial_state"]])
        for output, state in (found, expected)
    )
    close(slopes, wanted, 1e-12)


@pytest.mark.skipif(launching.INTERPRETED, reason="large, and in bfloat16: for a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large(device, dtype):
    arguments = draw(4, 4096, 512, dtype=dtype)
    found = results(arguments, device, backend="triton")
    assert found[0].dtype == dtype
    close(found, results(arguments, device, torch.float64, backend="chunked"), 1e-4 if dtype == torch.float32 else 2e-2)
