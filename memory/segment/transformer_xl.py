"""Transformer-XL: every layer looks back on the hidden states that it had in earlier segments."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recurra.errors import UserError
from recurra.memory.segment.backbone import Backbone, attend
from recurra.memory.segment.memory import SegmentMemory
from recurra.memory.segment.parts import Gradients, Part, SegmentState
from recurra.memory.segment.places import left_open, put
from recurra.memory.segment.relative import Relative, sinusoids


class Cache(NamedTuple):
    """What Transformer-XL hands from segment to segment.

    ``hidden``: for each layer what it read, ``(batch, cache, dim)``, of the last tokens, oldest first, 0 before the
    episode; ``length (batch,)`` int64: how many of them there are.
    """

    hidden: tuple[Tensor, ...]
    length: Tensor


class Reached(NamedTuple):
    """Of one layer and the open segment.

    ``keys`` and ``values (batch, cache + segment, kv_dim)``: those of the cache, then the segment's own;
    ``hidden (batch, segment, dim)``: what the layer read.
    """

    keys: Tensor
    values: Tensor
    hidden: Tensor


class TransformerXL(SegmentMemory):
    """Transformer-XL (Dai et al. 2019, arXiv 1901.02860): segments whose layers see those before, of fixed number.

    With h the input of a layer, of this segment τ and of the last ``cache`` tokens before it::

        q, k, v = h_τ W_q, [h_{<τ}; h_τ] W_k, [h_{<τ}; h_τ] W_v

    attention is causal and its positions are relative, see `Relative`. Layers are our `Backbone`'s (pre-norm,
    SwiGLU), without rotary positions. The paper's gradients stop at a segment's beginning: ``horizon=0``.

    Args:
        dim: width of inputs and outputs.
        segment: tokens of a segment.
        cache: tokens before the segment that are seen; None: as many as a segment has.
        layers: see `Backbone`.
        heads: see `Backbone`.
        kv_heads: see `Backbone`.
        expansion: see `Backbone`.
        horizon: see `Gradients`.
        replay: see `Gradients`.

    Raises:
        UserError: if a number is too small, or as `Backbone` does.

    >>> y, state = TransformerXL(16, segment=4)(torch.ones(2, 5, 16))
    >>> y.shape, state.memory.hidden[0].shape, state.open[0].keys.shape, state.position
    (torch.Size([2, 5, 16]), torch.Size([2, 4, 16]), torch.Size([2, 8, 16]), tensor([5, 5]))
    """

    def __init__(
        self,
        dim: int,
        *,
        segment: int = 64,
        cache: int | None = None,
        layers: int = 2,
        heads: int = 4,
        kv_heads: int | None = None,
        expansion: float = 4.0,
        horizon: int | None = None,
        replay: bool = False,
    ) -> None:
        super().__init__()
        cache = segment if cache is None else cache
        if segment < 1 or cache < 1:
            raise UserError(f"a segment and its cache have at least 1 token, got {segment} and {cache}")
        self.dim, self.segment, self.cache = dim, segment, cache
        self.gradients = Gradients(horizon, replay).checked()
        self.backbone = Backbone(dim, layers=layers, heads=heads, kv_heads=kv_heads, expansion=expansion)
        self.relatives: Any = nn.ModuleList(
            Relative(dim, kv_dim=self.backbone.kv_dim, head=self.backbone.head) for _ in range(layers)
        )

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> SegmentState:
        """Give an empty cache and an empty segment."""
        place = self.placement(device, dtype)
        none = torch.zeros(batch, dtype=torch.long, device=place["device"])

        def zeros(tokens: int, dim: int) -> Tensor:
            return torch.zeros(batch, tokens, dim, **place)

        seen, kv_dim, layers = self.cache + self.segment, self.backbone.kv_dim, range(self.backbone.layers)
        return SegmentState(
            Cache(tuple(zeros(self.cache, self.dim) for _ in layers), none),
            tuple(Reached(zeros(seen, kv_dim), zeros(seen, kv_dim), zeros(self.segment, self.dim)) for _ in layers),
            none.clone(),
        )

    def _read(
        self, part: Part, memory: Cache, held: tuple[Reached, ...] | None
    ) -> tuple[Tensor, Cache, tuple[Reached, ...] | None]:
        """Read part of a segment, the cache's keys and values first where it opens."""
        x, cache = part.x, self.cache
        batch, time, _ = x.shape
        dtype = memory.hidden[0].dtype
        size = cache + self.segment
        # Places of the cache, then of the segment; the place ``size`` is of what is not there.
        place = part.place + cache
        before = torch.arange(cache, device=x.device).expand(batch, -1)
        index = torch.where(part.present, place, size)
        if part.opening:
            index = torch.cat((torch.where(part.opens.unsqueeze(1), before, size), index), 1)
        at = torch.arange(cache + time if part.anew else size + 1, device=x.device)
        distance = place.unsqueeze(-1) - at
        visible = (distance >= 0) & (at >= cache - memory.length.reshape(-1, 1, 1))
        distance = distance.clamp(min=0)
        waves = sinusoids(size, self.dim, x.device)

        def reached(old: Reached | None, k: Tensor, v: Tensor, x: Tensor) -> Reached:
            keys, values, hidden = old or (None, None, None)
            inside = index[:, -time:] - cache
            return Reached(put(keys, k, index, size), put(values, v, index, size), put(hidden, x, inside, self.segment))

        hidden: list[Tensor] = []
        after: list[Reached] = []
        for number, (layer, relative) in enumerate(zip(self.backbone.stack, self.relatives, strict=True)):
            h, old = x, memory.hidden[number]
            q, k, v = layer.asked(h)
            if part.opening:
                _, k_before, v_before = layer.asked(old.to(h.dtype))
                k, v = torch.cat((k_before, k), 1), torch.cat((v_before, v), 1)
            now = Reached(k, v, h) if held is None else reached(held[number], k, v, h)
            scores = relative.scores(q, waves, distance).masked_fill(~visible.unsqueeze(1), -torch.inf)
            q = q + relative.content_bias.to(q.dtype)
            x = layer.answered(h, attend(q, now.keys, now.values, self.backbone.head, scores.to(q.dtype)))
            if part.closing:
                written = torch.cat((old, now.hidden[:, : self.segment].to(dtype)), 1)[:, -cache:]
                hidden.append(torch.where(part.closes.reshape(-1, 1, 1), written, old))
            if part.kept:
                now = reached(None, k, v, h) if held is None else now
                sizes = size, size, self.segment
                after.append(Reached(*(left_open(t, n, part.closes, dtype) for t, n in zip(now, sizes, strict=True))))
        if part.closing:
            length = torch.where(part.closes, (memory.length + self.segment).clamp(max=cache), memory.length)
            memory = Cache(tuple(hidden), length)
        return self.backbone.norm(x), memory, tuple(after) if part.kept else None
