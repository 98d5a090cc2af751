"""The way that each agent is to go, kept for all of its goals as they come."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recurra.envs.grid.fields import ways
from recurra.envs.grid.views import paths

Cells = NDArray[np.int64]

_CELLS = 2**23
"""How many are searched at once."""

_NOWHERE = -1


class Guide:
    """Shortest ways to every agent's goal, from wherever it is pushed to; other agents are left aside.

    Searching for many goals at once costs little more than for one, and goals to come are known: so once an agent needs
    a way that is not there, those to the next goals of others who will soon need them are found with it.

    Args:
        agents: how many, of all worlds together.
        area: cells of a world.
        width: of a world.
        radius: of what agents see.
    """

    def __init__(self, agents: int, area: int, width: int, radius: int) -> None:
        self._ways = np.zeros((agents, area), dtype=np.int8)
        self._area, self._width, self._radius = area, width, radius
        # Which table leads each agent, which one is for its next goal, and the cell that this one leads to already.
        self._table, self._spare = np.arange(agents), np.arange(agents, 2 * agents)
        self._ahead = np.full(agents, _NOWHERE)

    def plan(self, agents: Cells, goals: Cells, free: NDArray[np.bool_]) -> None:
        """Find the ways to new goals.

        Args:
            agents: ``(count,)``, whose.
            goals: ``(count,)``, cells, counted through all worlds.
            free: ``(worlds, height, width)``.
        """
        self._ahead[agents] = _NOWHERE
        self._find(self._table[agents], goals, free)

    def go_on(
        self, agents: Cells, goals: Cells, free: NDArray[np.bool_], soon: Cells, after: Callable[[Cells], Cells]
    ) -> None:
        """Find the ways to goals that follow those before.

        Args:
            agents: ``(count,)``, whose.
            goals: ``(count,)``, cells, counted through all worlds.
            free: ``(worlds, height, width)``.
            soon: agents that will soon need their next.
            after: gives the goals that agents are sent to once they have reached those that they go to now.
        """
        if len(self._ways) == len(self._table):
            self._ways = np.concatenate((self._ways, np.zeros_like(self._ways)))
        known = self._ahead[agents] == goals
        ready, late = agents[known], agents[~known]
        self._table[ready], self._spare[ready] = self._spare[ready], self._table[ready]
        self._ahead[agents] = _NOWHERE
        if not len(late):
            return
        pending = soon[self._ahead[soon] == _NOWHERE]
        self._ahead[pending] = after(pending)
        tables = np.concatenate((self._table[late], self._spare[pending]))
        self._find(tables, np.concatenate((goals[~known], self._ahead[pending])), free)

    def _find(self, tables: Cells, goals: Cells, free: NDArray[np.bool_]) -> None:
        world, local = np.divmod(goals, self._area)
        for begin in range(0, len(tables), many := max(_CELLS // self._area, 1)):
            part = slice(begin, begin + many)
            self._ways[tables[part]] = ways(free, world[part], local[part])

    def next(self, at: Cells) -> NDArray[np.int8]:
        """Give each agent's next action ``(agents,)``: 0 at the goal, or where there is no way."""
        return self._ways[self._table, at % self._area]

    def drawn(self, agents: Cells, at: Cells, goals: Cells) -> NDArray[np.bool_]:
        """Give agents' ways as far as they are in view.

        Args:
            agents: ``(count,)``.
            at: ``(count,)``, their cells.
            goals: ``(count,)``.

        Returns:
            ``(count, D, D)``.
        """
        tables = self._table[agents]
        return paths(at % self._area, goals % self._area, self._ways, tables, width=self._width, radius=self._radius)
