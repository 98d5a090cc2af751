"""Gymnasium spaces as JSON, and as widths of encoders and heads."""

from typing import Any

import numpy as np
from gymnasium import Space, spaces

from recurra.errors import UserError


def check(space: Space, role: str) -> None:
    """Refuse a space that agents do not take; ``role`` is "observation" or "action".

    Raises:
        UserError: if the space is neither Box nor Discrete, or a Box of actions has other than one axis.
    """
    if not isinstance(space, spaces.Box | spaces.Discrete):
        raise UserError(f"{role} spaces of type {type(space).__name__} are not supported: Box and Discrete are")
    if isinstance(space, spaces.Box) and role == "action" and len(space.shape) != 1:
        raise UserError(f"Box actions must have one axis, got shape {space.shape}")


def width(space: Space) -> int:
    """Count the numbers that describe one element: a Discrete's one-hot code, a Box's entries."""
    return int(space.n) if isinstance(space, spaces.Discrete) else int(np.prod(space.shape or ()))


def to_json(space: Space) -> dict[str, Any]:
    """Describe a Box or Discrete space in JSON; an infinite bound is null.

    >>> to_json(spaces.Discrete(4))
    {'type': 'Discrete', 'n': 4, 'start': 0}
    """
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    assert isinstance(space, spaces.Box)
    return {
        "type": "Box",
        "shape": list(space.shape),
        "dtype": str(space.dtype),
        "low": [float(bound) if np.isfinite(bound) else None for bound in space.low.flat],
        "high": [float(bound) if np.isfinite(bound) else None for bound in space.high.flat],
    }


def from_json(description: dict[str, Any]) -> Space:
    """Rebuild the space that `to_json` described."""
    if description["type"] == "Discrete":
        return spaces.Discrete(description["n"], start=description["start"])
    dtype = np.dtype(description["dtype"])
    low, high = (
        np.array([unbounded if bound is None else bound for bound in description[side]]).reshape(description["shape"])
        for side, unbounded in (("low", -np.inf), ("high", np.inf))
    )
    return spaces.Box(low.astype(dtype), high.astype(dtype), dtype=dtype.type)
