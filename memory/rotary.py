"""Rotary positions: scores that depend on how far apart two tokens are."""

import torch
from torch import Tensor


def turned(x: Tensor, place: Tensor) -> Tensor:
    """Turn each pair of channels by an angle that grows with the place (Su et al. 2021, arXiv 2104.09864).

    Args:
        x: ``(..., tokens, dim)``, dim even.
        place: ``(tokens,)`` int64.

    >>> turned(torch.ones(2, 4), torch.tensor([0, 0]))[0]
    tensor([1., 1., 1., 1.])
    """
    return turn(x, *angles(place, x.shape[-1]))


def angles(place: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Give the cosine and sine ``(..., tokens, dim / 2)`` of each place ``(..., tokens)`` int64.

    Both are float64: they are right at places in the millions, too.
    """
    half = dim // 2
    speed = 10_000 ** -(torch.arange(half, dtype=torch.float64, device=place.device) / half)
    angle = place.double().unsqueeze(-1) * speed
    return angle.cos(), angle.sin()


def turn(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn each pair of channels, the first half of them and the second, by the angles that `angles` gives."""
    cosine, sine = cosine.to(x.dtype), sine.to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cosine - b * sine, a * sine + b * cosine), -1)
