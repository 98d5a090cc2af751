"""The laws that every memory obeys, and `check`, which tests them for any memory, a user's own too.

A law is a function of a memory and a random `Case` that returns a `Figure`: how far the memory is from keeping the
law, 0 or tiny where it does. What makes the figures comparable:

* A relative error of a against b is max|a - b| / max(0.01, max|b|) over a whole tensor, so it means the same for
  outputs of size 1 and of size 1e4; below 0.01 it becomes absolute, since what is that small next to inputs of size 1
  is the rounding of something larger. Whole numbers and flags must be equal; what is not a number is infinitely far.
* float64 is allowed 1e-10 and float32 1e-4. In a law that looks at both, the errors in float32 count a millionth.
* States are compared tensor by tensor; those of a memory with ``bounded = False``, which may pad what they keep, by
  how they continue.
"""

import copy
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from recurra.errors import UserError, nearest
from recurra.memory import state as states
from recurra.memory.base import Memory
from recurra.memory.cases import Case, Read, Stream, device_of, draw, draw_presence, draw_stream, fresh, read

_FLOOR = 1e-2  # of relative errors
_SINGLE = 1e-6  # what an error in float32 counts beside one in float64
_NOISE = 5e-2  # added to parameters, so that one that starts at 0 hides nothing


class LawBroken(AssertionError):
    """A memory breaks laws; the message names each with its figure and the case that shows it.

    Attributes:
        laws: names of the broken laws.
    """

    def __init__(self, message: str, *, laws: tuple[str, ...]) -> None:
        super().__init__(message)
        self.laws = laws


class Figure(float):
    """How far from a law a memory is, and at what: of several figures `max` gives the worst.

    >>> worst = max(Figure(0.0, "outputs"), Figure(0.5, "state"))
    >>> worst, worst.what
    (0.5, 'state')
    """

    what: str

    def __new__(cls, value: float, what: str) -> "Figure":
        """Take what is not a number as infinitely far."""
        figure = super().__new__(cls, math.inf if math.isnan(value) else value)
        figure.what = what
        return figure


def check(
    memory: Memory,
    *,
    laws: Iterable[str] | None = None,
    cases: int = 3,
    seed: int = 0,
    time: int = 40,
    agents: int = 4,
) -> None:
    """Test that a memory obeys the laws.

    The memory itself stays as it is, and so does the global random state: laws work on copies in evaluation mode,
    in float64 or float32, on the memory's device, with a little noise on every parameter.

    Args:
        memory: what is tested.
        laws: names out of `LAWS`; all by default.
        cases: number of random cases for each law.
        seed: of the first case; the next ones count on.
        time: the longest stream. A memory that works by chunks or segments longer than this wants a longer one.
        agents: the largest team, where the memory is a team's.

    Raises:
        LawBroken: if it does not, with every broken law, its figure and the case.
        UserError: if there is no such law, or ``memory`` is no `Memory`.

    >>> from recurra.memory import build
    >>> check(build("gru", 8), cases=1)
    """
    broken = {}
    cause = None
    for name, (figure, place, error) in _worst(memory, laws, cases, seed, time, agents).items():
        allowed = math.inf if name == "bounded" and not memory.bounded else BOUNDS[name]
        if figure > allowed:
            broken[name] = f"  {name}: {figure:.3g} where at most {allowed:g} is allowed: {figure.what} [{place}]"
            cause = cause or error
    if broken:
        lines = (f"{type(memory).__name__} breaks the laws of memory", *broken.values())
        raise LawBroken("\n".join(lines), laws=tuple(broken)) from cause


def measure(
    memory: Memory,
    *,
    laws: Iterable[str] | None = None,
    cases: int = 3,
    seed: int = 0,
    time: int = 40,
    agents: int = 4,
) -> dict[str, float]:
    """Give each law's worst figure, infinite where the memory raises an exception; arguments as in `check`.

    >>> from recurra.memory import build
    >>> measure(build("gru", 8), laws=["bounded", "saved"], cases=1)
    {'bounded': 0.0, 'saved': 0.0}
    """
    return {name: float(figure) for name, (figure, *_) in _worst(memory, laws, cases, seed, time, agents).items()}


