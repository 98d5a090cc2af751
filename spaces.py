"""Gymnasium spaces: which are read, their leaves, and spaces as JSON.

A leaf is a space that holds one array: Box, Discrete, MultiDiscrete or MultiBinary. Dict and Tuple hold leaves, or more
of themselves; an observation of any space travels as the tuple of its leaves.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from recurra.errors import UserError

_LEAVES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def check(space: Space, role: str) -> None:
    """Refuse a space that agents do not take; ``role`` is "observation" or "action".

    Raises:
        UserError: if there is a part that is none of the leaves, or if actions have parts.
    """
    if role == "action":
        if not isinstance(space, _LEAVES):
            _refuse(space, "action space")
        return
    for name, leaf in leaves(space):
        if not isinstance(leaf, _LEAVES):
            more = ", and Dict and Tuple of these"
            if isinstance(space, spaces.Dict):
                more += f"; --env.leave_out {name.split('.')[0]} does without"
            _refuse(leaf, f"observation space{', part ' * bool(name)}{name}", more)
        if isinstance(leaf, spaces.Box) and leaf.dtype is not None and leaf.dtype.kind not in "fiub":
            raise UserError(f"observation space{', part ' * bool(name)}{name}: a Box of {leaf.dtype} is not supported")


def _refuse(space: Space, where: str, more: str = "") -> None:
    kind = type(space).__name__
    raise UserError(f"{where}: {kind} is not supported; Box, Discrete, MultiDiscrete and MultiBinary are{more}")


def leaves(space: Space, name: str = "") -> Iterator[tuple[str, Space]]:
    """List a space's leaves with their dotted names; the only leaf of a plain space has none.

    >>> [name for name, _ in leaves(spaces.Dict(a=spaces.Discrete(2), b=spaces.Tuple([spaces.Discrete(3)])))]
    ['a', 'b.0']
    """
    parts: Mapping[Any, Space] = {}
    if isinstance(space, spaces.Dict):
        parts = space.spaces
    elif isinstance(space, spaces.Tuple):
        parts = dict(enumerate(space.spaces))
    else:
        yield name, space
    for key, part in parts.items():
        yield from leaves(part, f"{name}.{key}" if name else str(key))


def split(space: Space, value: Any) -> Iterator[Any]:
    """Take an element of a space, or a batch of them, apart: its leaves' values, in the order of `leaves`.

    >>> list(split(spaces.Dict(a=spaces.Discrete(2), b=spaces.Tuple([spaces.Discrete(3)])), {"a": 1, "b": (2,)}))
    [1, 2]
    """
    if isinstance(space, spaces.Dict):
        for name, part in space.spaces.items():
            yield from split(part, value[name])
    elif isinstance(space, spaces.Tuple):
        for part, inner in zip(space.spaces, value, strict=True):
            yield from split(part, inner)
    else:
        yield value


def join(space: Space, values: Iterable[Any]) -> Any:
    """Put together what `split` took apart.

    >>> join(spaces.Dict(a=spaces.Discrete(2), b=spaces.Tuple([spaces.Discrete(3)])), [1, 2])
    {'a': 1, 'b': (2,)}
    """
    values = iter(values)
    if isinstance(space, spaces.Dict):
        return {name: join(part, values) for name, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(join(part, values) for part in space.spaces)
    return next(values)


def is_image(space: Space) -> bool:
    """Whether a space is of pictures: bytes of two axes, or of three with channels first or last."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)


def brief(space: Space) -> str:
    """Write a space in one line, for a message.

    >>> brief(spaces.Dict(a=spaces.MultiDiscrete(np.full((7, 7), 4)), b=spaces.Tuple([spaces.Box(0, 1, (2,))])))
    'Dict(a: MultiDiscrete of shape (7, 7), b: Tuple(0: Box(0.0, 1.0, (2,), float32)))'
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        return f"{type(space).__name__}({', '.join(f'{name}: {brief(part)}' for name, part in parts)})"
    said = str(space)
    return said if len(said) < 80 and "\n" not in said else f"{type(space).__name__} of shape {space.shape}"


def codes(space: Space) -> tuple[np.ndarray, np.ndarray]:
    """Say of a leaf of whole numbers how many values each entry takes, and which is its lowest.

    >>> codes(spaces.Discrete(3, start=-1))
    (array(3), array(-1))
    """
    if isinstance(space, spaces.Discrete):
        return np.asarray(int(space.n)), np.asarray(int(space.start))
    if isinstance(space, spaces.MultiDiscrete):
        return space.nvec, np.asarray(getattr(space, "start", np.zeros_like(space.nvec)))
    assert isinstance(space, spaces.MultiBinary)
    return np.full(space.shape, 2), np.zeros(space.shape, np.int64)


def to_json(space: Space) -> dict[str, Any]:
    """Describe a space in JSON; an infinite bound is null, a bound of all entries stands once.

    >>> to_json(spaces.Discrete(4))
    {'type': 'Discrete', 'n': 4, 'start': 0}
    >>> to_json(spaces.Box(0, 255, (84, 84), np.uint8))
    {'type': 'Box', 'shape': [84, 84], 'dtype': 'uint8', 'low': 0.0, 'high': 255.0}
    >>> to_json(spaces.Dict(seen=spaces.MultiBinary(3)))
    {'type': 'Dict', 'spaces': {'seen': {'type': 'MultiBinary', 'n': 3}}}
    """
    if isinstance(space, spaces.Dict):
        return {"type": "Dict", "spaces": {name: to_json(part) for name, part in space.spaces.items()}}
    if isinstance(space, spaces.Tuple):
        return {"type": "Tuple", "spaces": [to_json(part) for part in space.spaces]}
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        counts, lowest = codes(space)
        return {
            "type": "MultiDiscrete",
            "nvec": counts.tolist(),
            "start": lowest.tolist(),
            "dtype": str(space.dtype),
        }
    if isinstance(space, spaces.MultiBinary):
        return {"type": "MultiBinary", "n": space.n if isinstance(space.n, int) else list(space.shape)}
    assert isinstance(space, spaces.Box)
    return {
        "type": "Box",
        "shape": list(space.shape),
        "dtype": str(space.dtype),
        "low": _bounds(space.low),
        "high": _bounds(space.high),
    }


def from_json(description: dict[str, Any]) -> Space:
    """Rebuild the space that `to_json` described.

    Raises:
        KeyError: if something is missing.
        ValueError: if the type is unknown, or what is said of it makes no sense.
    """
    kind = description["type"]
    if kind == "Dict":  # pairs keep their order, which every release of gymnasium would sort in a mapping
        return spaces.Dict([(name, from_json(part)) for name, part in description["spaces"].items()])
    if kind == "Tuple":
        return spaces.Tuple([from_json(part) for part in description["spaces"]])
    if kind == "Discrete":
        return spaces.Discrete(description["n"], start=description["start"])
    if kind == "MultiDiscrete":
        lowest = np.array(description["start"])  # releases before 0.29 know no start
        options: dict[str, Any] = {"start": lowest} if lowest.any() else {}
        return spaces.MultiDiscrete(description["nvec"], dtype=np.dtype(description["dtype"]).type, **options)
    if kind == "MultiBinary":
        return spaces.MultiBinary(description["n"])
    if kind != "Box":
        raise ValueError(f"there is no space of type {kind!r}")
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
