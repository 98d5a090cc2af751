"""Relative positions as Transformer-XL has them: scores with a part of distance alone."""

import torch
from torch import Tensor, nn


class Relative(nn.Module):
    """The parts of a score that depend on distance (Dai et al. 2019, arXiv 1901.02860, Section 3.3).

    ::

        score_ij = (q_i + u)ᵀ k_j + (q_i + v)ᵀ W_R R_{i-j}

    R is sinusoidal; u is added to queries by whoever computes the first part.

    Args:
        dim: width of queries, all heads side by side.
        kv_dim: width of keys, all heads side by side.
        head: width of a head.
    """

    def __init__(self, dim: int, *, kv_dim: int, head: int) -> None:
        super().__init__()
        self.head = head
        self.position = nn.Linear(dim, kv_dim, bias=False)
        self.content_bias = nn.Parameter(0.02 * torch.randn(dim))  # u
        self.distance_bias = nn.Parameter(0.02 * torch.randn(dim))  # v

    def scores(self, q: Tensor, waves: Tensor, distance: Tensor) -> Tensor:
        """Give the second part, over √head: ``(batch, heads, tokens, keys)``.

        Args:
            q: ``(batch, tokens, dim)``.
            waves: ``(distances, dim)``, what `sinusoids` gives.
            distance: ``(batch, tokens, keys)`` int64, below ``distances``.
        """
        asking = (q + self.distance_bias).unflatten(-1, (-1, self.head)).transpose(1, 2)
        heads = asking.shape[1]
        far = self.position(waves.to(q.dtype)).unflatten(-1, (-1, self.head)).transpose(0, 1)
        far = far.repeat_interleave(heads // len(far), 0)  # (heads, distances, head)
        scores = asking @ far.mT * self.head**-0.5
        return scores.gather(-1, distance.unsqueeze(1).expand(-1, heads, -1, -1))


def sinusoids(count: int, dim: int, device: torch.device) -> Tensor:
    """Give R_0 to R_{count-1}: sines, then cosines, ``(count, dim)`` float64.

    >>> sinusoids(2, 2, torch.device("cpu"))
    tensor([[0.0000, 1.0000],
            [0.8415, 0.5403]], dtype=torch.float64)
    """
    speed = 10_000 ** -(torch.arange(0, dim, 2, dtype=torch.float64, device=device) / dim)
    angle = torch.arange(count, dtype=torch.float64, device=device).unsqueeze(1) * speed
    return torch.cat((angle.sin(), angle.cos()), -1)
