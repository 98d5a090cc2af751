"""Some agents of a team by themselves: parts of a team's state."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from recurra.memory import state as states
from recurra.memory.base import Memory


def members(memory: Memory, state: Any, who: Tensor) -> Any:
    """Take some agents of a team's state."""
    return personal(memory, state, lambda field: field[:, who])


def rejoined(memory: Memory, state: Any, part: Any, who: Tensor) -> Any:
    """Put some agents of a team, as they now are, back beside those who stayed as they were."""
    return personal(memory, state, lambda old, new: old.index_copy(1, who, new), part)


def personal(memory: Memory, state: Any, function: Callable[..., Tensor], *others: Any) -> Any:
    """Apply a function to the fields of a team's state whose size depends on the team's, and to no other."""
    teams: list[dict[str, Any]] = [{"agents": 1}, {"agents": 2}]
    small, large = (memory.initial_state(1, **team) for team in teams)

    def apply(a: Tensor, b: Tensor, *fields: Tensor) -> Tensor:
        return fields[-1] if a.shape == b.shape else function(*fields)

    return states.transform(apply, small, large, state, *others)
