"""The ten laws, a function each of a memory and a random `Case`: how far the memory is from keeping the law."""

import copy
import math
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from recurra.errors import UserError
from recurra.memory import state as states
from recurra.memory.base import Memory
from recurra.memory.laws.cases import Case, Read, Stream, draw_presence, draw_stream, fresh, read
from recurra.memory.laws.figures import Figure, brief, flaw, gap, gaps, infinite, unlike
from recurra.memory.laws.teams import members, rejoined

SINGLE = 1e-6  # what an error in float32 counts beside one in float64


def split(memory: Memory, case: Case) -> Figure:
    """Pieces, and steps, with the state carried give the outputs and the final state of one piece.

    So do ``no_grad`` and ``inference_mode``; what is absorbed leaves the same state; and the memory leaves what it is
    given as it was.
    """
    stream, state = case.stream, case.state(memory)
    with torch.inference_mode():  # before the others: what a memory caches here must not spoil them
        inference = read(memory, stream, state, case.cuts)
    with torch.no_grad():
        ungraded = read(memory, stream, state, case.cuts)
        given, kept = stream.x.clone(), states.transform(torch.clone, state or fresh(memory, stream.x))
        before = states.transform(torch.clone, kept)
        memory(given, kept, first=stream.first, present=stream.present)
    whole = read(memory, stream, state)
    pieces = read(memory, stream, state, case.cuts)
    absorbed = memory.absorb(stream.x, state, first=stream.first, present=stream.present)
    figures = [
        *gaps(absorbed, whole[1], "the state after what was absorbed"),
        flaw(whole[0].shape != stream.x.shape, f"outputs {tuple(whole[0].shape)} for x {tuple(stream.x.shape)}"),
        gap(given, stream.x, "the x that the memory was given"),
        *gaps(kept, before, "the state that the memory was given"),
        *unlike(memory, case, pieces, whole, "in pieces"),
        *unlike(memory, case, ungraded, whole, "in pieces under no_grad"),
        *unlike(memory, case, inference, whole, "in pieces under inference_mode"),
    ]
    if memory.grain == 1:
        outputs, stepped = [], state
        for t in range(stream.time):
            first_t = None if stream.first is None else stream.first[:, t]
            y_t, stepped = memory.step(stream.x[..., t, :], stepped, first=first_t)
            outputs.append(y_t)
        steps, whole = (torch.stack(outputs, -2), stepped), read(memory, stream._replace(present=None), state)
        figures += unlike(memory, case, steps, whole, "step by step")
    memory, case = memory.float(), case.single()
    state = case.state(memory)
    whole, pieces = read(memory, case.stream, state), read(memory, case.stream, state, case.cuts)
    singles = unlike(memory, case, pieces, whole, "in pieces in float32")
    return max(figures + [Figure(SINGLE * figure, figure.what) for figure in singles])


@torch.no_grad()
def first(memory: Memory, case: Case) -> Figure:
    """A piece with ``first`` inside gives what separate streams give, and ends in the last one's state."""
    stream, state = case.stream, case.state(memory)
    middle = stream.time // memory.grain // 2 * memory.grain
    none = torch.zeros(len(stream.x), stream.time, dtype=torch.bool, device=stream.x.device)
    resets = none.clone() if stream.first is None else stream.first.clone()
    resets[:, middle] = True
    stream = stream._replace(first=resets)
    if stream.present is not None:  # a reset counts on an absent token too
        flags = stream.present.clone()
        flags[-1, ..., middle : middle + memory.grain] = False
        stream = stream._replace(present=flags)
    y, last = read(memory, stream, state)
    figures = []
    for row in range(len(stream.x)):
        alone, outputs, end_state = stream.row(row), [], None
        starts = resets[row].nonzero().flatten().tolist()
        for begin, end in pairwise(sorted({0, *starts, stream.time})):
            episode = alone.cut(begin, end)._replace(first=None)
            output, end_state = read(memory, episode, None if begin in starts else _rows(state, row))
            outputs.append(output)
        apart = torch.cat(outputs, -2), end_state
        figures += unlike(memory, case, (y[row : row + 1], _rows(last, row)), apart, "against separate streams")
    plain, _ = read(memory, stream._replace(first=None))
    flagged, _ = read(memory, stream._replace(first=none), fresh(memory, stream.x))
    return max(*figures, gap(plain, flagged, "outputs from None against those from an initial state, never reset"))


