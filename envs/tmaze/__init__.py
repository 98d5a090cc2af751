"""T-Mazes: a cue, a long corridor, and a choice at its end that only memory gets right.

As in Ni, Ma, Eysenbach and Bacon, "When Do Transformers Shine in RL? Decoupling Memory from Credit Assignment", 2023
(arXiv 2307.03864), after Bakker (2001), and chained:

==========================  ===========================================================================================
``recurra/TMaze-v0``        passive: the cue shows at the start
``recurra/TMazeActive-v0``  active: the cue is one cell behind the start, and read only by going back first
``recurra/TMazeEndless-v0`` chained: the right arm is the start of the next corridor, which has a cue of its own
``recurra/TMazeNoisy-v0``   passive, observed as in RATE (arXiv 2306.09459): with noise, and lagging costs nothing
==========================  ===========================================================================================

All are one maze with other defaults: see `TMaze`.
"""

import gymnasium

from recurra.envs.tmaze.batched import Forecast, TMazeVector
from recurra.envs.tmaze.oracle import Oracle
from recurra.envs.tmaze.single import TMaze

__all__ = ["Forecast", "Oracle", "TMaze", "TMazeVector"]

_PRESETS: dict[str, dict[str, float]] = {
    "recurra/TMaze-v0": {},
    "recurra/TMazeActive-v0": {"oracle": 1},
    "recurra/TMazeEndless-v0": {"junctions": 10},
    "recurra/TMazeNoisy-v0": {"noise": True, "penalty": 0.0},
}

for _id, _preset in _PRESETS.items():
    gymnasium.register(
        id=_id,
        entry_point="recurra.envs.tmaze:TMaze",
        vector_entry_point="recurra.envs.tmaze:TMazeVector",
        kwargs=_preset,
    )
