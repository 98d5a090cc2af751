"""Full attention: every token sees all of its episode, and the state grows with it."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.memory.base import Memory, hide
from recurra.memory.checks import check_heads
from recurra.memory.positions import positions
from recurra.memory.rotary import angles, turn


class AttentionState(NamedTuple):
    """What full attention keeps.

    ``keys`` and ``values (batch, length, dim)``: of the episode so far, oldest first, 0 beyond a stream's own;
    ``position (batch,)`` int64: the tokens of the episode so far. ``length`` is the longest stream's.
    """

    keys: Tensor
    values: Tensor
    position: Tensor


class Attention(Memory):
    """Causal attention over the whole episode (Vaswani et al. 2017, arXiv 1706.03762), with rotary positions.

    What recurrent memories are measured against: it forgets nothing, and its state and the time of a step grow with the
    stream (``bounded = False``).

    Args:
        dim: width of inputs and outputs.
        heads: number of heads, each of ``dim / heads``, which must be even.

    Raises:
        UserError: if heads do not divide half of ``dim``.

    >>> y, state = Attention(16, heads=2)(torch.ones(2, 5, 16))
    >>> y.shape, state.keys.shape
    (torch.Size([2, 5, 16]), torch.Size([2, 5, 16]))
    """

    bounded = False

    def __init__(self, dim: int, *, heads: int = 4) -> None:
        super().__init__()
        check_heads("attention", dim, heads, pairs=True)
        self.dim, self.heads = dim, heads
        self.projection = nn.Linear(dim, 3 * dim, bias=False)  # queries, keys, values
        self.output = nn.Linear(dim, dim, bias=False)

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> AttentionState:
        """Give nothing yet."""
        place = self.placement(device, dtype)
        empty = torch.zeros(batch, 0, self.dim, **place)
        return AttentionState(empty, empty.clone(), torch.zeros(batch, dtype=torch.long, device=place["device"]))

    def forward(
        self,
        x: Tensor,
        state: AttentionState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, AttentionState]:
        """Read a piece: see `Memory.forward`."""
        x, state = self.begin(x, state, first, present)
        (batch, time, _), past = x.shape, state.keys.shape[1]
        if time == 0:
            return x, state
        place, position = positions(state.position, (batch, time), first, present)
        head = self.dim // self.heads
        q, k, v = (part.unflatten(-1, (-1, head)) for part in self.projection(x).chunk(3, dim=-1))
        turning = tuple(part.unsqueeze(2) for part in angles(place, head))
        q, k, v = turn(q, *turning), turn(k, *turning).flatten(2), v.flatten(2)
        keys = torch.cat((state.keys, k.to(state.keys.dtype)), 1)
        values = torch.cat((state.values, v.to(state.values.dtype)), 1)
        if past == 0 and first is None and present is None:
            mask, kept = None, None
        else:
            mask, kept = self._seen(state.position, past, first, present, time)
        asked, held = (part.unflatten(-1, (-1, head)).transpose(1, 2).to(q.dtype) for part in (keys, values))
        y = functional.scaled_dot_product_attention(
            q.transpose(1, 2), asked, held, attn_mask=mask, is_causal=mask is None
        )
        y = self.output(y.transpose(1, 2).flatten(2).to(x.dtype))
        if kept is not None and not bool(kept.all()):  # those of the last episode to the front
            order = (~kept).byte().argsort(dim=1, stable=True)[:, : int(kept.sum(1).max())].unsqueeze(-1)
            mine = kept.unsqueeze(-1).take_along_dim(order, 1)
            keys, values = (part.take_along_dim(order, 1).masked_fill(~mine, 0.0) for part in (keys, values))
        return hide(y, present), AttentionState(keys, values, position)

    def _seen(
        self, position: Tensor, past: int, first: Tensor | None, present: Tensor | None, time: int
    ) -> tuple[Tensor, Tensor]:
        """Say which keys each token sees ``(batch, 1, time, past + time)``, and which stay."""
        batch, device = len(position), position.device
        # Each key's episode within the piece, 0 of what was before it, -1 where there is none.
        before = (torch.arange(past, device=device) < position.unsqueeze(1)).long() - 1
        within = torch.zeros(batch, time, dtype=torch.long, device=device) if first is None else first.long().cumsum(1)
        here = within if present is None else within.masked_fill(~present, -1)
        episode = torch.cat((before, here), 1)
        at = torch.arange(past + time, device=device)
        own = at[past:].unsqueeze(1)
        # What is absent sees itself alone, and is not read.
        visible = (episode.unsqueeze(1) == within.unsqueeze(2)) & (at <= own) | (at == own)
        return visible.unsqueeze(1), episode == within[:, -1:]
