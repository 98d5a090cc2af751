"""The MLP memory: every backend learns as its docstring writes down, which autograd, token by token, repeats."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from recurra.errors import UserError
from recurra.kernels import compiling, mlp_memory
from recurra.kernels.biases import dot, huber, huber_mixture, huber_norm, l2, lp, robust
from recurra.kernels.mlp_memory import MLPState, chunked

every_backend = pytest.mark.parametrize("backend", ["reference", "chunked"])  # tests/gpu has the third
GATES = ("none", "head", "channel")
every_rule = pytest.mark.parametrize(
    ("decay", "momentum"), [(decay, momentum) for decay in GATES for momentum in (False, True)]
)


def draw(
    batch=2, time=21, heads=2, dim=4, hidden=6, rate="head", decay="head", momentum=True, offset=False, norm=True,
    flags=True, seed=0, dtype=torch.float64,
):  # fmt: skip
    """Give arguments of the operation, drawn at random; keys are of length 1."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype)

    tokens = (batch, time, heads)
    shapes = {"head": tokens, "channel": (*tokens, dim)}
    arguments = {
        "q": F.normalize(normal(*tokens, dim), dim=-1),
        "k": F.normalize(normal(*tokens, dim), dim=-1),
        "v": normal(*tokens, dim),
        "weights": (normal(heads, dim + offset, hidden), normal(heads, hidden + offset, dim) / 2),
        "rate": torch.sigmoid(normal(*shapes[rate])) / 20,
        "threshold": torch.sigmoid(normal(*tokens)),
    }
    if decay != "none":
        arguments["log_decay"] = F.logsigmoid(normal(*shapes[decay]) + 3)
    if momentum:
        arguments["log_momentum"] = F.logsigmoid(normal(*tokens))
    if norm:
        arguments["norm"] = 1 + normal(heads, dim) / 5, normal(heads, dim) / 5
    if flags:
        arguments["first"] = torch.rand(batch, time, generator=random) < 0.15
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


def leaves(arguments):
    return change(arguments, lambda x: x.clone().requires_grad_() if x.is_floating_point() else x)


def results(arguments, operation=mlp_memory, **options):
    """Give outputs, final state and, of a random weighing of both, the gradient of every argument."""
    arguments = leaves(arguments)
    found = tensors(operation(**arguments, **options), "result")
    random = torch.Generator().manual_seed(1)
    weigh = [
        (x * torch.randn(x.shape, generator=random, dtype=torch.float64)).sum() for x in found.values() if x.dim() > 1
    ]
    inputs = {name: x for name, x in tensors(arguments, "gradient").items() if x.requires_grad}
    gradients = torch.autograd.grad(sum(weigh), list(inputs.values()), allow_unused=True, materialize_grads=True)
    return {**found, **dict(zip(inputs, gradients, strict=True))}


def assert_equal(found, expected, tolerance=1e-10):
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        assert found[name].shape == x.shape, name
        error = (found[name].double() - x.double()).norm()
        assert error <= tolerance * max(x.double().norm(), 1e-2), (name, error.item(), x.norm().item())


def steady(found):
    """Tell whether a rule that may diverge as published (lp without a norm) has not, with these numbers."""
    return all(bool((x.double().abs() < 1e4).all()) for x in found.values())


def ask(x, upper, lower, norm, head, residual):
    """M(x) for one token and head, of torch's own functions."""
    hidden = F.gelu(F.pad(x, (0, upper.shape[0] - len(x)), value=1.0) @ upper)
    answer = F.pad(hidden, (0, lower.shape[0] - len(hidden)), value=1.0) @ lower
    if norm is not None:
        answer = F.layer_norm(answer, answer.shape, norm[0][head], norm[1][head], eps=1e-6)
    return x + answer if residual else answer


