"""The pooled delta rule: every backend computes what its docstring writes down, for any team."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.errors import UserError
from recurra.kernels import delta_rule, pooled_delta_rule
from recurra.kernels.pooled_delta_rule import BACKENDS


def draw(batch=2, agents=3, time=9, heads=2, key_dim=3, value_dim=4, decay=True, beta=True, flags=True, seed=0):
    """Give arguments of the operation, drawn at random, in float64; keys are not normalised."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    tokens = (batch, agents, time, heads)
    arguments = {"q": normal(*tokens, key_dim), "k": normal(*tokens, key_dim) / 2, "v": normal(*tokens, value_dim)}
    arguments["initial_state"] = normal(batch, heads, key_dim, value_dim)
    if decay:
        arguments["log_decay"] = torch.nn.functional.logsigmoid(normal(batch, time, heads) + 1)
    if beta:
        arguments["beta"] = torch.sigmoid(normal(*tokens)) / agents
    if flags:
        arguments["first"] = torch.rand(batch, time, generator=random) < 0.15
        arguments["present"] = torch.rand(batch, agents, time, generator=random) < 0.7
    return arguments


def naive(q, k, v, log_decay=None, beta=None, initial_state=None, first=None, present=None):
    """One row, one head, one time step, one agent after another, in numpy."""
    output, state = np.zeros(v.shape), initial_state.copy()
    batch, agents, time, heads, _ = q.shape
    for b, h in np.ndindex(batch, heads):
        memory = state[b, h]
        for t in range(time):
            if first is not None and first[b, t]:
                memory = np.zeros_like(memory)
            decayed = memory if log_decay is None else np.exp(log_decay[b, t, h]) * memory
            after = decayed.copy()
            for a in range(agents):
                if present is not None and not present[b, a, t]:
                    continue
                output[b, a, t, h] = memory.T @ q[b, a, t, h]
                write = v[b, a, t, h]
                if beta is not None:
                    write = beta[b, a, t, h] * (write - decayed.T @ k[b, a, t, h])
                after += np.outer(k[b, a, t, h], write)
            memory = after
        state[b, h] = memory
    return output, state


def results(arguments, **options):
    """Give outputs, final state and, of a random weighing of both, the gradient of every argument."""
    arguments = {name: x.clone().requires_grad_(x.is_floating_point()) for name, x in arguments.items()}
    output, state = pooled_delta_rule(**arguments, **options)
    random = torch.Generator().manual_seed(1)
    loss = sum((x * torch.randn(x.shape, generator=random, dtype=torch.float64)).sum() for x in (output, state))
    inputs = {name: x for name, x in arguments.items() if x.requires_grad}
    gradients = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True, materialize_grads=True)
    return {"output": output, "state": state, **dict(zip(inputs, gradients, strict=True))}


def assert_equal(found, expected, tolerance=1e-10):
    for name, x in expected.items():
        assert found[name].shape == x.shape, name
        assert (found[name] - x).norm() <= tolerance * max(float(x.detach().norm()), 1e-3), name


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 20), st.booleans(), st.booleans(), st.booleans(), st.integers(1, 40),
    st.integers(0, 10**6),
)  # fmt: skip
def test_it_is_the_loop_over_writers(backend, agents, time, decay, beta, flags, chunk, seed):
    arguments = draw(agents=agents, time=time, decay=decay, beta=beta, flags=flags, seed=seed)
    output, state = pooled_delta_rule(**arguments, backend=backend, chunk=chunk)
    wanted = naive(**{name: x.numpy() for name, x in arguments.items()})
    assert_equal(
        {"output": output, "state": state}, {"output": torch.tensor(wanted[0]), "state": torch.tensor(wanted[1])}
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 70), st.integers(1, 12), st.booleans(), st.booleans(), st.integers(1, 64), st.integers(0, 10**6))
def test_backends_agree_in_gradients(agents, time, decay, beta, chunk, seed):
    arguments = draw(agents=agents, time=time, decay=decay, beta=beta, seed=seed)
    assert_equal(results(arguments, backend="chunked", chunk=chunk), results(arguments, backend="reference"))


def test_gradients_are_those_of_differences():
    arguments = draw(agents=2, time=4, heads=1, key_dim=2, value_dim=2)
    flags = {name: arguments.pop(name) for name in ("first", "present")}
    names = list(arguments)
    inputs = [arguments[name].requires_grad_() for name in names]
    for backend in BACKENDS:
        torch.autograd.gradcheck(
            lambda *x, backend=backend: pooled_delta_rule(
                **dict(zip(names, x, strict=True)), **flags, chunk=4, backend=backend
            ),
            inputs,
        )


def test_one_agent_writes_what_the_delta_rule_writes_and_reads_what_was_there():
    arguments = draw(agents=1, flags=False)
    alone = {name: x.squeeze(1) if x.shape[1] == 1 and name != "log_decay" else x for name, x in arguments.items()}
    output, state = pooled_delta_rule(**arguments)
    for t in range(1, 9):
        cut = {name: x if name == "initial_state" else x[:, :t] for name, x in alone.items()}
        _, before = delta_rule(**cut)
        read = torch.einsum("bhkv,bhk->bhv", before, alone["q"][:, t])
        torch.testing.assert_close(output[:, 0, t], read, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(state, delta_rule(**alone)[1], rtol=1e-10, atol=1e-12)


def test_sixty_four_agents_on_one_key_agree_where_steps_are_divided():
    """Undivided they overshoot by a factor of 63 at every step."""
    key = torch.tensor([1.0, 0.0]).expand(1, 64, 300, 1, 2)
    value, beta = torch.randn(1, 64, 300, 1, 3), torch.ones(1, 64, 300, 1)
    for backend in BACKENDS:
        _, state = pooled_delta_rule(key, key, value, beta=beta / 64, backend=backend)
        torch.testing.assert_close(state[0, 0, 0], value[0, :, -1, 0].mean(0))
        assert not pooled_delta_rule(key, key, value, beta=beta, backend=backend)[1].isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": torch.zeros(2, 3, 9, 2, 5)}, "k must be of shape"),
        ({"log_decay": torch.zeros(2, 3, 9, 2)}, "log_decay must be of shape"),
        ({"present": torch.ones(2, 9, dtype=torch.bool)}, "present must be of shape"),
        ({"first": torch.ones(2, 9)}, "first must be bool"),
        ({"q": torch.zeros(2, 9, 2, 3)}, r"q must be \(batch, agents, time, heads, key_dim\)"),
        ({"chunk": 0}, "chunk must be at least 1"),
        ({"backend": "chunk"}, "no backend 'chunk'"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        pooled_delta_rule(**{**draw(), **change})
