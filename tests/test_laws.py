"""The laws hold for memories that obey them, and catch and name each way in which real code breaks them."""

import copy
import math
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from recurra.errors import UserError
from recurra.memory import laws
from recurra.memory import state as states
from recurra.memory.base import Memory

# Memories that obey ---------------------------------------------------------------------------------------------------


class AverageState(NamedTuple):
    mean: Tensor  # (batch, dim)
    position: Tensor  # (batch,)


class Average(Memory):
    """Moving average of what is written, read beside the position; those that break the laws change a part of it."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 6
        self.write = nn.Linear(6, 6)
        self.read = nn.Linear(6, 6)
        self.keep = nn.Parameter(torch.zeros(6))
        self.pitch = nn.Parameter(torch.zeros(6))

    def initial_state(self, batch: int, *, device: Any = None, dtype: Any = None) -> Any:
        place = self.placement(device, dtype)
        return AverageState(torch.zeros(batch, 6, **place), torch.zeros(batch, dtype=torch.int64, device=device))

    def forward(self, x: Tensor, state: Any = None, *, first: Any = None, present: Any = None) -> tuple[Tensor, Any]:
        x, state = self.begin(x, state, first, present)
        outputs = [x[:, :0]]
        fresh = self.initial_state(1, device=x.device)
        for t in range(x.shape[1]):
            if first is not None:
                state = states.reset(state, first[:, t], fresh)
            y, after = self.token(x[:, t], state)
            if present is not None:
                absent = ~present[:, t]
                y, after = y.masked_fill(absent[:, None], 0.0), states.reset(after, absent, state)
            outputs.append(y[:, None])
            state = after
        return torch.cat(outputs, 1), state

    def token(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        keep = self.keep.sigmoid()
        mean = keep * state.mean + (1 - keep) * torch.tanh(self.write(x))
        y = self.read(mean) + torch.sin(self.pitch * state.position[:, None])
        return y, AverageState(mean, state.position + 1)


class StackState(NamedTuple):
    layers: tuple[AverageState, ...]


class Stack(Memory):
    """Averages one upon another: a state of states, without a token of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.dim = 6
        self.layers = nn.ModuleList([Average(), Average()])

    def initial_state(self, batch: int, *, device: Any = None, dtype: Any = None) -> StackState:
        return StackState(tuple(layer.initial_state(batch, device=device, dtype=dtype) for layer in self.layers))

    def forward(self, x: Tensor, state: Any = None, *, first: Any = None, present: Any = None) -> tuple[Tensor, Any]:
        x, state = self.begin(x, state, first, present)
        after = []
        for layer, before in zip(self.layers, state.layers, strict=True):
            x, last = layer(x, before, first=first, present=present)
            after.append(last)
        return x, StackState(tuple(after))