def oracle(
    q, k, v, weights, rate, log_decay=None, log_momentum=None, threshold=None, norm=None, first=None, present=None,
    initial_state=None, *, loss, chunk, residual=True,
):  # fmt: skip
    """One row, one head, one token after another; the gradient is autograd's."""
    batch, time, heads, _ = v.shape
    outputs, states, positions = torch.zeros_like(v), [], torch.zeros(batch, dtype=torch.long)
    for b in range(batch):
        for h in range(heads):
            fresh = [w[h] for w in weights]
            start, now, momentum, position = fresh, fresh, [torch.zeros_like(w) for w in fresh], 0
            if initial_state is not None:
                start, now, momentum = ([w[b, h] for w in pair] for pair in initial_state[:3])
                position = int(initial_state.position[b])
            for t in range(time):
                if first is not None and first[b, t]:
                    start, now, momentum, position = fresh, fresh, [torch.zeros_like(w) for w in fresh], 0
                if present is not None and not present[b, t]:
                    continue
                if position % chunk == 0:
                    start = now
                position += 1
                # Nothing but the loss's gradient for the weights is wanted: they stand for themselves.
                here = [w if w.requires_grad else w.clone().requires_grad_() for w in start]
                lost = loss(ask(k[b, t, h], *here, norm, h, residual) - v[b, t, h], threshold[b, t, h])
                slopes = torch.autograd.grad(lost, here, create_graph=True)
                for index, slope in enumerate(slopes):
                    step, kept = rate[b, t, h], torch.ones(()) if log_decay is None else log_decay[b, t, h].exp()
                    if step.dim() and index == 0:
                        step = step.unsqueeze(-1)
                    if kept.dim() and index == 0:
                        kept = kept.unsqueeze(-1)
                    surprise = -step * slope
                    if log_momentum is not None:
                        surprise = log_momentum[b, t, h].exp() * momentum[index] + surprise
                    momentum = [surprise if i == index else s for i, s in enumerate(momentum)]
                    now = [kept * w + surprise if i == index else w for i, w in enumerate(now)]
                outputs[b, t, h] = ask(q[b, t, h], *now, norm, h, residual)
            states.append((start, now, momentum))
            positions[b] = position

    def gather(part):
        return tuple(
            torch.stack([states[i][part][layer] for i in range(batch * heads)]).unflatten(0, (batch, heads))
            for layer in range(2)
        )

    return outputs, MLPState(gather(0), gather(1), gather(2) if log_momentum is not None else (), positions)


LOSSES = {
    "l2": (l2, lambda r, threshold: r.square().sum()),
    "l3": (partial(lp, p=3.0), lambda r, threshold: r.abs().pow(3).sum()),
    "huber": (
        huber,
        lambda r, threshold: F.huber_loss(r, torch.zeros_like(r), reduction="sum", delta=threshold.item()),
    ),
}


@every_backend
@every_rule
@pytest.mark.parametrize("chunk", [1, 5])
def test_it_learns_as_autograd_does(backend, decay, momentum, chunk):
    arguments = draw(time=13, batch=1, decay=decay, rate="channel" if decay == "channel" else "head", momentum=momentum)
    found = results(arguments, bias=l2, backend=backend, chunk=chunk)
    assert_equal(found, results(arguments, partial(oracle, loss=LOSSES["l2"][1], chunk=chunk)), 1e-9)


@every_backend
@pytest.mark.parametrize("loss", ["l3", "huber"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_biases_norms_and_offsets(backend, loss, residual, norm):
    bias, lost = LOSSES[loss]
    arguments = draw(time=11, batch=1, heads=1, offset=True, norm=norm)
    del arguments["threshold"]
    threshold = torch.full((1, 11, 1), 0.7, dtype=torch.float64)
    found = results(
        arguments, partial(mlp_memory, threshold=threshold), bias=bias, backend=backend, chunk=4, residual=residual
    )
    expected = results(arguments, partial(oracle, threshold=threshold, loss=lost, chunk=4, residual=residual))
    assert_equal(found, expected, 1e-9)


shapes = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 3),
        "time": st.sampled_from([1, 2, 17, 33, 50]),
        "heads": st.integers(1, 2),
        "dim": st.integers(2, 5),
        "hidden": st.integers(1, 7),
        "rate": st.sampled_from(["head", "channel"]),
        "decay": st.sampled_from(GATES),
        "momentum": st.booleans(),
        "norm": st.booleans(),
        "flags": st.booleans(),
        "seed": st.integers(0, 2**31),
    }
)
biases = st.sampled_from([dot, l2, partial(lp, p=3.0), partial(lp, p=1.5), huber, huber_norm, huber_mixture, robust])


@settings(deadline=None, max_examples=30)
@given(shapes, st.sampled_from([1, 2, 3, 16, 64]), biases)
def test_backends_agree_in_outputs_states_and_gradients(shape, chunk, bias):
    arguments = draw(**shape)
    expected = results(arguments, bias=bias, chunk=chunk, backend="reference")
    assume(steady(expected))
    assert_equal(results(arguments, bias=bias, chunk=chunk, backend="chunked"), expected, 1e-8)


@settings(deadline=None, max_examples=25)
@given(shapes, st.lists(st.integers(0, 50), max_size=4), st.sampled_from([1, 4, 7, 16, 64]))
def test_cutting_the_stream_anywhere_changes_nothing(shape, cuts, chunk):
    arguments, time = draw(**shape), shape["time"]
    over_time = ("q", "k", "v", "rate", "threshold", "log_decay", "log_momentum", "first", "present")

    def in_pieces(**whole):
        state, outputs = None, []
        for begin, end in pairwise([0, *sorted(min(cut, time) for cut in cuts), time]):
            piece = {name: x[:, begin:end] if name in over_time else x for name, x in whole.items()}
            output, state = mlp_memory(**piece, initial_state=state, chunk=chunk)
            outputs.append(output)
        return torch.cat(outputs, 1), state

    expected = results(arguments, chunk=chunk)
    assume(steady(expected))
    assert_equal(results(arguments, in_pieces), expected, 1e-9)


