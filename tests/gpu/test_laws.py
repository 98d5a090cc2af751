"""Memories keep the laws with the Triton kernels, the law that all backends agree among them."""

import pytest

from recurra.kernels import launching
from recurra.memory import build, describe
from recurra.memory.laws import LAWS, check

# On a GPU products are not in float64; there it is the law of backends that compares, in float32.
EVERY = list(LAWS) if launching.INTERPRETED else ["backends", "bounded", "saved"]
OTHERS = ("linear_attention", "delta_net", "gated_delta_net", "gla")
BRIEF = ["first", "backends"]


@pytest.mark.parametrize(
    ("name", "laws"),
    [
        pytest.param("min_gru", EVERY, id="min_gru"),
        *(pytest.param(name, BRIEF, id=f"{name}-brief") for name in OTHERS),
        *(pytest.param(name, EVERY, id=name, marks=pytest.mark.slow) for name in OTHERS),
    ],
)
def test_laws_hold(name, laws, device):
    assert "triton" in describe(name).backends
    options = {} if name == "min_gru" else {"heads": 1}
    memory = build(name, 4, backend="triton", **options).to(device)
    check(memory, laws=laws if launching.INTERPRETED else EVERY, cases=1, time=8)


@pytest.mark.parametrize("name", ["titans", "yaad", "ttt_mlp"])
@pytest.mark.parametrize("laws", [["backends"], pytest.param(EVERY, marks=pytest.mark.slow)], ids=["backends", "every"])
def test_laws_hold_for_mlps(name, laws, device):
    memory = build(name, 8, heads=1, expansion=2, backend="triton").to(device)
    assert "triton" in memory.backends
    check(memory, laws=laws, cases=1, time=6)


def test_the_law_of_backends_tests_these(device, monkeypatch):
    from recurra.kernels.linear_recurrence import gpu
    from recurra.memory.laws import LawBroken

    monkeypatch.setattr(gpu, "scan", lambda x, gate, state: (x + state.unsqueeze(1), x[:, -1]))
    with pytest.raises(LawBroken, match="backend triton"):
        check(build("min_gru", 8).to(device), laws=["backends"], cases=1)
