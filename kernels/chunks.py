"""Packing: the tokens of a piece laid out by chunk and place, for memories that compute a chunk at a time.

Where the chunk is part of the model (its gradients are taken at the weights of its start), each stream's chunks are
counted from its own first present token, and anew from each `first`; a stream may stand in the middle of a chunk when
a piece begins. A `Grid` says where every token goes, so that such a memory is one loop over slots.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Grid(NamedTuple):
    """Where the tokens of a piece stand: a slot holds one chunk of each stream, or the part of it in this piece.

    Every token stands at its position inside its chunk; the first slot of a stream that continues a chunk begins
    with empty places. A stream with fewer chunks than another leaves its last slots empty.

    Attributes:
        tokens: ``(slots, batch, chunk)`` int64, the token's index along time; 0 where the place is empty.
        present: ``(slots, batch, chunk)`` bool, whether a token stands there.
        opens: ``(slots, batch)`` bool: a chunk begins at this slot, and not in an earlier piece.
        resets: ``(slots, batch)`` bool: an episode begins at this slot (which then opens): the state is fresh before
            it. Such a slot may hold no token, if the episode has none in this piece.
        offset: ``(slots, batch)`` int64, the position inside the chunk of the slot's first place in this piece.
        position: ``(batch,)`` int64, the tokens of the stream's episode up to the end of the piece.
    """

    tokens: Tensor
    present: Tensor
    opens: Tensor
    resets: Tensor
    offset: Tensor
    position: Tensor


def grid(position: Tensor, first: Tensor | None, present: Tensor | None, time: int, chunk: int) -> Grid:
    """Lay out a piece of ``time`` tokens of each stream.

    Args:
        position: ``(batch,)`` int64, how many tokens of each stream's episode came before the piece.
        first: ``(batch, time)`` bool; an episode begins here, whether the token is present or not.
        present: ``(batch, time)`` bool; absent tokens stand nowhere.
        time: length of the piece.
        chunk: tokens of a chunk.

    >>> first = torch.tensor([[False, False, True, False, False]])
    >>> laid = grid(torch.tensor([4]), first, None, 5, 3)
    >>> laid.tokens.where(laid.present, -1).squeeze(1).tolist()  # two end the chunk begun before, then an episode
    [[-1, 0, 1], [2, 3, 4]]
    >>> laid.opens.flatten().tolist(), laid.offset.flatten().tolist(), laid.position.tolist()
    ([False, True], [1, 0], [3])
    """
    batch, device = len(position), position.device
    if time == 0:
        empty = torch.zeros(0, batch, dtype=torch.bool, device=device)
        places = torch.zeros(0, batch, chunk, dtype=torch.bool, device=device)
        return Grid(places.long(), places, empty, empty, empty.long(), position)
    shape = (batch, time)
    first = torch.zeros(shape, dtype=torch.bool, device=device) if first is None else first
    present = torch.ones(shape, dtype=torch.bool, device=device) if present is None else present

    # The place of a token: present tokens of its episode before it, of earlier pieces too.
    through = present.long().cumsum(1)
    before = through - present.long()
    begun = torch.where(first, before, -position.unsqueeze(1)).cummax(1).values
    place = before - begun
    inside = place % chunk
    opening = present & (inside == 0)
    resetting = opening & (place == 0) & (first.cumsum(1) > 0)
    after = through[:, -1] - begun[:, -1]

    # A stream's slots, one after another; one more for an episode that has begun and has no token yet.
    opened = opening.long().cumsum(1)
    continues = (present & (opened == 0)).any(1)
    slot = opened - 1 + continues.long().unsqueeze(1)
    waits = first.any(1) & (after == 0)
    used = opened[:, -1] + continues
    slots = int((used + waits).max()) if batch else 0

    def put(where: Tensor, width: int, index: Tensor, values: Tensor) -> Tensor:
        """Put values at their index along a row of ``slots * width``; what is not ``where`` goes past its end."""
        row = torch.zeros(batch, slots * width + 1, dtype=values.dtype, device=device)
        row.scatter_(1, torch.where(where, index, slots * width), values)
        return row[:, :-1].unflatten(1, (slots, width)).transpose(0, 1)

    tokens = torch.arange(time, device=device).expand(shape)
    at = slot * chunk + inside
    opens, resets = (put(where, 1, slot, where).squeeze(-1) for where in (opening, resetting))
    waiting = (used == torch.arange(slots, device=device).unsqueeze(1)) & waits
    offset = torch.zeros(slots, batch, dtype=torch.long, device=device)
    offset[:1] = torch.where(continues, position % chunk, 0)
    return Grid(
        put(present, chunk, at, tokens),
        put(present, chunk, at, present),
        opens | waiting,
        resets | waiting,
        offset,
        after,
    )


def steady(batch: int, time: int, chunk: int, device: torch.device) -> Grid:
    """Lay out a piece with which all streams begin, and whose tokens are all present: `grid` without looking at them.

    >>> steady(1, 5, 3, torch.device("cpu")).present.squeeze(1).tolist()
    [[True, True, True], [True, True, False]]
    """
    slots = -(-time // chunk)
    place = torch.arange(slots * chunk, device=device).view(slots, 1, chunk).expand(-1, batch, -1)
    present, opens = place < time, torch.ones(slots, batch, dtype=torch.bool, device=device)
    zeros = torch.zeros(slots, batch, dtype=torch.long, device=device)
    after = torch.full((batch,), time, device=device)
    return Grid(torch.where(present, place, 0), present, opens, ~opens, zeros, after)


def gather(x: Tensor, layout: Grid) -> Tensor:
    """Lay ``x (batch, time, ...)`` out as ``(slots, batch, chunk, ...)``, with 0 in empty places."""
    laid = x[torch.arange(len(x), device=x.device).unsqueeze(1), layout.tokens]
    return laid.masked_fill(~layout.present.reshape(*layout.present.shape, *[1] * (x.dim() - 2)), 0)


def scatter(y: Tensor, layout: Grid, time: int) -> Tensor:
    """Take ``y (slots, batch, chunk, ...)`` back to ``(batch, time, ...)``, with 0 for absent tokens."""
    batch = y.shape[1]
    index = torch.arange(batch, device=y.device).unsqueeze(1) * time + layout.tokens
    index = torch.where(layout.present, index, batch * time)  # empty places meet in a last row, which is dropped
    flat = y.new_zeros(batch * time + 1, *y.shape[3:]).index_copy(0, index.flatten(), y.flatten(0, 2))
    return flat[:-1].unflatten(0, (batch, time))
