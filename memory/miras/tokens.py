"""What each token tells an associative memory."""

from typing import NamedTuple

import torch
from torch import Tensor


class Tokens(NamedTuple):
    """What the rule is told, ``(batch, time, heads, …)``: the last axis of rates is 1 or the channels.

    Attributes:
        q: queries.
        k: keys.
        v: values.
        step: η, how far to step.
        log_decay: logarithm of α, what is kept; None keeps all.
        log_momentum: logarithm of μ, what is kept of the momentum; None where the algorithm has none.
        threshold: δ of a bias that has one.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    step: Tensor
    log_decay: Tensor | None = None
    log_momentum: Tensor | None = None
    threshold: Tensor | None = None


def spread(tokens: Tokens, steps: int) -> Tokens:
    """Lay the writes of a token out one after another in time; the memory decays at the first of them."""

    def part(x: Tensor) -> Tensor:
        return x.unflatten(2, (steps, -1)).flatten(1, 2)

    def once(x: Tensor | None, rest: float | None) -> Tensor | None:
        if x is None:
            return None
        others = x if rest is None else torch.full_like(x, rest)
        return torch.stack((x, *[others] * (steps - 1)), 2).flatten(1, 2)

    q, k, v, step, log_decay, log_momentum, threshold = tokens
    queries = q.repeat_interleave(steps, 1)
    rates = once(log_decay, 0.0), once(log_momentum, None), once(threshold, None)
    return Tokens(queries, part(k), part(v), part(step), *rates)
