"""What the tokens of a segment see of it: the places of a segment, and what stands there."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class View(NamedTuple):
    """Where the tokens of one pass stand among the places of a segment, and what they see.

    Attributes:
        place: ``(batch, tokens)`` int64, among those of memory tokens and tokens alike.
        target: the same, and ``size`` where there is no token.
        size: places that there are.
        mask: ``(batch, 1, tokens, size + 1)`` bool, which places a token sees; where ``anew``, which of the tokens of
            the pass, ``(batch, 1, tokens, tokens)``, or None: itself and those before it.
        anew: whether the pass begins the segment of every stream.
    """

    place: Tensor
    target: Tensor
    size: int
    mask: Tensor | None
    anew: bool


def view(place: Tensor, here: Tensor, size: int, *, anew: bool, reach: Tensor | None = None) -> View:
    """Say what tokens at ``place (batch, tokens)`` see; those that are not ``here`` are not seen.

    Each sees the places up to ``reach (batch, tokens)``, by default its own.

    >>> seen = view(torch.tensor([[1, 2]]), torch.tensor([[True, False]]), 3, anew=False)
    >>> seen.target.tolist(), seen.mask.int().tolist()  # a place after the last holds what is not there
    ([[1, 3]], [[[[1, 1, 0, 0], [1, 1, 1, 0]]]])
    """
    index = torch.where(here, place, size)
    if anew and reach is None:
        return View(place, index, size, None, anew)
    places = place.unsqueeze(1) if anew else torch.arange(size + 1, device=place.device)
    reach = place if reach is None else reach
    return View(place, index, size, (places <= reach.unsqueeze(-1)).unsqueeze(1), anew)


def put(held: Tensor | None, new: Tensor, index: Tensor, size: int) -> Tensor:
    """Put ``new (batch, tokens, dim)`` at ``index (batch, tokens)`` into what is held, or into zeros.

    Gives ``(batch, size + 1, dim)`` of the dtype of ``new``; the last place is of what is not there.
    """
    if held is None:
        held = new.new_zeros(len(new), 0, new.shape[-1])
    held = functional.pad(held.to(new.dtype), (0, 0, 0, size + 1 - held.shape[1]))
    return held.scatter(1, index.unsqueeze(-1).expand_as(new), new)


def left_open(held: Tensor, places: int, closes: Tensor, dtype: torch.dtype) -> Tensor:
    """Give what stays of ``held (batch, ≥ places, dim)`` when the piece ends: 0 where segments have closed."""
    return held[:, :places].masked_fill(closes.reshape(-1, 1, 1), 0.0).to(dtype)
