"""Every listed memory obeys the laws, and is what its paper or torch's own modules say."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from recurra.errors import UserError
from recurra.memory import Network, build, laws, names, stack
from recurra.memory import state as states
from recurra.memory.blocks import Block, ShortConvolution, SwiGLU

BLOCKS = ("titans_mac", "titans_mag", "titans_mal")
LEARNERS = ("associative", "ttt_linear", "ttt_mlp", "titans", "moneta", "yaad", "memora")  # slow: tested in few cases
SEGMENT = (
    "rmt",
    "rate",
    "elmur",
    "armt",
    "transformer_xl",
)  # in test_segment.py, with segments that a short stream goes through
MEMORIES = {
    name: lambda name=name: build(name, 8) for name in names(team=False) if name not in (*LEARNERS, *BLOCKS, *SEGMENT)
} | {
    "delta_net, 1 head": lambda: build("delta_net", 6, heads=1, chunk=3),
    "delta_net, no convolution": lambda: build("delta_net", 8, heads=2, convolution=0, chunk=64),
    "delta_net, chunk 1": lambda: build("delta_net", 8, heads=2, convolution=2, chunk=1),
    **{f"{name}, chunk 3": lambda name=name: build(name, 8, heads=2, chunk=3) for name in LEARNERS},
    "titans_mac, segment 3": lambda: build("titans_mac", 8, heads=2, segment=3),
    "titans_mag, window 4": lambda: build("titans_mag", 8, heads=2, window=4, memory={"chunk": 3}),
    "titans_mal, window 4": lambda: build("titans_mal", 8, heads=2, window=4, memory={"chunk": 3}),
    "convolution, 2 wide": lambda: ShortConvolution(5, width=2),
    "convolution, 4 wide": lambda: ShortConvolution(5),
}
NETWORKS = {
    f"two of {name}": lambda name=name: stack(
        name, 8, layers=2, expansion=2.0, **{"heads": 2} if name in LEARNERS else {}
    )
    for name in names(team=False)
    if name not in (*BLOCKS, *SEGMENT)
} | {
    "block": lambda: Block(build("gru", 6)),
    "block without MLP": lambda: Block(build("lstm", 6), expansion=0),
    "mixed": lambda: Network([build("lstm", 8), Block(build("delta_net", 8, heads=2)), build("none", 8)]),
}


def make(name, seed=0):
    torch.manual_seed(seed)
    return (MEMORIES | NETWORKS)[name]()


def exact(name_or_module, seed=0):
    """Give a memory in float64, every parameter away from where it starts."""
    memory = make(name_or_module, seed) if isinstance(name_or_module, str) else name_or_module
    memory = memory.double()
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return memory


def draw(batch, time, dim, seed=1):
    """Give tokens in float64, resets and padding; padding holds NaN."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, time, dim, generator=random, dtype=torch.float64)
    first = torch.rand(batch, time, generator=random) < 0.2
    present = torch.rand(batch, time, generator=random) < 0.7
    return x.masked_fill(~present.unsqueeze(-1), math.nan), first, present


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


# The laws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MEMORIES)
def test_a_memory_obeys_the_laws(name):
    kind = name.partition(",")[0]
    cases, time = (1, 8) if kind in BLOCKS else (1, 14) if kind in LEARNERS else (4, 20)
    laws.check(make(name), cases=cases, time=time)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_it_obeys_the_laws(name):
    laws.check(make(name), cases=1, time=8)


REFUSED = ("gru", "attention")  # for attention torch has no second derivative on a CPU
TWICE = [name for name in MEMORIES if name.partition(",")[0] not in ("none", *REFUSED)]


