"""Memories that a team shares obey the laws, and are what their docstrings write down."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from recurra.errors import UserError
from recurra.memory import build, laws, names, stack
from recurra.memory import state as states
from recurra.memory.shared import POOLED, Alone, Pooled

POOLS = [name for name in POOLED if name not in ("mesa_net", "delta_product")]
MEMORIES = {
    "srmt": lambda: build("srmt", 8, heads=2, window=3),
    "srmt, two layers": lambda: build("srmt", 8, heads=2, window=2, layers=2),
    "srmt, own memories": lambda: build("srmt", 8, heads=2, window=3, memory="own"),
    "srmt, no memory": lambda: build("srmt", 8, heads=2, window=3, memory="none"),
    "srmt, no window": lambda: build("srmt", 8, heads=2, window=0),
    "srmt, causal": lambda: build("srmt", 8, heads=2, window=3, causal=True),
    "srmt, blind": lambda: build("srmt", 8, heads=2, window=3, blind=True),
    "pooled_yaad": lambda: build("pooled_yaad", 8, heads=2, chunk=3),
    "pooled_gated_delta_net": lambda: build("pooled_gated_delta_net", 8, heads=2),
    "pooled delta_net": lambda: build("pooled", 8, memory="delta_net", heads=2, convolution=0),
    "pooled longhorn": lambda: build("pooled", 8, memory="longhorn", heads=2),
    "pooled gla": lambda: build("pooled", 8, memory="gla", heads=2),
    "pooled titans": lambda: build("pooled", 8, memory="titans", heads=2, chunk=3),
    "pooled moneta": lambda: build("pooled", 8, memory="moneta", heads=2, chunk=3),
    "pooled memora": lambda: build("pooled", 8, memory="memora", heads=2, chunk=3, mapped="ends"),
    "pooled vector": lambda: build("pooled", 8, memory="associative", architecture="vector", heads=2, chunk=3),
    "alone gru": lambda: build("alone", 8, memory="gru"),
    "alone none": lambda: build("alone", 8, memory="none"),
    "alone rmt": lambda: build("alone", 8, memory="rmt", segment=4, slots=2, heads=2),
    "alone window": lambda: build("alone", 8, memory="window", heads=2, window=4),
    "a network of pools": lambda: stack("pooled_gated_delta_net", 8, layers=2, heads=2),
    "a network of srmt": lambda: stack("srmt", 8, layers=2, heads=2, window=2),
}
LISTED = ("srmt", "pooled_yaad", "pooled_gated_delta_net", "pooled", "alone")


def make(name, seed=0):
    torch.manual_seed(seed)
    return MEMORIES[name]()


def draw(batch=2, agents=3, time=7, dim=8, seed=1):
    """Give tokens in float64, resets and who is there; who is not holds NaN."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, agents, time, dim, generator=random, dtype=torch.float64)
    first = torch.rand(batch, time, generator=random) < 0.2
    present = torch.rand(batch, agents, time, generator=random) < 0.7
    return x.masked_fill(~present.unsqueeze(-1), math.nan), first, present


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-11)


# The laws -------------------------------------------------------------------------------------------------------------


def test_what_a_team_shares_is_listed():
    assert tuple(names(team=True)) == LISTED
    assert sorted((*names(team=True), *names(team=False))) == sorted(names())
    assert all(build(name, 8).team for name in LISTED)


@pytest.mark.parametrize("name", MEMORIES)
def test_a_memory_of_a_team_obeys_the_laws(name):
    laws.check(make(name), cases=1, time=6)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(list(MEMORIES)), st.sampled_from(list(laws.LAWS)), st.integers(0, 10**9))
def test_it_obeys_whatever_the_case(name, law, seed):
    laws.check(make(name, seed), laws=[law], cases=1, seed=seed, time=6)


@pytest.mark.parametrize("name", ["srmt", "pooled_yaad", "pooled_gated_delta_net"])
@pytest.mark.parametrize("law", ["split", "first", "present", "causal", "rows", "saved"])
def test_teams_of_up_to_sixty_four_obey(name, law):
    for agents, seed in ((1, 0), (17, 1), (64, 4)):
        laws.check(make(name), laws=[law], cases=1, seed=seed, time=4, agents=agents)


def test_what_the_released_code_of_srmt_reads_otherwise_breaks_these_laws():
    others = set(laws.LAWS) - {"present"}  # which is of resets, too
    for options, broken in ({"detached": True}, ("gradient",)), ({"kept": True}, ("first",)):
        with pytest.raises(laws.LawBroken) as caught:
            laws.check(build("srmt", 8, heads=2, window=1, **options), cases=1, time=4, laws=others)
        assert caught.value.laws == broken


