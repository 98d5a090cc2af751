"""The MLP memory in Triton is the reference, its gradients too."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from recurra.errors import UserError
from recurra.kernels import launching, mlp_memory
from recurra.kernels.biases import dot, huber, huber_mixture, huber_norm, l2, lp, robust
from recurra.kernels.mlp_memory import MLPState

DEVICE = "cpu" if launching.INTERPRETED else "cuda"
DTYPES = [torch.float32, torch.float64] if launching.INTERPRETED else [torch.float32]
EXACT = DTYPES[-1]
BOUND = 1e-10 if launching.INTERPRETED else 1e-4
OVER_TIME = ("q", "k", "v", "rate", "threshold", "log_decay", "log_momentum", "first", "present")


def draw(
    batch=1, time=20, heads=1, dim=16, hidden=40, rate=1, decay=1, threshold=1, momentum=True, offset=False,
    norm=True, flags=False, seed=0, dtype=torch.float64,
):  # fmt: skip
    """Give arguments of the operation, drawn at random; rate, decay (0: none) and threshold are of so many channels."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype)

    tokens = (batch, time, heads)
    arguments = {
        "q": F.normalize(normal(*tokens, dim), dim=-1),
        "k": F.normalize(normal(*tokens, dim), dim=-1),
        "v": normal(*tokens, dim),
        "weights": (normal(heads, dim + offset, hidden) / 2, normal(heads, hidden + offset, dim) / hidden**0.5),
        "rate": torch.sigmoid(normal(*tokens, rate)) / 20,
        "threshold": torch.sigmoid(normal(*tokens, threshold)),
    }
    if decay:
        arguments["log_decay"] = F.logsigmoid(normal(*tokens, decay) + 3)
    if momentum:
        arguments["log_momentum"] = F.logsigmoid(normal(*tokens))
    if norm:
        arguments["norm"] = 1 + normal(heads, dim) / 5, normal(heads, dim) / 5
    if flags:
        arguments["first"] = torch.rand(batch, time, generator=random) < 0.1
        arguments["present"] = torch.rand(batch, time, generator=random) < 0.8
    return arguments


def tensors(tree, prefix=""):
    """List the tensors of arguments or results by name."""
    if isinstance(tree, torch.Tensor):
        return {prefix: tree}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return {name: x for key, branch in items for name, x in tensors(branch, f"{prefix}.{key}").items()}


def change(tree, function):
    """Apply a function to every tensor."""
    if isinstance(tree, torch.Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {key: change(branch, function) for key, branch in tree.items()}
    made = [change(branch, function) for branch in tree]
    return MLPState(*made) if isinstance(tree, MLPState) else tuple(made)


def results(arguments, device=DEVICE, dtype=None, cut=None, operation=mlp_memory, **options):
    """Give outputs, final state and, of a random weighing of both, the gradient of every argument, by name."""
    arguments = change(
        arguments,
        lambda x: x.to(device, dtype).detach().requires_grad_() if x.is_floating_point() else x.to(device),
    )
    if cut is None:
        output, state = operation(**arguments, **options)
    else:
        state, outputs = None, []
        for piece in (slice(0, cut), slice(cut, None)):
            part = {name: x[:, piece] if name in OVER_TIME else x for name, x in arguments.items()}
            output, state = operation(**part, initial_state=state, **options)
            outputs.append(output)
        output = torch.cat(outputs, 1)
    found = tensors((output, state), "result")
    random = torch.Generator().manual_seed(1)
    weights = [torch.randn(x.shape, generator=random, dtype=torch.float64).to(device) for x in found.values()]
    loss = sum((x.double() * weight).sum() for x, weight in zip(found.values(), weights, strict=True) if x.dim() > 1)
    inputs = {name: x for name, x in tensors(arguments, "gradient").items() if x.requires_grad}
    slopes = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True, materialize_grads=True)
    return {**found, **dict(zip(inputs, slopes, strict=True))}


def agree(found, expected, bound):
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        a, b = found[name].double().cpu(), x.double().cpu()
        assert a.shape == b.shape, name
        assert (a - b).norm() <= bound * max(1.0, b.norm()), (name, (a - b).norm().item(), b.norm().item())


def is_the_reference(arguments, dtype=EXACT, cut=None, **options):
    expected = results(arguments, "cpu", torch.float64, cut=cut, backend="reference", **options)
    assert all(bool((x.abs() < 1e4).all()) for x in expected.values())  # no rule diverges with these numbers
    found = results(arguments, dtype=dtype, cut=cut, backend="triton", **options)
    agree(found, expected, 1e-10 if dtype == torch.float64 else 1e-4)


