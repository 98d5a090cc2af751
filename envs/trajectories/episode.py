"""One episode, whole."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Episode(NamedTuple):
    """What happened from a beginning to an end: one more observation than actions, as in Minari.

    Attributes:
        observations: ``(length + 1, *shape)``, or dicts and tuples of such where the observation space is one; row t is
            what action t was chosen upon, the last row what the last action led to.
        actions: ``(length, *shape)``.
        rewards: ``(length,)`` float64, what each action earned.
        terminated: whether nothing could follow.
        truncated: whether it was cut.
    """

    observations: Any
    actions: NDArray[Any]
    rewards: NDArray[np.float64]
    terminated: bool
    truncated: bool

    @property
    def length(self) -> int:
        """How many actions were taken."""
        return len(self.rewards)