class Choice(Average):
    """Two backends that agree, and a third that cannot run here."""

    backends = ("loop", "double", "elsewhere")

    def __init__(self) -> None:
        super().__init__()
        self.backend: str | None = None

    def token(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        if self.backend == "elsewhere":
            raise UserError("backend elsewhere needs another device")
        if self.backend != "double":
            return super().token(x, state)
        y, after = super().token(torch.cat((x, x)), states.transform(lambda field: torch.cat((field, field)), state))
        return y[: len(x)], states.select(after, slice(len(x)))


class GrainState(NamedTuple):
    mean: Tensor  # (batch, dim)


class Segments(Memory):
    """Every token sees the whole of its segment of 4, and what is left of earlier ones."""

    grain = 4

    def __init__(self) -> None:
        super().__init__()
        self.dim = 5
        self.write = nn.Linear(5, 5)
        self.read = nn.Linear(10, 5)

    def initial_state(self, batch: int, *, device: Any = None, dtype: Any = None) -> GrainState:
        return GrainState(torch.zeros(batch, 5, **self.placement(device, dtype)))

    def forward(self, x: Tensor, state: Any = None, *, first: Any = None, present: Any = None) -> tuple[Tensor, Any]:
        x, state = self.begin(x, state, first, present)
        outputs = [x[:, :0]]
        for begin in range(0, x.shape[1], 4):
            segment = x[:, begin : begin + 4]
            if first is not None:
                state = states.reset(state, first[:, begin], self.initial_state(1))
            written = torch.tanh(self.write(segment)).mean(1)
            y = self.read(torch.cat((written, state.mean.to(written)), -1))[:, None] * segment.tanh()
            after = GrainState(0.5 * state.mean + written)
            if present is not None:
                absent = ~present[:, begin]
                y, after = y.masked_fill(absent[:, None, None], 0.0), states.reset(after, absent, state)
            outputs.append(y)
            state = after
        return torch.cat(outputs, 1), state


class CacheState(NamedTuple):
    keys: Tensor  # (batch, length, dim)
    values: Tensor  # (batch, length, dim)
    valid: Tensor  # (batch, length)


class Attention(Memory):
    """Attends to all that was read; says that its state grows."""

    bounded = False

    def __init__(self) -> None:
        super().__init__()
        self.dim = 5
        self.query, self.key, self.value = (nn.Linear(5, 5, bias=False) for _ in range(3))

    def initial_state(self, batch: int, *, device: Any = None, dtype: Any = None) -> CacheState:
        empty = torch.zeros(batch, 0, 5, **self.placement(device, dtype))
        return CacheState(empty, empty.clone(), torch.zeros(batch, 0, dtype=torch.bool, device=device))

    def forward(self, x: Tensor, state: Any = None, *, first: Any = None, present: Any = None) -> tuple[Tensor, Any]:
        x, state = self.begin(x, state, first, present)
        outputs = [x[:, :0]]
        for t in range(x.shape[1]):
            token = x[:, t : t + 1].to(state.keys.dtype)
            here = torch.ones_like(token[..., 0], dtype=torch.bool) if present is None else present[:, t : t + 1]
            valid = state.valid if first is None else state.valid & ~first[:, t : t + 1]
            state = CacheState(
                torch.cat((state.keys, torch.tanh(self.key(token)).to(token)), 1),
                torch.cat((state.values, self.value(token).to(token)), 1),
                torch.cat((valid, here), 1),
            )
            scores = torch.einsum("bod,btd->bt", torch.tanh(self.query(token)).to(token), state.keys)
            weights = scores.masked_fill(~state.valid, -1e30).softmax(-1)
            y = torch.einsum("bt,btd->bd", weights.to(token), state.values)[:, None]
            outputs.append(y.masked_fill(~here[..., None], 0.0))
        return torch.cat(outputs, 1), state


class PoolState(NamedTuple):
    own: Tensor  # (batch, agents, dim)
    shared: Tensor  # (batch, dim)


class Pool(Memory):
    """Agents average what they see, and read what all of them have put together."""

    team = True

    def __init__(self) -> None:
        super().__init__()
        self.dim = 5
        self.write, self.put, self.read, self.look = (nn.Linear(5, 5) for _ in range(4))

    def initial_state(self, batch: int, *, agents: int = 1, device: Any = None, dtype: Any = None) -> PoolState:
        place = self.placement(device, dtype)
        return PoolState(torch.zeros(batch, agents, 5, **place), torch.zeros(batch, 5, **place))

    def forward(self, x: Tensor, state: Any = None, *, first: Any = None, present: Any = None) -> tuple[Tensor, Any]:
        x, state = self.begin(x, state, first, present)
        outputs = [x[..., :0, :]]
        for t in range(x.shape[-2]):
            here = torch.ones_like(x[..., t, 0], dtype=torch.bool) if present is None else present[..., t]
            if first is not None:
                state = states.reset(state, first[:, t], self.initial_state(1, agents=x.shape[1], device=x.device))
            y, state = self.token(x[..., t, :], state, here[..., None])
            outputs.append(y.masked_fill(~here[..., None], 0.0)[..., None, :])
        return torch.cat(outputs, -2), state

    def token(self, x: Tensor, state: PoolState, here: Tensor) -> tuple[Tensor, PoolState]:
        own = torch.where(here, 0.5 * state.own + torch.tanh(self.write(x)), state.own)
        shared = torch.where(
            here.any(1), 0.5 * state.shared + self.pooled(torch.tanh(self.put(own)), here), state.shared
        )
        return self.read(own) + self.look(shared)[:, None], PoolState(own, shared)

    def pooled(self, put: Tensor, here: Tensor) -> Tensor:
        return (put * here).sum(1) / here.sum(1).clamp(min=1)


OBEYING = [Average, Stack, Choice, Segments, Attention, Pool]


# Memories that break a law --------------------------------------------------------------------------------------------


class ForgetsBetweenPieces(Average):
    def forward(self, x, state=None, *, first=None, present=None):
        return super().forward(x, None, first=first, present=present)


class SkipsShortPieces(Average):
    def forward(self, x, state=None, *, first=None, present=None):
        y, after = super().forward(x, state, first=first, present=present)
        return y, after if x.shape[1] > 3 else state or self.initial_state(len(x))


class StepsOtherwise(Average):
    def step(self, x, state=None, *, first=None):
        y, after = super().step(x, state, first=first)
        return y, after._replace(position=torch.zeros_like(after.position))


class StepIgnoresFirst(Average):
    def step(self, x, state=None, *, first=None):
        return super().step(x, state)


class AbsorbsOtherwise(Average):
    def absorb(self, x, state=None, *, first=None, present=None):
        return super().absorb(x, state, first=first)


class OverwritesTheCallersState(Average):
    def forward(self, x, state=None, *, first=None, present=None):
        y, after = super().forward(x, state, first=first, present=present)
        if state is not None:
            state.mean.copy_(after.mean.detach())
        return y, after


class OverwritesX(Average):
    def forward(self, x, state=None, *, first=None, present=None):
        y, after = super().forward(x.clone(), state, first=first, present=present)
        if not torch.is_grad_enabled():
            x.zero_()
        return y, after


class HasAnotherFastPath(Average):
    def forward(self, x, state=None, *, first=None, present=None):
        y, after = super().forward(x, state, first=first, present=present)
        return (y, after) if torch.is_grad_enabled() else (1.001 * y, after)


class CachesATable(Average):
    """What is made in inference mode cannot be differentiated through later."""

    def __init__(self):
        super().__init__()
        self.table = None

    def token(self, x, state):
        self.table = torch.full_like(x[:1], 2.0) if self.table is None or self.table.dtype != x.dtype else self.table
        y, after = super().token(x, state)
        return y * self.table, after


class IgnoresFirst(Average):
    def forward(self, x, state=None, *, first=None, present=None):
        return super().forward(x, state, present=present)


class ResetsOneTokenLate(Average):
    def forward(self, x, state=None, *, first=None, present=None):
        late = None if first is None else torch.cat((torch.zeros_like(first[:, :1]), first[:, :-1]), 1)
        return super().forward(x, state, first=late, present=present)


class ResetsOnlyWherePresent(Average):
    def forward(self, x, state=None, *, first=None, present=None):
        heard = first if first is None or present is None else first & present
        return super().forward(x, state, first=heard, present=present)


class KeepsThePositionAtAReset(Average):
    def forward(self, x, state=None, *, first=None, present=None):
        started = state or self.initial_state(len(x))
        y, after = super().forward(x, state, first=first, present=present)
        read = x.shape[1] if present is None else present.sum(1)
        return y, after._replace(position=started.position + read)


class IgnoresPresent(Average):
    def forward(self, x, state=None, *, first=None, present=None):
        return super().forward(x, state, first=first)


class OnlyHidesOutputsOfPadding(Average):
    def forward(self, x, state=None, *, first=None, present=None):
        x, _ = self.begin(x, state, first, present)
        y, after = super().forward(x, state, first=first)
        return (y if present is None else y.masked_fill(~present[..., None], 0.0)), after


class PaddingMovesThePosition(Average):
    def forward(self, x, state=None, *, first=None, present=None):
        y, after = super().forward(x, state, first=first, present=present)
        moved = 0 if present is None else (~present).sum(1)
        return y, after._replace(position=after.position + moved)


class AnswersAtPadding(Average):
    def forward(self, x, state=None, *, first=None, present=None):
        y, after = super().forward(x, state, first=first, present=present)
        return (y if present is None else y + ~present[..., None]), after


class MultipliesPaddingAway(Average):
    """0 times NaN is NaN."""

    def begin(self, x, state, first, present):
        x, state = super().begin(x, state, first, None)
        return (x if present is None else x * present[..., None]), state


class PaddingSpoilsGradients(Average):
    """The outputs are masked, the gradient of the masked branch is 0 times NaN."""

    def forward(self, x, state=None, *, first=None, present=None):
        y, after = super().forward(x, state, first=first, present=present)
        scaled = y + torch.tanh(self.write(x))
        return (scaled if present is None else torch.where(present[..., None], scaled, 0.0)), after


class LooksAhead(Average):
    def forward(self, x, state=None, *, first=None, present=None):
        y, after = super().forward(x, state, first=first, present=present)
        shown, _ = self.begin(x, state, first, present)
        return torch.cat((y[:, :-1] + 0.1 * shown[:, 1:], y[:, -1:]), 1), after


class NormalisesOverThePiece(Average):
    def forward(self, x, state=None, *, first=None, present=None):
        y, after = super().forward(x, state, first=first, present=present)
        return y / (1 + y.abs().mean(1, keepdim=True)), after


class ResetsTooEarly(Average):
    def forward(self, x, state=None, *, first=None, present=None):
        early = None if first is None else torch.cat((first[:, 1:], first[:, :1]), 1)
        return super().forward(x, state, first=early, present=present)


class CentresTheBatch(Average):
    def token(self, x, state):
        return super().token(x - x.mean(0), state)


class SharesAPosition(Average):
    def token(self, x, state):
        return super().token(x, state._replace(position=state.position.max().expand(len(x))))


class NumbersItsAgents(Pool):
    def token(self, x, state, here):
        return super().token(x + torch.arange(x.shape[1])[:, None], state, here)


class HearsAbsentAgents(Pool):
    def pooled(self, put, here):
        return put.mean(1)


class CountsAbsentAgents(Pool):
    def pooled(self, put, here):
        return (put * here).sum(1) / put.shape[1]


class ForgetsAbsentAgents(Pool):
    def token(self, x, state, here):
        y, after = super().token(x, state, here)
        return y, after._replace(own=after.own * here)


class WritesInTurn(Pool):
    """Each agent's write lets what the others wrote before it fade."""

    def pooled(self, put, here):
        shared = torch.zeros_like(put[:, 0])
        for agent in range(put.shape[1]):
            shared = torch.where(here[:, agent], 0.5 * shared + put[:, agent], shared)
        return shared


class FadesWithoutAnyone(Pool):
    def token(self, x, state, here):
        y, after = super().token(x, state, here)
        return y, after._replace(shared=torch.where(here.any(1), after.shared, 0.5 * state.shared))


class ResetsWhatIsSharedAlone(Pool):
    def forward(self, x, state=None, *, first=None, present=None):
        own, outputs = None if state is None else state.own, [x[..., :0, :]]
        for t in range(x.shape[-2]):
            now = None if present is None else present[..., t : t + 1]
            state = state if own is None else state._replace(own=own)
            if first is not None and state is not None:
                fresh = self.initial_state(1, agents=x.shape[1])
                state = states.reset(state, first[:, t], fresh)._replace(own=state.own)
            y, state = super().forward(x[..., t : t + 1, :], state, present=now)
            own = state.own
            outputs.append(y)
        return torch.cat(outputs, -2), state or self.initial_state(len(x), agents=x.shape[1])


class FixesTheTeam(Pool):
    """Its weights are of so many agents: no other team can come."""

    def __init__(self):
        super().__init__()
        self.places = nn.Parameter(torch.zeros(2, 5))

    def token(self, x, state, here):
        return super().token(x + self.places[: x.shape[1]], state, here)


class GrowsUndeclared(Attention):
    bounded = True


class CountsInAnAttribute(Average):
    def __init__(self):
        super().__init__()
        self.read_so_far = 0

    def forward(self, x, state=None, *, first=None, present=None):
        y, after = super().forward(x, state, first=first, present=present)
        self.read_so_far += x.shape[1]
        return y * (1 + 1e-6 * self.read_so_far), after


class KeepsANumber(Average):
    def initial_state(self, batch, *, device=None, dtype=None):
        return super().initial_state(batch, device=device, dtype=dtype)._replace(position=0)

    def forward(self, x, state=None, *, first=None, present=None):
        given = super().initial_state(len(x))
        if state is not None:
            given = given._replace(mean=state.mean, position=given.position + state.position)
        y, after = Plain.forward(self, x, given)
        return y, after._replace(position=int(after.position[0]))


class Plain(Average):
    """Reads its own kind of state, without flags."""

    def forward(self, x, state=None, *, first=None, present=None):
        y = []
        for x_t in x.unbind(1):
            y_t, state = self.token(x_t, state)
            y.append(y_t)
        return torch.stack(y, 1), state


class KeepsABareTensor(Plain):
    def forward(self, x, state=None, *, first=None, present=None):
        given = self.initial_state(len(x))
        y, after = super().forward(x, given if state is None else given._replace(mean=state))
        return y, after.mean


class LayersFirst(Average):
    """As `torch.nn.GRU` keeps it: (layers, batch, dim)."""

    def initial_state(self, batch, *, device=None, dtype=None):
        state = super().initial_state(batch, device=device, dtype=dtype)
        return state._replace(mean=state.mean[None], position=state.position[None])

    def forward(self, x, state=None, *, first=None, present=None):
        state = state or self.initial_state(len(x))
        y, after = Plain.forward(self, x, AverageState(*(field[0] for field in state)))
        return y, AverageState(*(field[None] for field in after))


class WritesWithoutGradient(Average):
    def token(self, x, state):
        y, after = super().token(x, state)
        return y, after._replace(mean=after.mean.detach())


class DetachesWhatItIsGiven(Average):
    def forward(self, x, state=None, *, first=None, present=None):
        given = None if state is None else states.detach(state)
        return super().forward(x, given, first=first, present=present)


class HasAnUnusedParameter(Average):
    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(6, 6)


class NeverReadsWhatItWrites(Average):
    def token(self, x, state):
        return self.read(x), super().token(x, state)[1]


class HasAWrongBackward(Average):
    def token(self, x, state):
        y, after = super().token(2 * x.detach() - x, state)
        return y, after


class KeepsTheGraph(Average):
    """The last state stays in an attribute and comes back although the caller has cut it."""

    def __init__(self):
        super().__init__()
        self.last = None

    def forward(self, x, state=None, *, first=None, present=None):
        if state is not None and self.last is not None and torch.equal(state.mean, self.last.mean):
            state = self.last
        y, self.last = super().forward(x, state, first=first, present=present)
        return y, self.last


class Overflows(Average):
    def token(self, x, state):
        return super().token(torch.exp(x.abs()) / (1 + torch.exp(x.abs())) * x.tanh(), state)


class DividesByWhatItSaw(Average):
    def token(self, x, state):
        return super().token(x / x.norm(dim=-1, keepdim=True), state)


class KeepsHalfPrecision(Average):
    def token(self, x, state):
        y, after = super().token(x, state)
        return y, after._replace(mean=after.mean.to(self.write(x).dtype))


class StartsInHalfPrecision(Average):
    def placement(self, device=None, dtype=None):
        return {"device": device, "dtype": self.keep.dtype}


class RoundsInside(Average):
    def token(self, x, state):
        return super().token(x if x.dtype == torch.float64 else x.half().float(), state)


class ChokesOnNothing(Average):
    def forward(self, x, state=None, *, first=None, present=None):
        y, after = super().forward(x, state, first=first, present=present)
        return torch.stack(y.unbind(1), 1), after


class CountsPieces(Average):
    def forward(self, x, state=None, *, first=None, present=None):
        y, after = super().forward(x, state, first=first, present=present)
        return y, after._replace(position=after.position + (x.shape[1] == 0))


class HasAnotherBackend(Choice):
    def token(self, x, state):
        return super().token(x * 1.0001 if self.backend == "double" else x, state)


class HasABackendWithoutGradient(Choice):
    def token(self, x, state):
        return super().token(x.detach() if self.backend == "double" else x, state)


BREAKING = {
    "split": [
        ForgetsBetweenPieces,
        SkipsShortPieces,
        StepsOtherwise,
        StepIgnoresFirst,
        AbsorbsOtherwise,
        OverwritesTheCallersState,
        OverwritesX,
        HasAnotherFastPath,
        CachesATable,
        NormalisesOverThePiece,
        CountsPieces,
    ],
    "first": [
        IgnoresFirst,
        ResetsOneTokenLate,
        ResetsOnlyWherePresent,
        KeepsThePositionAtAReset,
        ResetsWhatIsSharedAlone,
    ],
    "present": [
        IgnoresPresent,
        OnlyHidesOutputsOfPadding,
        PaddingMovesThePosition,
        AnswersAtPadding,
        MultipliesPaddingAway,
        PaddingSpoilsGradients,
        HearsAbsentAgents,
        ForgetsAbsentAgents,
        FadesWithoutAnyone,
    ],
    "causal": [LooksAhead, NormalisesOverThePiece, ResetsTooEarly],
    "rows": [
        CentresTheBatch,
        SharesAPosition,
        NumbersItsAgents,
        HearsAbsentAgents,
        CountsAbsentAgents,
        ForgetsAbsentAgents,
        WritesInTurn,
        FixesTheTeam,
    ],
    "bounded": [GrowsUndeclared],
    "saved": [CountsInAnAttribute, KeepsANumber, KeepsABareTensor, LayersFirst],
    "gradient": [
        WritesWithoutGradient,
        DetachesWhatItIsGiven,
        HasAnUnusedParameter,
        NeverReadsWhatItWrites,
        HasAWrongBackward,
        KeepsTheGraph,
    ],
    "numbers": [
        Overflows,
        DividesByWhatItSaw,
        KeepsHalfPrecision,
        StartsInHalfPrecision,
        RoundsInside,
        ChokesOnNothing,
        CountsPieces,
    ],
    "backends": [HasAnotherBackend, HasABackendWithoutGradient],
}


# The tests ------------------------------------------------------------------------------------------------------------


def build(kind: type[Memory]) -> Memory:
    torch.manual_seed(0)
    return kind()


@pytest.mark.parametrize("kind", OBEYING)
def test_a_memory_that_obeys_passes(kind):
    laws.check(build(kind), cases=4, time=12)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(OBEYING), st.sampled_from(list(laws.LAWS)), st.integers(0, 10**9), st.integers(3, 50))