@settings(deadline=None, max_examples=3)
@given(
    shape=st.fixed_dictionaries(
        {
            "batch": st.integers(1, 2),
            "time": st.sampled_from([3, 17]),
            "dim": st.sampled_from([5, 16]),
            "hidden": st.sampled_from([7, 40]),
            "momentum": st.booleans(),
            "norm": st.booleans(),
            "flags": st.booleans(),
            "seed": st.integers(0, 1000),
        }
    ),
    gates=st.sampled_from(["none", "head", "channel", "channel rate", "offset"]),
    bias=st.sampled_from([l2, huber, huber_norm, partial(lp, p=3.0)]),
    residual=st.booleans(),
    cut=st.sampled_from([None, None, 2, 7]),
    dtype=st.sampled_from(DTYPES),
)
def test_it_is_the_reference_gradients_too(shape, gates, bias, residual, cut, dtype):
    wide = shape["dim"]
    shape |= {
        "none": {"decay": 0},
        "head": {},
        "channel": {"decay": wide, "rate": wide},
        "channel rate": {"rate": wide},
        "offset": {"offset": True},
    }[gates]
    cut = cut if cut is None or cut < shape["time"] else None
    is_the_reference(draw(**shape), dtype, cut=cut, bias=bias, residual=residual, chunk=16)


@pytest.mark.parametrize(
    ("bias", "options"),
    [
        (dot, {}),
        (l2, {"norm": False}),
        (partial(lp, p=1.5), {}),
        (partial(lp, p=2.0), {}),
        (partial(lp, p=3.0), {}),
        (partial(lp, p=3.5), {}),
        (huber, {"threshold": 4, "norm": False}),
        (huber_norm, {"threshold": 4}),
        (huber_mixture, {}),
        (robust, {"decay": 4, "rate": 4}),
    ],
)
def test_every_bias(bias, options):
    is_the_reference(draw(**{"time": 3, "dim": 4, "hidden": 6, **options}), bias=bias, chunk=3)


def test_episodes_and_pieces_begin_in_the_middle_of_chunks():
    arguments = draw(time=9, dim=4, hidden=6)
    arguments["first"] = torch.zeros(1, 9, dtype=torch.bool)
    arguments["first"][:, [5, 8]] = True  # the last has no token in the piece
    arguments["present"] = torch.ones(1, 9, dtype=torch.bool)
    arguments["present"][:, [2, 8]] = False
    is_the_reference(arguments, cut=2, chunk=3)


def test_groups_of_slots_make_one_course(monkeypatch):
    launches = pytest.importorskip("recurra.kernels.mlp_memory.gpu_launches")
    monkeypatch.setattr(launches, "group_of", lambda slots: 2)
    is_the_reference(draw(time=5, dim=4, hidden=6), chunk=1)


def test_gradcheck():
    if not launching.INTERPRETED:
        pytest.skip("a GPU computes in float32")
    arguments = draw(time=5, dim=3, hidden=4, decay=3, offset=False)
    leaves = tensors(arguments)
    sizes = [x.numel() for x in leaves.values()]

    def run(flat):
        values = iter(flat.split(sizes))
        given = change(arguments, lambda x: next(values).view(x.shape))
        found = tensors(mlp_memory(**given, chunk=3, backend="triton")).values()
        return torch.cat([x.flatten() for x in found if x.is_floating_point()])

    flat = torch.cat([x.flatten() for x in leaves.values()]).requires_grad_()
    assert torch.autograd.gradcheck(run, (flat,), fast_mode=True)


def test_absent_tokens_leak_nothing():
    arguments = draw(time=6, dim=4, hidden=6, decay=4)
    arguments["present"] = torch.tensor([[True, True, False, True, False, True]])
    absent = ~arguments["present"]
    poisoned = {
        name: x.masked_fill(absent.reshape(*absent.shape, *[1] * (x.dim() - 2)), torch.nan)
        if name in OVER_TIME and x.is_floating_point()
        else x
        for name, x in arguments.items()
    }
    clean, found = (results(x, dtype=EXACT, backend="triton", chunk=3) for x in (arguments, poisoned))
    agree(found, clean, 0.0)
    assert (found["result.0"].cpu()[absent] == 0).all()


def test_operators_are_what_torch_wants_of_them(monkeypatch):
    gpu = pytest.importorskip("recurra.kernels.mlp_memory.gpu")
    forward, calls = gpu.mlp_memory_forward, []
    monkeypatch.setattr(gpu, "mlp_memory_forward", lambda *inputs: calls.append(inputs) or forward(*inputs))
    arguments = change(draw(time=3, dim=4, hidden=6, momentum=False), lambda x: x.to(DEVICE, EXACT).requires_grad_())
    mlp_memory(**arguments, chunk=2, backend="triton")
    ((tensors, *options),) = calls
    inputs = [x.detach().requires_grad_() for x in tensors]
    torch.library.opcheck(forward, (inputs, *options))
    with torch.no_grad():
        found = forward(inputs, *options)
    inputs = [x.detach() for x in inputs]
    torch.library.opcheck(
        gpu.mlp_memory_backward, (inputs, *options, found[7:], [torch.ones_like(x) for x in found[:7]])
    )


