"""The delta rule in Triton is the reference, its gradients too."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.kernels import delta_rule, launching

every_rule = pytest.mark.parametrize(
    ("decay", "beta"), [(decay, beta) for decay in ("none", "head", "channel") for beta in (False, True)]
)


def draw(
    batch=1, time=21, heads=2, key_dim=3, value_dim=4, decay="head", beta=True, flags=True, state=True, seed=0,
    dtype=torch.float64,
):  # fmt: skip
    """Give arguments of the operation, drawn at random; keys are not normalised."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype)

    tokens = (batch, time, heads)
    keys = normal(*tokens, key_dim) * min(0.5, key_dim**-0.5)
    arguments = {"q": normal(*tokens, key_dim), "k": keys, "v": normal(*tokens, value_dim)}
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


def results(arguments, device, dtype=None, **options):
    """Give outputs, final state and, of a random weighing of both, the gradient of every argument."""
    arguments = {
        name: x.to(device, dtype).requires_grad_() if x.is_floating_point() else x.to(device)
        for name, x in arguments.items()
    }
    output, state = delta_rule(**arguments, **options)
    random = torch.Generator().manual_seed(1)
    weights = (torch.randn(x.shape, generator=random, dtype=torch.float64).to(device) for x in (output, state))
    loss = sum((x.double() * weight).sum() for x, weight in zip((output, state), weights, strict=True))
    inputs = {name: x for name, x in arguments.items() if x.requires_grad}
    slopes = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True, materialize_grads=True)
    return {"output": output, "state": state, **dict(zip(inputs, slopes, strict=True))}


def assert_close(actual, expected, bound):
    assert actual.keys() == expected.keys()
    for name, b in expected.items():
        a, b = actual[name].detach().double().cpu(), b.detach().double().cpu()
        assert a.shape == b.shape, name
        assert (a - b).abs().max() <= bound * b.abs().max().clamp(min=1.0), name


DOUBLE = torch.float64 if launching.INTERPRETED else torch.float32  # products in float64 are the interpreter's alone
BOUND = {torch.float64: 1e-11, torch.float32: 1e-4}


@settings(deadline=None, max_examples=12)
@given(
    time=st.sampled_from([1, 2, 16, 17, 40, 63]),
    heads=st.integers(1, 2),
    key_dim=st.sampled_from([1, 5, 16, 20]),
    value_dim=st.sampled_from([1, 16, 33]),
    decay=st.sampled_from(["none", "head", "channel"]),
    beta=st.booleans(),
    flags=st.booleans(),
    state=st.booleans(),
    chunk=st.sampled_from([1, 16, 33, 64]),
    dtype=st.sampled_from([torch.float32, DOUBLE]),
    seed=st.integers(0, 1000),
)
def test_it_is_the_reference_gradients_too(
    time, heads, key_dim, value_dim, decay, beta, flags, state, chunk, dtype, seed
):
    arguments = draw(1, time, heads, key_dim, value_dim, decay, beta, flags, state, seed, dtype)
    device = "cpu" if launching.INTERPRETED else "cuda"
    expected = results(arguments, "cpu", torch.float64, scale=0.7, backend="reference")
    found = results(arguments, device, scale=0.7, chunk=chunk, backend="triton")
    assert_close(found, expected, BOUND[dtype])


@every_rule
def test_a_token_at_a_time_is_the_piece(decay, beta, device):
    arguments = {name: x.to(device) for name, x in draw(2, 12, decay=decay, beta=beta, dtype=DOUBLE).items()}
    whole = delta_rule(**arguments, backend="triton")
    state = arguments.pop("initial_state")
    outputs = []
    for t in range(12):
        token = {name: x[:, t : t + 1] for name, x in arguments.items()}
        output, state = delta_rule(**token, initial_state=state, backend="triton")
        outputs.append(output)
    found = {"output": torch.cat(outputs, 1), "state": state}
    assert_close(found, dict(zip(found, whole, strict=True)), BOUND[DOUBLE])


@pytest.mark.skipif(not launching.INTERPRETED, reason="differences are taken in float64")
@every_rule
def test_gradients_are_those_of_finite_differences(decay, beta):
    arguments = draw(1, 9, 1, decay=decay, beta=beta)
    arguments = {name: x.requires_grad_(x.is_floating_point()) for name, x in arguments.items()}

    def run(*values):
        return delta_rule(**dict(zip(arguments, values, strict=True)), backend="triton")

    assert torch.autograd.gradcheck(run, tuple(arguments.values()), fast_mode=True)


@pytest.mark.parametrize("time", [1, 21])
@every_rule
def test_what_absent_tokens_hold_reaches_nothing(decay, beta, time, device):
    arguments = draw(2, time, 1, decay=decay, beta=beta, dtype=DOUBLE)
    arguments["present"][0, 0] = False
    absent = ~arguments["present"]
    poisoned = {
        name: x.masked_fill(absent.reshape(*absent.shape, *[1] * (x.dim() - 2)), torch.nan)
        if name in ("q", "k", "v", "log_decay", "beta")
        else x
        for name, x in arguments.items()
    }
    clean, found = (results(x, device, backend="triton") for x in (arguments, poisoned))
    assert_close(found, clean, 0.0)
    assert (found["output"].cpu()[absent] == 0).all()
    assert (found["v"].cpu()[absent] == 0).all()


