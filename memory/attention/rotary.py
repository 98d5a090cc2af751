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
    half = x.shape[-1] // 2
    speed = 10_000 ** -(torch.arange(half, dtype=torch.float64, device=x.device) / half)
    angle = place.double().unsqueeze(-1) * speed
    cosine, sine = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cosine - b * sine, a * sine + b * cosine), -1)