# SRMT -----------------------------------------------------------------------------------------------------------------


def slopes(time, **options):
    """Give how a team's last memories hang on its inputs: ``(agents, time)``."""
    torch.manual_seed(0)
    memory = build("srmt", 8, heads=2, window=2, **options).double()
    x = torch.randn(1, 3, time, 8, dtype=torch.float64, requires_grad=True)
    _, state = memory(x)
    weights = torch.randn(8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.autograd.grad((state.memory[0, 0] * weights).sum(), x)[0].abs().amax(-1)[0]


def test_memories_see_every_observation_of_everybody():
    grads = slopes(5)
    assert bool((grads[0] > 0).all())  # its own, up to the last
    assert bool((grads[1:, :-1] > 0).all())  # others', through the memories that they showed
    assert not grads[1:, -1].any()  # what they see now they show at the next step


@pytest.mark.parametrize("option", ["causal", "blind"])
def test_as_released_memories_see_the_first_observation_alone(option):
    grads = slopes(5, **{option: True})
    assert bool((grads[:, 0] > 0).all())
    assert not grads[:, 1:].any()


def test_gradients_stop_where_writing_is_detached():
    torch.manual_seed(0)
    memory = build("srmt", 8, heads=2, detached=True)
    y, _ = memory(torch.randn(1, 2, 4, 8))
    y.sum().backward()
    assert memory.head.weight.grad is None


def test_the_first_memory_is_made_of_the_first_answer_and_later_ones_are_not():
    memory = make("srmt").double()
    x, _, _ = draw()
    x = x.nan_to_num()
    y, state = memory(x[:, :, :1])
    close(state.memory, memory.head(y[:, :, 0]))
    assert bool(state.written.all())
    y, state = memory(x[:, :, 1:2], state)
    assert not torch.allclose(state.memory, memory.head(y[:, :, 0]))


def test_who_comes_later_is_heard_from_the_next_step_on():
    memory = make("srmt").double()
    x = draw(batch=1, agents=2, time=4)[0].nan_to_num()
    present = torch.tensor([[[True] * 4, [False, False, True, True]]])
    y, _ = memory(x, present=present)
    other = x.clone()
    other[:, 1, 2] = -x[:, 1, 2]
    y_other, _ = memory(other, present=present)
    close(y_other[:, 0, :3], y[:, 0, :3])
    assert not torch.allclose(y_other[:, 0, 3], y[:, 0, 3])


def test_without_pooling_agents_do_not_touch():
    x = draw(batch=1)[0].nan_to_num()
    other = x.clone()
    other[:, 1:] = -x[:, 1:]
    for kind in ("own", "none"):
        memory = build("srmt", 8, heads=2, memory=kind).double()
        close(memory(other)[0][:, 0], memory(x)[0][:, 0])
    shared = build("srmt", 8, heads=2).double()
    assert not torch.allclose(shared(other)[0][:, 0], shared(x)[0][:, 0])


# Pools ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", POOLS)
def test_one_agent_writes_what_the_memory_writes_by_itself(name):
    torch.manual_seed(0)
    pooled = Pooled(8, memory=name, heads=2).double()
    x, first, present = draw(agents=1, time=9)
    alone = pooled.memory
    y, state = pooled(x, first=first, present=present)
    _, wanted = alone(x[:, 0], first=first, present=present[:, 0])
    for found, weights in zip(state.written, wanted.written, strict=True):
        close(found, weights)
    assert y.isfinite().all()


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 4), st.integers(0, 10**6))
def test_a_pool_of_yaad_is_its_docstring(agents, time, chunk, seed):
    """Token by token, agent by agent, with the gradient that autograd finds."""
    torch.manual_seed(seed)
    pooled = Pooled(4, memory="yaad", heads=1, chunk=chunk, convolution=0).double()
    memory = pooled.memory
    x, _, present = draw(1, agents, time, 4, seed)
    x = x.nan_to_num()
    y, state = pooled(x, present=present)
    tokens = memory.tokens(x[0], torch.nn.functional.silu(memory.projection(x[0])), torch.float64)
    weights = [w.detach()[0] for w in memory.weights]
    scale, shift = (part[0] for part in memory.inner_norm)

    def ask(query, weights):
        f = torch.nn.functional.gelu(query @ weights[0]) @ weights[1]
        return query + shift + scale * torch.nn.functional.layer_norm(f, f.shape, eps=1e-6)

    opening, steps, reads = weights, 0, {}
    for t in range(time):
        here = present[0, :, t].nonzero().flatten().tolist()
        if not here:
            continue
        opening = weights if steps % chunk == 0 else opening
        steps += 1
        keep = torch.stack([tokens.log_decay[a, t, 0] for a in here]).mean(0).exp()
        after = [keep[:, None] * weights[0], weights[1] * keep]
        for a in here:
            reads[a, t] = ask(tokens.q[a, t, 0], weights)
            probe = [w.clone().requires_grad_() for w in opening]
            norm = ((ask(tokens.k[a, t, 0], probe) - tokens.v[a, t, 0]).square().sum() + 1e-6).sqrt()
            delta = tokens.threshold[a, t, 0, 0].detach()
            loss = norm**2 / 2 if norm <= delta else delta * norm
            rise, fall = torch.autograd.grad(loss, probe)
            step = tokens.step[a, t, 0] / len(here)
            after = [after[0] - step[:, None] * rise, after[1] - step * fall]
        weights = after
    for found, wanted in zip(state.written, weights, strict=True):
        close(found[0, 0], wanted)
    for (a, t), read in reads.items():
        wanted = memory.finished(x[:1, a, t : t + 1], tokens, read[None, None, None])
        close(y[0, a, t], wanted[0, 0])