@pytest.mark.parametrize("dtype", list(dict.fromkeys([torch.float32, DOUBLE])))
@pytest.mark.parametrize("decay", ["head", "channel"])
def test_strong_decays_stay_finite_and_cost_later_tokens_no_digits(decay, dtype, device):
    arguments = draw(1, 64, 1, decay=decay, dtype=dtype)
    gates = arguments["log_decay"]
    gates[:, 5:20] = -50.0
    gates[:, 25:30] = 0.0
    gates[:, 40] = -1e30
    found = results(arguments, device, backend="triton")
    assert all(x.isfinite().all() for x in found.values())
    expected = results(arguments, "cpu", torch.float64, backend="reference")
    assert_close(found, expected, 1e-5 if dtype == torch.float32 and launching.INTERPRETED else BOUND[dtype])


@pytest.mark.parametrize("beta", [False, True])
def test_equal_keys_cost_no_digits(beta, device):
    # The inverse of a triangle of ones: found by powers of it, its digits would drown in binomials of 64.
    arguments = draw(1, 64, 1, 8, 8, "none", beta, flags=False, dtype=torch.float32)
    arguments["k"] = torch.ones_like(arguments["k"]) / 8**0.5
    if beta:
        arguments["beta"] = torch.ones_like(arguments["beta"])
    expected = results(arguments, "cpu", torch.float64, backend="reference")
    assert_close(results(arguments, device, backend="triton"), expected, 1e-5)


@pytest.mark.parametrize(("decay", "beta"), [("head", True), ("none", False)])
def test_operators_are_what_torch_wants_of_them(decay, beta, device):
    from recurra.kernels.delta_rule.gpu import delta_rule_backward, delta_rule_forward

    drawn = {name: x.to(device) for name, x in draw(1, 5, 1, decay=decay, beta=beta, dtype=DOUBLE).items()}
    names = ("q", "k", "v", "log_decay", "beta", "initial_state", "first", "present")
    given = [drawn.get(name) for name in names]
    given[0] = given[0].transpose(1, 2).contiguous().transpose(1, 2)
    torch.library.opcheck(delta_rule_backward, (given[2], given[5], *given, 0.5, 16))
    leaves = [x if x is None or x.dtype == torch.bool else x.requires_grad_() for x in given]
    torch.library.opcheck(delta_rule_forward, (*leaves, 0.5, 16))


def test_it_compiles_whole(device):
    compiled = torch.compile(delta_rule, fullgraph=True, backend="aot_eager")
    inputs = {name: x.to(device) for name, x in draw(dtype=DOUBLE).items()}
    inputs = {name: x.requires_grad_(x.is_floating_point()) for name, x in inputs.items()}
    leaves = [x for x in inputs.values() if x.requires_grad]
    found, expected = compiled(**inputs, backend="triton"), delta_rule(**inputs, backend="reference")
    slopes, wanted = (
        torch.autograd.grad(output.square().sum() + state.sum(), leaves) for output, state in (found, expected)
    )
    bound = BOUND[DOUBLE]
    assert_close(dict(enumerate(found)), dict(enumerate(expected)), bound)
    assert_close(dict(enumerate(slopes)), dict(enumerate(wanted)), bound)


@pytest.mark.skipif(launching.INTERPRETED, reason="large, and in bfloat16: for a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dim", [16, 48, 64, 100, 128])
@every_rule
def test_large(decay, beta, dim, dtype, device):
    arguments = draw(2, 2047, 4, dim, dim, decay, beta, flags=False, dtype=dtype)
    arguments["k"] = torch.nn.functional.normalize(arguments["k"], dim=-1)
    found = results(arguments, device, scale=dim**-0.5, backend="triton")
    expected = results(arguments, device, torch.float64, scale=dim**-0.5, backend="chunked")
    for name, x in expected.items():
        error = (found[name].double() - x).square().mean().sqrt() / x.square().mean().sqrt()
        assert error < (1e-4 if dtype == torch.float32 else 2e-2), name


@pytest.mark.skipif(launching.INTERPRETED, reason="large, and in bfloat16: for a GPU")
@pytest.mark.parametrize("batch", [16, 4096])
def test_large_steps(batch, device):
    arguments = draw(batch, 1, 4, 64, 64, "head", True, flags=False, dtype=torch.bfloat16)
    arguments["initial_state"] = arguments["initial_state"].float()
    found = results(arguments, device, backend="triton")
    assert_close(found, results(arguments, device, torch.float64, backend="reference"), 2e-2)


def test_what_the_kernels_do_not_take(device):
    from recurra.errors import UserError

    with pytest.raises(UserError, match="keys of at most 128 channels, not of 129: take backend=None"):
        delta_rule(**{n: x.to(device) for n, x in draw(key_dim=129, dtype=torch.float32).items()}, backend="triton")
