"""What agents are rewarded for: POGEMA's rule, the five rewards of SRMT's Bottleneck, and that of its lifelong runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recurra.errors import UserError, nearest


class Moved(NamedTuple):
    """What rewards are given for, ``(worlds, agents)`` each.

    Attributes:
        goal: float64, POGEMA's reward: 1 for reaching a goal; where all have to stand on theirs, 1 to all once they do.
        along: bool, whether the agent went the next step of its planned way.
        held: bool, whether it chose to stay.
        present: bool, whether it was there to act.
    """

    goal: NDArray[np.float64]
    along: NDArray[np.bool_]
    held: NDArray[np.bool_]
    present: NDArray[np.bool_]


#: Rewards ``(worlds, agents)`` of what happened; those of absent agents are ignored.
Reward = Callable[[Moved], NDArray[np.float64]]


@dataclass(frozen=True)
class Shaped:
    """A reward that adds to the goal's a little for every other step; SRMT (arXiv 2501.13200), table 2.

    Attributes:
        goal: for reaching the goal; None: what the step there is worth.
        along: for a step along the planned way.
        moving: for any other move, or one into a wall.
        holding: for staying.
    """

    goal: float | None
    along: float
    moving: float
    holding: float

    def __call__(self, moved: Moved) -> NDArray[np.float64]:
        """Give the rewards."""
        other = np.where(moved.held, self.holding, np.where(moved.along, self.along, self.moving))
        return other if self.goal is None else np.where(moved.goal > 0, self.goal * moved.goal, other)


REWARDS = {
    "sparse": Shaped(1.0, 0.0, 0.0, 0.0),
    "dense": Shaped(1.0, -0.01, -0.01, -0.01),
    "directional": Shaped(1.0, 0.005, 0.0, 0.0),
    "directional_negative": Shaped(1.0, -0.005, -0.01, -0.01),
    "moving_negative": Shaped(1.0, -0.01, -0.01, -0.005),
    "way": Shaped(None, 0.01, 0.0, 0.0),
}
"""By name: ``sparse`` is POGEMA's own, ``way`` that of SRMT's lifelong runs, which rewards steps, not goals."""


def named_reward(given: str | Reward) -> Reward:
    """Find a reward by its name, or take the user's own.

    Raises:
        UserError: if there is no such name.
    """
    if callable(given):
        return given
    if given not in REWARDS:
        raise UserError(f"there is no reward {given!r}; {nearest(str(given), REWARDS)}")
    return REWARDS[given]


def needs_ways(given: Reward) -> bool:
    """Say whether a reward looks at planned ways; the user's own may."""
    return not isinstance(given, Shaped) or given.along != given.moving
