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
        room: gives the most rows and columns that a map has, 0 if that is not known.
    """

    draw: Callable[[np.random.Generator, int], Map]
    agents: int
    room: Callable[[], tuple[int, int]]


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
        agents = kind.agents[0] if maps == "bottleneck" else 1
        return Source(partial(kind.draw, **options), agents, partial(_room, kind.draw, options))
    fixed = () if callable(maps) else _listed(maps)
    if options:
        names = ", ".join(options)
        raise UserError(f"options ({names}) are those of a generator, but maps name none: leave options out (null)")
    if callable(maps):
        return Source(partial(_checked, maps), 1, lambda: (0, 0))
    given = [len(each.starts) for each in fixed if each.starts is not None]
    sizes = max(each.height for each in fixed), max(each.width for each in fixed)
    return Source(lambda rng, _: fixed[int(rng.integers(len(fixed)))], max(given, default=1), lambda: sizes)


def _room(draw: Callable[..., Map], options: Mapping[str, Any]) -> tuple[int, int]:
    """Draw the largest map, of all that is drawn from pairs the most."""
    known = {name: it.default for name, it in inspect.signature(draw).parameters.items() if it.kind is it.KEYWORD_ONLY}
    most = {name: max(given) if isinstance(given, Sequence) else given for name, given in {**known, **options}.items()}
    map = draw(np.random.default_rng(0), 1, **most)
    return map.height, map.width


def _checked(draw: Callable[[np.random.Generator, int], Any], rng: np.random.Generator, agents: int) -> Map:
    map = draw(rng, agents)
    if not isinstance(map, Map):
        raise UserError(f"a function that draws maps gives a `Map`, such as parse(text), got {type(map).__name__}")
    return map


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