@every_backend
@every_rule
def test_gradients_are_those_of_finite_differences(backend, decay, momentum):
    arguments = leaves(draw(batch=1, time=6, decay=decay, momentum=momentum))
    flat = tensors(arguments)

    def run(*values):
        remaining = iter(values)
        return tuple(
            tensors(mlp_memory(**change(arguments, lambda x: next(remaining)), backend=backend, chunk=3)).values()
        )

    assert torch.autograd.gradcheck(run, tuple(flat.values()), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, tuple(flat.values()), fast_mode=True)


def test_the_chunk_is_part_of_the_model():
    arguments = draw(flags=False)
    online, frozen = (mlp_memory(**arguments, chunk=chunk)[0] for chunk in (1, 8))
    torch.testing.assert_close(online[:, 0], frozen[:, 0])
    assert (online[:, 1:] - frozen[:, 1:]).norm() > 1e-3 * online.norm()


def test_momentum_of_a_linear_loss_is_the_closed_form():
    """A bias that does not look at the memory, at frozen weights: the second layer is a sum of writes."""
    arguments = draw(batch=1, heads=1, time=9, norm=False, flags=False)
    arguments["weights"] = arguments["weights"][0], arguments["weights"][1].zero_()
    _, state = mlp_memory(**arguments, bias=dot, chunk=16)
    keep, stay = (arguments[name][0, :, 0].exp() for name in ("log_decay", "log_momentum"))
    active = F.gelu(arguments["k"][0, :, 0] @ arguments["weights"][0][0])
    expected = torch.zeros(6, 4, dtype=torch.float64)
    for j in range(9):
        part = sum(keep[i + 1 :].prod() * stay[j + 1 : i + 1].prod() for i in range(j, 9))
        expected += part * arguments["rate"][0, j, 0] * torch.outer(active[j], arguments["v"][0, j, 0])
    torch.testing.assert_close(state.weights[1][0, 0], expected)


@every_backend
@every_rule
def test_what_absent_tokens_hold_reaches_nothing(backend, decay, momentum):
    arguments = draw(decay=decay, momentum=momentum)
    absent = ~arguments["present"]
    poisoned = {
        name: x.masked_fill(absent.reshape(*absent.shape, *[1] * (x.dim() - 2)), torch.nan)
        if name in ("q", "k", "v", "rate", "threshold", "log_decay", "log_momentum")
        else x
        for name, x in arguments.items()
    }
    clean, found = (results(given, backend=backend, chunk=8) for given in (arguments, poisoned))
    assert_equal(found, clean, 0.0)
    assert (found["result.0"][absent] == 0).all()
    assert (found["gradient.v"][absent] == 0).all()


@every_backend
def test_an_absent_first_token_still_begins_an_episode(backend):
    arguments = draw(time=5, flags=False)
    first, present = torch.zeros(2, 5, dtype=torch.bool), torch.ones(2, 5, dtype=torch.bool)
    first[:, 2], present[:, 2] = True, False
    output, state = mlp_memory(**arguments, first=first, present=present, backend=backend)
    tail = {name: x if isinstance(x, tuple) else x[:, 3:] for name, x in arguments.items()}
    expected, fresh = mlp_memory(**tail, backend=backend)
    assert_equal({"output": output[:, 3:], **tensors(state)}, {"output": expected, **tensors(fresh)})