def _worst(
    memory: Memory, laws: Iterable[str] | None, cases: int, seed: int, time: int, agents: int
) -> dict[str, tuple[Figure, str, Exception | None]]:
    """Give each law's worst figure, the case it comes from, and the exception that it stands for, if any."""
    if not isinstance(memory, Memory):
        raise UserError(f"laws are of a recurra.memory.Memory, and {type(memory).__name__} is none: subclass it")
    names = list(LAWS if laws is None else laws)
    if unknown := [name for name in names if name not in LAWS]:
        raise UserError(f"there is no law {unknown[0]!r}: {nearest(unknown[0], LAWS)}")
    device = device_of(memory)
    generators = [device] if device.type == "cuda" else []
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(generators):
        worst: dict[str, tuple[Figure, str, Exception | None]] = {}
        for name in names:
            for case_seed in range(seed, seed + cases):
                found = _judge(memory, name, case_seed, time, agents)
                worst[name] = max(worst.get(name, found), found, key=lambda found: found[0])
                if math.isinf(found[0]):  # nothing can be worse
                    break
        return worst


def _judge(memory: Memory, name: str, seed: int, time: int, agents: int) -> tuple[Figure, str, Exception | None]:
    place = f"seed {seed}"
    torch.default_generator.manual_seed(seed)  # for a memory that is random itself; our own draws do not use it
    try:
        case = draw(memory, seed, time, agents)
        place = str(case)
        return LAWS[name](_disturbed(memory, case.generator), case), place, None
    except Exception as error:  # whatever a memory raises breaks the law
        return Figure(math.inf, f"{type(error).__name__}: {_brief(error)}"), place, error


def _disturbed(memory: Memory, generator: torch.Generator) -> Memory:
    """Copy a memory to evaluation mode and float64, with noise on its parameters."""
    memory = copy.deepcopy(memory).eval().double()
    with torch.no_grad():
        for parameter in memory.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise.to(parameter), alpha=_NOISE)
    return memory


def _brief(error: Exception) -> str:
    return " ".join(str(error).partition("\n\n")[0].split())[:300]


# What laws are made of ------------------------------------------------------------------------------------------------


def _rows(state: Any, row: int) -> Any:
    return None if state is None else states.select(state, slice(row, row + 1))


def _error(actual: Tensor, expected: Tensor, what: str) -> Figure:
    """Give the relative error of a tensor, as the module's docstring defines it."""
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        given, wanted = (f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in (actual, expected))
        return Figure(math.inf, f"{what} ({given} instead of {wanted})")
    if torch.equal(actual, expected):
        return Figure(0.0, what)
    if not expected.is_floating_point():
        return Figure(math.inf, what)
    actual, expected = actual.detach().double(), expected.detach().double()
    gap = torch.where(actual == expected, 0.0, (actual - expected).abs()).max()
    size = expected.abs().nan_to_num(nan=0.0, posinf=0.0).max().clamp(min=_FLOOR)
    return Figure(float(gap / size), what)


def _errors(actual: Any, expected: Any, what: str) -> Iterator[Figure]:
    """Give the relative error of each tensor of a state."""
    tensors, wanted = dict(states.fields(actual)), dict(states.fields(expected))
    if tensors.keys() != wanted.keys():
        yield Figure(math.inf, f"{what}: fields {sorted(tensors)} instead of {sorted(wanted)}")
        return
    for name, tensor in wanted.items():
        yield _error(tensors[name], tensor, f"{what}, field {name}")


def _state_error(memory: Memory, case: Case, actual: Any, expected: Any, what: str) -> Figure:
    if memory.bounded:
        return max(_errors(actual, expected, what), default=Figure(0.0, what))
    batch = next(tensor.shape[0] for _, tensor in states.fields(expected))
    x = case.stream.x[:1, ..., : 2 * memory.grain, :]
    probe = Stream(x.expand(batch, *x.shape[1:]))
    with torch.no_grad():
        continued, wanted = (read(memory, probe, state)[0] for state in (actual, expected))
    return _error(continued, wanted, f"{what}, as it continues")


def _unlike(memory: Memory, case: Case, actual: Read, expected: Read, how: str) -> list[Figure]:
    """Give the errors of what a reading gave, outputs and final state, against what it should have given."""
    (y, last), (y_expected, last_expected) = actual, expected
    return [
        _error(y, y_expected, f"outputs {how}"),
        _state_error(memory, case, last, last_expected, f"final state {how}"),
    ]


def _flaw(found: bool, what: str) -> Figure:
    """Give the figure of what is wholly right or wholly wrong."""
    return Figure(math.inf if found else 0.0, what)