@pytest.mark.parametrize("name", TWICE)
def test_a_second_derivative_is_right(name):
    memory, (x, first, present) = exact(name), draw(2, 6, 6 if name == "delta_net, 1 head" else 8)
    if name.startswith("convolution"):
        x = x[..., :5]
    x = x.nan_to_num()
    parameters = list(memory.parameters())[-1:]
    directions = [torch.randn_like(z) for z in (x, *parameters)]

    def slope(x):
        x = x.requires_grad_()
        total = memory(x, first=first, present=present)[0].sum()  # its slope is no variable
        slopes = torch.autograd.grad(total, [x, *parameters], create_graph=True, materialize_grads=True)
        return sum((one * other).sum() for one, other in zip(slopes, directions, strict=True))

    found = torch.autograd.grad(slope(x), x, materialize_grads=True)[0]
    step = 1e-5 * torch.randn_like(x)
    difference = slope((x + step).detach()) - slope((x - step).detach())
    torch.testing.assert_close(2 * (found * step).sum(), difference.detach(), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", REFUSED)
def test_a_second_derivative_that_is_not_there_is_refused(name):
    memory, x = exact(name), torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(memory(x)[0].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(slope.sum(), x)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([*MEMORIES, *NETWORKS]), st.sampled_from(list(laws.LAWS)), st.integers(0, 10**9))
def test_it_obeys_whatever_the_case(name, law, seed):
    laws.check(make(name, seed), laws=[law], cases=1, seed=seed)


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(list(laws.LAWS)),
    st.integers(0, 10**9),
    st.fixed_dictionaries(
        {
            "heads": st.sampled_from([1, 4]),
            "convolution": st.sampled_from([0, 2, 4]),
            "windowed": st.booleans(),
            "chunk": st.sampled_from([1, 3, 64]),
            "backend": st.sampled_from([None, "reference", "chunked"]),
        }
    ),
)
def test_delta_net_obeys_whatever_its_options(law, seed, options):
    laws.check(build("delta_net", 8, **options), laws=[law], cases=1, seed=seed)


# What memories compute ------------------------------------------------------------------------------------------------


def delta_net_by_hand(memory, x, first, present):
    """arXiv 2406.06484, one row, one token and one head after another: outputs, the matrices, the last inputs."""
    weights = memory.state_dict()
    heads = memory.heads
    dim = x.shape[-1]
    head = dim // heads
    taps = weights["convolution.weight"]
    y = torch.zeros_like(x)
    matrices = torch.zeros(len(x), heads, head, head, dtype=x.dtype)
    tails = torch.zeros(len(x), len(taps) - 1, 3 * dim, dtype=x.dtype)
    for row in range(len(x)):
        read = [torch.zeros(3 * dim, dtype=x.dtype)] * (len(taps) - 1)
        for t in range(x.shape[1]):
            if first[row, t]:
                read = [torch.zeros(3 * dim, dtype=x.dtype)] * (len(taps) - 1)
                matrices[row] = 0.0
            if not present[row, t]:
                continue
            read.append(weights["projection.weight"] @ x[row, t])
            mixed = sum(tap * read[-1 - lag] for lag, tap in enumerate(taps))
            mixed = mixed / (1 + torch.exp(-mixed))
            strength = weights["strength.weight"] @ x[row, t] + weights["strength.bias"]
            outputs = []
            for h in range(heads):
                q, k, v = (mixed[part * dim + h * head : part * dim + (h + 1) * head] for part in range(3))
                q, k = q / q.square().sum().sqrt(), k / k.square().sum().sqrt()
                beta = 1 / (1 + torch.exp(-strength[h]))
                s = matrices[row, h]
                s += beta * torch.outer(k, v - s.T @ k)
                o = s.T @ q
                outputs.append(o / (o.square().mean() + 1e-6).sqrt() * weights["norm.weight"])
            y[row, t] = weights["output.weight"] @ torch.cat(outputs)
        tails[row] = torch.stack(read[-(len(taps) - 1) :])
    return y, matrices, tails


@pytest.mark.parametrize(("heads", "chunk"), [(1, 64), (4, 3)])
def test_delta_net_is_the_papers(heads, chunk):
    memory = exact(build("delta_net", 8, heads=heads, chunk=chunk))
    x, first, present = draw(3, 23, 8)
    y, (matrix, (tail,)) = memory(x, first=first, present=present)
    expected = delta_net_by_hand(memory, x, first, present)
    for actual, wanted in zip((y, matrix, tail), expected, strict=True):
        close(actual.detach(), wanted)


