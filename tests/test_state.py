"""A state is data: it is listed, moved, cut, chosen from, counted, and comes back from a file or says why it cannot."""

import os
import pickle
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from recurra.errors import UserError
from recurra.memory import build, names, stack
from recurra.memory import state as states


class Inner(NamedTuple):
    matrix: Tensor
    position: Tensor


class Outer(NamedTuple):
    flag: Tensor
    layers: tuple[Inner, ...]
    nothing: tuple[()]
    grown: Tensor


def outer(batch: int = 3, grown: int = 4) -> Outer:
    layers = tuple(
        Inner(torch.randn(batch, 2, 5, dtype=dtype), torch.arange(batch)) for dtype in (torch.float32, torch.float64)
    )
    return Outer(torch.rand(batch) < 0.5, layers, (), torch.randn(batch, grown, 2))


def same(actual: Any, expected: Any) -> bool:
    found, wanted = dict(states.fields(actual)), dict(states.fields(expected))
    if type(actual) is not type(expected) or found.keys() != wanted.keys():
        return False
    return all(
        found[name].dtype == tensor.dtype and torch.equal(found[name], tensor) for name, tensor in wanted.items()
    )


# Operations -----------------------------------------------------------------------------------------------------------


def test_fields_have_dotted_names_in_order():
    assert [name for name, _ in states.fields(outer())] == [
        "flag",
        "layers.0.matrix",
        "layers.0.position",
        "layers.1.matrix",
        "layers.1.position",
        "grown",
    ]
    assert list(states.fields(build("none", 4).initial_state(2))) == []


def test_transform_keeps_the_form_and_meets_the_matching_tensors():
    one, two = outer(), outer()
    summed = states.transform(torch.add, one, two)
    assert isinstance(summed.layers[1], Inner)
    assert torch.equal(summed.layers[1].matrix, one.layers[1].matrix + two.layers[1].matrix)
    assert summed.nothing == ()


def test_detach_cuts_and_shares():
    state = outer()
    matrix = state.layers[0].matrix.requires_grad_()
    cut = states.detach(state)
    assert not cut.layers[0].matrix.requires_grad
    assert cut.layers[0].matrix.data_ptr() == matrix.data_ptr()


def test_reset_gives_the_chosen_streams_the_fresh_state():
    state, fresh = outer(), outer()
    mask = torch.tensor([True, False, True])
    for given in (fresh, states.select(fresh, slice(0, 1))):
        after = states.reset(state, mask, given)
        for row, chosen in enumerate(mask):
            expected = states.select(given, slice(-1, None) if len(given.flag) == 1 else slice(row, row + 1))
            expected = expected if chosen else states.select(state, slice(row, row + 1))
            assert same(states.select(after, slice(row, row + 1)), expected)


def test_a_reset_clears_what_is_not_a_number_and_its_gradient():
    state = Inner(torch.full((2, 3), torch.nan, requires_grad=True), torch.zeros(2))
    after = states.reset(state, torch.tensor([True, True]), Inner(torch.zeros(1, 3), torch.zeros(1)))
    assert not after.matrix.any()
    after.matrix.sum().backward()
    assert state.matrix.grad is not None
    assert not state.matrix.grad.any()


def test_select_takes_slices_indices_and_masks():
    state = outer()
    expected = states.select(state, slice(1, 3))
    assert same(states.select(state, torch.tensor([1, 2])), expected)
    assert same(states.select(state, torch.tensor([False, True, True])), expected)
    assert states.select(state, torch.tensor([2, 0, 0, 1])).layers[0].position.tolist() == [2, 0, 0, 1]


def test_nbytes_counts_every_field():
    # flag, two positions, a matrix of float32 and one of float64, what has grown
    assert states.nbytes(outer()) == 3 * (1 + 2 * 8 + 10 * 4 + 10 * 8 + 8 * 4)
    assert states.nbytes(build("none", 4).initial_state(7)) == 0


def test_move_moves_every_field():
    moved = states.move(outer(), "meta")
    assert {tensor.device.type for _, tensor in states.fields(moved)} == {"meta"}
    assert same(states.move(state := outer(), "cpu"), state)


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_state_comes_back_bit_for_bit(tmp_path):
    state = outer(batch=5)
    state.layers[0].matrix[0, 0, :2] = torch.tensor([torch.nan, -0.0])
    for kept in (state, states.select(state, slice(0, 0))):
        states.save(kept, tmp_path / "state")
        loaded = states.load(tmp_path / "state", like=outer(batch=1, grown=0))
        assert isinstance(loaded.layers, tuple)
        for (name, tensor), (_, back) in zip(states.fields(kept), states.fields(loaded), strict=True):
            assert tensor.dtype == back.dtype, name
            torch.testing.assert_close(back, tensor, rtol=0.0, atol=0.0, equal_nan=True)


@pytest.mark.parametrize("name", names(team=False))
def test_the_state_of_every_memory_comes_back(name, tmp_path):
    for memory in (build(name, 8), stack(name, 8, layers=2)):
        _, state = memory(torch.randn(3, 7, 8))
        states.save(state, os.fspath(tmp_path / "state"))
        assert same(states.load(os.fspath(tmp_path / "state"), like=memory.initial_state(1)), states.detach(state))


