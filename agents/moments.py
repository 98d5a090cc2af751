"""Running mean and deviation of numbers, kept with the agent that needs them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Moments(nn.Module):
    """Number, mean and sum of squared deviations of all that was seen, entry by entry.

    They are float64 whatever the agent's precision, and part of its weights on disk.

    >>> moments = Moments((2,))
    >>> moments.update(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
    >>> moments.mean.tolist(), moments.deviation().tolist()
    ([2.0, 0.0], [1.0, 0.0])

    Args:
        shape: of what is seen.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        for name, size in (("count", ()), ("mean", shape), ("squares", shape)):
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64))

    def update(self, values: Tensor) -> None:
        """Take values ``(number, *shape)`` into account.

        Moments of two samples are merged as in Chan, Golub and LeVeque 1983.
        """
        if not len(values):
            return
        values = values.detach().to(self.mean)
        count, mean = self.count + len(values), values.mean(0)
        away = mean - self.mean
        self.squares += (values - mean).square().sum(0) + away**2 * self.count * len(values) / count
        self.mean += away * len(values) / count
        self.count.copy_(count)

    def deviation(self) -> Tensor:
        """Give the standard deviation, 1 where nothing was seen yet."""
        return torch.where(self.count > 0, (self.squares / self.count.clamp(min=1)).sqrt(), 1.0)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # What moves a module or casts it goes through here: it may move these, but not round them.
        for name, buffer in self._buffers.items():
            assert buffer is not None
            self._buffers[name] = buffer.to(fn(buffer).device)
        return self