def test_delta_net_keeps_a_pair_until_its_key_is_written_anew():
    """The delta rule: after a write at full strength the matrix gives the value, whatever was under that key before."""
    memory = exact(build("delta_net", 8, heads=2, convolution=0))
    with torch.no_grad():
        memory.strength.weight.zero_()
        memory.strength.bias.fill_(50.0)
    x = torch.randn(2, 6, 8, dtype=torch.float64)
    _, state = memory(x)
    _, k, v = functional.silu(memory.projection(x[:, -1])).unflatten(-1, (3, 2, 4)).unbind(1)
    close(torch.einsum("bhk,bhkv->bhv", functional.normalize(k, dim=-1), state.matrix), v)
    _, again = memory(x[:, -1:], state)
    close(again.matrix, state.matrix)


@pytest.mark.parametrize(("name", "kind"), [("gru", nn.GRUCell), ("lstm", nn.LSTMCell)])
def test_gated_networks_are_torchs_cells(name, kind):
    memory = exact(name)
    cell = kind(8, 8, dtype=torch.float64)
    cell.load_state_dict({key.removesuffix("_l0"): value for key, value in memory.network.state_dict().items()})
    x, first, present = draw(3, 17, 8)
    first[0, 0] = True
    before = states.transform(torch.randn_like, memory.initial_state(3))
    y, after = memory(x, before, first=first, present=present)
    for row in range(3):
        state = tuple(field[row] for field in before)
        for t in range(17):
            if first[row, t]:
                state = tuple(torch.zeros_like(field) for field in state)
            output = torch.zeros(8, dtype=torch.float64)
            if present[row, t]:
                state = cell(x[row, t], state) if name == "lstm" else (cell(x[row, t], state[0]),)
                output = state[0]
            close(y[row, t], output)
        close(tuple(field[row] for field in after), state)


@pytest.mark.parametrize("width", [2, 4, 7])
def test_a_short_convolution_is_torchs_for_each_episode(width):
    memory = exact(ShortConvolution(5, width=width))
    kernel = memory.weight.flip(0).T.unsqueeze(1)
    x, first, present = draw(3, 20, 5)
    before = states.transform(torch.randn_like, memory.initial_state(3))
    y, after = memory(x, before, first=first, present=present)
    for row in range(3):
        tail = before.tail[row]
        starts = [0, *first[row].nonzero().flatten().tolist(), 20]
        for begin, end in pairwise(starts):
            here = present[row, begin:end]
            if begin in starts[1:]:
                tail = torch.zeros_like(tail)
            tokens = torch.cat((tail, x[row, begin:end][here]))
            if here.any():
                expected = functional.silu(functional.conv1d(tokens.T, kernel, groups=5).T)
                close(y[row, begin:end][here], expected)
            tail = tokens[-(width - 1) :]
        close(after.tail[row], tail)
    assert not y[~present].any()


def test_a_state_of_a_convolution_holds_no_more_than_its_bytes():
    """A view would keep the whole piece alive, however long."""
    memory = ShortConvolution(5)
    _, state = memory(torch.randn(2, 100, 5))
    assert state.tail.untyped_storage().nbytes() == states.nbytes(state)


def rms_norm(x, weight):
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def test_swiglu_a_block_and_a_network_are_their_formulas():
    mlp = exact(SwiGLU(6, expansion=3.0))
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    w1, w2 = mlp.rise.weight.chunk(2)
    assert w1.shape == (12, 6)
    close(mlp(x), (functional.silu(x @ w1.T) * (x @ w2.T)) @ mlp.fall.weight.T)

    block = exact(Block(build("gru", 6)))
    y, _ = block.memory(rms_norm(x, block.memory_norm.weight))
    middle = x + y
    close(block(x)[0], middle + block.mlp(rms_norm(middle, block.mlp_norm.weight)))
    bare = exact(Block(build("gru", 6), expansion=0))
    close(bare(x)[0], x + bare.memory(rms_norm(x, bare.memory_norm.weight))[0])

    network = exact(stack("delta_net", 6, layers=3, heads=2))
    y, after = x, []
    for layer in network.layers:
        y, state = layer(y)
        after.append(state)
    found, state = network(x)
    close(found, rms_norm(y, network.norm.weight))
    close(dict(states.fields(state)), dict(states.fields(type(state)(tuple(after)))))


