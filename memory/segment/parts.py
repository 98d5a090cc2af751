"""Segments as they come: a piece of every stream, cut where each stream's own segments end.

A stream's segments are counted from its own first token and anew from each `first`, so the streams of a batch may
stand at different places in theirs. Part by part, every stream reads what the piece holds of one segment, all of its
tokens at once and all streams side by side: tokens stand close together, beside their places in the segment, so a
step of streams that stand at different places is a pass of one token each.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from recurra.errors import UserError
from recurra.kernels.chunks import Grid, gather, grid, scatter
from recurra.memory import state as states


class SegmentState(NamedTuple):
    """What a segment memory keeps of each stream.

    Attributes:
        memory: what is handed from segment to segment.
        open: for each layer, what attention needs of the open segment, by place; 0 where no token has come yet.
        position: ``(batch,)`` int64, the tokens of the episode so far.
    """

    memory: Any
    open: tuple[Any, ...]
    position: Tensor


class Part(NamedTuple):
    """What a piece holds of one segment of each stream.

    Attributes:
        x: ``(batch, tokens, dim)``, 0 where absent.
        place: ``(batch, tokens)`` int64, inside the segment.
        present: ``(batch, tokens)`` bool; absent tokens come last.
        opens: ``(batch,)`` bool, whether the segment begins here.
        closes: ``(batch,)`` bool, whether its last token is here.
        anew: whether no stream's segment began in an earlier piece.
        opening: whether any stream's opens.
        closing: whether any stream's closes.
        kept: whether any stream's stays open when the piece ends.
    """

    x: Tensor
    place: Tensor
    present: Tensor
    opens: Tensor
    closes: Tensor
    anew: bool
    opening: bool
    closing: bool
    kept: bool


Read = Callable[[Part, Any, Any], tuple[Tensor, Any, Any]]
"""Reads a part, given the memory and what is open (None where a part begins anew).

Gives outputs ``(batch, tokens, dim)``, the memory, changed where the segment closes, and what is open then, 0 where it
closes; None if it is nowhere kept.
"""


class Gradients(NamedTuple):
    """How far gradients go back, and what a backward pass keeps.

    Attributes:
        horizon: segments that gradients reach back, counted from each piece's last: its losses reach the ``horizon``
            segments before it and no further. The segments before those are again grouped by ``horizon + 1``, among
            which gradients flow. None: through all of them.
        replay: read each segment again in the backward pass instead of keeping what it computed, memory replay
            back-propagation (Wu et al. 2020, Memformer, arXiv 2010.06891): the same gradients, one more reading.
            They have no gradients of their own.
    """

    horizon: int | None = None
    replay: bool = False

    def checked(self) -> "Gradients":
        """Refuse a horizon that is none.

        Raises:
            UserError: if it is less than 0.
        """
        if self.horizon is not None and self.horizon < 0:
            raise UserError(f"a horizon is a number of segments, 0 or more, or None, got {self.horizon}")
        return self


class Layout(NamedTuple):
    """A piece in parts.

    Attributes:
        parts: those that any stream has.
        resets: ``(parts, batch)`` bool, whether an episode begins at the part: the state is fresh before it.
        ends: ``(parts, batch)`` bool, whether the part is the stream's last in the piece, and has a token.
        left: ``(parts, batch)`` int64, how many parts of the stream come after.
        flags: for each part whether any stream is reset, and whether any ends.
        grid: where the tokens stand.
    """

    parts: list[Part]
    resets: Tensor
    ends: Tensor
    left: Tensor
    flags: list[tuple[bool, bool]]
    grid: Grid

    def join(self, outputs: list[Tensor], time: int) -> Tensor:
        """Put the parts' outputs ``(batch, tokens, dim)`` back to ``(batch, time, dim)``, with 0 for absent tokens."""
        segment = self.grid.tokens.shape[-1]
        laid = []
        for y, part in zip(outputs, self.parts, strict=True):
            if part.anew:
                laid.append(functional.pad(y, (0, 0, 0, segment - y.shape[1])))
            else:
                index = torch.where(part.present, part.place, segment).unsqueeze(-1).expand_as(y)
                laid.append(y.new_zeros(len(y), segment + 1, y.shape[-1]).scatter(1, index, y)[:, :segment])
        return scatter(torch.stack(laid), self.grid, time)


