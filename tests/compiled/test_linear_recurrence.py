"""The linear recurrence's kernels compile, and fit."""

import pytest
import torch

from recurra.kernels.linear_recurrence.gpu import linear_recurrence_backward, linear_recurrence_forward


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_kernels_fit(compiling, dtype):
    x = torch.empty(4, 256, 512, dtype=dtype)
    state = x[:, 0].clone()
    with compiling(f"{dtype}") as kernels:
        linear_recurrence_forward(x, x, state)
        linear_recurrence_backward(x, x, state, x)
    assert {kernel.name for kernel in kernels} == {"_compose", "_walk"}
    assert all(kernel.stack == 0 for kernel in kernels)
