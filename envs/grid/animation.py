"""Episodes as SVG that plays by itself in any browser (SMIL): agents, goals, the ways they went, whom they heed."""

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from recurra.envs.grid.steps import Frame
from recurra.errors import UserError

_CELL = 20
_FAINTEST = 0.02


class Stepped(Protocol):
    """What steps of worlds and of teams have in common."""

    @property
    def first(self) -> NDArray[np.bool_]: ...  # noqa: D102


Step = TypeVar("Step", bound=Stepped)


class Tempo(NamedTuple):
    """How long an episode is shown, in seconds: while it goes on, and as it ended."""

    seconds: float
    rest: float


class Recording:
    r"""What happens in one world until its episode ends, to be drawn.

    >>> from recurra.envs.grid import GridWorlds
    >>> worlds = GridWorlds(maps="aA\nbB")
    >>> recording = Recording(worlds)
    >>> step = recording.add(worlds.step(np.array([[4, 4]])))
    >>> recording.over, recording.svg().count("<circle")
    (True, 4)

    Args:
        worlds: `recurra.envs.grid.GridWorlds` or `recurra.envs.grid.PogemaWorlds`, before the first step to record.
        world: which one.

    Attributes:
        over: whether the episode ended; what is added then is left out.
    """

    def __init__(self, worlds: Any, *, world: int = 0) -> None:
        self._worlds, self._world = worlds, world
        self._frames: list[Frame] = [worlds.frame(world)]
        self._heeds: list[NDArray[np.float64]] = []
        self.over = False

    def add(self, step: Step, *, attention: Any = None) -> Step:
        """Take up what a step came to.

        Args:
            step: just given by the worlds.
            attention: ``(agents, agents)``, how strongly each agent (row) heeded each teammate (column) in it, from 0
                to 1: with every step, or with none.

        Returns:
            The step.

        Raises:
            UserError: if the attention is of another shape.
        """
        if self.over:
            return step
        self._frames.append(self._worlds.frame(self._world))
        if attention is not None:
            agents = len(self._frames[0].present)
            heeds = np.asarray(attention, dtype=np.float64)
            if heeds.shape != (agents, agents):
                raise UserError(f"attention must be of shape {(agents, agents)}, got {heeds.shape}")
            self._heeds.append(heeds)
        self.over = bool(step.first[self._world])
        return step

    def svg(self, *, steps_per_second: float = 4.0, rest: float = 1.0, watched: Sequence[int] | None = None) -> str:
        """Draw the episode.

        Args:
            steps_per_second: how fast it plays, over and over.
            rest: for how many seconds it is shown as it ended.
            watched: agents whose attention is drawn; None: everyone's in a team of at most 8, else the first's.

        Raises:
            UserError: if the speed is not positive, the rest is negative, there is no such agent, or attention came
                with some steps only.
        """
        if not steps_per_second > 0:
            raise UserError(f"steps_per_second must be positive, got {steps_per_second}")
        if not rest >= 0:
            raise UserError(f"rest must be at least 0, got {rest}")
        if self._heeds and len(self._heeds) != len(self._frames) - 1:
            raise UserError("attention must come with every step of a recording, or with none")
        first = self._frames[0]
        agents: list[int] = np.flatnonzero(first.member).tolist()
        strange = set(watched or ()) - set(agents)
        if strange:
            raise UserError(f"there is no agent {min(strange)} to watch, they are 0 to {len(agents) - 1}")
        tempo = Tempo(max(len(self._frames) - 1, 1) / steps_per_second, rest)
        height, width = (_CELL * (cells + 2) for cells in first.map.obstacles.shape)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-_CELL} {-_CELL} {width} {height}" '
            f'width="{width}" height="{height}">',
            f"<title>{escape(first.map.name)}</title>",
            f'<rect x="{-_CELL}" y="{-_CELL}" width="{width}" height="{height}" fill="#84899a"/>',
            f'<rect width="{width - 2 * _CELL}" height="{height - 2 * _CELL}" fill="#f7f7f4"/>',
            f'<path d="{_walls(first)}" fill="#84899a"/>',
        ]
        # Whoever is drawn later lies above: ways, goals, attention, agents.
        parts += [self._way(agent) for agent in agents]
        parts += [self._goal(agent, tempo) for agent in agents]
        if self._heeds:
            seen = watched if watched is not None else (agents if len(agents) <= 8 else agents[:1])
            parts += [self._line(one, other, tempo) for one in seen for other in agents if one != other]
        parts += [self._agent(agent, tempo) for agent in agents]
        return "\n".join([*filter(None, parts), "</svg>", ""])

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write the drawing to a file, with the options of `svg`; give its path."""
        path = Path(path)
        path.write_text(self.svg(**options))
        return path

    def _centres(self, name: str, agent: int) -> tuple[list[int], list[int]]:
        """Give where an agent, or its goal, is in every frame: x and y."""
        cells = np.array([getattr(frame, name)[agent] for frame in self._frames])
        row, column = (cells * _CELL + _CELL // 2).T.tolist()
        return column, row

    def _there(self, agent: int) -> list[float]:
        """Say in which frames an agent is there: in the one of its arrival it still is."""
        present = [bool(frame.present[agent]) for frame in self._frames]
        return [float(now or before) for before, now in zip([True, *present], present, strict=False)]

    def _way(self, agent: int) -> str:
        x, y = self._centres("places", agent)
        points = [(x[0], y[0])]
        for point in zip(x, y, strict=True):
            if point != points[-1]:
                points.append(point)
        line = " ".join(f"{x},{y}" for x, y in points)
        style = f'fill="none" stroke="{_colour(agent)}" stroke-width="2" stroke-opacity="0.35"'
        return f'<polyline points="{line}" {style} stroke-linejoin="round"/>'

    def _goal(self, agent: int, tempo: Tempo) -> str:
        x, y = self._centres("goals", agent)
        return (
            f'<circle cx="{x[0]}" cy="{y[0]}" r="{_CELL // 2 - 3}" fill="none" stroke="{_colour(agent)}" '
            f'stroke-width="3">'
            + _animated("cx", x, tempo, jumps=True)
            + _animated("cy", y, tempo, jumps=True)
            + _animated("opacity", self._there(agent), tempo, jumps=True)
            + "</circle>"
        )

    def _agent(self, agent: int, tempo: Tempo) -> str:
        x, y = self._centres("places", agent)
        return (
            f'<circle cx="{x[0]}" cy="{y[0]}" r="{_CELL // 2 - 4}" fill="{_colour(agent)}">'
            f"<title>agent {agent}</title>"
            + _animated("cx", x, tempo)
            + _animated("cy", y, tempo)
            + _animated("opacity", self._there(agent), tempo, jumps=True)
            + "</circle>"
        )

    def _line(self, one: int, other: int, tempo: Tempo) -> str:
        """Draw a line from an agent to whom it heeds, as dense as it does; nothing where it never does."""
        strength = np.array([heeds[one, other] for heeds in self._heeds])
        there = np.array(self._there(one)[:-1]) * np.array(self._there(other)[:-1])
        shown = np.clip(np.nan_to_num(strength), 0, 1) * there
        if not (shown > _FAINTEST).any():
            return ""
        (x, y), (to_x, to_y) = self._centres("places", one), self._centres("places", other)
        return (
            f'<line stroke="{_colour(one)}" stroke-width="3" stroke-opacity="{shown[0]:.2f}" '
            f'x1="{x[0]}" y1="{y[0]}" x2="{to_x[0]}" y2="{to_y[0]}">'
            + "".join(
                _animated(name, values, tempo) for name, values in (("x1", x), ("y1", y), ("x2", to_x), ("y2", to_y))
            )
            + _animated("stroke-opacity", [*shown.round(2).tolist(), float(shown[-1].round(2))], tempo, jumps=True)
            + "</line>"
        )


def _walls(frame: Frame) -> str:
    """Draw all obstacles as one path: a rectangle for each stretch of a row."""
    drawn = []
    for row, cells in enumerate(frame.map.obstacles.astype(np.int8)):
        edges = np.flatnonzero(np.diff(cells, prepend=0, append=0)).reshape(-1, 2) * _CELL
        drawn += [f"M{begin} {row * _CELL}h{end - begin}v{_CELL}h{begin - end}z" for begin, end in edges]
    return "".join(drawn)


def _animated(name: str, values: Sequence[float], tempo: Tempo, *, jumps: bool = False) -> str:
    """Make an attribute take values one after the other, evenly in time; nothing if they are all one.

    Values between equals are left out: what stands still takes no room.
    """
    if len(set(values)) < 2:
        return ""
    last, whole = len(values) - 1, tempo.seconds + tempo.rest
    inner = range(1, last)
    kept = [at for at in inner if values[at] != values[at - 1] or (not jumps and values[at] != values[at + 1])]
    kept = [0, *kept, last]
    times = [f"{at / last * tempo.seconds / whole:.5g}" for at in kept] + ["1"] * bool(tempo.rest)
    told = [f"{values[at]:g}" for at in kept] + [f"{values[-1]:g}"] * bool(tempo.rest)
    mode = ' calcMode="discrete"' if jumps else ""
    return (
        f'<animate attributeName="{name}" values="{";".join(told)}" keyTimes="{";".join(times)}" '
        f'dur="{whole:g}s"{mode} repeatCount="indefinite"/>'
    )


def _colour(agent: int) -> str:
    """Give an agent's colour, far from those of its neighbours in number."""
    red, green, blue = colorsys.hls_to_rgb(agent * 0.618034 % 1, 0.45, 0.75)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
