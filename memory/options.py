"""A memory's options, held to what its constructor takes before it is called."""

import inspect
from collections.abc import Mapping
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from recurra.errors import UserError, nearest
from recurra.memory.base import Memory

M = TypeVar("M", bound=Memory)

#: By annotation: what a value of it is an instance of, and what to call one.
_KINDS: dict[Any, tuple[Any, str]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    bool: (bool, "true or false"),
    str: (str, "a string"),
    NoneType: (NoneType, "None"),
    list: ((list, tuple), "a list"),
    tuple: ((list, tuple), "a list"),
    dict: (Mapping, "a mapping"),
    Mapping: (Mapping, "a mapping"),
    Memory: (Memory, "a memory"),
}


def made(name: str, kind: type[M], dim: int, options: Mapping[str, Any]) -> M:
    """Build a memory of a class, which messages call by a name.

    >>> from recurra.memory.recurrent import GRU
    >>> made("gru", GRU, 8, {}).dim
    8

    Raises:
        UserError: if it takes no option of a name, or needs one more, or an option or ``dim`` is of another type.
    """
    if not _fits(dim, int) or dim < 1:
        raise UserError(f"memory {name}: dim must be a whole number of at least 1, got {dim!r}")
    signature, wanted = inspect.signature(kind), _annotations(kind)
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    for option, value in options.items():
        if option not in signature.parameters and not open_ended:
            known = signature.parameters.keys() - {"dim"}
            raise UserError(f"memory {name} has no option {option!r}; {nearest(option, known)}")
        if option in wanted and not _fits(value, wanted[option]):
            raise UserError(f"memory {name}: {option} must be {_called(wanted[option])}, got {value!r}")
    try:
        signature.bind(dim, **options)
    except TypeError as error:
        raise UserError(f"memory {name}: {error}") from error
    return kind(dim, **options)


def _annotations(kind: type) -> dict[str, Any]:
    """Give the constructor's annotations; none where they cannot be read."""
    try:
        return get_type_hints(kind.__init__)  # type: ignore[misc]
    except Exception:  # of a user's own class: names that only a type checker knows
        return {}


def _fits(value: Any, wanted: Any) -> bool:
    """Say whether a value is of an annotation; of one that is not among `_KINDS` every value is."""
    origin, parts = get_origin(wanted) or wanted, get_args(wanted)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    kind, _ = _KINDS.get(origin, (object, ""))
    if not isinstance(value, kind) or (isinstance(value, bool) and origin in (int, float)):
        return False
    if origin is tuple and parts[1:] not in ((), (...,)):
        return len(value) == len(parts) and all(map(_fits, value, parts))
    if origin in (list, tuple) and parts:
        return all(_fits(part, parts[0]) for part in value)
    if origin in (dict, Mapping) and parts:
        return all(_fits(key, parts[0]) and _fits(part, parts[1]) for key, part in value.items())
    return True


def _called(wanted: Any) -> str:
    origin, parts = get_origin(wanted) or wanted, get_args(wanted)
    if origin in (Union, UnionType):
        return " or ".join(map(_called, parts))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, parts))
    of = f" ({inspect.formatannotation(wanted)})" if parts and origin in (list, tuple) else ""
    return _KINDS[origin][1] + of
