"""What an MLP memory keeps between the pieces of a stream."""

from typing import NamedTuple

from torch import Tensor

#: A weight matrix of each layer: ``(..., heads, key_dim, hidden)`` and ``(..., heads, hidden, value_dim)``; one more
#: row, the last, is the layer's bias.
Weights = tuple[Tensor, ...]


class MLPState(NamedTuple):
    """The weights of each stream's memory, and where in its chunk each stream stands.

    Attributes:
        start: the weights at the chunk's start, ``(batch, heads, ...)`` each: gradients are taken there.
        weights: those after the last token.
        momentum: the step that goes on, of the same shapes; empty without momentum.
        position: ``(batch,)`` int64, tokens of the episode so far.
    """

    start: Weights
    weights: Weights
    momentum: Weights
    position: Tensor
