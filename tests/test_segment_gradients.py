"""How far gradients go back through segments, and what it takes to keep."""

import copy

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from recurra.memory import build
from recurra.memory import state as states
from recurra.memory.segment import ARMT, ELMUR, RMT, TransformerXL

DIM, SEGMENT = 8, 4
KINDS = {
    "rmt": (RMT, {"slots": 2}),
    "rate": (RMT, {"slots": 2, "valve": "ca2", "mutual": True}),
    "elmur": (ELMUR, {"slots": 2}),
    "armt": (ARMT, {"slots": 2}),
    "transformer_xl": (TransformerXL, {}),
}


def make(kind, **options):
    module, given = KINDS[kind]
    torch.manual_seed(0)
    memory = module(DIM, **{"segment": SEGMENT, "heads": 2, **given, **options}).double()
    with torch.no_grad():  # what starts at 0 would hide what reaches it
        for parameter in memory.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return memory


def slopes(memory, x, y=lambda y: y, **flags):
    x = x.clone().requires_grad_()
    outputs, _ = memory(x, **flags)
    weights = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    return torch.autograd.grad(
        y(outputs * weights).sum(), [x, *memory.parameters()], allow_unused=True, materialize_grads=True
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("replay", [False, True])
@pytest.mark.parametrize("horizon", [0, 1, 3])
def test_a_horizon_is_how_many_segments_gradients_reach_back(kind, horizon, replay):
    """Transformer-XL's layers each look a cache back, so that it reaches beyond two segments at two layers or more."""
    memory = make(kind, horizon=horizon, replay=replay, layers=4)
    segments = 6
    x = torch.randn(2, segments * SEGMENT, DIM, dtype=torch.float64)
    slope = slopes(memory, x, lambda y: y[:, -1])[0].unflatten(1, (segments, SEGMENT)).abs().amax((2, 3))
    near = segments - 1 - horizon
    assert (slope[:, near:] > 0).all()
    assert not slope[:, :near].any()
    whole = slopes(make(kind, layers=4), x, lambda y: y[:, -1])[0].unflatten(1, (segments, SEGMENT)).abs().amax((2, 3))
    assert (whole[:, 1:] > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_horizon_changes_no_output_and_no_loss_reaches_beyond_it(kind):
    x = torch.randn(2, 6 * SEGMENT, DIM, dtype=torch.float64)
    short, whole = make(kind, horizon=1), make(kind)
    torch.testing.assert_close(short(x)[0], whole(x)[0], rtol=0, atol=0)
    for segment in range(6):
        inside = slice(segment * SEGMENT, (segment + 1) * SEGMENT)
        slope = slopes(short, x, lambda y, inside=inside: y[:, inside])[0]
        assert slope[:, inside].any()
        assert not slope[:, : max(0, segment - 1) * SEGMENT].any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_horizon_is_counted_back_from_each_streams_own_end(kind):
    """Streams that stand at different places in their segments, one of them reset on the way."""
    memory = make(kind, horizon=1)
    x = torch.randn(3, 5 * SEGMENT, DIM, dtype=torch.float64)
    present = torch.arange(5 * SEGMENT) < torch.tensor([[20], [13], [20]])
    first = torch.zeros(3, 5 * SEGMENT, dtype=torch.bool)
    first[2, 10] = True
    ends = torch.tensor([19, 12, 19])
    found = slopes(memory, x, lambda y: y[torch.arange(3), ends], first=first, present=present)[0].abs().amax(2) > 0
    begins = [12, 8, 14]  # where the segment before each stream's last one begins
    for row, begin in enumerate(begins):
        assert found[row, begin : ends[row] + 1].all()
        assert not found[row, :begin].any()


@pytest.mark.parametrize("kind", KINDS)
def test_memory_replay_gives_the_same_gradients(kind):
    """Wu et al. 2020 (arXiv 2010.06891), Algorithm 1; here with resets, absent tokens and a carried state."""
    plain, replayed = make(kind), make(kind, replay=True)
    x = torch.randn(3, 5 * SEGMENT + 2, DIM, dtype=torch.float64)
    first, present = torch.rand(x.shape[:2]) < 0.1, torch.rand(x.shape[:2]) < 0.8
    for flags in ({}, {"first": first, "present": present}):
        state = states.detach(plain(x[:, : SEGMENT + 1])[1])
        for expected, found in zip(
            slopes(plain, x, state=state, **flags), slopes(replayed, x, state=state, **flags), strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


class Live(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, at every sixteenth operation, and the most that there were."""

    def __init__(self) -> None:
        super().__init__()
        self.known = WeakTensorKeyDictionary()
        self.most = self.operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(given):
            if isinstance(tensor, Tensor):
                self.known[tensor] = (tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes())
        self.operations += 1
        if self.operations % 16 == 0:
            self.most = max(self.most, sum(dict(self.known.values()).values()))
        return given


def saved_bytes(memory, x):
    """The bytes that the forward pass saves for the backward pass, each tensor once."""
    held = {}

    def pack(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes(), tensor
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        y, _ = memory(x)
    parameters = {parameter.untyped_storage().data_ptr() for parameter in memory.parameters()}
    size = sum(size for pointer, (size, _) in held.items() if pointer not in parameters)
    del y
    return size


def peak(memory, x):
    """The most bytes alive at once while a forward and a backward pass run."""
    with Live() as live:
        memory(x)[0].square().sum().backward()
    return live.most


@pytest.mark.parametrize("kind", KINDS)
def test_memory_replay_keeps_one_segments_activations(kind):
    """Six segments more cost what goes in and comes out of them, not what they compute."""
    options = {"segment": 16}
    plain, replayed = make(kind, **options), make(kind, replay=True, **options)
    few, many = (torch.randn(1, count * 16, DIM, dtype=torch.float64) for count in (2, 8))
    for measure in (saved_bytes, peak):
        usual, small = (measure(m, many) - measure(m, few) for m in (plain, replayed))
        assert small < usual / 5, (measure, small, usual)
    one = saved_bytes(plain, torch.randn(1, 16, DIM, dtype=torch.float64))
    assert peak(copy.deepcopy(replayed), many) < peak(plain, few) + one


def test_replay_repeats_what_is_random():
    """Dropout, of a wrapped model say, drops the same in the second reading."""
    memory = make("rmt", replay=True)
    memory.backbone.norm = torch.nn.Sequential(memory.backbone.norm, torch.nn.Dropout(0.5))
    x = torch.randn(1, 3 * SEGMENT, DIM, dtype=torch.float64)
    found = []
    for replay in (True, False):
        memory.gradients = memory.gradients._replace(replay=replay)
        torch.manual_seed(3)
        found.append(slopes(memory, x))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_replay_repeats_the_precision(kind):
    """Gradients are asked for outside of autocast, as Lightning does."""
    memory, x, seen = make(kind, replay=True).float(), torch.randn(2, 3 * SEGMENT, DIM), []
    linear = next(module for module in memory.modules() if isinstance(module, torch.nn.Linear))
    linear.register_forward_hook(lambda module, given, y: seen.append(y.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = memory(x)
    once = len(seen)
    y.float().square().sum().backward()
    assert seen == [torch.bfloat16] * (2 * once)


def test_replay_has_no_second_derivatives():
    memory, x = make("armt", replay=True), torch.randn(1, 2 * SEGMENT, DIM, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(memory(x)[0].square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.square().sum().backward()


def test_the_command_line_builds_it_with_options():
    assert build("rmt", DIM, horizon=2, replay=True).gradients == (2, True)