def test_views_and_shared_memory_are_saved_as_they_read(tmp_path):
    table = torch.arange(24.0).reshape(4, 6)
    state = Inner(table.T[::2], table.T[::2])
    states.save(state, tmp_path / "state")
    assert same(states.load(tmp_path / "state", like=state), state)


def test_a_loaded_state_outlives_its_file(tmp_path):
    states.save(state := outer(), tmp_path / "state")
    loaded = states.load(tmp_path / "state", like=state)
    states.save(outer(), tmp_path / "state")
    os.remove(tmp_path / "state")
    assert same(loaded, state)


def fail(*args, **kwargs):
    raise OSError("disk full")


@pytest.mark.parametrize("where", ["os.fsync", "os.replace"])
def test_a_failing_write_leaves_what_was_there(where, tmp_path, monkeypatch):
    states.save(state := outer(), tmp_path / "state")
    monkeypatch.setattr(where, fail)
    with pytest.raises(OSError, match="disk full"):
        states.save(outer(), tmp_path / "state")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["state"]
    assert same(states.load(tmp_path / "state", like=state), state)


def test_what_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "folder" / "full").mkdir(parents=True)
    for path in (tmp_path / "none" / "state", tmp_path / "folder"):
        with pytest.raises(OSError, match=path.name):
            states.save(outer(), path)
    assert os.listdir(tmp_path) == ["folder"]


HEADER = {"format": "recurra-state", "version": "1"}


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def write_truncated(path):
    states.save(outer(), path)
    path.write_bytes(path.read_bytes()[:-20])


def write_flipped(path):
    """A header that promises more than there is."""
    states.save(outer(), path)
    data = bytearray(path.read_bytes())
    data[0] ^= 0xFF
    path.write_bytes(data)


def fields_of(state, **changed):
    return {**dict(states.fields(state)), **changed}


BROKEN = {
    "empty": (lambda path: path.write_bytes(b""), "damaged or no safetensors file"),
    "random": (lambda path: path.write_bytes(bytes(range(256)) * 2), "damaged or no safetensors file"),
    "truncated": (write_truncated, "damaged or no safetensors file"),
    "flipped": (write_flipped, "damaged or no safetensors file"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps(Harmful())), "damaged or no safetensors file"),
    "torch.save": (lambda path: torch.save({"a": Harmful()}, path), "damaged or no safetensors file"),
    "weights": (lambda path: save_file(fields_of(outer()), path), "no state file: .* recurra.memory.state.save"),
    "of others": (lambda path: save_file(fields_of(outer()), path, {"format": "pt"}), "is no state file"),
    "newer": (
        lambda path: save_file(fields_of(outer()), path, {**HEADER, "version": "2"}),
        "of state format 2, this version reads 1",
    ),
    "no version": (
        lambda path: save_file(fields_of(outer()), path, {"format": "recurra-state"}),
        "of state format None, this version reads 1",
    ),
    "another memory's": (
        lambda path: states.save(build("gru", 8).initial_state(1), path),
        "state of another memory, use that one: it has no flag$",
    ),
    "a field more": (
        lambda path: save_file(fields_of(outer(), extra=torch.zeros(3)), path, HEADER),
        "state of another memory, use that one: it has extra, this one does not",
    ),
    "another shape": (
        lambda path: save_file(fields_of(outer(), **{"layers.0.matrix": torch.zeros(3, 2, 6)}), path, HEADER),
        r"layers.0.matrix is torch.float32 \(2, 6\) a stream, this one keeps torch.float32 \(2, 5\)",
    ),
    "another rank": (
        lambda path: save_file(fields_of(outer(), flag=torch.zeros(3, 1, dtype=torch.bool)), path, HEADER),
        r"flag is torch.bool \(1,\) a stream, this one keeps torch.bool \(\)",
    ),
    "no streams": (
        lambda path: save_file(fields_of(outer(), flag=torch.tensor(True)), path, HEADER),
        r"flag is torch.bool \(\)",
    ),
    "another dtype": (
        lambda path: save_file(fields_of(outer(), **{"layers.1.position": torch.zeros(3)}), path, HEADER),
        r"layers.1.position is torch.float32 \(\) a stream, this one keeps torch.int64 \(\)",
    ),
    "of several batches": (
        lambda path: save_file(fields_of(outer(), flag=torch.zeros(2, dtype=torch.bool)), path, HEADER),
        "damaged: its fields are of different numbers of streams",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_state_of_this_memory_is_said_in_one_line(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write, message = BROKEN[kind]
    write(tmp_path / "state")
    with pytest.raises(UserError, match=message) as caught:
        states.load(tmp_path / "state", like=outer(batch=1, grown=0))
    assert str(caught.value).startswith(str(tmp_path / "state"))
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["state"]  # nothing was executed


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "state", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"{path}: no such state file"):
            states.load(path, like=outer())


def test_a_state_names_its_model(tmp_path):
    memory = build("gru", 8)
    fresh = memory.initial_state(1)
    states.save(fresh, tmp_path / "named", of="one")
    states.load(tmp_path / "named", like=fresh, of="one")
    states.load(tmp_path / "named", like=fresh)
    with pytest.raises(UserError, match="of another model, though of the same form"):
        states.load(tmp_path / "named", like=fresh, of="other")
    states.save(fresh, tmp_path / "nameless")
    states.load(tmp_path / "nameless", like=fresh, of="one")