def present(memory: Memory, case: Case) -> Figure:
    """An absent token equals one that is not there, whatever it holds, and its output is 0."""
    stream, state = case.stream, case.state(memory)
    shape = tuple(stream.x.shape[:-2])
    flags = stream.present
    if flags is None:
        flags = draw_presence(memory, shape, stream.time, case.generator)
    absent = ~flags.unsqueeze(-1)
    inputs = list(_trained(memory).values())
    runs = []
    for filling in (0.0, math.nan):
        x = stream.x.masked_fill(absent, filling).requires_grad_()
        y, last = read(memory, stream._replace(x=x, present=flags), state)
        runs.append((y, last, *_slopes(y, [x, *inputs], case)))
    (y_zero, _, *slopes_zero), (y, last, *slopes) = runs
    figures = [
        gap(y[~flags], torch.zeros_like(y[~flags]), "outputs at absent tokens"),
        gap(y, y_zero, "outputs, with NaN in absent tokens"),
        gap(slopes[0][~flags], torch.zeros_like(y[~flags]), "gradients of absent tokens"),
        *(gap(a, b, "gradients, with NaN in absent tokens") for a, b in zip(slopes, slopes_zero, strict=True)),
    ]
    for row in range(len(y)):
        alone = stream._replace(present=flags).row(row)
        dense = _read_present(memory, alone, _rows(state, row))
        figures += unlike(memory, case, (y[row : row + 1], _rows(last, row)), dense, "against no absent tokens")
    plain, _ = read(memory, stream._replace(present=None), state)
    full, _ = read(memory, stream._replace(present=torch.ones_like(flags)), state)
    return max(*figures, gap(plain, full, "outputs without present against all present"))


def _read_present(memory: Memory, stream: Stream, state: Any) -> Read:
    """Read one stream as if absent tokens were not there; in a team, as if absent agents were not."""
    x, resets, flags = stream
    assert flags is not None
    flags = flags[0].reshape(-1, stream.time)  # a row for each agent, or one
    starts = [] if resets is None else resets[0].nonzero().flatten().tolist()
    changes = 1 + (flags[:, 1:] != flags[:, :-1]).any(0).nonzero().flatten()
    state = state or fresh(memory, x)
    y = torch.zeros_like(x)
    for begin, end in pairwise(sorted({0, *starts, *changes.tolist(), stream.time})):
        if begin in starts:
            state = fresh(memory, x)
        who = flags[:, begin].nonzero().flatten()
        if len(who) == 0:
            continue
        if memory.team:
            y[:, who, begin:end], part = memory(x[:, who, begin:end], members(memory, state, who))
            state = rejoined(memory, state, part, who)
        else:
            y[:, begin:end], state = memory(x[:, begin:end], state)
    return y, state


@torch.no_grad()
def causal(memory: Memory, case: Case) -> Figure:
    """What comes from some token on, flags included, changes nothing before it."""
    stream, state = case.stream, case.state(memory)
    shape = tuple(stream.x.shape[:-2])
    other = draw_stream(memory, shape, stream.time, case.generator)
    assert other.first is not None
    assert other.present is not None
    x, resets, flags = stream
    resets = torch.zeros_like(other.first) if resets is None else resets
    flags = torch.ones_like(other.present) if flags is None else flags
    y, _ = read(memory, Stream(x, resets, flags), state)
    figures = []
    for t in {cut for cut in case.cuts if 0 < cut < stream.time}:
        later = torch.arange(stream.time, device=x.device) >= t
        changed = Stream(
            torch.where(later.unsqueeze(-1), other.x, x),
            torch.where(later, other.first, resets),
            torch.where(later, other.present, flags),
        )
        y_changed, _ = read(memory, changed, state)
        figures.append(gap(y_changed[..., :t, :], y[..., :t, :], f"outputs before token {t}, where inputs change"))
    return max(figures)


