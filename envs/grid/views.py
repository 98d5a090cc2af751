"""What agents see: squares cut out of planes, for all agents of all worlds at once."""

import numpy as np
from numpy.typing import NDArray

Cells = NDArray[np.int64]
Plane = NDArray[np.float32]

_WAY, _RIM = np.int8(1), np.int8(2)


def crops(planes: Plane, at: Cells, radius: int, width: int, *, count: int = 1, blank: int = 0) -> Plane:
    """Cut the square around each cell out of planes.

    Args:
        planes: ``(count * cells + 2 radius + 1,)``: the planes' rows one after the other, and a row of zeros.
        at: ``(agents,)``, cells at least ``radius`` away from the edges.
        radius: of the squares.
        width: of the rows.
        count: how many planes there are.
        blank: how many squares of zeros to give beside them.

    Returns:
        ``(agents, count + blank, 2 radius + 1, 2 radius + 1)``.
    """
    side = 2 * radius + 1
    # A row of a square is one item, so that numpy copies rows, not numbers.
    row = np.dtype((np.void, side * planes.itemsize))
    rows = np.ndarray(len(planes) - side + 1, row, planes, strides=planes.itemsize)
    begins = np.arange(count)[:, None] * ((len(planes) - side) // count) + np.arange(side) * width
    which = np.empty((len(at), count + blank, side), dtype=np.int64)
    np.add((at - radius * (width + 1))[:, None, None], begins, out=which[:, :count])
    which[:, count:] = len(rows) - 1
    return rows[which].view(planes.dtype).reshape(len(at), count + blank, side, side)


def point(squares: Plane, ahead: Cells) -> None:
    """Mark what lies ``ahead (agents, 2)`` rows and columns of an agent, on the border if it is further.

    Args:
        squares: ``(agents, D, D)``, of zeros, written into.
        ahead: rows below and columns right of the agent.
    """
    radius = squares.shape[1] // 2
    place = np.minimum(np.maximum(ahead, -radius), radius) + radius
    squares[np.arange(len(ahead)), place[:, 0], place[:, 1]] = 1


def paths(
    at: Cells, goals: Cells, ways: NDArray[np.int8], tables: Cells, *, width: int, radius: int
) -> NDArray[np.bool_]:
    """Follow each agent's shortest way until it leaves what the agent sees.

    Args:
        at: ``(agents,)``, the cell of each, counted in its own world.
        goals: ``(agents,)``, the same of its goal.
        ways: ``(tables, cells)``, actions that lead to a goal: see `recurra.envs.grid.fields.ways`.
        tables: ``(agents,)``, which of them lead to each agent's.
        width: of the world.
        radius: of the view.

    Returns:
        ``(agents, 2 radius + 1, 2 radius + 1)``: the agent's own place, where there is a way, and all along it.
    """
    side = 2 * radius + 3  # a rim around the view, where ways end
    drawn = np.full((len(at), side, side), _RIM)
    drawn[:, 1:-1, 1:-1] = 0
    flat, actions = drawn.reshape(-1), ways.reshape(-1)
    leads, steps = (np.array((0, -row, row, -1, 1)) for row in (width, side))
    cell = tables * ways.shape[1] + at
    going = (actions[cell] > 0) | (at == goals)
    cell, place = cell[going], (np.arange(len(at)) * side * side + side * side // 2)[going]
    while len(cell):
        flat[place] = _WAY
        action = actions[cell]
        cell, place = cell + leads[action], place + steps[action]
        on = flat[place] == 0  # neither on the rim nor, at the goal, where it was
        cell, place = cell[on], place[on]
    return drawn[:, 1:-1, 1:-1] == _WAY
