"""ARMT's associative memory: a matrix that the delta rule writes, with DPFP features and a normaliser."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.errors import UserError

#: Added to what answers are divided by: before the first write it is 0.
EPSILON = 1e-5


class Association(NamedTuple):
    """What a layer has been told: ``matrix (batch, key_dim, dim)`` and ``normaliser (batch, key_dim)``."""

    matrix: Tensor
    normaliser: Tensor


def dpfp(x: Tensor, order: int) -> Tensor:
    """Deterministic parameter-free projection (Schlag et al. 2021, arXiv 2102.11174, Equation 37).

    φ(x) are the products of r = relu([x; -x]) with itself, turned by 1 to ``order``: ``(..., 2 * order * dim)``, all
    of them 0 or more.

    >>> dpfp(torch.tensor([2.0, -3.0]), 1)  # r = 2, 0, 0, 3
    tensor([6., 0., 0., 0.])
    """
    r = functional.relu(torch.cat((x, -x), -1))
    return torch.cat([r * r.roll(turns, -1) for turns in range(1, order + 1)], -1)


class Associative(nn.Module):
    """One layer's associative memory (Rodkin et al. 2024, arXiv 2407.04841, Section 2.1).

    Args:
        dim: width of what is read and written.
        key_dim: of keys and queries before their features are taken.
        order: of the features, see `dpfp`.
        frozen_gamma: take γ as given in the backward pass, as the released code does.

    Raises:
        UserError: if ``key_dim`` or ``order`` is less than 1.
    """

    def __init__(self, dim: int, *, key_dim: int, order: int, frozen_gamma: bool) -> None:
        super().__init__()
        if key_dim < 1 or order < 1:
            raise UserError(f"an associative memory has key_dim and order of at least 1, got {key_dim} and {order}")
        self.dim, self.order, self.frozen_gamma = dim, order, frozen_gamma
        self.features = 2 * order * key_dim
        self.query = nn.Linear(dim, key_dim, bias=False)
        self.key = nn.Linear(dim, key_dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.strength = nn.Linear(dim, 1, bias=False)
        nn.init.zeros_(self.value.weight)  # in the beginning nothing is told, as in the released code

    def read(self, x: Tensor, told: Association) -> Tensor:
        """Give ``x (batch, tokens, dim)`` and what the memory answers it: x + Aᵀφ(W_Q x) / (zᵀφ(W_Q x) + 1e-5)."""
        features = self._features(self.query(x), told)
        with torch.autocast(x.device.type, enabled=False):
            answer = _asked(told, features)
        return x + answer.to(x.dtype)

    def write(self, x: Tensor, told: Association, where: Tensor) -> Association:
        """Tell it ``x (batch, tokens, dim)``, all tokens at once, in the streams ``where (batch,)``.

        ::

            k, v, β = W_K x, W_V x, σ(W_β x)
            v̄ = Aᵀφ(k) / (zᵀφ(k) + 1e-5)            what it answers already
            γ = clip(1 - zᵀφ(k) / ‖φ(k)‖², 0, 1)    how new the key is
            A ← A + Σ φ(k) β (v - v̄)ᵀ
            z ← z + Σ γ φ(k)
        """
        k = self._features(self.key(x), told)
        v, beta = self.value(x).to(k.dtype), torch.sigmoid(self.strength(x).to(k.dtype))
        with torch.autocast(x.device.type, enabled=False):
            # v̄ and γ are of the memory before any of these tokens.
            change = beta * (v - _asked(told, k))
            known = (k * told.normaliser.unsqueeze(1)).sum(-1, keepdim=True)
            size = k.square().sum(-1, keepdim=True)
            gamma = (1.0 - known / size.masked_fill(size == 0, 1.0)).clamp(min=0.0)  # at most 1, as nothing is below 0
            gamma = gamma.detach() if self.frozen_gamma else gamma
            matrix = told.matrix + k.mT @ change
            normaliser = told.normaliser + (gamma * k).sum(1)
        where = where.unsqueeze(-1)
        return Association(
            torch.where(where.unsqueeze(-1), matrix, told.matrix), torch.where(where, normaliser, told.normaliser)
        )

    def _features(self, x: Tensor, told: Association) -> Tensor:
        return dpfp(x.to(told.matrix.dtype), self.order)


def _asked(told: Association, features: Tensor) -> Tensor:
    """Answer ``features (batch, tokens, key_dim)``: ``(batch, tokens, dim)``.

    What shares no feature with any key that was told, to within `EPSILON`, is answered 0, and so is everything as
    long as nothing was told: the quotient says next to nothing there, with gradients as large as 1 / `EPSILON`.
    """
    known = (features * told.normaliser.unsqueeze(1)).sum(-1, keepdim=True)
    return ((features @ told.matrix) / (known + EPSILON)).masked_fill(known <= EPSILON, 0.0)