@torch.no_grad()
def rows(memory: Memory, case: Case) -> Figure:
    """A stream alone gives what it gives within a batch; agents of a team have no order, and an absent one is none.

    Agents may touch through the shared memory within a token already (write, then read), so no more than this can be
    asked of a team from outside.
    """
    stream, state = case.stream, case.state(memory)
    y, last = read(memory, stream, state)
    figures = []
    for row in range(len(y)):
        alone = read(memory, stream.row(row), _rows(state, row))
        within = y[row : row + 1], _rows(last, row)
        figures += unlike(memory, case, alone, within, "of a stream alone against those within the batch")
    if memory.team:
        figures += _team_figures(memory, case, state)
    return max(figures)


def _team_figures(memory: Memory, case: Case, state: Any) -> list[Figure]:
    stream = case.stream
    state = state or fresh(memory, stream.x)

    def some(who: Tensor, stream: Stream) -> Read:
        present = None if stream.present is None else stream.present[:, who]
        return read(memory, Stream(stream.x[:, who], stream.first, present), members(memory, state, who))

    agents = stream.x.shape[1]
    order = torch.randperm(agents, generator=case.generator).to(stream.x.device)
    y, last = read(memory, stream, state)
    ordered = y[:, order], members(memory, last, order)
    figures = unlike(memory, case, some(order, stream), ordered, "of agents in another order")
    if agents == 1:
        return figures
    gone, others = order[0], order[1:]
    flags = torch.ones(stream.x.shape[:-1], dtype=torch.bool, device=stream.x.device)
    flags[:, gone] = False
    stream = Stream(stream.x, None, flags)  # without resets, which are for the absent too
    y, last = read(memory, stream, state)
    y_others, part = some(others, stream)
    without = y_others, rejoined(memory, state, part, others)
    return figures + unlike(memory, case, (y[:, others], last), without, "beside an absent agent against without it")


