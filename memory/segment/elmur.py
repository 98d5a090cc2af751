"""ELMUR: every layer has a few slots beside it, one of which is rewritten at the end of each segment."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recurra.errors import UserError
from recurra.memory.blocks import SwiGLU
from recurra.memory.checks import check_heads
from recurra.memory.rotary import angles
from recurra.memory.segment.backbone import Layer, attend, keep, turned_heads
from recurra.memory.segment.memory import SegmentMemory
from recurra.memory.segment.parts import Gradients, Part, SegmentState
from recurra.memory.segment.places import put, view


class Local(NamedTuple):
    """One layer's memory: ``slots (batch, slots, dim)`` and ``age (batch, slots)`` int64.

    An age is how many tokens before the open segment's first a slot was written, -1 if it never was.
    """

    slots: Tensor
    age: Tensor


class Noted(NamedTuple):
    """Of one layer and the open segment: ``keys``, ``values`` and what the layer gave, ``(batch, segment, dim)``."""

    keys: Tensor
    values: Tensor
    hidden: Tensor


class ELMUR(SegmentMemory):
    """External layer memory with update and rewrite (Cherepanov et al. 2025, arXiv 2510.07151).

    Each layer, for the tokens x of a segment and its own slots m::

        x ← x + attention(x)                    causal, within the segment
        x ← x + read(x, m);  x ← x + mlp(x)     tokens ask the slots
        u = m + write(m, x);  u ← u + mlp(u)    at the segment's end the slots ask its tokens
        m_i ← u_i, if a slot was never written, i the first of those
        m_i ← λ u_i + (1 - λ) m_i, otherwise, i the one written longest ago

    Both attentions over the border have a learnt bias for how far a token is from where the slot was last written.

    Where the paper leaves a choice, ours is: layers are our `Backbone`'s (pre-norm, rotary positions, SwiGLU, no
    mixture of experts); slots begin as learnt, and are seen before they are written, with a bias of their own; λ is the
    released code's; distances of ``reach`` and more are the same; gradients flow from segment to segment, which the
    paper's do not: those are ``horizon=0``.

    Args:
        dim: width of inputs and outputs.
        segment: tokens of a segment.
        slots: of each layer.
        blend: λ, from 0, where what is written stays, to 1, where it is replaced.
        reach: distances that are told apart; None: as many as a segment has tokens.
        layers: how many.
        heads: of all attentions, which must divide half of ``dim``.
        expansion: of the MLPs, see `SwiGLU`.
        horizon: see `Gradients`.
        replay: see `Gradients`.

    Raises:
        UserError: if a number is too small, ``blend`` lies outside 0..1, or heads do not divide half of ``dim``.

    >>> y, state = ELMUR(16, segment=4, slots=2)(torch.ones(2, 5, 16))
    >>> y.shape, state.memory[0].age.tolist()
    (torch.Size([2, 5, 16]), [[1, -1], [1, -1]])
    """

    def __init__(
        self,
        dim: int,
        *,
        segment: int = 64,
        slots: int = 8,
        blend: float = 0.999,
        reach: int | None = None,
        layers: int = 2,
        heads: int = 4,
        expansion: float = 4.0,
        horizon: int | None = None,
        replay: bool = False,
    ) -> None:
        super().__init__()
        reach = segment if reach is None else reach
        if segment < 1 or slots < 1 or reach < 1:
            raise UserError(f"a segment, its slots and its reach are at least 1, got {segment}, {slots} and {reach}")
        if not 0 <= blend <= 1:
            raise UserError(f"blend must lie in 0..1, got {blend}")
        if layers < 1:
            raise UserError(f"a segment is read by at least one layer, got {layers}")
        check_heads("attention", dim, heads, pairs=True)
        self.dim, self.segment, self.slots, self.blend = dim, segment, slots, blend
        self.gradients = Gradients(horizon, replay).checked()
        self.head, self.reach = dim // heads, reach
        self.stack: Any = nn.ModuleList(
            _Layer(dim, slots=slots, heads=heads, expansion=expansion, reach=reach) for _ in range(layers)
        )
        self.norm = nn.RMSNorm(dim, eps=1e-6)

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> SegmentState:
        """Give the learnt slots, none of them written, and an empty segment."""
        place = self.placement(device, dtype)
        never = torch.full((batch, self.slots), -1, device=place["device"])
        nothing = torch.zeros(batch, self.segment, self.dim, **place)
        return SegmentState(
            tuple(Local(layer.initial.to(**place).expand(batch, -1, -1), never.clone()) for layer in self.stack),
            tuple(Noted(nothing.clone(), nothing.clone(), nothing.clone()) for _ in self.stack),
            torch.zeros(batch, dtype=torch.long, device=place["device"]),
        )

    def _read(
        self, part: Part, memory: tuple[Local, ...], held: tuple[Noted, ...] | None
    ) -> tuple[Tensor, tuple[Local, ...], tuple[Noted, ...] | None]:
        """Read part of a segment, and rewrite a slot of each layer where it closes."""
        x, dtype = part.x, memory[0].slots.dtype
        seen = view(part.place, part.present, self.segment, anew=part.anew)
        turning = angles(part.place, self.head)
        told, after = [], []
        for index, (layer, local) in enumerate(zip(self.stack, memory, strict=True)):
            q, k, v = layer.attention.asked(x)
            q, k = (turned_heads(each, self.head, turning) for each in (q, k))
            if held is not None:
                k, v = (put(old, new, seen.target, seen.size) for old, new in zip(held[index][:2], (k, v), strict=True))
            x = layer.attention.answered(x, attend(q, k, v, self.head, seen.mask))
            x = layer.reading(x, local.slots.to(x.dtype), self._distance(local.age, part.place).mT)
            hidden = x if held is None else put(held[index].hidden, x, seen.target, seen.size)
            told.append(self._rewritten(layer, local, hidden, part.closes) if part.closing else local)
            after.append(Noted(k, v, hidden))
        y = self.norm(x)
        return y, tuple(told), keep(tuple(after), seen, self.segment, part.closes, dtype) if part.kept else None

    def _distance(self, age: Tensor, place: Tensor) -> Tensor:
        """Give how far tokens at ``place (batch, tokens)`` are from slots, ``(batch, slots, tokens)``; -1 for never."""
        age = age.unsqueeze(2)
        distance = (age + place.unsqueeze(1)).clamp(max=self.reach)
        return torch.where(age < 0, 0, distance)

    def _rewritten(self, layer: Any, local: Local, hidden: Tensor, closes: Tensor) -> Local:
        """Rewrite the slot that was never written, or longest ago, in the streams that ``closes (batch,)``."""
        tokens = hidden[:, : self.segment]
        place = torch.arange(tokens.shape[1], device=tokens.device).expand(len(tokens), -1)
        candidate = layer.writing(local.slots.to(tokens.dtype), tokens, self._distance(local.age, place))
        never = local.age < 0
        oldest = torch.where(never, torch.iinfo(local.age.dtype).max, local.age).argmax(1, keepdim=True)
        chosen = torch.arange(self.slots, device=tokens.device) == oldest
        candidate = candidate.to(local.slots.dtype)
        blended = self.blend * candidate + (1.0 - self.blend) * local.slots
        slots = torch.where(never.unsqueeze(2), candidate, blended)
        here = chosen & closes.unsqueeze(1)
        age = torch.where(chosen, 1, torch.where(never, local.age, local.age + self.segment))
        return Local(
            torch.where(here.unsqueeze(2), slots, local.slots), torch.where(closes.unsqueeze(1), age, local.age)
        )


class _Crossing(nn.Module):
    """Some ask others, with a bias for each distance; an MLP after it."""

    def __init__(self, dim: int, *, heads: int, expansion: float, reach: int) -> None:
        super().__init__()
        self.head = dim // heads
        self.norm, self.asked_norm, self.mlp_norm = (nn.RMSNorm(dim, eps=1e-6) for _ in range(3))
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)
        self.bias = nn.Parameter(torch.zeros(reach + 1, heads))  # 0: of what was never written
        self.mlp = SwiGLU(dim, expansion=expansion)

    def forward(self, x: Tensor, asked: Tensor, distance: Tensor) -> Tensor:
        """Map ``x (batch, n, dim)``, given ``asked (batch, m, dim)`` and ``distance (batch, n, m)``."""
        q = self.query(self.norm(x))
        k, v = self.key_value(self.asked_norm(asked)).chunk(2, -1)
        bias = self.bias[distance].permute(0, 3, 1, 2).to(q.dtype)
        x = x + self.output(attend(q, k, v, self.head, bias))
        return x + self.mlp(self.mlp_norm(x))


class _Layer(nn.Module):
    """Attention within the segment, and what lies between its tokens and the slots."""

    def __init__(self, dim: int, *, slots: int, heads: int, expansion: float, reach: int) -> None:
        super().__init__()
        self.attention = Layer(dim, heads=heads, kv_heads=heads, expansion=0)
        self.reading, self.writing = (_Crossing(dim, heads=heads, expansion=expansion, reach=reach) for _ in range(2))
        self.initial = nn.Parameter(torch.randn(slots, dim))