def test_no_memory_gives_back_what_it_is_given():
    x, first, present = draw(2, 7, 8)
    y, state = make("none")(x, first=first, present=present)
    assert torch.equal(y, x.nan_to_num(0.0))
    assert states.nbytes(state) == 0


# How memories are used ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MEMORIES, *NETWORKS])
def test_stepping_is_reading_a_piece_of_one_token(name):
    memory = exact(name)
    x, first, _ = draw(4, 2, memory.dim)
    x = x.nan_to_num(0.5)
    _, state = memory(x[:, :1])
    with torch.no_grad():
        y, after = memory(x[:, 1:], state, first=first[:, 1:])
        y_step, after_step = memory.step(x[:, 1], state, first=first[:, 1])
        y_start, _ = memory.step(x[:, 1])
    close(y_step, y[:, 0])
    close(dict(states.fields(after_step)), dict(states.fields(after)))
    close(y_start, memory(x[:, 1:])[0][:, 0].detach())


@pytest.mark.parametrize("name", ["gru", "lstm", "delta_net", "convolution, 4 wide"])
def test_a_reset_step_recovers_from_a_state_that_is_not_a_number(name):
    memory = exact(name)
    x = torch.randn(2, memory.dim, dtype=torch.float64)
    lost = states.transform(lambda field: torch.full_like(field, math.nan), memory.initial_state(2))
    y, after = memory.step(x, lost, first=torch.tensor([True, False]))
    close(y[:1], memory.step(x[:1])[0])
    assert all(field[0].isfinite().all() for _, field in states.fields(after))


@pytest.mark.parametrize("name", [*MEMORIES, *NETWORKS])
def test_a_memory_in_bfloat16_keeps_its_state_in_float32(name):
    memory = make(name).bfloat16()
    x, first, _ = draw(2, 6, memory.dim)
    x = x.nan_to_num(0.5).bfloat16()
    y, state = memory(x[:, :5], first=first[:, :5])
    y_step, after = memory.step(x[:, 5], state, first=first[:, 5])
    assert y.dtype == y_step.dtype == torch.bfloat16
    kept = [field for _, field in (*states.fields(state), *states.fields(after)) if field.is_floating_point()]
    assert all(field.dtype == torch.float32 and field.isfinite().all() for field in kept)


