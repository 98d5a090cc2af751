"""RMT: memory tokens that are read at the head of a segment and written at its tail."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.errors import UserError
from recurra.memory import state as states
from recurra.memory.rotary import angles
from recurra.memory.segment.backbone import Backbone, Held, empty, keep, turned_heads
from recurra.memory.segment.memory import SegmentMemory
from recurra.memory.segment.parts import Gradients, Part, SegmentState
from recurra.memory.segment.places import view
from recurra.memory.segment.valves import valve as build_valve


class Slots(NamedTuple):
    """What RMT hands from segment to segment: ``tokens (batch, slots, dim)``, ``2 * dim`` with an LSTM for a valve."""

    tokens: Tensor


class Cached(NamedTuple):
    """The same where earlier segments are looked back on.

    ``tokens``: as in `Slots`; ``cache``: for each layer the keys and values of the last ``cache`` tokens, oldest first,
    0 before the episode; ``length (batch,)`` int64: how many of them there are.
    """

    tokens: Tensor
    cache: tuple[Held, ...]
    length: Tensor


class RMT(SegmentMemory):
    """Recurrent memory transformer (Bulatov et al. 2022, arXiv 2207.06881, in the decoder's form of arXiv 2304.11062).

    ::

        [ _ ; Y_τ ; M_{τ+1} ] = transformer([ M_τ ; X_τ ; M_τ ])

    causal throughout: the tokens of a segment X_τ see the memory M_τ at its head, what is written at its tail sees
    all of them. The open segment's keys and values are in the state; when its last token has come, it is written.

    RATE (Cherepanov et al. 2023, arXiv 2306.09459) lets memory tokens of a kind see each other, and has a valve between
    what was written and what is kept, see `recurra.memory.segment.valves`: what is listed as ``rate`` is this class.
    Its released trainer detaches memory between segments, where a valve's weights have no gradients: ``horizon=0``.

    Args:
        dim: width of inputs and outputs.
        segment: tokens of a segment.
        slots: memory tokens.
        layers: see `Backbone`.
        heads: see `Backbone`.
        kv_heads: see `Backbone`.
        expansion: see `Backbone`.
        valve: what M_{τ+1} is made of, from M_τ and what was written: none, ca2, ca1, gate, gru or lstm.
        valve_heads: of a valve that attends.
        mutual: let memory tokens at the head see each other, and those at the tail too.
        cache: tokens of earlier segments that all tokens see besides, in every layer, as in Transformer-XL.
        horizon: see `Gradients`.
        replay: see `Gradients`.
        backbone: what reads instead of a `Backbone` of these options: a `Reader`.

    Raises:
        UserError: if a number is too small, there is no such valve, a cache is wanted of another backbone, or as
            `Backbone` does.

    >>> y, state = RMT(16, segment=4, slots=2)(torch.ones(2, 5, 16))
    >>> y.shape, state.memory.tokens.shape, state.open[0].keys.shape, state.position
    (torch.Size([2, 5, 16]), torch.Size([2, 2, 16]), torch.Size([2, 6, 16]), tensor([5, 5]))
    """

    def __init__(
        self,
        dim: int,
        *,
        segment: int = 64,
        slots: int = 8,
        layers: int = 2,
        heads: int = 4,
        kv_heads: int | None = None,
        expansion: float = 4.0,
        valve: str = "none",
        valve_heads: int = 2,
        mutual: bool = False,
        cache: int = 0,
        horizon: int | None = None,
        replay: bool = False,
        backbone: Any = None,
    ) -> None:
        super().__init__()
        if segment < 1 or slots < 1:
            raise UserError(f"a segment has at least 1 token and 1 memory slot, got {segment} and {slots}")
        if cache < 0 or (cache and backbone is not None):
            raise UserError(f"a cache is of 0 tokens or more, and of our own backbone, got {cache}")
        self.dim, self.segment, self.slots, self.mutual, self.cache = dim, segment, slots, mutual, cache
        self.gradients = Gradients(horizon, replay).checked()
        self.backbone: Any = backbone or Backbone(
            dim, layers=layers, heads=heads, kv_heads=kv_heads, expansion=expansion
        )
        self.valve = build_valve(valve, dim, heads=valve_heads)
        self.initial = nn.Parameter(torch.randn(slots, dim))

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> SegmentState:
        """Give the learnt memory and an empty segment."""
        place = self.placement(device, dtype)
        tokens = functional.pad(self.initial.to(**place), (0, (self.valve.width - 1) * self.dim))
        none = torch.zeros(batch, dtype=torch.long, device=place["device"])
        memory: Slots | Cached = Slots(tokens.expand(batch, -1, -1))
        if self.cache:
            memory = Cached(memory.tokens, empty(self.backbone, batch, self.cache, place), none.clone())
        return SegmentState(memory, empty(self.backbone, batch, self._places, place), none)

    @property
    def _places(self) -> int:
        """Those of an open segment: of the cache, of what is read, of its tokens."""
        return self.cache + self.slots + self.segment

    def _read(
        self, part: Part, memory: Any, held: tuple[Held, ...] | None
    ) -> tuple[Tensor, Any, tuple[Held, ...] | None]:
        """Read part of a segment: memory at its head where it opens, and at its tail where it closes."""
        batch, time, _ = part.x.shape
        tokens = memory.tokens[..., : self.dim].to(part.x.dtype)
        slot = torch.arange(self.slots, device=part.x.device).expand(batch, -1)
        here = torch.ones_like(slot, dtype=torch.bool)
        head = [(tokens, slot, here & part.opens.unsqueeze(1))] * part.opening
        tail = [(tokens, slot + self.slots + self.segment, here)] * part.closing
        passes = *head, (part.x, part.place + self.slots, part.present), *tail
        x, place, here = (torch.cat(parts, 1) for parts in zip(*passes, strict=True))
        size = self._places + self.slots * part.closing
        reach = self._reach(place) + self.cache if self.mutual else None
        seen = view(place + self.cache, here, size, anew=part.anew and not self.cache, reach=reach)
        if self.cache:
            held = self._behind(memory, held, part.opens)
            there = torch.arange(size + 1, device=place.device) >= self.cache - memory.length.reshape(-1, 1, 1, 1)
            seen = seen._replace(mask=seen.mask & there)
        hidden, after = self.backbone(x, seen, held)
        begin = self.slots * part.opening
        y = hidden[:, begin : begin + time]
        if part.closing:
            written = hidden[:, -self.slots :].to(memory.tokens.dtype)
            kept = self.valve(memory.tokens, written).to(memory.tokens.dtype)
            told = memory._replace(tokens=kept)
            memory = states.reset(memory, part.closes, self._cached(told, after) if self.cache else told)
        if not part.kept:
            return y, memory, None
        return y, memory, keep(after, seen, self._places, part.closes, memory.tokens.dtype)

    def _behind(self, memory: Cached, held: tuple[Held, ...] | None, opens: Tensor) -> tuple[Held, ...]:
        """Give what is held, the cache before what comes where segments open."""
        fill = (0, 0, 0, self._places - self.cache)
        begun = tuple(Held(*(functional.pad(part, fill) for part in layer)) for layer in memory.cache)
        return begun if held is None else states.reset(held, opens, begun)

    def _cached(self, memory: Cached, after: tuple[Held, ...]) -> Cached:
        """Take the segment's keys and values into the cache: keys are a segment further back then."""
        back = torch.full((len(memory.length), self.cache), -self.segment, device=memory.length.device)
        turning = angles(back, self.backbone.head)
        cache = []
        for layer, old in zip(after, memory.cache, strict=True):
            own = slice(self.cache + self.slots, self._places)
            keys, values = (torch.cat((part[:, : self.cache], part[:, own]), 1)[:, -self.cache :] for part in layer)
            keys = turned_heads(keys, self.backbone.head, turning)
            cache.append(Held(keys.to(old.keys.dtype), values.to(old.values.dtype)))
        return memory._replace(cache=tuple(cache), length=(memory.length + self.segment).clamp(max=self.cache))

    def _reach(self, place: Tensor) -> Tensor:
        """Give the last place that is seen from each: from those of memory tokens, the last of their kind."""
        tail = self.slots + self.segment
        reach = torch.where(place < self.slots, self.slots - 1, place)
        return torch.where(place < tail, reach, tail + self.slots - 1)
