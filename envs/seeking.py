"""The policy that wins MiniGrid's tasks of memory: it looks at the object, and goes to the one that is like it."""

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEFT, _RIGHT, _FORWARD = 0, 1, 2
_AHEAD = ((1, 0), (0, 1), (-1, 0), (0, -1))

_Pose = tuple[int, int, int]


class Seeker:
    """Plays ``MiniGrid-Memory…`` by the shortest ways, in as many worlds as there are.

    It knows the map, as an agent does not, but where to go last it could tell from what it has seen: a way that does
    not show the object at the start first leads to where it shows. So an agent with a memory can learn to do the same.

    Args:
        worlds: the environments.
    """

    def __init__(self, worlds: list[Any]) -> None:
        self._worlds = [world.unwrapped for world in worlds]
        self._plans: list[deque[int]] = [deque() for _ in worlds]

    def __call__(self, observation: Any, first: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Choose actions ``(worlds,)``."""
        for number, world in enumerate(self._worlds):
            if first[number]:
                self._plans[number] = deque(plan(world))
        return np.array([steps.popleft() if steps else _LEFT for steps in self._plans])


def plays(world: Any) -> bool:
    """Whether an environment is one of MiniGrid's tasks of memory."""
    kind = type(world.unwrapped)
    return kind.__module__.startswith("minigrid.") and kind.__name__ == "MemoryEnv"


def plan(world: Any) -> list[int]:
    """Give the actions from where the agent stands to the object that is like the first one, by way of seeing that."""
    x, y = map(int, world.agent_pos)
    start = (x, y, int(world.agent_dir))
    look, seen = _shortest(world, start, lambda pose: _shows(world, pose))
    go, _ = _shortest(world, seen, lambda pose: pose[:2] == tuple(map(int, world.success_pos)))
    return look + go


def _shortest(world: Any, start: _Pose, reached: Callable[[_Pose], bool]) -> tuple[list[int], _Pose]:
    """Search poses by breadth: the actions to the nearest one wanted, and it."""
    ways: dict[_Pose, list[int]] = {start: []}
    waiting = deque([start])
    while not reached(pose := waiting.popleft()):
        x, y, facing = pose
        ahead = x + _AHEAD[facing][0], y + _AHEAD[facing][1]
        following = {_LEFT: (x, y, (facing - 1) % 4), _RIGHT: (x, y, (facing + 1) % 4)}
        if _open(world, *ahead):
            following[_FORWARD] = (*ahead, facing)
        for action, other in following.items():
            if other not in ways:
                ways[other] = [*ways[pose], action]
                waiting.append(other)
    return ways[pose], pose


def _open(world: Any, x: int, y: int) -> bool:
    """Whether an agent may stand in a cell without failing."""
    there = world.grid.get(x, y)
    return (there is None or there.can_overlap()) and (x, y) != tuple(map(int, world.failure_pos))


def _shows(world: Any, pose: _Pose) -> bool:
    """Whether the object at the start, beside the middle of the left wall, is in view from a pose."""
    there = world.agent_pos, world.agent_dir
    world.agent_pos, world.agent_dir = np.array(pose[:2]), pose[2]
    try:
        place = world.relative_coords(1, world.height // 2 - 1)
        return place is not None and bool(world.gen_obs()["image"][place][0] > 4)  # a key or a ball, behind no wall
    finally:
        world.agent_pos, world.agent_dir = there
