"""The cells of many worlds in one row: walls, who stands where, and what of it is seen."""

import numpy as np
from numpy.typing import NDArray

from recurra.envs.grid import views
from recurra.envs.grid.maps import Map
from recurra.envs.grid.movement import MOVES, Floor

Cells = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Board:
    """Worlds side by side, each of the same number of cells: a map in the corner of a rim as wide as agents see.

    Places are (row, column) on a map. Cells count through all worlds, agents too.

    Args:
        worlds: how many.
        height: of the largest map that there is room for.
        width: the same.
        radius: of what agents see.

    Attributes:
        height: of a world, with its rim.
        width: the same.
        area: cells of a world.
    """

    def __init__(self, worlds: int, height: int, width: int, radius: int) -> None:
        self.worlds, self.radius = worlds, radius
        self.height, self.width = height + 2 * radius, width + 2 * radius
        self.area = self.height * self.width
        self.walls = np.ones(worlds * self.area, dtype=bool)
        cells = worlds * self.area
        self._planes = np.zeros(2 * cells + 2 * radius + 1, dtype=np.float32)
        self._shown, self._crowd = self._planes[:cells], self._planes[cells : 2 * cells]  # walls, agents, as seen
        self._floor = Floor(worlds * self.area)
        self._leads = MOVES @ np.array((self.width, 1))
        self._base = np.arange(worlds)[:, None] * self.area + radius * (self.width + 1)

    def holds(self, map: Map) -> bool:
        """Say whether there is room for a map."""
        return map.height + 2 * self.radius <= self.height and map.width + 2 * self.radius <= self.width

    def cells(self, places: Cells) -> Cells:
        """Give the cells of places ``(worlds, agents, 2)``: ``(worlds, agents)``."""
        return self._base + places[..., 0] * self.width + places[..., 1]

    def put(self, world: int, map: Map) -> None:
        """Put a map in the place of a world's last one, and take all agents away.

        A wall of one cell goes around it; what is seen beyond is free, and what is walked on is not.
        """
        all_of_it = slice(world * self.area, (world + 1) * self.area)
        inside = slice(self.radius, self.radius + map.height), slice(self.radius, self.radius + map.width)
        walls = self.walls[all_of_it].reshape(self.height, self.width)
        walls[:] = True
        walls[inside] = map.obstacles
        shown = self._shown[all_of_it].reshape(self.height, self.width)
        shown[:] = 0
        around = [slice(part.start - 1, part.stop + 1) for part in inside]
        shown[tuple(around)] = 1
        shown[inside] = map.obstacles
        self._crowd[all_of_it] = 0
        self._floor.clear(all_of_it)

    def stand(self, agents: Cells, cells: Cells) -> None:
        """Put agents on free cells."""
        self._floor.enter(agents, cells)
        self._crowd[cells] = 1

    def leave(self, cells: Cells) -> None:
        """Take agents away."""
        self._floor.leave(cells)
        self._crowd[cells] = 0

    def move(self, at: Cells, actions: Cells, present: Flags, *, rule: str) -> Flags:
        """Move agents ``(agents,)`` by the rule of `Floor.stays`; give who moved."""
        wanted = at + self._leads[actions]
        still = self._floor.stays(at, wanted, self.walls[wanted], present, rule=rule)
        going = np.flatnonzero(~still)
        self.leave(at[going])
        self.stand(going, wanted[going])
        return ~still

    def around(self, cells: Cells, *, blank: int = 0) -> NDArray[np.float32]:
        """Show the walls and the agents around cells, and zeros: ``(cells, 2 + blank, D, D)``."""
        return views.crops(self._planes, cells, self.radius, self.width, count=2, blank=blank)

    def marks_around(self, cells: Cells, marked: Cells) -> NDArray[np.float32]:
        """Count marks, themselves cells, around cells: ``(cells, D, D)``."""
        counts = np.bincount(marked, minlength=len(self.walls) + 2 * self.radius + 1).astype(np.float32)
        return views.crops(counts, cells, self.radius, self.width)[:, 0]

    def shown(self) -> NDArray[np.float32]:
        """Show the walls of all worlds: ``(worlds, height, width)``."""
        return self._shown.reshape(self.worlds, self.height, self.width).copy()

    @property
    def free(self) -> NDArray[np.bool_]:
        """Where one can walk: ``(worlds, height, width)``."""
        return ~self.walls.reshape(self.worlds, self.height, self.width)