def lay(x: Tensor, position: Tensor, first: Tensor | None, present: Tensor | None, segment: int) -> Layout:
    """Cut a piece ``(batch, time, dim)`` into parts, given each stream's ``position (batch,)``."""
    where = grid(position, first, present, x.shape[1], segment)
    count = where.present.sum(2)
    order = torch.arange(len(count), device=x.device).unsqueeze(1)
    used = (count > 0) | where.resets
    last = torch.where(used, order, -1).amax(0) if len(count) else position
    ends = (count > 0) & (order == last)  # an episode without a token yet keeps what it begins with
    closes = where.present[..., segment - 1]
    continues = (count > 0) & ~where.opens
    stays = ends & (count > 0) & ~closes
    # One transfer from the device for all that shapes and branches depend on.
    flags = torch.stack((where.resets, ends, continues, where.opens, closes, stays)).any(2)
    told = torch.cat((flags.long(), count.amax(1, keepdim=True).T)).T.tolist() if len(count) else []
    parts = []
    laid = gather(x, where).unbind(0) if len(count) else ()
    for index, (_, _, continuing, opening, closing, kept, tokens) in enumerate(told):
        place = where.offset[index].unsqueeze(1) + torch.arange(tokens, device=x.device)
        inside = place.clamp(max=segment - 1)
        here = where.present[index].gather(1, inside) & (place == inside)
        near = laid[index][:, :tokens]
        if continuing:
            near = laid[index].take_along_dim(inside.unsqueeze(-1), 1).masked_fill(~here.unsqueeze(-1), 0.0)
        parts.append(
            Part(
                near, inside, here, where.opens[index], closes[index],
                anew=not continuing, opening=bool(opening), closing=bool(closing), kept=bool(kept),
            )
        )  # fmt: skip
    return Layout(parts, where.resets, ends, last - order, [(bool(a), bool(b)) for a, b, *_ in told], where)


def read_token(read: Read, x: Tensor, state: SegmentState, *, segment: int) -> tuple[Tensor, SegmentState]:
    """Read one token ``(batch, dim)`` of each stream: `read_parts` without a piece to lay out."""
    place = state.position % segment
    opens, closes = place == 0, place == segment - 1
    opening, closing, anew, ends = torch.stack(
        (opens.any(), closes.any(), opens.all(), closes.all())
    ).tolist()  # one transfer from the device
    part = Part(
        x.unsqueeze(1), place.unsqueeze(1), torch.ones_like(opens).unsqueeze(1), opens, closes,
        anew=anew, opening=opening, closing=closing, kept=not ends,
    )  # fmt: skip
    y, memory, held = read(part, state.memory, None if anew else state.open)
    if held is None:
        held = states.transform(torch.zeros_like, state.open)
    return y.squeeze(1), SegmentState(memory, held, state.position + 1)


def read_parts(
    read: Read,
    x: Tensor,
    state: SegmentState,
    fresh: SegmentState,
    *,
    first: Tensor | None,
    present: Tensor | None,
    segment: int,
    horizon: int | None,
    together: Callable[..., Any] | None = None,
) -> tuple[Tensor, SegmentState]:
    """Read a piece part by part: the recurrence of every segment memory.

    Args:
        read: reads one part.
        x: ``(batch, time, dim)``.
        state: what it continues from.
        fresh: the state of one stream at its beginning.
        first: see `recurra.memory.Memory.forward`.
        present: see there.
        segment: tokens of a segment.
        horizon: see `Gradients`.
        together: reads all parts that begin anew at once, of a memory that is layers' memories: see `Diagonals.read`.
    """
    layout = lay(x, state.position, first, present, segment)
    memory, held = state.memory, state.open
    outputs: list[Tensor] = []
    ahead: list[Any] = []  # what stays open of parts that are read already

    def enter(index: int, handed: Any, anew: Any) -> Any:
        """Give what part ``index`` is handed, of one stream's fresh state ``anew``."""
        if layout.flags[index][0]:
            handed = states.reset(handed, layout.resets[index], anew)
        return handed if horizon is None else cut(handed, layout.left[index], horizon)

    for index, part in enumerate(layout.parts):
        held = enter(index, held, fresh.open)
        if together is not None and part.anew and not ahead:
            rest = layout.parts[index:]
            y, memory, ahead = together(
                rest, memory, lambda number, layer, told, begin=index: enter(begin + number, told, fresh.memory[layer])
            )
            outputs += y
        if ahead:
            after = ahead[index - len(layout.parts)]
        else:
            memory = enter(index, memory, fresh.memory)
            y, after = part.x, None
            if part.x.shape[1]:
                y, memory, after = read(part, memory, None if part.anew else held)
            outputs.append(y)
        if layout.flags[index][1]:
            held = states.reset(held, layout.ends[index], fresh.open if after is None else after)
    y = layout.join(outputs, x.shape[1]) if outputs else torch.zeros_like(x)
    return y, SegmentState(memory, held, layout.grid.position)


def cut(handed: Any, left: Tensor, horizon: int) -> Any:
    """Detach what streams hand on to a part with ``left`` others after it, where the horizon ends."""
    far = left % (horizon + 1) == horizon
    detached = states.detach(handed)
    # Where it ends for all of them, nothing stays behind to be gone through backwards.
    return detached if bool(far.all()) else states.reset(handed, far, detached)
