"""Maps of grid worlds: POGEMA's text with its letters and symbols, and files of such maps.

====== ===================================================================
symbol cell
====== ===================================================================
``.``  free; where ``@`` or ``$`` occur on a map, agents may start here and goals may be here
``#``  an obstacle
``a``  the start of an agent, whose goal is the capital: ``A``
``@``  free, and agents may start here, but no goal may be here
``$``  free, and goals may be here, but no agent may start here
``!``  free, and neither may be here
====== ===================================================================
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from recurra.errors import UserError, reason

_SYMBOLS = ".#@$!"
_MASKS = ("obstacles", "may_start", "may_goal")


@dataclass(frozen=True, eq=False)
class Map:
    """A rectangle of cells, (row, column), and where agents start and go, as far as that is given.

    Attributes:
        obstacles: ``(height, width)`` bool.
        starts: ``(agents, 2)`` int, where each agent starts; None: drawn for each episode.
        goals: for each agent the ``(count, 2)`` cells that it is sent to, one after the other and over again; None:
            drawn.
        may_start: ``(height, width)`` bool, the cells that starts are drawn from; None: every free cell.
        may_goal: the same of goals.
        horizon: steps of an episode, where the world is not told otherwise.
        name: what reports call it.

    Raises:
        UserError: if there are no cells, starts and goals do not come together, two agents start in one cell, or a
            start or a goal lies outside the map or on an obstacle.
    """

    obstacles: NDArray[np.bool_]
    starts: NDArray[np.int64] | None = None
    goals: tuple[NDArray[np.int64], ...] | None = None
    may_start: NDArray[np.bool_] | None = None
    may_goal: NDArray[np.bool_] | None = None
    horizon: int | None = None
    name: str = "map"

    def __post_init__(self) -> None:
        if self.obstacles.ndim != 2 or not self.obstacles.size:
            raise UserError(f"{self.name}: a map is a rectangle of cells, this one has none")
        if (self.starts is None) != (self.goals is None):
            raise UserError(f"{self.name}: give both, starts and goals, or neither")
        if self.starts is None or self.goals is None:
            return
        if len(self.starts) != len(self.goals):
            raise UserError(f"{self.name}: {len(self.starts)} starts, but goals for {len(self.goals)} agents")
        self._require_free("start", self.starts)
        if len({tuple(start) for start in self.starts.tolist()}) < len(self.starts):
            raise UserError(f"{self.name}: two agents start in one cell")
        for goals in self.goals:
            if not len(goals):
                raise UserError(f"{self.name}: an agent has no goal")
            self._require_free("goal", goals)

    def _require_free(self, what: str, cells: NDArray[np.int64]) -> None:
        if cells.ndim != 2 or cells.shape[1] != 2:
            raise UserError(f"{self.name}: a {what} is a pair (row, column)")
        outside = (cells < 0).any(1) | (cells >= self.obstacles.shape).any(1)
        if outside.any():
            cell = tuple(cells[outside.argmax()].tolist())
            raise UserError(f"{self.name}: the {what} {cell} lies outside the {self.height} by {self.width} map")
        blocked = self.obstacles[cells[:, 0], cells[:, 1]]
        if blocked.any():
            raise UserError(f"{self.name}: the {what} {tuple(cells[blocked.argmax()].tolist())} is an obstacle")

    @property
    def height(self) -> int:
        """How many rows."""
        return self.obstacles.shape[0]

    @property
    def width(self) -> int:
        """How many columns."""
        return self.obstacles.shape[1]

    @classmethod
    def of(
        cls,
        obstacles: Any,
        *,
        starts: Any = None,
        goals: Any = None,
        horizon: int | None = None,
        name: str = "map",
    ) -> "Map":
        """Make a map of nested lists: of rows, of starts, and of goals or of each agent's goals.

        >>> Map.of([[0, 1], [0, 0]], starts=[(0, 0)], goals=[[(1, 1), (0, 0)]]).goals
        (array([[1, 1],
               [0, 0]]),)
        """
        try:
            return cls(
                np.array(obstacles, dtype=bool),
                starts=None if starts is None else np.array(starts, dtype=np.int64).reshape(len(starts), -1),
                goals=None if goals is None else tuple(np.array(each, dtype=np.int64).reshape(-1, 2) for each in goals),
                horizon=horizon,
                name=name,
            )
        except (TypeError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{name}: rows of cells, and pairs (row, column), are needed: {reason(error)}") from error

    def text(self) -> str:
        r"""Give the map as text, obstacles and free cells only.

        >>> print(parse("a.#\n..A").text())
        ..#
        ...
        """
        return "\n".join("".join(".#"[cell] for cell in row) for row in self.obstacles.astype(int).tolist())


def parse(text: str, *, name: str = "map") -> Map:
    r"""Read a map from text, a row a line.

    >>> parse("a.B\nb.A").starts
    array([[0, 0],
           [1, 0]])

    Args:
        text: of the symbols above.
        name: what it is called in errors and reports.

    Raises:
        UserError: if the rows differ in length, a symbol is none of these, a letter comes twice or without its other
            case, or letters stand beside ``@ $ !``.
    """
    rows = text.split()
    if not rows:
        raise UserError(f"{name}: a map is a rectangle of cells, this one has none")
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise UserError(f"{name}, row {number}: {len(row)} cells, but the first row has {len(rows[0])}")
    cells = np.array([list(row) for row in rows])
    letters: dict[str, tuple[int, int]] = {}
    for (row_, column), symbol in np.ndenumerate(cells):
        if "a" <= symbol.lower() <= "z" and symbol.isascii():
            if symbol in letters:
                raise UserError(f"{name}, row {row_ + 1}: {str(symbol)!r} stands twice on the map")
            letters[str(symbol)] = (row_, column)
        elif symbol not in _SYMBOLS:
            raise UserError(f"{name}, row {row_ + 1}: {str(symbol)!r} is no symbol of a map ({_SYMBOLS} and letters)")
    for letter in letters:
        if letter.swapcase() not in letters:
            missing = "goal" if letter.islower() else "start"
            raise UserError(f"{name}: {letter!r} has no {missing}: put a {letter.swapcase()!r} on the map")
    marked = np.isin(cells, list("@$!")).any()
    if letters and marked:
        raise UserError(f"{name}: letters say where agents start and go, @ $ ! where they may: use one or the other")
    names = sorted(letter for letter in letters if letter.islower())
    return Map(
        cells == "#",
        starts=np.array([letters[letter] for letter in names], dtype=np.int64) if names else None,
        goals=tuple(np.array([letters[letter.upper()]], dtype=np.int64) for letter in names) if names else None,
        may_start=np.isin(cells, list(".@")) if marked else None,
        may_goal=np.isin(cells, list(".$")) if marked else None,
        name=name,
    )


def read(path: str | Path) -> tuple[Map, ...]:
    """Read a file of maps: text (one map), YAML (names and maps, as POGEMA's benchmark has them) or MovingAI's .map.

    Args:
        path: ends in ``.yaml``, ``.yml`` or ``.map``; anything else is text.

    Raises:
        UserError: if it cannot be read, or holds anything else; the line says where.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a map: {reason(error)}") from error
    if path.suffix in (".yaml", ".yml"):
        try:
            named = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"{path} is not YAML: {reason(error)}") from error
        if not isinstance(named, dict) or not named or not all(isinstance(value, str) for value in named.values()):
            raise UserError(f"{path}: names with a map's text each are needed, as in `corridor: |-`")
        return tuple(_told(path, parse, value, str(name)) for name, value in named.items())
    if path.suffix == ".map":
        return (_told(path, _moving_ai, text, path.stem),)
    return (_told(path, parse, text, path.stem),)


