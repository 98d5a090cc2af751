"""Gymnasium spaces as JSON, and as widths of encoders and heads."""

import math
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
    """Describe a Box or Discrete space in JSON; an infinite bound is null, a bound of all entries stands once.

    >>> to_json(spaces.Discrete(4))
    {'type': 'Discrete', 'n': 4, 'start': 0}
    >>> to_json(spaces.Box(0, 255, (84, 84), np.uint8))
    {'type': 'Box', 'shape': [84, 84], 'dtype': 'uint8', 'low': 0.0, 'high': 255.0}
    """
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    assert isinstance(space, spaces.Box)
    return {
        "type": "Box",
        "shape": list(space.shape),
        "dtype": str(space.dtype),
        "low": _bounds(space.low),
        "high": _bounds(space.high),
    }


def from_json(description: dict[str, Any]) -> Space:
    """Rebuild the space that `to_json` described."""
    if description["type"] == "Discrete":
        return spaces.Discrete(description["n"], start=description["start"])
    dtype = np.dtype(description["dtype"])
    shape = tuple(description["shape"])
    low, high = (
        _array(description[side], unbounded, shape).astype(dtype)
        for side, unbounded in (("low", -np.inf), ("high", np.inf))
    )
    return spaces.Box(low, high, dtype=dtype.type)


def _bounds(array: np.ndarray) -> Any:
    bounds = [float(bound) if np.isfinite(bound) else None for bound in array.flat]
    return bounds[0] if len(set(bounds)) == 1 else bounds


def _array(bounds: Any, unbounded: float, shape: tuple[int, ...]) -> np.ndarray:
    if not isinstance(bounds, list):
        bounds = [bounds] * math.prod(shape)
    return np.array([unbounded if bound is None else bound for bound in bounds], dtype=np.float64).reshape(shape)
