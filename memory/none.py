"""No memory at all: what every memory is measured against."""

from typing import NamedTuple

import torch
from torch import Tensor

from recurra.memory.base import Memory


class NoState(NamedTuple):
    """Nothing."""


class NoMemory(Memory):
    """Gives each token back as it came: a network of these sees nothing but the present.

    >>> y, state = NoMemory(8)(torch.ones(2, 5, 8))
    >>> y.shape, state
    (torch.Size([2, 5, 8]), NoState())
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> NoState:
        """Give nothing."""
        return NoState()

    def forward(
        self, x: Tensor, state: NoState | None = None, *, first: Tensor | None = None, present: Tensor | None = None
    ) -> tuple[Tensor, NoState]:
        """Read a piece: see `Memory.forward`."""
        return self.begin(x, state, first, present)