def _told(path: Path, read_as: Any, text: str, name: str) -> Map:
    try:
        found: Map = read_as(text, name=name)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return found


def _moving_ai(text: str, *, name: str) -> Map:
    """Read the format of the MovingAI benchmarks: four lines of header, then rows."""
    head, found, rows = text.partition("map\n")
    told = dict(line.split(maxsplit=1) for line in head.splitlines() if len(line.split()) == 2)
    if not found or not {"height", "width"} <= told.keys():
        raise UserError(f"{name}: a .map file begins with type, height, width and map")
    lines = rows.splitlines()
    if told["height"] != str(len(lines)) or any(told["width"] != str(len(line)) for line in lines):
        raise UserError(f"{name}: the header says {told['height']} by {told['width']} cells, the rows are others")
    strange = set(rows) - set(".G@OTSW\n")
    if strange:
        raise UserError(f"{name}: {min(strange)!r} is no terrain of a .map file")
    return Map(np.array([[symbol in "@OTW" for symbol in line] for line in lines]), name=name)


def plain(map: Map) -> dict[str, Any]:
    """Give a map as dicts, lists, numbers and strings; `unplain` takes it back."""
    told: dict[str, Any] = {"obstacles": map.text(), "horizon": map.horizon, "name": map.name}
    if map.starts is not None and map.goals is not None:
        told |= {"starts": map.starts.tolist(), "goals": [goals.tolist() for goals in map.goals]}
    for name in ("may_start", "may_goal"):
        mask = getattr(map, name)
        told[name] = None if mask is None else Map(~mask).text()
    return told


def unplain(told: dict[str, Any]) -> Map:
    """Make the map of what `plain` gave."""
    rows = {name: told[name] and np.array([list(row) for row in told[name].split()]) == "." for name in _MASKS}
    named = {"starts": told.get("starts"), "goals": told.get("goals"), "horizon": told["horizon"], "name": told["name"]}
    return replace(Map.of(~rows["obstacles"], **named), may_start=rows["may_start"], may_goal=rows["may_goal"])
