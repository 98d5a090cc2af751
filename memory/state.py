"""Operations on states: a state is a NamedTuple of tensors, states, or tuples of states, batch first.

>>> from recurra.memory import build
>>> memory = build("gru", 8)
>>> two = memory.initial_state(2)
>>> [name for name, _ in fields(two)]
['hidden']
>>> nbytes(two)
64
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from recurra.errors import UserError
from recurra.files import whole

State = TypeVar("State", bound=tuple)

_FORMAT = {"format": "recurra-state", "version": "1"}


def fields(state: Any) -> Iterator[tuple[str, Tensor]]:
    """List a state's tensors with their dotted names, such as ``layers.0.matrix``."""
    names = getattr(state, "_fields", None) or [str(index) for index in range(len(state))]
    for name, value in zip(names, state, strict=True):
        if isinstance(value, Tensor):
            yield name, value
        else:
            for inner, tensor in fields(value):
                yield f"{name}.{inner}", tensor


def transform(function: Callable[..., Tensor], state: State, *others: State) -> State:
    """Apply a function to each tensor of a state (and the matching ones of others): a state of the results."""
    values = [
        function(*values) if isinstance(values[0], Tensor) else transform(function, *values)
        for values in zip(state, *others, strict=True)
    ]
    return type(state)(*values) if hasattr(state, "_fields") else type(state)(values)


def rebuild(tensors: Mapping[str, Tensor], like: State) -> State:
    """Put tensors, named as `fields` names them, into a state of the form of ``like``, on its device."""
    remaining = iter(tensors[name] for name, _ in fields(like))
    return transform(lambda tensor: next(remaining).to(tensor.device), like)


def detach(state: State) -> State:
    """Cut the gradient: the same values, and no path back to what wrote them."""
    return transform(Tensor.detach, state)


def move(state: State, device: torch.device | str) -> State:
    """Put a state on a device."""
    return transform(lambda tensor: tensor.to(device), state)


def select(state: State, rows: Tensor | slice) -> State:
    """Take some streams of a state: by a slice, an index tensor or a ``(batch,)`` bool mask."""
    return transform(lambda tensor: tensor[rows], state)


def reset(state: State, mask: Tensor, fresh: State) -> State:
    """Give the streams where ``mask (batch,)`` is True the fresh state (of as many streams, or of 1)."""

    def choose(old: Tensor, new: Tensor) -> Tensor:
        return torch.where(mask.reshape(-1, *[1] * (old.dim() - 1)), new, old)

    return transform(choose, state, fresh)


def of_sizes(sizes: Sequence[int], wanted: Sequence[int]) -> bool:
    """Say whether sizes are those wanted, of which 0, of a state that grows, stands for any.

    >>> of_sizes((5, 4), (0, 4)), of_sizes((5, 4), (6, 4))
    (True, False)
    """
    return len(sizes) == len(wanted) and all(most in (size, 0) for size, most in zip(sizes, wanted, strict=True))


def nbytes(state: Any) -> int:
    """Count the bytes that a state holds."""
    return sum(tensor.numel() * tensor.element_size() for _, tensor in fields(state))


def save(
    state: Any, path: str | os.PathLike[str], *, of: str | None = None, notes: Mapping[str, str] | None = None
) -> None:
    """Write a state to a safetensors file, which is there whole or not at all.

    Args:
        state: the state.
        path: the file.
        of: a name of the model whose state it is, for `load` to compare.
        notes: what else is to be known of it; see `notes`.

    Raises:
        OSError: if the file cannot be written; one that was there is left as it was.
    """
    path = Path(path)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in fields(state)}
    header = {**(notes or {}), **_FORMAT, **({} if of is None else {"of": of})}
    with whole(path) as scratch:
        scratch.write_bytes(to_bytes(tensors, metadata=header))


def notes(path: str | os.PathLike[str]) -> dict[str, str] | None:
    """Give what was noted of a state when it was saved, its format and model among it; None of what is no state."""
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError):
        return None
    return header if header.get("format") == _FORMAT["format"] else None


def load(path: str | os.PathLike[str], like: State, *, of: str | None = None) -> State:
    """Read a state that `save` wrote, of any number of streams; no code is executed.

    Args:
        path: the file.
        like: a state of the same memory, such as ``memory.initial_state(1)``, that says what is expected and on
            which device. A dimension that is 0 there (of a state that grows) may have any size in the file.
        of: what `save` was to call the model; a file that names another is refused, one that names none is taken.

    Raises:
        FileNotFoundError: if there is no such file.
        UserError: if the file is damaged, or is no state, or is the state of another memory.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such state file")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            if header.get("format") != _FORMAT["format"]:
                raise UserError(f"{path} is no state file: states are written by recurra.memory.state.save")
            if header.get("version") != _FORMAT["version"]:
                raise UserError(
                    f"{path} is of state format {header.get('version')}, this version reads {_FORMAT['version']}: make "
                    "it anew"
                )
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise UserError(f"{path} is damaged or no safetensors file: {error}; make it anew") from error
    expected = dict(fields(like))
    other = f"{path} is the state of another memory, use that one"
    if unlike := found.keys() ^ expected.keys():
        name = min(unlike)
        detail = f"it has no {name}" if name in expected else f"it has {name}, this one does not"
        raise UserError(f"{other}: {detail}")
    for name, tensor in expected.items():
        given = found[name]
        fits = given.dim() == tensor.dim() and of_sizes(given.shape[1:], tensor.shape[1:])
        if not fits or given.dtype != tensor.dtype:
            raise UserError(
                f"{other}: {name} is {given.dtype} {tuple(given.shape[1:])} a stream, "
                f"this one keeps {tensor.dtype} {tuple(tensor.shape[1:])}"
            )
    if of is not None and header.get("of", of) != of:
        raise UserError(f"{path} is the state of another model, though of the same form: use that one")
    if len({tensor.shape[0] for tensor in found.values()}) > 1:
        raise UserError(f"{path} is damaged: its fields are of different numbers of streams; make it anew")
    return rebuild(found, like)
