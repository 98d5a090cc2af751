"""What all segment memories do: read a piece part by part, and a token without laying one out."""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from recurra.memory.base import Memory, hide
from recurra.memory.segment.parts import Gradients, Part, Read, SegmentState, read_parts, read_token
from recurra.memory.segment.replay import replayed


class SegmentMemory(Memory):
    """A memory that is handed from segment to segment. A subclass says how part of a segment is read.

    Attributes:
        segment: tokens of a segment.
        gradients: how they go back.
    """

    segment: int
    gradients: Gradients

    @abstractmethod
    def _read(self, part: Part, memory: Any, held: Any) -> tuple[Tensor, Any, Any]:
        """Read part of a segment: see `recurra.memory.segment.parts.Read`."""

    def _together(self, x: Tensor) -> Callable[..., Any] | None:
        """Give what reads many parts of ``x (batch, time, dim)`` at once, if anything does: see `read_parts`."""
        return None

    def forward(
        self,
        x: Tensor,
        state: SegmentState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, SegmentState]:
        """Read a piece: see `Memory.forward`."""
        x, state = self.begin(x, state, first, present)
        replaying = self.gradients.replay and torch.is_grad_enabled()
        read: Read = partial(replayed, self._read, list(self.parameters())) if replaying else self._read
        y, state = read_parts(
            read, x, state, self.initial_state(1, device=x.device, dtype=state.open[0].keys.dtype),
            first=first, present=present, segment=self.segment, horizon=self.gradients.horizon,
            together=self._together(x),
        )  # fmt: skip
        return hide(y, present), state

    def step(
        self, x: Tensor, state: SegmentState | None = None, *, first: Tensor | None = None
    ) -> tuple[Tensor, SegmentState]:
        """Read one token of each stream: see `Memory.step`."""
        if self.gradients != Gradients() and torch.is_grad_enabled():  # horizons and replay are of pieces
            return super().step(x, state, first=first)
        return read_token(self._read, x, self.begin_step(x, state, first), segment=self.segment)