def test_it_passes_whatever_the_case(kind, law, seed, time):
    laws.check(build(kind), laws=[law], cases=1, seed=seed, time=time)


@pytest.mark.parametrize(("law", "kind"), [(law, kind) for law, kinds in BREAKING.items() for kind in kinds])
def test_a_memory_that_breaks_a_law_is_caught(law, kind):
    with pytest.raises(laws.LawBroken) as caught:
        laws.check(build(kind), laws=[law], time=10)
    assert caught.value.laws == (law,)


def test_every_law_is_broken_by_some_memory():
    assert list(BREAKING) == list(laws.LAWS)
    assert all(BREAKING.values())


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        (StepsOtherwise, ("split",)),
        (ResetsOneTokenLate, ("split", "first", "present")),
        (PaddingSpoilsGradients, ("present",)),
        (CountsAbsentAgents, ("present", "rows")),
        (HasAnUnusedParameter, ("gradient",)),
        (RoundsInside, ("numbers",)),
        (HasAnotherBackend, ("backends",)),
    ],
)
def test_only_the_laws_that_are_broken_are_named(kind, broken):
    with pytest.raises(laws.LawBroken) as caught:
        laws.check(build(kind), time=20)
    assert caught.value.laws == broken


def test_the_report_says_what_is_wrong_how_much_and_where():
    with pytest.raises(laws.LawBroken) as caught:
        laws.check(build(HasAnUnusedParameter), laws=["gradient", "rows"], cases=1, seed=8)
    head, line = str(caught.value).splitlines()
    assert head == "HasAnUnusedParameter breaks the laws of memory"
    assert line.startswith("  gradient: inf where at most 1e-10 is allowed: no gradient of spare.weight")
    assert "seed 8, batch " in line
    assert "cuts (" in line


