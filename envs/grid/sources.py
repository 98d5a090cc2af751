"""Where maps come from: a generator by name, a file, text, or the user's own."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recurra.envs.grid.generators import GENERATORS
from recurra.envs.grid.maps import Map, parse, read
from recurra.errors import UserError, nearest


class Source(NamedTuple):
    """What each episode's map is drawn from.

    Attributes:
        draw: gives a map for so many agents.
        agents: how many there are if nobody says.
        fixed: the maps there are, if they are a list.
    """

    draw: Callable[[np.random.Generator, int], Map]
    agents: int
    fixed: tuple[Map, ...] = ()


def source(maps: Any, options: Mapping[str, Any]) -> Source:
    """Find what maps are drawn from.

    Args:
        maps: see `recurra.envs.grid.GridWorlds`.
        options: of a generator.

    Raises:
        UserError: if there is none, or it takes no such option.
    """
    if isinstance(maps, str) and maps in GENERATORS:
        kind = GENERATORS[maps]
        taken = {name for name, it in inspect.signature(kind.draw).parameters.items() if it.kind is it.KEYWORD_ONLY}
        for name in options:
            if name not in taken:
                raise UserError(f"{maps} takes no option {name!r}: {nearest(name, taken)}")
        return Source(partial(kind.draw, **options), kind.agents[0] if maps == "bottleneck" else 1)
    if options:
        raise UserError(f"options ({', '.join(options)}) are those of a generator; {nearest(str(maps), GENERATORS)}")
    if callable(maps):
        return Source(maps, 1)
    fixed = _listed(maps)
    given = [len(each.starts) for each in fixed if each.starts is not None]
    return Source(lambda rng, _: fixed[int(rng.integers(len(fixed)))], max(given, default=1), fixed)


def _listed(maps: Any) -> tuple[Map, ...]:
    if isinstance(maps, Map):
        return (maps,)
    if isinstance(maps, Sequence) and not isinstance(maps, str) and maps:
        return tuple(each for one in maps for each in _listed(one))
    if isinstance(maps, Path) or (isinstance(maps, str) and _is_file(maps)):
        return read(maps)
    if isinstance(maps, str) and set("\n.#@$!") & set(maps):
        return (parse(maps),)
    raise UserError(f"maps are a generator's name, a file, a map's text or `Map`s; {nearest(str(maps), GENERATORS)}")


def _is_file(text: str) -> bool:
    return "\n" not in text and (Path(text).suffix in (".txt", ".yaml", ".yml", ".map") or Path(text).is_file())
