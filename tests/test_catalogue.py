"""Memories by name: what is listed can be described and built, and what is not is answered with what is."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import recurra
from recurra.errors import UserError
from recurra.kernels import launching
from recurra.memory import MemoryInfo, build, describe, names, stack

OWN = """
from typing import TYPE_CHECKING, Any, Literal

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

class Typed(NoMemory):
    def __init__(
        self,
        dim: int,
        *,
        size: int,
        kind: Literal["one", 2] = "one",
        sizes: list[int] | None = None,
        pair: tuple[int, float] = (1, 2.0),
        rates: dict[str, float] | None = None,
        anything: Any = None,
        other: "complex" = 1j,
    ) -> None:
        super().__init__(dim)

if TYPE_CHECKING:
    from nowhere import Nothing

class Unread(NoMemory):
    def __init__(self, dim: int, *, size: "Nothing" = None) -> None:
        super().__init__(dim)
        self.size = size

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
    assert build("some_memories:Unread", 8, size="any").size == "any"


def test_a_users_own_is_described():
    info = describe("some_memories:Mine")
    assert (info.name, info.family, info.paper) == ("some_memories:Mine", "own", "")
    assert (info.grain, info.bounded, info.backends, info.team) == (1, True, (), False)
    with pytest.raises(UserError, match="no_such_module:Mine could not be imported"):
        describe("no_such_module:Mine")
    with pytest.raises(UserError, match="memory some_memories:Typed: missing a required argument: 'size'"):
        describe("some_memories:Typed")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("delta_net", {"heads": "two"}, "memory delta_net: heads must be a whole number, got 'two'"),
        ("delta_net", {"heads": None}, "heads must be a whole number, got None"),
        ("delta_net", {"heads": True}, "heads must be a whole number, got True"),
        ("delta_net", {"convolution": 4.5}, "convolution must be a whole number, got 4.5"),
        ("delta_net", {"backend": 3}, "backend must be a string or None, got 3"),
        ("min_gru", {"closing": "maybe"}, "memory min_gru: closing must be true or false, got 'maybe'"),
        ("min_gru", {"closing": 1}, "closing must be true or false, got 1"),
        ("rmt", {"segment": "x"}, "memory rmt: segment must be a whole number, got 'x'"),
        ("rmt", {"horizon": 1.0}, "horizon must be a whole number or None, got 1.0"),
        ("elmur", {"blend": "all"}, "blend must be a number, got 'all'"),
        ("titans", {"chunk": "big"}, "memory titans: chunk must be a whole number, got 'big'"),
        ("associative", {"norm": "yes"}, "norm must be true or false or None, got 'yes'"),
        ("titans_mag", {"memory": 3}, "memory titans_mag: memory must be a mapping or None, got 3"),
        ("titans_mag", {"memory": {"chunk": "big"}}, "memory titans: chunk must be a whole number"),
        ("titans_mac", {"memory": {"stepp": 1.0}}, "memory titans has no option 'stepp'; did you mean 'step'"),
        ("samba", {"memory": 5}, "memory samba: memory must be a string, got 5"),
        ("samba", {"memory_options": {"chunk": "x"}}, "memory mamba2: chunk must be a whole number"),
        ("pooled", {"chunk": "x"}, "memory pooled yaad: chunk must be a whole number"),
        ("pooled", {"stepp": 1.0}, "memory pooled yaad has no option 'stepp'"),
        ("alone", {"memory": 5}, "memory alone: memory must be a string or a memory, got 5"),
        ("alone", {"memory": "delta_net", "heads": "x"}, "memory delta_net: heads must be a whole number"),
        ("some_memories:Typed", {"size": "x"}, "memory some_memories:Typed: size must be a whole number, got 'x'"),
        ("some_memories:Typed", {"size": 1, "kind": 1}, "kind must be one of 'one', 2, got 1"),
        (
            "some_memories:Typed",
            {"size": 1, "sizes": ["x"]},
            r"sizes must be a list \(list\[int\]\) or None, got \['x'\]",
        ),
        ("some_memories:Typed", {"size": 1, "pair": [1]}, r"pair must be a list \(tuple\[int, float\]\), got \[1\]"),
        ("some_memories:Typed", {"size": 1, "rates": {"a": "x"}}, "rates must be a mapping or None, got {'a': 'x'}"),
        ("some_memories:Typed", {}, "missing a required argument: 'size'"),
    ],
)
def test_an_option_of_another_type_is_said_in_one_line(name, options, message):
    with pytest.raises(UserError, match=message) as caught:
        build(name, 8, **options)
    assert "\n" not in str(caught.value)


def test_an_option_of_its_type_is_taken():
    build("some_memories:Typed", 8, size=1, kind=2, sizes=[1, 2], pair=[1, 2], rates={"a": 1}, anything="x", other="x")
    assert build("elmur", 8, blend=1, expansion=2).blend == 1
    assert build("delta_net", np.int64(8), heads=np.int64(2)).heads == 2
    assert build("associative", 8, step=np.float32(0.5)).largest == 0.5
    assert build("alone", 8, memory=build("gru", 8)).dim == 8


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("delta_net", {"value_factor": 0}, "value_factor must be at least 1, got 0"),
        ("delta_net", {"chunk": 0}, "chunk must be at least 1, got 0"),
        ("retention", {"value_factor": 0}, "value_factor must be at least 1, got 0"),
        ("retention", {"chunk": -1}, "chunk must be at least 1, got -1"),
        ("linear_attention", {"chunk": 0}, "chunk must be at least 1, got 0"),
        ("min_gru", {"expansion": 0}, "expansion must be at least 1, got 0"),
        ("min_lstm", {"expansion": 0}, "expansion must be at least 1, got 0"),
        ("associative", {"root": 0}, "root must be above 0, got 0"),
        ("rmt", {"expansion": -1}, "expansion must be a finite number of 0 or more, got -1"),
        ("samba", {"expansion": math.nan}, "expansion must be a finite number of 0 or more, got nan"),
        ("srmt", {"expansion": -1.0}, "expansion must be a finite number of 0 or more, got -1.0"),
    ],
)
def test_a_number_that_is_too_small_is_said_in_one_line(name, options, message):
    with pytest.raises(UserError, match=message):
        build(name, 8, **options)


@pytest.mark.parametrize("name", ["gru", "delta_net", "samba", "srmt", "some_memories:Mine"])
@pytest.mark.parametrize("dim", [0, -8, 1.5, "8", True, None])
def test_a_width_is_a_whole_number(name, dim):
    with pytest.raises(UserError, match=f"memory {name}: dim must be a whole number of at least 1, got {dim!r}"):
        build(name, dim)


CONFIGS = sorted(Path(recurra.__file__).parent.glob("recipes/configs/*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_options_of_recipes_are_taken(path):
    recipe = yaml.safe_load(path.read_text())
    stack(recipe.get("memory", "gru"), recipe.get("dim", 64), memory_options=recipe.get("memory_options"))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("delta_nett", {}, r"no memory is named 'delta_nett'; did you mean 'delta_net'\?.* package\.module:Class"),
        ("", {}, "no memory is named ''"),
        ("delta_net", {"head": 2}, r"memory delta_net has no option 'head'; did you mean 'heads'\?"),
        ("gru", {"heads": 2}, "memory gru has no option 'heads'; there are none"),
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
