"""Options that check what they are set to: a whole number or a pair that one is drawn from, and a weight."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from recurra.errors import UserError

Lengths = int | tuple[int, int]


class Drawn:
    """An attribute that holds a whole number or a pair (low, high), both included, and takes nothing else.

    >>> class Maze:
    ...     corridor = Drawn(least=1)
    >>> maze = Maze()
    >>> maze.corridor = [2, 9]
    >>> maze.corridor
    (2, 9)

    Args:
        least: the smallest number allowed.
        optional: whether None is allowed too.
    """

    def __init__(self, *, least: int, optional: bool = False) -> None:
        self.least, self.optional = least, optional

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else vars(instance)[self.name]

    def __set__(self, instance: Any, value: Any) -> None:
        pair = isinstance(value, Sequence) and len(value) == 2
        low, high = value if pair else (value, value)
        if value is None and self.optional:
            vars(instance)[self.name] = None
        elif _whole(low) and _whole(high) and self.least <= low <= high:
            vars(instance)[self.name] = (int(low), int(high)) if pair else int(low)
        else:
            allowed = f"{'None or ' if self.optional else ''}an int >= {self.least} or a pair (low, high)"
            raise UserError(f"{self.name} must be {allowed} with {self.least} <= low <= high, got {value!r}")


class Weight:
    """An attribute that holds a number of at least 0, and takes nothing else."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else vars(instance)[self.name]

    def __set__(self, instance: Any, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise UserError(f"{self.name} must be a number of at least 0, got {value!r}")
        vars(instance)[self.name] = float(value)


def bounds(lengths: Lengths) -> tuple[int, int]:
    """Give the pair (low, high) of an option that is one or the other."""
    return lengths if isinstance(lengths, tuple) else (lengths, lengths)


def _whole(number: Any) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool)
