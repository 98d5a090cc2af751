"""Maps by the dozen: those of POGEMA's benchmark, and SRMT's Bottleneck. Each draws a `Map` from a random stream."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recurra.envs.grid.maps import Map, parse
from recurra.envs.grid.placing import labelled
from recurra.errors import UserError

#: A whole number, or a pair (low, high) that one is drawn from, both included.
Whole = int | Sequence[int]
#: The same for a number of any kind.
Real = float | Sequence[float]

_AROUND = ((0, -2), (0, 2), (-2, 0), (2, 0))


def random(
    rng: np.random.Generator,
    agents: int,
    *,
    height: Whole = (17, 21),
    width: Whole = (17, 21),
    density: Real = (0.1, 0.3),
) -> Map:
    """Strew obstacles over a map: a share of ``density`` of its cells."""
    rows, columns = _whole("height", height, 1, rng), _whole("width", width, 1, rng)
    obstacles = np.zeros(rows * columns, dtype=bool)
    obstacles[rng.permutation(rows * columns)[: int(rows * columns * _share("density", density, rng))]] = True
    return Map(obstacles.reshape(rows, columns), name="random")


def mazes(
    rng: np.random.Generator,
    agents: int,
    *,
    height: Whole = (17, 21),
    width: Whole = (17, 21),
    density: Real = (0.0, 1.0),
    walls: Whole = (1, 8),
    straight: Real = (0.75, 0.85),
) -> Map:
    """Grow walls on every second row and column; sizes are rounded to the next odd number.

    Args:
        rng: what to draw with.
        agents: how many; a maze is the same for all.
        height: rows.
        width: columns.
        density: how many pieces of wall are tried, as a share of the cells.
        walls: how many pieces of wall follow each other.
        straight: how likely a wall is to go on in its direction.
    """
    rows, columns = _whole("height", height, 1, rng), _whole("width", width, 1, rng)
    share, pieces = _share("density", density, rng), _whole("walls", walls, 1, rng)
    return Map(_grown(rows, columns, share, pieces, _share("straight", straight, rng), rng), name="mazes")


def _grown(
    rows: int, columns: int, density: float, pieces: int, straight: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    height, width = rows // 2 * 2 + 3, columns // 2 * 2 + 3
    maze = np.ones((height, width), dtype=bool)
    maze[1:-1, 1:-1] = False
    for _ in range(int(height * width * density // pieces)):
        column = int(rng.integers(0, width // 2)) * 2
        row = int(rng.integers(0, height // 2)) * 2
        maze[row, column] = True
        before = (0, 0)
        for _ in range(pieces):
            near = [step for step in _AROUND if 0 <= row + step[0] <= height - 1 and 0 <= column + step[1] <= width - 1]
            weights = np.array([straight if step == before else 1 - straight for step in near])
            below = np.cumsum(weights / weights.sum())
            before = near[min(int(np.searchsorted(below / below[-1], rng.random(), side="right")), len(near) - 1)]
            down, right = before
            if not maze[row + down, column + right]:
                maze[row + down, column + right] = maze[row + down // 2, column + right // 2] = True
                row, column = row + down, column + right
    return maze[1:-1, 1:-1]


def warehouse(rng: np.random.Generator, agents: int, *, rows: Whole = 8, columns: Whole = 3, shelf: Whole = 10) -> Map:
    """Lay out shelves, goals on both sides of each, and starts left and right of them all.

    Args:
        rng: what to draw with.
        agents: how many; a warehouse is the same for all.
        rows: of shelves.
        columns: of shelves.
        shelf: how many cells each is long.
    """
    many, across, length = (
        _whole(name, given, 1, rng) for name, given in (("rows", rows), ("columns", columns), ("shelf", shelf))
    )

    def row(stations: str, cells: str) -> str:
        return stations + "!".join([cells * length] * across) + stations

    aisle, side, middle = row("!!!!!!!", "!"), row("!@@!@@!", "$"), row("!@@!@@!", "#")
    return parse("\n".join([aisle, side, middle, side] * many + [aisle]), name="warehouse")


def rooms(
    rng: np.random.Generator, agents: int, *, rows: Whole = (2, 4), columns: Whole = (2, 4), room: Whole = (3, 7)
) -> Map:
    """Lay out rooms in rows and columns, with a door in every wall between two.

    Args:
        rng: what to draw with.
        agents: how many; rooms are the same for all.
        rows: of rooms.
        columns: of rooms.
        room: how many cells long and wide each row and column of rooms is.
    """
    ends = [
        np.cumsum([_whole("room", room, 1, rng) + 1 for _ in range(_whole(name, count, 1, rng))])
        for name, count in (("rows", rows), ("columns", columns))
    ]
    obstacles = np.zeros((ends[0][-1] - 1, ends[1][-1] - 1), dtype=bool)
    obstacles[ends[0][:-1] - 1] = obstacles[:, ends[1][:-1] - 1] = True
    for plane, (walls, spans) in ((obstacles, ends), (obstacles.T, ends[::-1])):
        for wall in walls[:-1] - 1:
            for begin, end in zip(np.r_[0, spans[:-1]], spans - 1, strict=True):
                plane[wall, rng.integers(begin, end)] = False
    return Map(obstacles, name="rooms")


def puzzles(
    rng: np.random.Generator,
    agents: int,
    *,
    height: Whole = 5,
    width: Whole = 5,
    obstacles: Whole = (5, 16),
) -> Map:
    """Fill a small map with obstacles, as long as what is free hangs together: agents have to make way for each other.

    Args:
        rng: what to draw with.
        agents: how many; a puzzle is the same for all.
        height: rows.
        width: columns.
        obstacles: how many; fewer, if no more leave the map in one part. Those of the benchmark have 5 to 16.
    """
    rows, columns = _whole("height", height, 1, rng), _whole("width", width, 1, rng)
    filled, wanted = np.zeros((rows, columns), dtype=bool), _whole("obstacles", obstacles, 0, rng)
    for cell in rng.permutation(rows * columns):
        if filled.sum() == wanted:
            break
        filled.flat[cell] = True
        labels = labelled(Map(filled))
        if len(np.unique(labels[labels >= 0])) != 1:
            filled.flat[cell] = False
    return Map(filled, name="puzzles")


#: Corridors that SRMT's agents train in.
CORRIDORS = (3, 4, 5, 6, 7, 8, 12, 16, 17, 18, 20, 21, 22, 23, 24, 27)


def bottleneck(rng: np.random.Generator, agents: int, *, corridor: Whole = CORRIDORS) -> Map:
    """Join two rooms of 2 by 9 cells by a corridor one cell wide; agents start in one and go to the other, by turns.

    SRMT's task (arXiv 2501.13200), and its limit of 2 L + 100 steps in evaluation as the map's own horizon.

    Args:
        rng: what to draw with.
        agents: how many, at most 36; SRMT has 2.
        corridor: its length L, or several that each map's is drawn from: two are low and high, both included.
    """
    if agents > 36:
        raise UserError(f"two rooms of 18 cells hold at most 36 agents, got {agents}")
    if isinstance(corridor, Sequence) and not isinstance(corridor, str) and len(corridor) > 2:
        corridor = corridor[int(rng.integers(len(corridor)))]
    length = _whole("corridor", corridor, 1, rng)
    obstacles = np.ones((length + 4, 9), dtype=bool)
    obstacles[:2] = obstacles[-2:] = False
    obstacles[:, 4] = False
    side = np.arange(agents) % 2
    places = []
    for here in (side, 1 - side):
        cells = np.stack([rng.permutation(18) for _ in range(2)])[here, np.arange(agents) // 2]
        places.append(np.stack((cells // 9 + here * (length + 2), cells % 9), axis=1))
    starts, goals = places
    return Map(
        obstacles, starts=starts, goals=tuple(goals[:, None]), horizon=2 * length + 100, name=f"bottleneck-{length}"
    )


class Kind(NamedTuple):
    """A generator, and how POGEMA's benchmark sets its maps to work.

    Attributes:
        draw: draws a map.
        agents: the benchmark's sizes of teams.
        horizon: steps of a one-shot episode there (``on_target="nothing"``).
        lifelong: steps of a lifelong one (``on_target="restart"``).
        summary: a line.
    """

    draw: Callable[..., Map]
    agents: tuple[int, ...]
    horizon: int
    lifelong: int
    summary: str


GENERATORS = {
    "random": Kind(random, (8, 16, 24, 32, 48, 64), 128, 256, "17 to 21 cells, 10 to 30 % of them obstacles"),
    "mazes": Kind(mazes, (8, 16, 24, 32, 48, 64), 128, 128, "17 to 21 cells, walls on every second row and column"),
    "warehouse": Kind(warehouse, (32, 64, 96, 128, 160, 192), 128, 256, "33 by 46 cells, starts beside the shelves"),
    "puzzles": Kind(puzzles, (2, 3, 4), 128, 256, "5 by 5 cells in one part, 5 to 16 of them obstacles"),
    "rooms": Kind(rooms, (8, 16, 24, 32, 48, 64), 128, 256, "rooms with a door in every wall"),
    "bottleneck": Kind(bottleneck, (2,), 512, 512, "two rooms and a corridor of 3 to 27 cells between them"),
}


def validation(kind: str, seed: int) -> Map:
    """Give a map of POGEMA's benchmark, cell by cell: ``validation-random-seed-000`` and its like.

    >>> validation("mazes", 1).text().splitlines()[0]
    '.........#.........'

    Args:
        kind: ``"random"`` or ``"mazes"``.
        seed: 0 to 127 in the benchmark.

    Raises:
        UserError: if there is no such kind; others are read from the benchmark's own files (`recurra.envs.grid.read`).
    """
    if kind not in ("random", "mazes"):
        raise UserError(f"the benchmark draws its maps of kind 'random' and 'mazes' from seeds, not of {kind!r}")
    settings, rng = np.random.default_rng(seed), np.random.default_rng(seed)
    width, height = (int(settings.integers(17, 22)) for _ in range(2))
    name = f"validation-{kind}-seed-{seed:03}"
    if kind == "mazes":
        density, pieces = settings.uniform(0.0, 1.0), int(settings.integers(1, 9))
        return Map(_grown(height, width, density, pieces, settings.uniform(0.75, 0.85), rng), name=name)
    obstacles = np.zeros((height, width), dtype=bool)
    wanted = int(width * height * settings.uniform(0.1, 0.3))
    while obstacles.sum() < wanted:
        column, row = rng.integers(0, width), rng.integers(0, height)
        obstacles[row, column] = True
    return Map(obstacles, name=name)


def _whole(name: str, given: Whole, least: int, rng: np.random.Generator) -> int:
    pair = [given, given] if isinstance(given, int | np.integer) else given
    if not isinstance(pair, Sequence) or len(pair) != 2 or not all(isinstance(n, int | np.integer) for n in pair):
        raise UserError(f"{name} must be a whole number or a pair (low, high), got {given!r}")
    if not least <= pair[0] <= pair[1]:
        raise UserError(f"{name} must satisfy {least} <= low <= high, got {given!r}")
    return int(rng.integers(pair[0], pair[1], endpoint=True))


def _share(name: str, given: Real, rng: np.random.Generator) -> float:
    pair = [given, given] if isinstance(given, int | float) else given
    if not isinstance(pair, Sequence) or len(pair) != 2 or not all(isinstance(n, int | float) for n in pair):
        raise UserError(f"{name} must be a number or a pair (low, high), got {given!r}")
    if not 0 <= pair[0] <= pair[1] <= 1:
        raise UserError(f"{name} must satisfy 0 <= low <= high <= 1, got {given!r}")
    low, high = pair
    return float(rng.uniform(low, high))
