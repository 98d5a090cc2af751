"""What worlds are given: actions and seeds, checked."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurra.envs.grid.movement import MOVES
from recurra.errors import UserError


def checked(actions: NDArray[Any], present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Give actions ``(worlds, agents)`` as whole numbers, those of absent agents as 0.

    Raises:
        UserError: if they are of another shape, or those of present agents are none of 0 to 4.
    """
    actions = np.asarray(actions)
    if actions.shape != present.shape:
        raise UserError(f"actions must be of shape {present.shape}, (worlds, agents), got {actions.shape}")
    whole = np.issubdtype(actions.dtype, np.integer)
    actions = np.where(present, actions, 0)
    if not whole or (actions := actions.astype(np.int64)).view(np.uint64).max() >= len(MOVES):  # -1 is large, too
        raise UserError("actions must be 0 (stay), 1 (up), 2 (down), 3 (left) or 4 (right)")
    return actions


def seeds(seed: int | Sequence[int] | NDArray[Any] | None, worlds: int) -> int | list[int] | None:
    """Give a seed for all worlds, or a list of one for each.

    Raises:
        UserError: if seeds are no whole numbers of at least 0, or not one for each world.
    """
    if seed is None:
        return None
    given = np.asarray(seed)
    if not np.issubdtype(given.dtype, np.integer) or (given < 0).any() or given.ndim > 1:
        raise UserError(f"seeds are whole numbers of at least 0, got {seed!r}")
    if given.ndim and len(given) != worlds:
        raise UserError(f"give one seed, or {worlds}, one for each world; got {len(given)}")
    found: int | list[int] = given.tolist()
    return found
