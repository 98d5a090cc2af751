"""Sliding-window attention: softmax attention over the last tokens of the episode, which are its state."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.errors import UserError
from recurra.memory.base import Memory, hide
from recurra.memory.checks import check_heads
from recurra.memory.positions import positions
from recurra.memory.rotary import turned


class SlidingWindowState(NamedTuple):
    """What sliding-window attention keeps.

    ``keys`` and ``values (batch, window - 1, dim)``: of the last tokens, oldest first, 0 before the episode;
    ``position (batch,)`` int64: the tokens of the episode so far.
    """

    keys: Tensor
    values: Tensor
    position: Tensor


class SlidingWindow(Memory):
    """Causal attention of each token over itself and the ``window - 1`` tokens before it, with rotary positions.

    The local attention of Titans (arXiv 2501.00663, Section 4.2) and of Samba (arXiv 2406.07522); rotary positions
    are those of Su et al. 2021 (arXiv 2104.09864), of distances alone. Nothing older than the window is known; with
    memories in other layers of a network it is one of Samba's hybrids.

    Args:
        dim: width of inputs and outputs.
        heads: number of heads, each of ``dim / heads``, which must be even.
        window: tokens that a token sees, itself included.
        persistent: learnt keys and values that every token sees besides, Titans' persistent memory.

    Raises:
        UserError: if heads do not divide half of ``dim``, ``window`` is less than 2, or ``persistent`` less than 0.

    >>> y, state = SlidingWindow(16, heads=2, window=4)(torch.ones(2, 5, 16))
    >>> y.shape, state.keys.shape, state.position
    (torch.Size([2, 5, 16]), torch.Size([2, 3, 16]), tensor([5, 5]))
    """

    def __init__(self, dim: int, *, heads: int = 4, window: int = 64, persistent: int = 0) -> None:
        super().__init__()
        check_heads("attention", dim, heads, pairs=True)
        if window < 2 or persistent < 0:
            raise UserError(
                f"a window holds at least 2 tokens, and none or some persistent: got {window}, {persistent}"
            )
        self.dim, self.heads, self.window = dim, heads, window
        self.projection = nn.Linear(dim, 3 * dim, bias=False)  # queries, keys, values
        self.persistent = nn.Parameter(torch.randn(2, heads, persistent, dim // heads)) if persistent else None
        self.output = nn.Linear(dim, dim, bias=False)

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> SlidingWindowState:
        """Give an empty window."""
        place = self.placement(device, dtype)
        empty = torch.zeros(batch, self.window - 1, self.dim, **place)
        return SlidingWindowState(empty, empty.clone(), torch.zeros(batch, dtype=torch.long, device=place["device"]))

    def forward(
        self,
        x: Tensor,
        state: SlidingWindowState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, SlidingWindowState]:
        """Read a piece: see `Memory.forward`."""
        x, state = self.begin(x, state, first, present)
        (batch, time, _), back = x.shape, self.window - 1
        if time == 0:
            return x, state
        q, k, v = self.projection(x).to(torch.promote_types(x.dtype, state.keys.dtype)).chunk(3, dim=-1)
        keys, values = torch.cat((state.keys, k), 1), torch.cat((state.values, v), 1)
        # Each token's episode within the piece, -1 where there is none: before an episode, and of absent tokens.
        known = torch.arange(back, device=x.device) >= back - state.position.unsqueeze(1)
        episode = (
            torch.zeros(batch, time, dtype=torch.long, device=x.device) if first is None else first.long().cumsum(1)
        )
        ended = episode[:, -1]
        if present is not None:
            episode = episode.masked_fill(~present, -1)
        episode = torch.cat((known.long() - 1, episode), 1)
        if present is not None:  # absent tokens to the front, so that those of the window stand side by side
            order = functional.pad(present.byte(), (back, 0), value=1).argsort(dim=1, stable=True)
            keys, values = (part.take_along_dim(order.unsqueeze(-1), 1) for part in (keys, values))
            q = functional.pad(q, (0, 0, back, 0)).take_along_dim(order.unsqueeze(-1), 1)[:, back:]
            episode = episode.gather(1, order)
        with torch.autocast(x.device.type, enabled=False):
            y = self._attend(q, keys, values, episode)
        if present is not None:
            place = (~present).sum(1, keepdim=True) + present.long().cumsum(1) - 1
            y = y.take_along_dim(place.clamp(min=0).unsqueeze(-1), 1)
        kept = (episode[:, time:] == ended.unsqueeze(1)).unsqueeze(-1)
        _, position = positions(state.position, (batch, time), first, present)
        keys, values = (part[:, time:].masked_fill(~kept, 0.0).to(state.keys.dtype) for part in (keys, values))
        return hide(self.output(y.to(x.dtype)), present), SlidingWindowState(keys, values, position)

    def _attend(self, q: Tensor, keys: Tensor, values: Tensor, episode: Tensor) -> Tensor:
        """Attend in blocks of queries, each beside the keys that it can see: ``(batch, time, dim)``."""
        time, back = q.shape[1], self.window - 1
        block = min(self.window, time)
        fill = -time % block
        q, keys, values = (functional.pad(part, (0, 0, 0, fill)) for part in (q, keys, values))
        episode = functional.pad(episode, (0, fill), value=-1)
        asking = q.unflatten(1, (-1, block)).unflatten(-1, (self.heads, -1)).transpose(2, 3)
        seen, held = (
            part.unfold(1, back + block, block).transpose(2, 3).unflatten(-1, (self.heads, -1)).transpose(2, 3)
            for part in (keys, values)
        )
        of_query = episode[:, back:].unflatten(1, (-1, block)).unsqueeze(-1)
        of_key = episode.unfold(1, back + block, block).unsqueeze(-2)
        at = torch.arange(back + block, device=q.device)
        distance = at[back:].unsqueeze(1) - at
        visible = (of_query == of_key) & (of_key >= 0) & (distance >= 0) & (distance <= back)
        visible = (visible | (distance == 0)).unsqueeze(2)  # what is nowhere sees itself, and is not read
        scores = turned(asking, at[back:]) @ turned(seen, at).mT
        if self.persistent is not None:  # of no place, so not turned
            always, told = self.persistent.to(q.dtype).expand(*seen.shape[:2], -1, -1, -1, -1).unbind(2)
            scores = torch.cat((asking @ always.mT, scores), -1)
            visible = functional.pad(visible, (always.shape[-2], 0), value=True)
            held = torch.cat((told, held), -2)
        scores = (scores * asking.shape[-1] ** -0.5).masked_fill(~visible, -torch.inf)
        return (scores.softmax(-1) @ held).transpose(2, 3).flatten(-2).flatten(1, 2)[:, :time]