def test_it_compiles_whole():
    compiled = torch.compile(mlp_memory, fullgraph=True, backend="aot_eager")
    arguments = draw(time=5, dim=4, hidden=6)
    expected = results(arguments, dtype=EXACT, chunk=4, backend="triton")
    agree(results(arguments, dtype=EXACT, operation=compiled, chunk=4, backend="triton"), expected, 1e-5)


@pytest.mark.parametrize(
    ("bias", "options"),
    [
        (l2, {}),
        (huber, {"offset": True, "momentum": False, "heads": 2, "batch": 2}),
        (huber_norm, {"decay": 5, "rate": 5, "norm": False, "residual": False}),
    ],
)
@torch.no_grad()
def test_steps_are_the_reference(bias, options):
    gpu = pytest.importorskip("recurra.kernels.mlp_memory.gpu_step")
    residual = options.pop("residual", True)
    arguments = change(draw(time=5, dim=5, **options), lambda x: x.to(DEVICE, EXACT))
    arguments["first"] = torch.zeros(arguments["v"].shape[:2], dtype=torch.bool, device=DEVICE)
    arguments["first"][-1, 3] = True
    found = expected = None
    for t in range(5):
        token = {name: x[:, t : t + 1] if name in OVER_TIME else x for name, x in arguments.items()}
        options = {"bias": bias, "residual": residual, "chunk": 2}
        y, found = mlp_memory(**token, initial_state=found, backend="triton", **options)
        expected_y, expected = mlp_memory(**token, initial_state=expected, backend="reference", **options)
        agree(tensors((y, found)), tensors((expected_y, expected)), BOUND)
    torch.library.opcheck(gpu.mlp_memory_step, _step_of(gpu, token, found, **options))


def _step_of(gpu, token, state, **options):
    """Give what the operator of a step is called with."""
    calls, operator = [], gpu.mlp_memory_step
    gpu.mlp_memory_step = lambda *inputs: calls.append(inputs) or operator(*inputs)
    try:
        mlp_memory(**token, initial_state=state, backend="triton", **options)
    finally:
        gpu.mlp_memory_step = operator
    return calls[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bias": lambda prediction, value, threshold: value}, "takes the biases of recurra.kernels.biases"),
        ({"chunk": 65}, "takes chunks of up to 64 tokens, not 65: take backend=None"),
        ({"bias": huber, "threshold": None}, "needs a threshold"),
    ],
)
def test_errors_say_what_to_do(options, message):
    arguments = change(draw(time=65, dim=4, hidden=6), lambda x: x.to(DEVICE, EXACT))
    with pytest.raises(UserError, match=message):
        mlp_memory(**{**arguments, "chunk": 64, "backend": "triton", **options})


def test_what_would_not_fit_is_refused():
    for size, message in (({"dim": 65}, "16 tokens of float32 heads of 65"), ({"dim": 33, "decay": 33}, "32 tokens")):
        arguments = change(draw(time=33, hidden=4, **size), lambda x: x.to(DEVICE, torch.float32))
        with pytest.raises(UserError, match=f"takes chunks of up to {message}.* channels, not 33"):
            mlp_memory(**arguments, backend="triton")
    arguments = change(draw(time=2, dim=128, hidden=4, offset=True), lambda x: x.to(DEVICE, EXACT))
    with pytest.raises(UserError, match="up to 128 channels of a head, the row of a layer's bias among them, not 129"):
        mlp_memory(**arguments, backend="triton")


@pytest.mark.skipif(launching.INTERPRETED, reason="large, and in bfloat16: for a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("dim", "chunk"), [(16, 16), (64, 16), (64, 64), (128, 16), (128, 64)])
@pytest.mark.parametrize("decay", ["head", "channel"])
def test_large(dtype, dim, chunk, decay):
    wide = dim if decay == "channel" else 1
    if chunk == 64 and dtype == torch.float32 and (dim == 128 or decay == "channel"):
        pytest.skip("refused")
    arguments = draw(2, 1024, 4, dim, 4 * dim, decay=wide, rate=wide, flags=True)
    expected = results(arguments, DEVICE, torch.float64, backend="chunked", chunk=chunk)
    found = results(arguments, dtype=dtype, backend="triton", chunk=chunk)
    agree(found, expected, 1e-3 if dtype == torch.float32 else 5e-2)