def test_an_exception_breaks_the_law_and_is_reported():
    with pytest.raises(laws.LawBroken, match="RuntimeError: stack expects a non-empty") as caught:
        laws.check(build(ChokesOnNothing), laws=["numbers"])
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_what_has_no_place_in_a_state_is_named():
    with pytest.raises(laws.LawBroken, match=r"state\.position is of type int, neither a tensor nor a tuple"):
        laws.check(build(KeepsANumber), laws=["saved"])
    with pytest.raises(laws.LawBroken, match=r"the state is a Tensor, no NamedTuple"):
        laws.check(build(KeepsABareTensor), laws=["saved"])
    with pytest.raises(laws.LawBroken, match=r"state\.mean is of shape \(1, \d, 6\) for \d streams"):
        laws.check(build(LayersFirst), laws=["saved"])


def test_a_wrong_gradient_is_shown():
    with pytest.raises(
        laws.LawBroken, match=r"with respect to input 0.*\(of x, mean as inputs and y, mean as outputs\)"
    ):
        laws.check(build(HasAWrongBackward), laws=["gradient"], time=10)


def test_the_seed_of_a_report_draws_its_case_again():
    figures = [laws.measure(build(CentresTheBatch), laws=["rows"], cases=1, seed=seed)["rows"] for seed in (0, 1, 2)]
    assert laws.measure(build(CentresTheBatch), laws=["rows"])["rows"] == max(figures)


