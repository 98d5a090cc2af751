"""Diagonal batching: layers of several segments at once, where each layer has a memory of its own."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional

from recurra.memory.rotary import angles
from recurra.memory.segment.association import Association, Associative
from recurra.memory.segment.backbone import Backbone, Held, Layer, attend, keep, turned_heads
from recurra.memory.segment.parts import Part
from recurra.memory.segment.places import view

Enter = Callable[[int, int, Association], Association]
"""Gives what a part is handed, from its number, the layer's, and what the layer was told before."""


class Diagonals:
    """Reads segments diagonal by diagonal (Sivtsov et al. 2025, arXiv 2506.05229).

    What layer l makes of segment s needs the layer below on the same segment and the same layer's memory of the
    segment before, so that all cells of one s + l are independent of one another. Their weights stand side by side,
    and a diagonal of many cells takes as many operations as one cell.

    Args:
        backbone: whose layers these are.
        associations: the layers' memories.
        tokens: memory tokens ``(slots, dim)``.
        segment: tokens of a segment.
    """

    def __init__(self, backbone: Backbone, associations: Sequence[Associative], tokens: Tensor, segment: int) -> None:
        self.backbone, self.tokens, self.segment = backbone, tokens, segment
        cells = [_Cell(*pair) for pair in zip(backbone.stack, associations, strict=True)]
        self.cell = cells[0]
        each = [dict(cell.named_parameters()) for cell in cells]
        self.weights = {name: torch.stack([weights[name] for weights in each]) for name in each[0]}

    def read(
        self, parts: Sequence[Part], memory: tuple[Association, ...], enter: Enter
    ) -> tuple[list[Tensor], tuple[Association, ...], list[tuple[Held, ...] | None]]:
        """Read parts that all begin their segments: their outputs, the memory then, and what stays open of each."""
        batch, slots, layers = len(parts[0].x), len(self.tokens), self.backbone.layers
        tail = self.tokens.to(parts[0].x.dtype).expand(batch, -1, -1)
        x = [torch.cat((functional.pad(p.x, (0, 0, 0, self.segment - p.x.shape[1])), tail), 1) for p in parts]
        turning = angles(torch.arange(self.segment + slots, device=tail.device), self.backbone.head)
        told = list(memory)
        held: list[list[Held]] = [[] for _ in parts]
        for diagonal in range(len(parts) + layers - 1):
            lowest, highest = max(0, diagonal - len(parts) + 1), min(layers - 1, diagonal)
            cells = [(diagonal - layer, layer) for layer in range(lowest, highest + 1)]
            outputs, k, v, after = self._cells(
                {name: weight[lowest : highest + 1] for name, weight in self.weights.items()},
                torch.stack([x[part] for part, _ in cells]),
                _stacked([enter(part, layer, told[layer]) for part, layer in cells]),
                torch.stack([parts[part].closes for part, _ in cells]),
                turning,
            )
            for index, (part, layer) in enumerate(cells):
                x[part] = outputs[index]
                told[layer] = Association(after.matrix[index], after.normaliser[index])
                if parts[part].kept:
                    held[part].append(Held(k[index], v[index]))
        y = [self.backbone.norm(hidden)[:, : part.x.shape[1]] for hidden, part in zip(x, parts, strict=True)]
        return y, tuple(told), [self._kept(part, tuple(new)) for part, new in zip(parts, held, strict=True)]

    def _cells(
        self, weights: dict[str, Tensor], x: Tensor, told: Association, closes: Tensor, turning: Any
    ) -> tuple[Tensor, Tensor, Tensor, Association]:
        """Compute cells side by side: x ``(cells, batch, tokens, dim)``."""
        cell, slots, head = self.cell, len(self.tokens), self.backbone.head

        def ask(weights: dict[str, Tensor], x: Tensor, told: Association) -> Any:
            return functional_call(cell, weights, (x, told))

        def answer(weights: dict[str, Tensor], x: Tensor, found: Tensor, told: Association, closes: Tensor) -> Any:
            return functional_call(cell, weights, (x, told, found, slots, closes))

        x, q, k, v = vmap(ask)(weights, x, told)
        q, k, v = (part.flatten(0, 1) for part in (q, k, v))
        q, k = (turned_heads(part, head, turning) for part in (q, k))
        found, k, v = (part.unflatten(0, x.shape[:2]) for part in (attend(q, k, v, head), k, v))
        x, told = vmap(answer)(weights, x, found, told, closes)
        return x, k, v, told

    def _kept(self, part: Part, held: tuple[Held, ...]) -> tuple[Held, ...] | None:
        if not part.kept:
            return None
        here = functional.pad(part.present, (0, self.segment + len(self.tokens) - part.present.shape[1]))
        place = torch.arange(here.shape[1], device=here.device).expand(len(here), -1)
        seen = view(place, here, here.shape[1], anew=True)
        return keep(held, seen, self.segment, part.closes, torch.promote_types(held[0].keys.dtype, torch.float32))


class _Cell(nn.Module):
    """A layer and its memory: what they do before attention and, given what was found, after it."""

    def __init__(self, layer: Layer, association: Associative) -> None:
        super().__init__()
        self.layer, self.association = layer, association

    def forward(
        self,
        x: Tensor,
        told: Association,
        found: Tensor | None = None,
        slots: int = 0,
        closes: Tensor | None = None,
    ) -> Any:
        if found is None or closes is None:
            x = self.association.read(x, told)
            return (x, *self.layer.asked(x))
        x = self.layer.answered(x, found)
        return x, self.association.write(x[:, -slots:], told, closes)


def _stacked(memories: Sequence[Association]) -> Association:
    return Association(*(torch.stack(fields) for fields in zip(*memories, strict=True)))