def test_both_paths_of_the_delta_rules_agree():
    for name in ("delta_net", "gated_delta_net", "longhorn"):
        torch.manual_seed(0)
        pooled = Pooled(8, memory=name, heads=2).double()
        x, first, present = draw(agents=5, time=12)
        y, state = pooled(x, first=first, present=present)
        assert pooled.path == "pooled_delta_rule"
        pooled.path = "generic"
        y_other, other = pooled(x, first=first, present=present)
        close(y_other, y)
        close(other.written[0], state.written[0])


@pytest.mark.parametrize("name", ["pooled_yaad", "pooled_gated_delta_net"])
def test_sixty_four_agents_that_all_see_the_same_stay_finite(name):
    torch.manual_seed(0)
    memory = build(name, 16, heads=2)
    x = torch.ones(1, 64, 300, 16)
    with torch.no_grad():
        y, state = memory(x)
    assert y.isfinite().all()
    assert all(float(weights.abs().max()) < 100 for weights in state.written)


@pytest.mark.parametrize("name", ["pooled_yaad", "pooled_gated_delta_net"])
def test_the_cost_is_linear_in_agents(name):
    memory = build(name, 16, heads=2)

    def work(agents):
        with FlopCounterMode(display=False) as counter:
            memory(torch.randn(1, agents, 8, 16))
        return counter.get_total_flops()

    assert work(256) <= 2.01 * work(128) <= 4.04 * work(64)


def test_what_cannot_be_pooled_is_said():
    with pytest.raises(UserError, match=r"no memory named 'yad' can be pooled; did you mean 'yaad'"):
        build("pooled", 8, memory="yad")
    for name in ("mesa_net", "delta_product"):
        with pytest.raises(UserError, match=f"{name} cannot be pooled: agents cannot take a share"):
            build("pooled", 8, memory=name)


@pytest.mark.parametrize("name", LISTED)
def test_the_state_of_another_team_is_told(name):
    memory = build(name, 8)
    x = torch.randn(2, 4, 3, 8)
    _, state = memory(x)
    memory(x, state)
    cases = {
        "the state is of 3 streams of 4 agents, x of 2 streams of 4 agents": memory.initial_state(3, agents=4),
        "the state is of 2 streams of 3 agents, x of 2 streams of 4 agents": memory(x[:, :3])[1],
        "the state is of 6 streams of 2 agents, x of 2 streams of 4 agents": memory.initial_state(6, agents=2),
        "the state is of another memory: it is LSTMState, .* keeps": build("lstm", 8).initial_state(2),
        "the state is of another memory: .* a stream, .* keeps": build(name, 16).initial_state(2, agents=4),
    }
    for message, other in cases.items():
        with pytest.raises(UserError, match=message):
            memory(x, other)
        with pytest.raises(UserError, match=message):
            memory.step(x[:, :, 0], other)
    memory(x[:, :3], memory(x[:, :3])[1])  # another team may come


# Each alone -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gru", "delta_net", "rmt"])
def test_alone_each_agent_remembers_by_itself(name):
    torch.manual_seed(0)
    team = Alone(8, memory=name).double()
    x, first, present = draw()
    y, state = team(x, first=first, present=present)
    for agent in range(3):
        wanted, last = team.memory(x[:, agent], first=first, present=present[:, agent])
        close(y[:, agent], wanted)
        for (_, field), (_, field_alone) in zip(states.fields(state), states.fields(last), strict=True):
            close(field[:, agent], field_alone)


def test_a_teams_memory_is_not_alone():
    with pytest.raises(UserError, match="SRMT is a team's memory already"):
        Alone(8, memory="srmt")
