"""Figures: how far a memory is from keeping a law, 0 or tiny where it does.

What makes them comparable:

* A relative error of a against b is max|a - b| / max(0.01, max|b|) over a whole tensor, so it means the same for
  outputs of size 1 and of size 1e4; below 0.01 it becomes absolute, since what is that small next to inputs of size 1
  is the rounding of something larger. Whole numbers and flags must be equal; what is not a number is infinitely far.
* States are compared tensor by tensor; those of a memory with ``bounded = False``, which may pad what they keep, by
  how they continue.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from recurra.memory import state as states
from recurra.memory.base import Memory
from recurra.memory.laws.cases import Case, Read, Stream, read

FLOOR = 1e-2  # of relative errors


class Figure(float):
    """How far from a law a memory is, and at what: of several figures `max` gives the worst.

    >>> worst = max(Figure(0.0, "outputs"), Figure(0.5, "state"))
    >>> worst, worst.what
    (0.5, 'state')
    """

    what: str

    def __new__(cls, value: float, what: str) -> "Figure":
        """Take what is not a number as infinitely far."""
        figure = super().__new__(cls, math.inf if math.isnan(value) else value)
        figure.what = what
        return figure


def gap(actual: Tensor, expected: Tensor, what: str) -> Figure:
    """Give the relative error of a tensor, as above."""
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        given, wanted = (f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in (actual, expected))
        return Figure(math.inf, f"{what} ({given} instead of {wanted})")
    if torch.equal(actual, expected):
        return Figure(0.0, what)
    if not expected.is_floating_point():
        return Figure(math.inf, what)
    actual, expected = actual.detach().double(), expected.detach().double()
    apart = torch.where(actual == expected, 0.0, (actual - expected).abs()).max()
    size = expected.abs().nan_to_num(nan=0.0, posinf=0.0).max().clamp(min=FLOOR)
    return Figure(float(apart / size), what)


def gaps(actual: Any, expected: Any, what: str) -> Iterator[Figure]:
    """Give the relative error of each tensor of a state."""
    tensors, wanted = dict(states.fields(actual)), dict(states.fields(expected))
    if tensors.keys() != wanted.keys():
        yield Figure(math.inf, f"{what}: fields {sorted(tensors)} instead of {sorted(wanted)}")
        return
    for name, tensor in wanted.items():
        yield gap(tensors[name], tensor, f"{what}, field {name}")


def _state_error(memory: Memory, case: Case, actual: Any, expected: Any, what: str) -> Figure:
    if memory.bounded:
        return max(gaps(actual, expected, what), default=Figure(0.0, what))
    batch = next(tensor.shape[0] for _, tensor in states.fields(expected))
    x = case.stream.x[:1, ..., : 2 * memory.grain, :]
    probe = Stream(x.expand(batch, *x.shape[1:]))
    with torch.no_grad():
        continued, wanted = (read(memory, probe, state)[0] for state in (actual, expected))
    return gap(continued, wanted, f"{what}, as it continues")


def unlike(memory: Memory, case: Case, actual: Read, expected: Read, how: str) -> list[Figure]:
    """Give the errors of what a reading gave, outputs and final state, against what it should have given."""
    (y, last), (y_expected, last_expected) = actual, expected
    return [
        gap(y, y_expected, f"outputs {how}"),
        _state_error(memory, case, last, last_expected, f"final state {how}"),
    ]


def flaw(found: bool, what: str) -> Figure:
    """Give the figure of what is wholly right or wholly wrong."""
    return Figure(math.inf if found else 0.0, what)


def infinite(tensors: Iterable[Tensor], what: str) -> Figure:
    """Give the figure of what must be finite."""
    return flaw(not all(bool(tensor.isfinite().all()) for tensor in tensors), f"{what} does not stay finite")


def brief(error: Exception) -> str:
    """Give the beginning of what an exception says, in one line."""
    return " ".join(str(error).partition("\n\n")[0].split())[:300]
