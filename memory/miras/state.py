"""What an associative memory keeps between pieces: its weights, and where in its chunk it stands."""

from typing import Any, NamedTuple

from torch import Tensor

Weights = tuple[Tensor, ...]
"""A memory's weights, layer by layer: ``(batch, heads, in, out)``, rows multiply keys: y = x W.

A matrix is ``(W,)`` of ``(key_dim, value_dim)``; an MLP ``(rise, fall)`` of ``(dim, hidden)`` and ``(hidden, dim)``; a
gated MLP ``(gate, rise, fall)``; a vector ``(w,)`` of ``(batch, heads, dim)``.
"""


class AssociativeState(NamedTuple):
    """What an associative memory keeps.

    Attributes:
        opening: the weights at the start of the chunk that the stream stands in, at which all gradients of the chunk
            are taken; empty where gradients do not outlive a token (chunk 1, and every rule with a kernel).
        written: what decays and is written, token by token: the weights themselves, or what the retention gate maps
            to weights (Moneta's A, the logarithm of Memora's weights).
        momentum: the weights' momentum; empty where the algorithm has none.
        shown: the weights that tokens inside a chunk read where the gate's map is not applied at every token; empty
            where it is.
        position: ``(batch,)`` int64, the tokens of the episode so far; its remainder by the chunk's length is the
            position in the chunk.
        convolution: the short convolution's inputs.
    """

    opening: Weights
    written: Weights
    momentum: Weights
    shown: Weights
    position: Tensor
    convolution: Any


class Learning(NamedTuple):
    """The fields of `AssociativeState` that learning changes, in its order."""

    opening: Weights
    written: Weights
    momentum: Weights
    shown: Weights