@every_backend
@pytest.mark.parametrize("decay", ["head", "channel"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_strong_decays_stay_finite_and_cost_later_tokens_no_digits(backend, decay, dtype):
    arguments = draw(time=60, decay=decay, norm=False, dtype=dtype)  # LN of what has decayed loses digits by itself
    for name in ("log_decay", "log_momentum"):
        arguments[name][:, 5:30] = -50.0
        arguments[name][:, 40:45] = 0.0
        arguments[name][:, 50] = -1e30
    found = results(arguments, backend=backend, chunk=32)
    assert all(x.isfinite().all() for x in found.values())
    exact = change(arguments, lambda x: x.double() if x.is_floating_point() else x)
    assert_equal(found, results(exact, backend="reference", chunk=32), 1e-4 if dtype == torch.float32 else 1e-9)


@every_backend
def test_states_are_held_in_float32_or_more(backend):
    def dtypes(inputs):
        output, state = mlp_memory(**inputs, backend=backend)
        return output.dtype, {x.dtype for x in tensors(state[:3]).values()}

    half = draw(dtype=torch.bfloat16)
    assert dtypes(half) == (torch.bfloat16, {torch.float32})
    assert dtypes(draw()) == (torch.float64, {torch.float64})
    assert dtypes({name: x if isinstance(x, tuple) else x[:, :0] for name, x in half.items()}) == (
        torch.bfloat16,
        {torch.float32},
    )


@every_backend
def test_autocast_does_not_lower_the_precision(backend):
    arguments = draw(dtype=torch.float32)
    plain = tensors(mlp_memory(**arguments, backend=backend))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_equal(tensors(mlp_memory(**arguments, backend=backend)), plain, 0.0)


@every_backend
def test_an_empty_piece_leaves_the_state_as_it_is(backend):
    _, state = mlp_memory(**draw())
    empty = {name: x if isinstance(x, tuple) else x[:, :0] for name, x in draw().items()}
    output, after = mlp_memory(**empty, initial_state=state, backend=backend)
    assert output.shape == (2, 0, 2, 4)
    assert_equal(tensors(after), tensors(state), 0.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"q": torch.zeros(2, 5, 3)}, r"q must be \(batch, time, heads, key_dim\), got \(2, 5, 3\)"),
        ({"k": torch.zeros(2, 5, 2, 3)}, r"k must be of shape \(2, 5, 2, 4\), got \(2, 5, 2, 3\)"),
        ({"v": torch.zeros(2, 5, 2, 3)}, r"needs values as wide as keys, got 3 and 4"),
        ({"weights": (torch.zeros(2, 6, 6), torch.zeros(2, 6, 4))}, r"weights\[0\] must be of shape \(2, 4, 6\) or"),
        ({"weights": (torch.zeros(2, 4, 6), torch.zeros(2, 4, 6))}, r"weights\[1\] must be of shape \(2, 6, 4\) or"),
        ({"rate": torch.zeros(2, 5)}, r"rate must be of shape \(2, 5, 2\) or"),
        (
            {"log_momentum": torch.zeros(2, 5, 2, 4)},
            r"log_momentum must be of shape \(2, 5, 2\) or \(2, 5, 2, 1\), got",
        ),
        ({"norm": (torch.ones(4), torch.zeros(4))}, r"norm\[0\] must be of shape \(2, 4\), got \(4,\)"),
        ({"first": torch.zeros(2, 4, dtype=torch.bool)}, r"first must be bool of shape \(2, 5\)"),
        ({"present": torch.zeros(2, 5)}, r"present must be bool of shape \(2, 5\), got torch.float32"),
        ({"rate": torch.ones(2, 5, 2, dtype=torch.int64)}, r"rate must be floating point, got torch.int64"),
        ({"threshold": None, "bias": huber}, r"needs a threshold"),
        ({"chunk": 0}, r"chunk must be at least 1, got 0"),
        (
            {"backend": "chunk"},
            r"no backend 'chunk': did you mean 'chunked'\? \(known: chunked, compiled, reference, triton\)",
        ),
    ],
)
def test_errors_say_what_to_do(wrong, message):
    with pytest.raises(UserError, match=message):
        mlp_memory(**{**draw(time=5, flags=False), **wrong})


def test_an_offset_has_no_channel_to_decay_with():
    with pytest.raises(
        UserError, match=r"log_decay must be of shape \(2, 5, 2\) or \(2, 5, 2, 1\), got \(2, 5, 2, 4\)"
    ):
        mlp_memory(**draw(time=5, decay="channel", offset=True))


def test_a_state_of_another_rule_is_refused():
    _, state = mlp_memory(**draw(momentum=False))
    with pytest.raises(UserError, match="holds a momentum if, and only if"):
        mlp_memory(**draw(), initial_state=state)


def test_streams_that_begin_together_compile_whole():
    arguments = draw(time=5, flags=False, dtype=torch.float32)
    found = results(arguments, torch.compile(mlp_memory, fullgraph=True, backend="eager"), chunk=4)
    assert_equal(found, results(arguments, chunk=4), 1e-5)


@pytest.mark.parametrize("compiler", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_chunks_learn_as_plain_ones_do(compiler, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=compiler))
    chunked._compiled.cache_clear()
    for options in ({"momentum": True}, {"momentum": False, "decay": "channel", "offset": False, "norm": False}):
        arguments = draw(**options)
        assert_equal(results(arguments, chunk=8, backend="compiled"), results(arguments, chunk=8, backend="chunked"))
    chunked._compiled.cache_clear()


def test_a_missing_compiler_is_told(monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError

    monkeypatch.setattr(torch, "compile", fail)
    compiling.require.cache_clear()
    chunked._compiled.cache_clear()
    with pytest.raises(UserError, match="needs a working C\\+\\+ compiler"):
        mlp_memory(**draw(), backend="compiled")