def test_a_network_compiles_as_it_is():
    network = stack("delta_net", 8, heads=2)
    x, first, present = (tensor[:, :9] for tensor in draw(2, 9, 8))
    x = x.nan_to_num(0.0).float()
    compiled = torch.compile(copy.deepcopy(network), backend="aot_eager")
    y, state = network(x, first=first, present=present)
    y.square().sum().backward()
    y_compiled, state_compiled = compiled(x, first=first, present=present)
    y_compiled.square().sum().backward()
    torch.testing.assert_close(y_compiled, y)
    torch.testing.assert_close(dict(states.fields(state_compiled)), dict(states.fields(state)))
    for parameter, other in zip(network.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(other.grad, parameter.grad, rtol=1e-4, atol=1e-4)


def test_what_does_not_fit_is_said_in_one_line():
    memory = make("gru")
    x = torch.zeros(2, 3, 8)
    flags = torch.zeros(2, 3, dtype=torch.bool)
    cases = {
        r"GRU takes x of shape \(batch, time, 8\), got \(2, 3, 7\)": dict(x=x[..., :7]),
        r"GRU takes x of shape \(batch, time, 8\), got \(3, 8\)": dict(x=x[0]),
        r"first must be bool of shape \(2, 3\), got torch.bool of shape \(2, 2\)": dict(x=x, first=flags[:, :2]),
        r"first must be bool of shape \(2, 3\), got torch.float32 of": dict(x=x, first=flags.float()),
        r"present must be bool of shape \(2, 3\), got torch.int64 of": dict(x=x, present=flags.long()),
        r"the state is of 1 streams, x of 2": dict(x=x, state=memory.initial_state(1)),
    }
    for message, arguments in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            memory(**arguments)
        assert "\n" not in str(caught.value)
    for name in ("gru", "lstm", "delta_net", "convolution, 4 wide", "block"):
        memory = make(name)
        with pytest.raises(UserError, match=f"takes x of shape .*, {memory.dim}"):
            memory.step(torch.zeros(2, memory.dim + 1))
        with pytest.raises(UserError, match="first must be bool"):
            memory.step(torch.zeros(2, memory.dim), first=torch.zeros(2))
        with pytest.raises(UserError, match="the state is of 3 streams, x of 2 streams"):
            memory.step(torch.zeros(2, memory.dim), memory.initial_state(3))


OTHERS = [
    (lambda: build("gru", 8), lambda: build("lstm", 8), "it is LSTMState, GRU keeps GRUState"),
    (lambda: build("lstm", 8), lambda: build("gru", 8), "it is GRUState, LSTM keeps LSTMState"),
    (lambda: build("none", 8), lambda: build("gru", 8), "it is GRUState, NoMemory keeps NoState"),
    (lambda: build("gru", 8), lambda: build("gru", 16), r"hidden is \(16,\) a stream, GRU keeps \(8,\)"),
    (
        lambda: build("delta_net", 8, heads=2),
        lambda: build("delta_net", 8, heads=4),
        r"matrix is \(4, 2, 2\) a stream, DeltaNet keeps \(2, 4, 4\)",
    ),
    (
        lambda: build("delta_net", 8),
        lambda: build("delta_net", 8, convolution=2),
        r"convolution.tail is \(1, 24\) a stream, DeltaNet keeps \(3, 24\)",
    ),
    (lambda: stack("gru", 8), lambda: build("gru", 8), "it is GRUState, Network keeps NetworkState"),
    (lambda: stack("gru", 8), lambda: stack("lstm", 8), "layers.0 is LSTMState, Network keeps GRUState"),
    (lambda: stack("gru", 8, layers=2), lambda: stack("gru", 8), "layers is of 1 parts, Network keeps 2"),
    (lambda: build("rmt", 8), lambda: build("armt", 8), "memory is tuple, RMT keeps Slots"),
    (lambda: build("samba", 8), lambda: build("titans_mag", 8), "it is TitansState, Samba keeps SambaState"),
]


@pytest.mark.parametrize(("one", "other", "message"), OTHERS)
def test_the_state_of_another_memory_is_told(one, other, message):
    memory, other = one(), other()
    x = torch.randn(2, 3, 8)
    for state in (other.initial_state(2), other(torch.randn(2, 3, other.dim))[1]):
        for _ in range(2):  # before it has read, and after
            with pytest.raises(UserError, match=f"^the state is of another memory: {message}$"):
                memory(x, state)
            with pytest.raises(UserError, match=f"the state is of another memory: {message}$"):
                memory.step(x[:, 0], state)
            memory(x, memory(x)[1])


@pytest.mark.parametrize("state", [{"hidden": torch.zeros(2, 8)}, torch.zeros(2, 8), (torch.zeros(2, 8),), 3])
def test_what_is_no_state_is_told(state):
    with pytest.raises(UserError, match=f"another memory: it is {type(state).__name__}, GRU keeps GRUState"):
        build("gru", 8)(torch.zeros(2, 3, 8), state)


def test_every_field_is_of_as_many_streams():
    memory = build("lstm", 8)
    state = memory.initial_state(2)
    with pytest.raises(UserError, match="the state is of 1 streams, x of 2"):
        memory(torch.zeros(2, 3, 8), state._replace(cell=state.cell[:1]))


def test_a_state_is_looked_at_without_making_another():
    """A fresh state at each step would cost as much as the step."""
    memory = build("gru", 8)
    x = torch.randn(2, 8)
    _, state = memory.step(x, memory.step(x)[1])
    memory.initial_state = None
    memory.step(x, state)
