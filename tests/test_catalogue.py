"""Memories by name: what is listed can be described and built, and what is not is answered with what is."""

import sys

import pytest
import torch

from recurra.errors import UserError
from recurra.kernels import launching
from recurra.memory import MemoryInfo, build, describe, names, stack

OWN = """
from recurra.memory import Memory
from recurra.memory.none import NoMemory

number = 3

class Mine(NoMemory):
    def __init__(self, dim, *, size=1):
        super().__init__(dim)
        self.size = size

class Open(NoMemory):
    def __init__(self, dim, **options):
        super().__init__(dim)
        self.options = options

class Unfinished(Memory):
    def forward(self, x, state=None, *, first=None, present=None):
        raise NotImplementedError
"""


@pytest.fixture(autouse=True)
def own_memories(monkeypatch, tmp_path):
    """A user's own module, `some_memories`."""
    (tmp_path / "some_memories.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "some_memories", raising=False)


def test_what_is_listed_is_described_and_built():
    assert {"none", "gru", "lstm", "delta_net"} <= set(names())
    for name in names():
        info = describe(name)
        memory = build(name, 16)
        assert isinstance(info, MemoryInfo)
        assert info.name == name
        assert info.team == memory.team
        assert info.family
        assert info.paper or name in ("none", "alone")
        assert (info.grain, info.bounded) == (memory.grain, memory.bounded)
        assert set(info.backends) <= set(memory.backends)
        assert memory.dim == 16


def test_every_backend_that_is_described_runs():
    device = "cuda" if launching.available() else "cpu"
    for name in names():
        for backend in describe(name).backends:
            memory = build(name, 16, backend=backend).to(device)
            y, _ = memory(torch.randn(1, *[3] * memory.team, 5, 16, device=device))
            assert y.isfinite().all()


def test_options_reach_the_memory():
    assert build("delta_net", 12, heads=3).heads == 3
    assert stack("delta_net", 12, layers=2, heads=3).layers[1].memory.heads == 3
    wide = stack("titans", 8, heads=2, expansion=0, memory_options={"expansion": 3}).layers[0]
    assert wide.memory.initial_state(1).written[0].shape == (1, 2, 4, 12)
    with pytest.raises(UserError, match="dim is not among"):
        stack("gru", 8, memory_options={"dim": 4})


def test_a_users_own_is_built_by_its_dotted_path():
    memory = build("some_memories:Mine", 8, size=5)
    assert (type(memory).__name__, memory.dim, memory.size) == ("Mine", 8, 5)
    assert build("some_memories:Open", 8, anything=2).options == {"anything": 2}
    y, _ = stack("some_memories:Mine", 8)(torch.randn(1, 3, 8))
    assert y.shape == (1, 3, 8)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("delta_nett", {}, r"no memory is named 'delta_nett'; did you mean 'delta_net'\?.* package\.module:Class"),
        ("", {}, "no memory is named ''"),
        ("delta_net", {"head": 2}, r"memory delta_net has no option 'head'; did you mean 'heads'\?"),
        ("gru", {"heads": 2}, "memory gru has no option 'heads'"),
        ("delta_net", {"heads": 3}, "heads that divide its dim: 3 does not divide 8"),
        ("delta_net", {"heads": 0}, "heads that divide its dim: 0 does not divide 8"),
        ("delta_net", {"convolution": 1}, "at least 2 tokens wide, got 1"),
        ("no_such_module:Mine", {}, "no_such_module:Mine could not be imported: No module named 'no_such_module'"),
        ("some_memories:Yours", {}, "could not be imported: .* no attribute 'Yours'"),
        ("some_memories:", {}, "could not be imported"),
        (":Mine", {}, ":Mine could not be imported"),
        (".some_memories:Mine", {}, "could not be imported"),
        ("some_memories:number", {}, "some_memories:number is no subclass of recurra.memory.Memory"),
        ("torch.nn:GRU", {}, "torch.nn:GRU is no subclass of recurra.memory.Memory"),
        ("some_memories:Unfinished", {}, "some_memories:Unfinished does not implement initial_state"),
        ("some_memories:Mine", {"sise": 2}, r"has no option 'sise'; did you mean 'size'\?"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(name, options, message):
    with pytest.raises(UserError, match=message) as caught:
        build(name, 8, **options)
    assert "\n" not in str(caught.value)


def test_what_is_not_listed_is_not_described():
    with pytest.raises(UserError, match=r"no memory is named 'lstn'; did you mean 'lstm'\?"):
        describe("lstn")