def test_figures_are_the_same_every_time_whichever_laws_are_measured():
    everything = laws.measure(build(Average), cases=1, time=12)
    assert everything == laws.measure(build(Average), cases=1, time=12)
    assert laws.measure(build(Average), laws=["numbers"], cases=1, time=12) == {"numbers": everything["numbers"]}
    assert list(everything) == list(laws.LAWS)


def test_figures_of_a_growing_state_are_bytes_for_each_token():
    assert laws.measure(build(Attention), laws=["bounded"])["bounded"] == 2 * 5 * 8 + 1
    assert laws.measure(build(GrowsUndeclared), laws=["bounded"])["bounded"] == (256 - 64) * (2 * 5 * 8 + 1)
    assert math.isinf(laws.measure(build(ChokesOnNothing), laws=["numbers"])["numbers"])


def test_an_input_limit_is_what_a_memory_is_tested_to():
    memory = build(Overflows)
    memory.input_limit = 50.0
    laws.check(memory, laws=["numbers"])


def test_the_memory_and_the_random_state_stay_as_they_were():
    memory = build(Choice).train().requires_grad_()
    memory.read.eval()
    memory.write.weight.grad = torch.ones_like(memory.write.weight)
    before, gradient = copy.deepcopy(memory), memory.write.weight.grad
    random = torch.get_rng_state()
    with torch.no_grad():
        laws.check(memory, cases=1, time=10)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in memory.modules()] == [module.training for module in before.modules()]
    assert memory.backend is None
    for parameter, old in zip(memory.parameters(), before.parameters(), strict=True):
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, old)
    assert memory.write.weight.grad is gradient
    assert bool((gradient == 1).all())


def test_a_frozen_memory_and_one_in_bfloat16_can_be_checked():
    laws.check(build(Average).requires_grad_(False), cases=1, time=10)
    laws.check(build(Average).bfloat16(), cases=1, time=10)


def test_checks_work_under_inference_mode():
    memory = build(Average)
    with torch.inference_mode():
        laws.check(memory, cases=1, time=10)


def test_what_is_no_law_or_no_memory_is_refused():
    with pytest.raises(UserError, match=r"no law 'causel': did you mean 'causal'\?"):
        laws.check(build(Average), laws=["causel"])
    with pytest.raises(UserError, match="GRU is none"):
        laws.check(nn.GRU(3, 3))
