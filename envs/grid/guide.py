"""The way that each agent is to go, kept for all of its goals as they come."""

import numpy as np
from numpy.typing import NDArray

from recurra.envs.grid.fields import distances, ways
from recurra.envs.grid.views import paths

Cells = NDArray[np.int64]

_CELLS = 2**23
"""How many are searched at once: 100 MB."""


class Guide:
    """Shortest ways to every agent's goal, from wherever it is pushed to; other agents are left aside.

    Args:
        agents: how many, of all worlds together.
        area: cells of a world.
        width: of a world.
        radius: of what agents see.
    """

    def __init__(self, agents: int, area: int, width: int, radius: int) -> None:
        self._ways = np.zeros((agents, area), dtype=np.int8)
        self._area, self._width, self._radius = area, width, radius

    def plan(self, agents: Cells, goals: Cells, free: NDArray[np.bool_]) -> None:
        """Find the ways to new goals.

        Args:
            agents: ``(count,)``, whose.
            goals: ``(count,)``, cells, counted through all worlds.
            free: ``(worlds, height, width)``.
        """
        world, local = np.divmod(goals, self._area)
        for begin in range(0, len(agents), many := max(_CELLS // self._area, 1)):
            part = slice(begin, begin + many)
            self._ways[agents[part]] = ways(distances(free, world[part], local[part]), self._width)

    def next(self, at: Cells) -> NDArray[np.int8]:
        """Give each agent's next action ``(agents,)``: 0 at the goal, or where there is no way."""
        return self._ways[np.arange(len(at)), at % self._area]

    def drawn(self, squares: NDArray[np.float32], agents: Cells, at: Cells, goals: Cells) -> None:
        """Draw agents' ways into what they see, as far as they are in view.

        Args:
            squares: ``(count, D, D)``, written into.
            agents: ``(count,)``.
            at: ``(count,)``, their cells.
            goals: ``(count,)``.
        """
        which, place = paths(
            at % self._area, goals % self._area, self._ways, agents, width=self._width, radius=self._radius
        )
        squares.reshape(len(squares), -1)[which, place] = 1
