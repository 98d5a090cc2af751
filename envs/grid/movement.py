"""Who moves where: POGEMA's three collision systems, for all agents of all worlds at once.

POGEMA applies each rule agent after agent. What comes of it can be said without: whether an agent moves depends on the
cell that it wants, on who else wants it, and on whether the agent that stands there leaves. The first two are known at
once; the third is a chain of agents, each waiting for the one before it, and staying spreads along it. A chain is
followed by doubling: after k rounds everyone knows of the 2^k agents ahead, so the rounds are logarithmically many in
the length of the longest queue.
"""

import numpy as np
from numpy.typing import NDArray

Cells = NDArray[np.int64]
Flags = NDArray[np.bool_]

MOVES = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)])
"""Rows and columns of POGEMA's actions: stay, up, down, left, right."""

COLLISIONS = {
    "priority": "agents move one after the other, into cells that are free by then",
    "block_both": "no one enters a cell that is occupied, or that two want",
    "soft": "of those who want a cell the first enters it if whoever is there leaves; no two change places",
}


class Floor:
    """Who stands in which cell. Agents are numbered through all worlds, world after world, and so are cells.

    Args:
        cells: how many.
    """

    def __init__(self, cells: int) -> None:
        self._owner = np.full(cells, -1)
        self._first, self._last = np.empty((2, cells), dtype=np.int64)  # read only where just written

    def clear(self, cells: slice) -> None:
        """Take away whoever stands there."""
        self._owner[cells] = -1

    def enter(self, agents: Cells, cells: Cells) -> None:
        """Let agents stand where none does."""
        self._owner[cells] = agents

    def leave(self, cells: Cells) -> None:
        """Take agents away."""
        self._owner[cells] = -1

    def stays(self, at: Cells, wanted: Cells, blocked: Flags, present: Flags, *, rule: str) -> Flags:
        """Say who stays where it is.

        Args:
            at: ``(agents,)``, the cell of each; those who are present stand there.
            wanted: ``(agents,)``, where its action leads, or ``at``.
            blocked: ``(agents,)``, whether an obstacle is there.
            present: ``(agents,)``; who is absent stays, and is in nobody's way.
            rule: one of `COLLISIONS`.

        Returns:
            ``(agents,)`` bool.
        """
        numbers = np.arange(len(at))
        owner = self._owner[wanted]
        occupied = owner >= 0
        tries = present & (wanted != at)
        if rule == "priority":
            tries &= owner < numbers  # who comes before the owner finds it still there
        comers = np.flatnonzero(tries)
        self._first[wanted[comers[::-1]]] = comers[::-1]  # of equal places the last write counts: the lowest number
        still = ~tries | blocked | (self._first[wanted] != numbers)
        if rule == "block_both":
            self._last[wanted[comers]] = comers
            return still | occupied | (self._last[wanted] != numbers)
        ahead = np.where(occupied, owner, numbers)
        if rule == "soft":
            still |= occupied & (wanted[ahead] == at)  # they would change places
        return _spread(still, ahead)


def _spread(still: Flags, ahead: Cells) -> Flags:
    """Make everyone stay who waits, through any number of others, for one that stays."""
    while True:
        further = still | still[ahead]
        if (further == still).all():
            return still
        still, ahead = further, ahead[ahead]
