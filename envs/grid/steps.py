"""What a step of grid worlds gives, and what a world looks like."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recurra.envs.grid.maps import Map


class TeamStep(NamedTuple):
    """What one step of all worlds gives, first axis worlds. All arrays are the caller's own.

    A world whose episode ended has begun its next one in the same step: ``obs`` is that one's first observation.
    What an agent did is to be learnt from where the ``present`` that came with the observation acted upon was True.

    Attributes:
        obs: what to act upon next, zeros for absent agents: see `GridWorlds`.
        reward: ``(worlds, agents)`` float64, 0 for those who were absent.
        terminated: ``(worlds, agents)`` bool: the agent's own end, in the step in which it comes: nothing follows.
        truncated: ``(worlds,)`` bool: the horizon was reached; agents that were present and are not terminated still
            have a value, of ``final_obs``.
        final_obs: the observations that truly followed the actions; ``obs`` itself where no world's episode ended.
        first: ``(worlds,)`` bool, where ``obs`` starts a new episode.
        present: ``(worlds, agents)`` bool, which agents are to act upon ``obs``.
        metrics: POGEMA's figures of episodes that ended, ``(worlds,)`` float64 each, NaN elsewhere.
        arrived: ``(worlds, agents)`` float64: 1 and 0 for the agents of episodes that ended, whether each reached a
            goal (where all have to stand on theirs: whether it stood there at the end), NaN elsewhere.
    """

    obs: Any
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    final_obs: Any
    first: NDArray[np.bool_]
    present: NDArray[np.bool_]
    metrics: dict[str, NDArray[np.float64]]
    arrived: NDArray[np.float64]


class Frame(NamedTuple):
    """A world at one moment, to be drawn.

    Attributes:
        map: with the obstacles.
        places: ``(agents, 2)``, row and column of each.
        goals: ``(agents, 2)``.
        present: ``(agents,)``.
        member: ``(agents,)``, who is part of the episode.
    """

    map: Map
    places: NDArray[np.int64]
    goals: NDArray[np.int64]
    present: NDArray[np.bool_]
    member: NDArray[np.bool_]
