"""ARMT: every layer has an associative memory, asked before the layer and told at the end of a segment."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from recurra.errors import UserError
from recurra.memory.segment.association import Association, Associative
from recurra.memory.segment.backbone import Backbone, Held, empty, keep
from recurra.memory.segment.diagonal import Diagonals
from recurra.memory.segment.memory import SegmentMemory
from recurra.memory.segment.parts import Gradients, Part, SegmentState
from recurra.memory.segment.places import view


class ARMT(SegmentMemory):
    """Associative recurrent memory transformer (Rodkin et al. 2024, arXiv 2407.04841), causal throughout.

    A segment is read with learnt memory tokens at its tail. Before each layer every token asks the layer's
    associative memory; after it the memory is told what the layer gave for the memory tokens, see `Associative`. The
    open segment's keys and values are in the state; when its last token has come, memories are told.

    Args:
        dim: width of inputs and outputs.
        segment: tokens of a segment.
        slots: memory tokens.
        key_dim: of associative keys; None: ``dim``, 64 at most.
        order: of their features, see `dpfp`.
        layers: see `Backbone`.
        heads: see `Backbone`.
        kv_heads: see `Backbone`.
        expansion: see `Backbone`.
        frozen_gamma: see `Associative`; gradients are then not those of the outputs.
        horizon: see `Gradients`.
        replay: see `Gradients`.
        diagonal: read the segments of a piece diagonal by diagonal, see `Diagonals`: the same results.
        backbone: what reads instead of a `Backbone` of these options: a `Reader`.

    Raises:
        UserError: if a number is too small, ``diagonal`` is wanted with ``replay`` or another backbone, or as
            `Backbone` does.

    >>> y, state = ARMT(16, segment=4, slots=2, key_dim=8)(torch.ones(2, 5, 16))
    >>> y.shape, state.memory[0].matrix.shape, state.open[0].keys.shape, state.position
    (torch.Size([2, 5, 16]), torch.Size([2, 48, 16]), torch.Size([2, 4, 16]), tensor([5, 5]))
    """

    def __init__(
        self,
        dim: int,
        *,
        segment: int = 64,
        slots: int = 8,
        key_dim: int | None = None,
        order: int = 3,
        layers: int = 2,
        heads: int = 4,
        kv_heads: int | None = None,
        expansion: float = 4.0,
        frozen_gamma: bool = False,
        horizon: int | None = None,
        replay: bool = False,
        diagonal: bool = False,
        backbone: Any = None,
    ) -> None:
        super().__init__()
        if segment < 1 or slots < 1:
            raise UserError(f"a segment has at least 1 token and 1 memory slot, got {segment} and {slots}")
        if diagonal and (replay or backbone is not None):
            raise UserError("diagonals are of our own backbone, and are not replayed: choose diagonal or the other")
        self.dim, self.segment, self.slots, self.diagonal = dim, segment, slots, diagonal
        self.gradients = Gradients(horizon, replay).checked()
        self.backbone: Any = backbone or Backbone(
            dim, layers=layers, heads=heads, kv_heads=kv_heads, expansion=expansion
        )
        key_dim = min(dim, 64) if key_dim is None else key_dim
        self.associations: Any = nn.ModuleList(
            Associative(dim, key_dim=key_dim, order=order, frozen_gamma=frozen_gamma)
            for _ in range(self.backbone.layers)
        )
        self.tokens = nn.Parameter(torch.randn(slots, dim))

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> SegmentState:
        """Give memories that have been told nothing and an empty segment."""
        place = self.placement(device, dtype)
        memories = tuple(
            Association(
                torch.zeros(batch, module.features, self.dim, **place), torch.zeros(batch, module.features, **place)
            )
            for module in self.associations
        )
        position = torch.zeros(batch, dtype=torch.long, device=place["device"])
        return SegmentState(memories, empty(self.backbone, batch, self.segment, place), position)

    def _together(self, x: Tensor) -> Callable[..., Any] | None:
        """Read diagonal by diagonal, if wanted."""
        if not self.diagonal or x.shape[1] < 2:
            return None
        return Diagonals(self.backbone, self.associations, self.tokens, self.segment).read

    def _read(
        self, part: Part, memory: tuple[Association, ...], held: tuple[Held, ...] | None
    ) -> tuple[Tensor, tuple[Association, ...], tuple[Held, ...] | None]:
        """Read part of a segment, memory tokens at its tail where it closes."""
        batch, time, _ = part.x.shape
        x, place, here = part.x, part.place, part.present
        if part.closing:
            slot = torch.arange(self.segment, self.segment + self.slots, device=x.device).expand(batch, -1)
            x = torch.cat((x, self.tokens.to(x.dtype).expand(batch, -1, -1)), 1)
            place, here = torch.cat((place, slot), 1), torch.cat((here, torch.ones_like(slot, dtype=torch.bool)), 1)
        seen = view(place, here, self.segment + self.slots * part.closing, anew=part.anew)
        asked = _Asked(self.associations, memory, self.slots, part.closes if part.closing else None)
        hidden, after = self.backbone(x, seen, held, asked)
        y = hidden[:, :time]
        if part.closing:
            memory = tuple(asked.told)
        if not part.kept:
            return y, memory, None
        return y, memory, keep(after, seen, self.segment, part.closes, memory[0].matrix.dtype)


class _Asked:
    """Ask each layer's memory before it, and tell it after it where segments close."""

    def __init__(self, modules: Any, memory: tuple[Association, ...], slots: int, closes: Tensor | None) -> None:
        self.modules, self.memory, self.slots, self.closes = modules, memory, slots, closes
        self.told: list[Association] = []

    def before(self, layer: int, x: Tensor) -> Tensor:
        return self.modules[layer].read(x, self.memory[layer])

    def after(self, layer: int, x: Tensor) -> None:
        if self.closes is not None:
            self.told.append(self.modules[layer].write(x[:, -self.slots :], self.memory[layer], self.closes))