def _infinite(tensors: Iterable[Tensor], what: str) -> Figure:
    return _flaw(not all(bool(tensor.isfinite().all()) for tensor in tensors), f"{what} does not stay finite")


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


def _personal(memory: Memory, state: Any, function: Callable[..., Tensor], *others: Any) -> Any:
    """Apply a function to the fields of a team's state whose size depends on the team's, and to no other."""
    teams: list[dict[str, Any]] = [{"agents": 1}, {"agents": 2}]
    small, large = (memory.initial_state(1, **team) for team in teams)

    def apply(a: Tensor, b: Tensor, *fields: Tensor) -> Tensor:
        return fields[-1] if a.shape == b.shape else function(*fields)

    return states.transform(apply, small, large, state, *others)


def _members(memory: Memory, state: Any, who: Tensor) -> Any:
    """Take some agents of a team's state."""
    return _personal(memory, state, lambda field: field[:, who])


def _rejoined(memory: Memory, state: Any, part: Any, who: Tensor) -> Any:
    """Put some agents of a team, as they now are, back beside those who stayed as they were."""
    return _personal(memory, state, lambda old, new: old.index_copy(1, who, new), part)


# The laws -------------------------------------------------------------------------------------------------------------


def split(memory: Memory, case: Case) -> Figure:
    """Pieces, and steps, with the state carried give the outputs and the final state of one piece.

    So do ``no_grad`` and ``inference_mode``, and the memory leaves what it is given as it was.
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
    figures = [
        _flaw(whole[0].shape != stream.x.shape, f"outputs {tuple(whole[0].shape)} for x {tuple(stream.x.shape)}"),
        _error(given, stream.x, "the x that the memory was given"),
        *_errors(kept, before, "the state that the memory was given"),
        *_unlike(memory, case, pieces, whole, "in pieces"),
        *_unlike(memory, case, ungraded, whole, "in pieces under no_grad"),
        *_unlike(memory, case, inference, whole, "in pieces under inference_mode"),
    ]
    if memory.grain == 1:
        outputs, stepped = [], state
        for t in range(stream.time):
            first_t = None if stream.first is None else stream.first[:, t]
            y_t, stepped = memory.step(stream.x[..., t, :], stepped, first=first_t)
            outputs.append(y_t)
        steps, whole = (torch.stack(outputs, -2), stepped), read(memory, stream._replace(present=None), state)
        figures += _unlike(memory, case, steps, whole, "step by step")
    memory, case = memory.float(), case.single()
    state = case.state(memory)
    whole, pieces = read(memory, case.stream, state), read(memory, case.stream, state, case.cuts)
    singles = _unlike(memory, case, pieces, whole, "in pieces in float32")
    return max(figures + [Figure(_SINGLE * figure, figure.what) for figure in singles])


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
        figures += _unlike(memory, case, (y[row : row + 1], _rows(last, row)), apart, "against separate streams")
    plain, _ = read(memory, stream._replace(first=None))
    flagged, _ = read(memory, stream._replace(first=none), fresh(memory, stream.x))
    return max(*figures, _error(plain, flagged, "outputs from None against those from an initial state, never reset"))


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
        _error(y[~flags], torch.zeros_like(y[~flags]), "outputs at absent tokens"),
        _error(y, y_zero, "outputs, with NaN in absent tokens"),
        _error(slopes[0][~flags], torch.zeros_like(y[~flags]), "gradients of absent tokens"),
        *(_error(a, b, "gradients, with NaN in absent tokens") for a, b in zip(slopes, slopes_zero, strict=True)),
    ]
    for row in range(len(y)):
        alone = stream._replace(present=flags).row(row)
        dense = _read_present(memory, alone, _rows(state, row))
        figures += _unlike(memory, case, (y[row : row + 1], _rows(last, row)), dense, "against no absent tokens")
    plain, _ = read(memory, stream._replace(present=None), state)
    full, _ = read(memory, stream._replace(present=torch.ones_like(flags)), state)
    return max(*figures, _error(plain, full, "outputs without present against all present"))


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
            y[:, who, begin:end], part = memory(x[:, who, begin:end], _members(memory, state, who))
            state = _rejoined(memory, state, part, who)
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
        figures.append(_error(y_changed[..., :t, :], y[..., :t, :], f"outputs before token {t}, where inputs change"))
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
        figures += _unlike(memory, case, alone, within, "of a stream alone against those within the batch")
    if memory.team:
        figures += _team_figures(memory, case, state)
    return max(figures)


def _team_figures(memory: Memory, case: Case, state: Any) -> list[Figure]:
    stream = case.stream
    state = state or fresh(memory, stream.x)

    def some(who: Tensor, stream: Stream) -> Read:
        present = None if stream.present is None else stream.present[:, who]
        return read(memory, Stream(stream.x[:, who], stream.first, present), _members(memory, state, who))

    agents = stream.x.shape[1]
    order = torch.randperm(agents, generator=case.generator).to(stream.x.device)
    y, last = read(memory, stream, state)
    ordered = y[:, order], _members(memory, last, order)
    figures = _unlike(memory, case, some(order, stream), ordered, "of agents in another order")
    if agents == 1:
        return figures
    gone, others = order[0], order[1:]
    flags = torch.ones(stream.x.shape[:-1], dtype=torch.bool, device=stream.x.device)
    flags[:, gone] = False
    stream = Stream(stream.x, None, flags)  # without resets, which are for the absent too
    y, last = read(memory, stream, state)
    y_others, part = some(others, stream)
    without = y_others, _rejoined(memory, state, part, others)
    return figures + _unlike(memory, case, (y[:, others], last), without, "beside an absent agent against without it")


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
        *_errors(loaded, state, "the state read back"),
        _error(y_loaded, y, "outputs of a copy that continues from the saved state"),
        *_errors(last_loaded, last, "final state of a copy that continues from the saved state"),
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
        _error(slope, wanted, f"gradient of {name} through a carried state")
        for name, slope, wanted in zip(names, carried, whole, strict=True)
    ]
    y, state = read(memory, earlier._replace(x=x[..., :middle, :]), state)
    _slopes(y, [x], case)
    y, _ = read(memory, later._replace(x=x[..., middle:, :]), states.detach(state))
    (cut,) = _slopes(y, [x], case)
    figures.append(_error(cut[..., :middle, :], torch.zeros_like(earlier.x), "gradient of x through a detached state"))

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
        yield _infinite(slopes.values(), "the gradient from the last output")
        remembers = remembers and not bool(slopes[""][..., 0, :].any())
        missing = {name: parameter for name, parameter in missing.items() if not slopes[name].any()}
        if not (remembers or missing):
            return
    for name in (*missing, *["the first token"] * remembers):
        yield _flaw(True, f"no gradient of {name} from the last output")


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
        return Figure(math.inf, f"{_brief(error)} (of x, {fields} as inputs and y, {fields} as outputs)")
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
        _error(y_single.double(), y, "outputs in float32"),
        *_errors(last_single, last, "final state in float32"),
    ]
    with torch.autocast(stream.x.device.type, dtype=torch.bfloat16):
        y, last = read(memory, case.stream, case.state(memory), case.cuts)
    figures += [
        _infinite([y, *_floating(last)], "bfloat16 autocast"),
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
        figures.append(_infinite([y, *_floating(last)], f"reading {what}"))
    return max(figures)


def _empty(memory: Memory, stream: Stream, state: Any) -> Iterator[Figure]:
    piece = stream.cut(0, 0)
    state = state or fresh(memory, stream.x)
    y, last = read(memory, piece, state)
    yield _error(y, piece.x, "outputs of an empty piece")
    yield from (_flaw(error > 0, error.what) for error in _errors(last, state, "state after an empty piece"))


def _narrow(state: Any, where: str) -> Iterator[Figure]:
    for name, field in states.fields(state):
        narrow = field.is_floating_point() and field.element_size() < 4
        yield _flaw(narrow, f"state field {name} is {field.dtype} in {where}")


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
            *_unlike(memory, case, other, usual, f"of backend {name}"),
            *(_error(a, b, f"gradients of backend {name}") for a, b in zip(slopes_other, slopes, strict=True)),
        ]
    worst = max(figures)
    return Figure(_SINGLE * worst, worst.what) if single else worst


LAWS: dict[str, Callable[[Memory, Case], Figure]] = {
    law.__name__: law for law in (split, first, present, causal, rows, bounded, saved, gradient, numbers, backends)
}
"""The laws by name, in the order in which they are tested."""

BOUNDS = {name: {"bounded": 0.0, "saved": 0.0, "numbers": 1e-4}.get(name, 1e-10) for name in LAWS}
"""The largest figure that keeps each law."""
