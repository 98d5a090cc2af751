"""The delta rule's kernels compile at every entry of their table, and fit."""

import pytest
import torch

from recurra.kernels.delta_rule.gpu import TABLE, delta_rule_backward, delta_rule_forward


def arguments(dim, decay, beta, dtype, time=256):
    tokens = (2, time, 2)
    q, k, v = (torch.empty(*tokens, dim, dtype=dtype) for _ in range(3))
    log_decay = None if decay == "none" else torch.empty(*tokens, *[dim] * (decay == "channel"))
    flags = torch.empty(2, time, dtype=torch.bool), torch.empty(2, time, dtype=torch.bool)
    state = torch.empty(2, 2, dim, dim)
    return q, k, v, log_decay, torch.empty(tokens) if beta else None, state, *flags, 1.0, 64


# Each takes its time, a minute in float32 with decays of channels: `make test-long` compiles them all.
QUICK = {(64, "head", True, torch.bfloat16)}
CASES = [
    (dim, decay, beta, dtype)
    for dim in sorted({dim for dim, _ in TABLE})
    for decay, beta in (("none", False), ("head", True), ("channel", True))
    for dtype in (torch.bfloat16, torch.float32)
]


@pytest.mark.parametrize(
    ("dim", "decay", "beta", "dtype"),
    [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES],
    ids=str,
)
def test_kernels_fit(dim, decay, beta, dtype, compiling):
    given = arguments(dim, decay, beta, dtype)
    what = f"{dim} wide, decay {decay}, {'delta' if beta else 'no delta'}, {str(dtype)[6:]}"
    with compiling(what) as kernels:
        delta_rule_forward(*given)
        delta_rule_backward(given[2], given[5], *given)
    assert {kernel.name for kernel in kernels} == {"carry", "read", "answer", "carry_back", "differ", "learn"} | (
        {"solve"} if beta else set()
    )


@pytest.mark.parametrize("dim", [16, 128])
def test_the_kernel_of_a_step_fits_without_spills(dim, compiling):
    with compiling(f"{dim} wide, a step") as kernels:
        delta_rule_forward(*arguments(dim, "channel", True, torch.bfloat16, time=1))
    assert [kernel.name for kernel in kernels] == ["read_token"]
    assert kernels[0].stack == 0
