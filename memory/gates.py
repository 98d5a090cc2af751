"""Gates: how much is written, and how much is kept."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional

# A plain list, not a context variable: torch.compile can look at it, and compiles anew while somebody listens.
_LISTENERS: list[list[Tensor]] = []


def gate(logits: Tensor, *, closing: bool) -> Tensor:
    """Give gates between 0 and 1: the sigmoid, or one that is stretched so that it closes and opens exactly.

    The stretched one is clamp(1.2 sigmoid - 0.1, 0, 1), as the hard concrete gate of Louizos et al. 2018
    (arXiv 1712.01312) without its noise. A gate that never closes exactly forgets, or writes what it should not, a
    little at every token: over a long stream that is everything.

    >>> gate(torch.tensor([-9.0, 0.0, 9.0]), closing=True)
    tensor([0.0000, 0.5000, 1.0000])
    """
    opened = torch.sigmoid(logits)
    return (1.2 * opened - 0.1).clamp(0.0, 1.0) if closing else opened


def log_gate(opened: Tensor) -> Tensor:
    """Give the logarithm of gates, -inf for those that are shut, with a gradient of 0 there instead of NaN.

    >>> log_gate(torch.tensor([0.0, 1.0]))
    tensor([-inf, 0.])
    """
    shut = opened <= 0
    return opened.masked_fill(shut, 1.0).log().masked_fill(shut, -torch.inf)


def write_gate(logits: Tensor, *, closing: bool) -> Tensor:
    """Give gates that say how strongly tokens are written, as `gate` does, and tell `heard` what they cost."""
    if _LISTENERS:
        _LISTENERS[-1].append(functional.softplus(logits))
    return gate(logits, closing=closing)


@contextmanager
def heard() -> Iterator[list[Tensor]]:
    """Collect what memories' writes cost, while they read: a tensor for each layer, with gradients.

    For a loss that asks for little to be written. The cost of a gate σ(x) is -log(1 - σ(x)), which falls as steeply at
    one that stands wide open, where the gate itself no longer changes, and goes on falling a little when it is shut.
    Memories whose writes have no gate of their own tell nothing.

    >>> from recurra.memory import build
    >>> with heard() as costs:
    ...     _ = build("delta_net", 8, heads=2)(torch.ones(1, 5, 8))
    >>> [tuple(cost.shape) for cost in costs]
    [(1, 5, 2)]
    """
    costs: list[Tensor] = []
    _LISTENERS.append(costs)
    try:
        yield costs
    finally:
        _LISTENERS.pop()
