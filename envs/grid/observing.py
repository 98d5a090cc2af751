"""POGEMA's observations, and SRMT's, of agents on a board."""

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Space
from numpy.typing import NDArray

from recurra.envs.grid.board import Board
from recurra.envs.grid.guide import Guide
from recurra.envs.grid.views import point

OBSERVATIONS = {
    "default": "obstacles, agents, and the goal, on the border where it is further",
    "POMAPF": "obstacles, agents, and places relative to the start",
    "MAPF": "the same, and the whole map",
    "guided": "obstacles with the agent's shortest way drawn in, agents, and the goals of others",
}


class Observer:
    """Shows a board to the agents on it.

    Args:
        board: with the agents standing on it.
        kind: one of `OBSERVATIONS`.
        agents: how many a world has.
        guides: whether shortest ways are wanted, though agents are not to see them.
    """

    def __init__(self, board: Board, kind: str, agents: int, *, guides: bool = False) -> None:
        self._board, self._kind, self._agents = board, kind, agents
        guides |= kind == "guided"
        self._guide = Guide(board.worlds * agents, board.area, board.width, board.radius) if guides else None

    def plan(self, agents: NDArray[np.int64], goals: NDArray[np.int64]) -> None:
        """Find some agents' ways to their goals; goals of all: ``(worlds, agents, 2)``."""
        if self._guide is not None:
            self._guide.plan(agents, self._board.cells(goals).reshape(-1)[agents], self._board.free)

    def go_on(
        self,
        agents: NDArray[np.int64],
        goals: NDArray[np.int64],
        soon: NDArray[np.bool_],
        after: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    ) -> None:
        """Find some agents' ways to goals that follow those before: see `Guide.go_on`.

        Args:
            agents: ``(count,)``, which.
            goals: ``(worlds, agents, 2)``, of all.
            soon: ``(worlds, agents)``, who will soon need the goal after that.
            after: gives the places of further goals ``(worlds, agents, 2)``; those of the asked are read.
        """
        if self._guide is not None:
            now = self._board.cells(goals).reshape(-1)[agents]

            def following(who: NDArray[np.int64]) -> NDArray[np.int64]:
                return self._board.cells(after(who)).reshape(-1)[who]

            self._guide.go_on(agents, now, self._board.free, np.flatnonzero(soon), following)

    def leads(self, cells: NDArray[np.int64]) -> NDArray[np.int8]:
        """Give the action along each agent's way ``(worlds * agents,)``; 0 if there is none, or none is wanted."""
        return np.zeros(len(cells), dtype=np.int8) if self._guide is None else self._guide.next(cells)

    def observe(
        self,
        which: NDArray[np.int64],
        present: NDArray[np.bool_],
        place: NDArray[np.int64],
        goal: NDArray[np.int64],
        start: NDArray[np.int64],
    ) -> Any:
        """Show some worlds.

        Args:
            which: ``(count,)``, which worlds.
            present: ``(worlds, agents)``, who is there, of all worlds.
            place: ``(worlds, agents, 2)``, where each is; the same of their goals and starts.
            goal: where each is to go.
            start: where each came from.

        Returns:
            Observations ``(count, agents, ...)``, zeros for those absent: see `recurra.envs.grid.GridWorlds`.
        """
        there, here, side = present[which], place[which], 2 * self._board.radius + 1
        cells = self._board.cells(place)[which].reshape(-1)
        if self._kind in ("POMAPF", "MAPF"):
            around = self._board.around(cells)
            observed = {
                "obstacles": around[:, 0].reshape(*there.shape, side, side),
                "agents": around[:, 1].reshape(*there.shape, side, side),
                "xy": here - start[which],
                "target_xy": goal[which] - start[which],
            }
            if self._kind == "MAPF":
                radius = self._board.radius
                observed |= {"global_xy": here + radius, "global_target_xy": goal[which] + radius}
            for values in observed.values():
                values[~there] = 0
            if self._kind == "MAPF":
                observed["global_obstacles"] = self._board.shown()[which]
            return observed
        squares = self._board.around(cells, blank=1)
        ahead = (goal[which] - here).reshape(-1, 2)
        if self._kind == "default":
            point(squares[:, 2], ahead)
        else:
            self._draw_ways(squares, cells, which, present, goal, ahead)
        squares[~there.reshape(-1)] = 0
        return squares.reshape(*there.shape, 3, side, side)

    def _draw_ways(
        self,
        squares: NDArray[np.float32],
        cells: NDArray[np.int64],
        which: NDArray[np.int64],
        present: NDArray[np.bool_],
        goal: NDArray[np.int64],
        ahead: NDArray[np.int64],
    ) -> None:
        """Make walls -1, draw ways as 1, and mark the goals of others."""
        assert self._guide is not None
        everyone = (which[:, None] * self._agents + np.arange(self._agents)).reshape(-1)
        goals = self._board.cells(goal)
        np.negative(squares[:, 0], out=squares[:, 0])
        np.copyto(squares[:, 0], 1, where=self._guide.drawn(everyone, cells, goals[which].reshape(-1)))
        squares[:, 2] = self._board.marks_around(cells, goals[present])
        own = np.flatnonzero(present[which].reshape(-1) & (np.abs(ahead) <= self._board.radius).all(1))
        place = ahead[own] + self._board.radius
        squares[own, 2, place[:, 0], place[:, 1]] -= 1  # an agent's own goal is at the end of its way
        np.minimum(squares[:, 2], 1, out=squares[:, 2])

    def space(self) -> Space:
        """Give the space of one agent's observations."""
        side = 2 * self._board.radius + 1
        if self._kind in ("default", "guided"):
            return Box(-1.0, 1.0, (3, side, side), np.float32)
        square, far = Box(0.0, 1.0, (side, side), np.float32), np.iinfo(np.int64).max
        spaces = {"obstacles": square, "agents": square}
        names = ["xy", "target_xy"]
        if self._kind == "MAPF":
            spaces["global_obstacles"] = Box(0.0, 1.0, (self._board.height, self._board.width), np.float32)
            names += ["global_xy", "global_target_xy"]
        return Dict(spaces | {name: Box(-far, far, (2,), np.int64) for name in names})
