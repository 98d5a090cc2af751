"""What the map alone decides, for many worlds at once: which cells hang together, and the shortest ways to goals."""

import numpy as np
from numpy.typing import NDArray

from recurra.envs.grid.movement import MOVES

FAR = np.iinfo(np.int32).max
"""The distance of a cell from which there is no way."""

_OPEN = np.int8(127)
_FEW = 24  # goals, below which rounds of all four directions at once are quicker


def components(free: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number the parts of each world that hang together.

    Args:
        free: ``(worlds, height, width)``, with a rim of obstacles.

    Returns:
        ``(worlds, height, width)``: equal where there is a way from cell to cell, -1 at obstacles. The numbers are
        those of the parts' first cells, counted through all worlds.
    """
    numbers = np.arange(free.size)
    flat, width = free.reshape(-1), free.shape[2]
    pairs = []
    for step in (1, width):
        here = numbers[:-step][flat[:-step] & flat[step:]]
        pairs.append(np.stack((here, here + step)))
    one, other = np.concatenate(pairs, axis=1)
    root = numbers
    while len(one):
        one, other = root[one], root[other]
        apart = one != other
        one, other = one[apart], other[apart]
        root[np.maximum(one, other)] = np.minimum(one, other)
        while ((higher := root[root]) != root).any():
            root = higher
    return np.where(flat, root, -1).reshape(free.shape)


def distances(free: NDArray[np.bool_], world: NDArray[np.int64], goals: NDArray[np.int64]) -> NDArray[np.int32]:
    """Count the steps from every cell to goals, other agents left aside.

    Args:
        free: ``(worlds, height, width)``, with a rim of obstacles.
        world: ``(goals,)``, the world of each goal.
        goals: ``(goals,)``, its cell: row times width plus column.

    Returns:
        ``(goals, height * width)``: steps, `FAR` where there is no way.
    """
    area, width = free.shape[1] * free.shape[2], free.shape[2]
    steps = np.where(free.reshape(len(free), area)[world], FAR, -1).astype(np.int32).reshape(-1)
    reached = np.arange(len(goals)) * area + goals
    mark = np.empty(steps.shape, dtype=np.int64)  # read only where just written
    around = (MOVES[1:] @ np.array((width, 1)))[:, None]
    count = 0
    while len(reached):
        steps[reached] = count
        near = (reached + around).reshape(-1)
        near = near[steps[near] == FAR]
        order = np.arange(len(near))
        mark[near] = order
        reached = near[mark[near] == order]  # each cell once
        count += 1
    steps[steps < 0] = FAR
    return steps.reshape(len(goals), area)


def ways(free: NDArray[np.bool_], world: NDArray[np.int64], goals: NDArray[np.int64]) -> NDArray[np.int8]:
    """Give the action that leads on from every cell: of those that shorten the way the first of up, down, left, right.

    Args:
        free: ``(worlds, height, width)``, with a rim of obstacles.
        world: ``(goals,)``, the world of each goal.
        goals: ``(goals,)``, its cell: row times width plus column.

    Returns:
        ``(goals, height * width)``: actions, 0 at the goal and where there is no way.
    """
    if len(goals) < _FEW:
        return downhill(distances(free, world, goals), free.shape[2])
    return _spread(free, world, goals)


def downhill(steps: NDArray[np.int32], width: int) -> NDArray[np.int8]:
    """Give ways by what `distances` gives ``(goals, height * width)``."""
    found = np.zeros(steps.shape, dtype=np.int8)
    flat, actions = steps.reshape(-1), found.reshape(-1)
    cells = np.flatnonzero((flat > 0) & (flat < FAR))
    closer = flat[cells] - 1
    for action in (4, 3, 2, 1):  # the first one last, to overwrite
        leads = flat[cells + MOVES[action] @ np.array((width, 1))] == closer
        actions[cells[leads]] = action
    return found


def _spread(free: NDArray[np.bool_], world: NDArray[np.int64], goals: NDArray[np.int64]) -> NDArray[np.int8]:
    """Find ways without distances: quicker for many goals, of which each round then has many cells.

    Cells that are reached from the same direction are all different, so no cell has to be told from its likes: each
    round takes the directions one after the other, in the order of the actions.
    """
    area, width = free.shape[1] * free.shape[2], free.shape[2]
    found = np.where(free.reshape(len(free), area), _OPEN, np.int8(0))[world].reshape(-1)
    reached = (np.arange(len(goals)) * area + goals).astype(np.int32 if found.size < 2**31 else np.int64)
    found[reached] = 0
    leads = (MOVES @ np.array((width, 1))).astype(reached.dtype)
    while len(reached):
        new = []
        for action in (1, 2, 3, 4):
            near = reached - leads[action]  # from where the action leads here
            near = near[found[near] == _OPEN]
            found[near] = action
            new.append(near)
        reached = np.concatenate(new)
    found[found == _OPEN] = 0
    return found.reshape(len(goals), area)
