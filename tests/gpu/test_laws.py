"""Memories keep the laws with the Triton kernels, the law that all backends agree among them."""

import pytest

from recurra.kernels import launching
from recurra.memory import build, describe
from recurra.memory.laws import LAWS, check

# On a GPU nothing computes in float64; there it is the law of backends that compares, in float32.
EVERY = list(LAWS) if launching.INTERPRETED else ["backends", "bounded", "saved"]


@pytest.mark.parametrize("name", ["min_gru"])
def test_laws_hold(name, device):
    assert "triton" in describe(name).backends
    memory = build(name, 8, backend="triton").to(device)
    check(memory, laws=EVERY, cases=1, time=20)


def test_the_law_of_backends_tests_these(device, monkeypatch):
    from recurra.kernels.linear_recurrence import gpu
    from recurra.memory.laws import LawBroken

    monkeypatch.setattr(gpu, "scan", lambda x, gate, state: (x + state.unsqueeze(1), x[:, -1]))
    with pytest.raises(LawBroken, match="backend triton"):
        check(build("min_gru", 8).to(device), laws=["backends"], cases=1)