@torch.no_grad()
def bounded(memory: Memory, case: Case) -> Figure:
    """Give the bytes by which a stream's state grows from token 64 to token 256.

    For ``bounded = False`` it is the bytes for each of these tokens, and any number will do.
    """
    few, many = (-(-tokens // memory.grain) * memory.grain for tokens in (64, 256))
    stream = draw_stream(memory, (1, *case.stream.x.shape[1:-2]), many, case.generator)._replace(first=None)
    _, state = read(memory, stream.cut(0, few))
    before = states.nbytes(state)
    after = states.nbytes(read(memory, stream.cut(few, many), state)[1])
    if memory.bounded:
        return Figure(abs(after - before), f"bytes, of {before} after {few} tokens and {after} after {many}")
    return Figure((after - before) / (many - few), "bytes for each token")


@torch.no_grad()
def saved(memory: Memory, case: Case) -> Figure:
    """A saved state continues bit for bit in a copy that has read nothing: it is all that the memory keeps."""
    return max(_continued(memory, case), _continued(memory.float(), case.single()))


def _continued(memory: Memory, case: Case) -> Figure:
    copied = copy.deepcopy(memory)
    cut = case.stream.time // memory.grain // 2 * memory.grain
    earlier, later = case.stream.cut(0, cut), case.stream.cut(cut, case.stream.time)
    _, state = read(memory, earlier, case.state(memory))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "state.safetensors")
        states.save(state, path)
        loaded = states.load(path, like=fresh(memory, case.stream.x[:1]))
    y, last = read(memory, later, state)
    y_loaded, last_loaded = read(copied, later, loaded)
    figures = [
        *gaps(loaded, state, "the state read back"),
        gap(y_loaded, y, "outputs of a copy that continues from the saved state"),
        *gaps(last_loaded, last, "final state of a copy that continues from the saved state"),
    ]
    return max(figures)


def gradient(memory: Memory, case: Case) -> Figure:
    """Gradients are right, reach everything that writes, pass through a carried state, and stop where it is detached.

    What writes is every parameter and the first token: the last output of a stream must have a gradient for them. A
    stream four times as long, one of two tokens (or grains), or one of 160 tokens will do as well: a parameter may
    work once in a segment only, and a window forgets.
    """
    stream = case.stream
    parameters = list(_trained(memory).values())
    middle = stream.time // memory.grain // 2 * memory.grain
    earlier, later = stream.cut(0, middle), stream.cut(middle, stream.time)

    # One piece against two, with the state carried and with it detached.
    state = case.state(memory)
    x = stream.x.clone().requires_grad_()
    y, _ = read(memory, stream._replace(x=x), state)
    whole = _slopes(y, [x, *parameters], case)
    y, _ = read(memory, stream._replace(x=x), state, (middle,))
    carried = _slopes(y, [x, *parameters], case)
    names = ["x", *_trained(memory)]
    figures = [
        gap(slope, wanted, f"gradient of {name} through a carried state")
        for name, slope, wanted in zip(names, carried, whole, strict=True)
    ]
    y, state = read(memory, earlier._replace(x=x[..., :middle, :]), state)
    _slopes(y, [x], case)
    y, _ = read(memory, later._replace(x=x[..., middle:, :]), states.detach(state))
    (cut,) = _slopes(y, [x], case)
    figures.append(gap(cut[..., :middle, :], torch.zeros_like(earlier.x), "gradient of x through a detached state"))

    return max(*figures, *_reach(memory, case), _gradcheck(memory, later, states.detach(state)))


def _reach(memory: Memory, case: Case) -> Iterator[Figure]:
    """Look for what has no gradient from the last output."""
    batch, *agents = case.stream.x.shape[:-2]
    shape = (batch, *(max(2, count) for count in agents))  # what agents choose among needs some to choose among
    missing = _trained(memory)
    remembers = any(True for _ in states.fields(fresh(memory, case.stream.x)))
    for time in (case.stream.time, 4 * case.stream.time, 2 * memory.grain, -(-160 // memory.grain) * memory.grain):
        x = draw_stream(memory, shape, time, case.generator).x.requires_grad_()
        y, _ = read(memory, Stream(x))
        slopes = dict(zip(("", *missing), _slopes(y[..., -1, :], [x, *missing.values()], case), strict=True))
        yield infinite(slopes.values(), "the gradient from the last output")
        remembers = remembers and not bool(slopes[""][..., 0, :].any())
        missing = {name: parameter for name, parameter in missing.items() if not slopes[name].any()}
        if not (remembers or missing):
            return
    for name in (*missing, *["the first token"] * remembers):
        yield flaw(True, f"no gradient of {name} from the last output")


def _gradcheck(memory: Memory, stream: Stream, state: Any) -> Figure:
    """Compare the gradients of outputs and final state with differences."""

    def read(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        remaining = iter(values)
        given = states.transform(lambda field: next(remaining) if field.is_floating_point() else field, state)
        y, last = memory(x, given, first=stream.first, present=stream.present)
        return y, *_floating(last)

    fields = ", ".join(name for name, field in states.fields(state) if field.is_floating_point())
    inputs = [tensor.detach().clone().requires_grad_() for tensor in (stream.x, *_floating(state))]
    try:
        torch.autograd.gradcheck(read, inputs, fast_mode=True, nondet_tol=1e-10)
    except GradcheckError as error:
        return Figure(math.inf, f"{brief(error)} (of x, {fields} as inputs and y, {fields} as outputs)")
    return Figure(0.0, "gradients against differences")


@torch.no_grad()
def numbers(memory: Memory, case: Case) -> Figure:
    """float32 agrees with float64; bfloat16 autocast and extreme inputs stay finite; an empty piece changes nothing."""
    stream, state = case.stream, case.state(memory)
    y, last = read(memory, stream, state)
    figures = [*_empty(memory, stream, state), *_empty(memory, stream, None)]
    memory, case = memory.float(), case.single()
    y_single, last_single = read(memory, case.stream, case.state(memory))
    last_single = states.transform(lambda field, wide: field.to(wide.dtype), last_single, last)
    figures += [
        gap(y_single.double(), y, "outputs in float32"),
        *gaps(last_single, last, "final state in float32"),
    ]
    with torch.autocast(stream.x.device.type, dtype=torch.bfloat16):
        y, last = read(memory, case.stream, case.state(memory), case.cuts)
    figures += [
        infinite([y, *_floating(last)], "bfloat16 autocast"),
        *_narrow(last, "bfloat16 autocast"),
        *_narrow(fresh(copy.deepcopy(memory).bfloat16(), case.stream.x), "a bfloat16 memory"),
    ]
    limit = 1e4 if memory.input_limit is None else min(memory.input_limit, 1e4)
    x = draw_stream(memory, tuple(stream.x.shape[:-2]), max(40, memory.grain), case.generator).x.float()
    extremes = {
        "zeros": torch.zeros_like(x),
        "ones": torch.ones_like(x),
        f"inputs of {limit:g}": limit * x.sign(),
        f"constant inputs of {limit:g}": torch.full_like(x, limit),
        f"one input of {limit:g}": torch.cat((limit * x[..., :1, :].sign(), x[..., 1:, :]), -2),
    }
    for what, x in extremes.items():
        y, last = read(memory, Stream(x))
        figures.append(infinite([y, *_floating(last)], f"reading {what}"))
    return max(figures)


def _empty(memory: Memory, stream: Stream, state: Any) -> Iterator[Figure]:
    piece = stream.cut(0, 0)
    state = state or fresh(memory, stream.x)
    y, last = read(memory, piece, state)
    yield gap(y, piece.x, "outputs of an empty piece")
    yield from (flaw(error > 0, error.what) for error in gaps(last, state, "state after an empty piece"))


def _narrow(state: Any, where: str) -> Iterator[Figure]:
    for name, field in states.fields(state):
        narrow = field.is_floating_point() and field.element_size() < 4
        yield flaw(narrow, f"state field {name} is {field.dtype} in {where}")


def backends(memory: Memory, case: Case) -> Figure:
    """Every backend gives the same outputs, final state and gradients.

    A backend that refuses to run here (`UserError`: no such device, say) is passed over.
    """
    single = case.stream.x.device.type != "cpu"  # kernels for accelerators do not compute in float64
    if single:
        memory, case = memory.float(), case.single()
    state = case.state(memory)
    modules: Iterator[Any] = memory.modules()
    choosers = [module for module in modules if getattr(module, "backends", ()) and hasattr(module, "backend")]

    def run() -> tuple[Read, tuple[Tensor, ...]]:
        x = case.stream.x.clone().requires_grad_()
        y, last = read(memory, case.stream._replace(x=x), state)
        return (y, last), _slopes(y, [x, *_trained(memory).values()], case)

    usual, slopes = run()
    figures = [Figure(0.0, "no choice of backends")]
    for name in dict.fromkeys(name for module in choosers for name in module.backends):
        chosen = [module.backend for module in choosers]
        for module in choosers:
            if name in module.backends:
                module.backend = name
        try:
            other, slopes_other = run()
        except UserError:
            continue
        finally:
            for module, backend in zip(choosers, chosen, strict=True):
                module.backend = backend
        figures += [
            *unlike(memory, case, other, usual, f"of backend {name}"),
            *(gap(a, b, f"gradients of backend {name}") for a, b in zip(slopes_other, slopes, strict=True)),
        ]
    worst = max(figures)
    return Figure(SINGLE * worst, worst.what) if single else worst


def _rows(state: Any, row: int) -> Any:
    return None if state is None else states.select(state, slice(row, row + 1))


def _floating(state: Any) -> list[Tensor]:
    return [tensor for _, tensor in states.fields(state) if tensor.is_floating_point()]


def _slopes(y: Tensor, inputs: list[Tensor], case: Case) -> tuple[Tensor, ...]:
    """Give the gradients of a random mixture of outputs, the same one for every call with one case and shape.

    A plain sum would not do: behind a layer norm it has no gradient at all.
    """
    generator = torch.Generator().manual_seed(case.seed)
    weights = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y)
    return torch.autograd.grad((y * weights).sum(), inputs, allow_unused=True, materialize_grads=True)


def _trained(memory: Memory) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in memory.named_parameters() if parameter.requires_grad}
