"""The norm of blocks: torch's own numbers, forward and backward."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from recurra.kernels.rms_norm import rms_norm


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(0, 5), max_size=3),
    dim=st.integers(1, 9),
    size=st.sampled_from([1e-6, 1.0, 1e4]),
    seed=st.integers(0, 1000),
)
def test_it_is_torchs_own_norm(shape: list[int], dim: int, size: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    x = (size * torch.randn(*shape, dim, generator=draw, dtype=torch.float64)).requires_grad_()
    weight = torch.randn(dim, generator=draw, dtype=torch.float64, requires_grad=True)
    slope = torch.randn(*shape, dim, generator=draw, dtype=torch.float64)
    mine, own = rms_norm(x, weight, eps=1e-6), functional.rms_norm(x, (dim,), weight, 1e-6)
    torch.testing.assert_close(mine, own, rtol=1e-10, atol=1e-10)
    gradients = (torch.autograd.grad(y, (x, weight), slope) for y in (mine, own))
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("rows", [0, 3])
def test_gradients(rows: int) -> None:
    x, weight = torch.randn(rows, 5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    x.requires_grad_()
    weight.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, weight: rms_norm(x, weight, eps=1e-6), (x, weight))
    assert torch.autograd.gradgradcheck(lambda x, weight: rms_norm(x, weight, eps=1e-6), (x, weight))


def test_zeros_stay_zeros_and_have_a_gradient() -> None:
    x = torch.zeros(2, 4, requires_grad=True)
    y = rms_norm(x, torch.ones(4), eps=1e-6)
    y.sum().backward()
    assert not y.any()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.full((2, 4), 1e3))


def test_half_precision_beside_single_keeps_what_torch_gives() -> None:
    x, weight = torch.randn(3, 4, dtype=torch.bfloat16), torch.ones(4)
    assert rms_norm(x, weight, eps=1e-6).dtype == functional.rms_norm(x, (4,), weight, 1e-6).dtype
