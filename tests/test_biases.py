"""Attentional biases are the gradients of the losses that Miras names (arXiv 2504.13173, Section 5.1)."""

from functools import partial

import pytest
import torch

from recurra.errors import UserError
from recurra.kernels import biases


def norm(r):
    return r.square().sum(-1).sqrt()


def pseudo_huber(r, d):
    return torch.where(r.abs() <= d, r.square() / 2, d * (r.abs() - d / 2))


LOSSES = {
    "l2": (biases.l2, lambda m, v, d: (m - v).square()),
    "l2 as lp": (partial(biases.lp, p=2.0), lambda m, v, d: (m - v).square()),
    "l1": (partial(biases.lp, p=1.0), lambda m, v, d: (m - v).abs()),
    "l1.5": (partial(biases.lp, p=1.5), lambda m, v, d: (m - v).abs() ** 1.5),
    "l3": (partial(biases.lp, p=3.0), lambda m, v, d: (m - v).abs() ** 3),
    "l4": (partial(biases.lp, p=4.0), lambda m, v, d: (m - v) ** 4),
    "dot": (biases.dot, lambda m, v, d: -m * v),
    "huber": (biases.huber, lambda m, v, d: pseudo_huber(m - v, d)),
    "huber of the norm": (biases.huber_norm, lambda m, v, d: pseudo_huber(norm(m - v), d.squeeze(-1))),
    "robust": (biases.robust, lambda m, v, d: (norm(m - v) + d.squeeze(-1)).square() / 2),
}


@pytest.mark.parametrize("name", LOSSES)
def test_it_is_the_gradient_of_its_loss(name):
    bias, loss = LOSSES[name]
    torch.manual_seed(0)
    residual, value = torch.randn(2, 50, 6, dtype=torch.float64)
    prediction = value + residual + residual.sign() / 10  # away from 0, where what has no derivative is smoothed
    threshold = 2 * torch.rand(50, 1, dtype=torch.float64)
    prediction.requires_grad_()
    (expected,) = torch.autograd.grad(loss(prediction, value, threshold).sum(), prediction)
    torch.testing.assert_close(bias(prediction, value, threshold), expected, rtol=1e-4, atol=1e-4)


def test_yaad_takes_l2_near_the_value_and_l1_far_from_it():
    value, threshold = torch.zeros(2, 3), torch.ones(2, 1)
    near, far = biases.huber_mixture(torch.tensor([[0.1, 0.2, -0.3], [5.0, -7.0, 9.0]]), value, threshold)
    torch.testing.assert_close(near, torch.tensor([0.1, 0.2, -0.3]))
    torch.testing.assert_close(far, torch.tensor([1.0, -1.0, 1.0]))


@pytest.mark.parametrize("bias", [bias for bias, _ in LOSSES.values() if bias != biases.dot] + [biases.huber_mixture])
def test_it_is_differentiable_where_the_value_is_met(bias):
    prediction = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    bias(prediction, torch.zeros(3, 4, dtype=torch.float64), torch.ones(3, 1)).sum().backward()
    assert prediction.grad.isfinite().all()


def test_a_missing_threshold_is_told():
    with pytest.raises(UserError, match="needs a threshold"):
        biases.huber(torch.zeros(2), torch.zeros(2), None)
