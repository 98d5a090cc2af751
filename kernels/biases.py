"""Attentional biases: how far a memory's answer is from the value, as the gradient of a loss.

Each function takes the memory's ``prediction`` for a key and the ``value`` it should have been, ``(..., dim)``, and a
``threshold`` that broadcasts with them where the loss has one, and gives the loss's gradient with respect to the
prediction. Losses are those of Miras (arXiv 2504.13173, Section 5.1); r is the residual, prediction - value.
`functools.partial` fixes an option: ``partial(lp, p=3.0)``.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from recurra.errors import UserError

#: ``bias(prediction, value, threshold)``
Bias = Callable[[Tensor, Tensor, Tensor | None], Tensor]

#: What is added to a square under a root, so that the root has a gradient at 0 (Remark 5).
EPSILON = 1e-6

#: Slope at 0 of the smoothed sign. The papers leave it open; a steeper one is chaotic: what it writes next hangs on
#: the rounding of what it wrote before.
SHARPNESS = 10.0


def dot(prediction: Tensor, value: Tensor, threshold: Tensor | None = None) -> Tensor:
    """Give the gradient of -⟨prediction, value⟩: it adds and never corrects."""
    return -value


def l2(prediction: Tensor, value: Tensor, threshold: Tensor | None = None) -> Tensor:
    """Give the gradient of ‖r‖².

    >>> l2(torch.tensor([3.0, 0.0]), torch.tensor([1.0, 1.0]))
    tensor([ 4., -2.])
    """
    return 2.0 * (prediction - value)


def lp(prediction: Tensor, value: Tensor, threshold: Tensor | None = None, *, p: float) -> Tensor:
    """Give the gradient of ‖r‖_p^p (Equation 11), p ≥ 1: p sign(r) |r|^(p-1).

    Where that has no bounded derivative, for p below 3 other than 2, it is the gradient of Σ (r² + ε)^(p/2): learning
    what the memory is given differentiates through this gradient.

    >>> lp(torch.tensor([3.0, 0.0]), torch.tensor([1.0, 1.0]), p=3.0)
    tensor([12., -3.])
    """
    residual = prediction - value
    if p == 2.0:
        return 2.0 * residual
    if p >= 3.0:
        return p * residual * residual.abs() ** (p - 2.0)
    return p * residual * (residual.square() + EPSILON) ** (p / 2.0 - 1.0)


def huber(prediction: Tensor, value: Tensor, threshold: Tensor | None) -> Tensor:
    """Give the gradient of Huber's loss of each coordinate (Equation 14): r where |r| ≤ δ, else δ sign(r)."""
    threshold = _given(threshold)
    return torch.clamp(prediction - value, -threshold, threshold)


def huber_norm(prediction: Tensor, value: Tensor, threshold: Tensor | None) -> Tensor:
    """Give the gradient of Huber's loss of the norm (Equation 15): r where ‖r‖ ≤ δ, else δ r / ‖r‖."""
    residual = prediction - value
    return residual * (_given(threshold) / _norm(residual)).clamp(max=1.0)


def huber_mixture(prediction: Tensor, value: Tensor, threshold: Tensor | None) -> Tensor:
    """Give Yaad's mixture (Equation 16): r where ‖r‖ ≤ δ, else δ sign(r), smoothed as tanh(10 r) (Remark 5)."""
    residual, threshold = prediction - value, _given(threshold)
    return torch.where(_norm(residual) <= threshold, residual, threshold * torch.tanh(SHARPNESS * residual))


def robust(prediction: Tensor, value: Tensor, threshold: Tensor | None) -> Tensor:
    """Give the gradient of the worst ½‖r‖² for values shifted by at most Δ (Equation 17): r + Δ r / ‖r‖."""
    residual = prediction - value
    return residual * (1.0 + _given(threshold) / _norm(residual))


def _norm(residual: Tensor) -> Tensor:
    return (residual.square().sum(-1, keepdim=True) + EPSILON).sqrt()


def _given(threshold: Tensor | None) -> Tensor:
    if threshold is None:
        raise UserError("this bias needs a threshold: give one for each token")
    return threshold
