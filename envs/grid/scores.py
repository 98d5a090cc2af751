"""POGEMA's figures of an episode."""

import numpy as np
from numpy.typing import NDArray

METRICS = {
    "finish": ("ISR", "CSR", "SoC", "makespan", "ep_length"),
    "nothing": ("ISR", "CSR", "SoC", "makespan", "ep_length"),
    "restart": ("avg_throughput", "ep_length"),
}
"""By what happens on targets:

- ``ISR``: the share of agents that reached their goal (or stand on it at the end, where all have to);
- ``CSR``: whether all did;
- ``SoC``: steps until each came to its goal, summed over agents; who never came counts all steps;
- ``makespan``: the most of these;
- ``avg_throughput``: goals reached in a step of the horizon;
- ``ep_length``: steps of the episode.
"""


class Scores:
    """What metrics are made of, of all agents of all worlds.

    Args:
        shape: (worlds, agents).
        on_target: which rules are played by.

    Attributes:
        since: ``(worlds, agents)``, in which step each came to stand on its goal, and has stood there since; 0: it does
            not.
        reached: ``(worlds, agents)``, how many goals each reached; where all have to stand on theirs, whether it does.
    """

    def __init__(self, shape: tuple[int, int], on_target: str) -> None:
        self.since, self.reached = np.zeros((2, *shape), dtype=np.int64)
        self._on_target = on_target

    def begin(self, worlds: NDArray[np.int64]) -> None:
        """Begin anew."""
        self.since[worlds] = self.reached[worlds] = 0

    def count(
        self,
        reached: NDArray[np.bool_],
        present: NDArray[np.bool_],
        time: NDArray[np.int64],
        over: NDArray[np.bool_],
    ) -> None:
        """Take up a step.

        Args:
            reached: ``(worlds, agents)``, who stands on its goal.
            present: ``(worlds, agents)``, who is not done yet.
            time: ``(worlds,)``, the step's number, from 1.
            over: ``(worlds,)``, whether it was the last one.
        """
        if self._on_target == "nothing":
            self.reached = reached.astype(np.int64)
            # As POGEMA counts: who leaves its goal in the very last step is taken to have stayed.
            kept = reached | over[:, None]
        else:
            self.reached += reached
            kept = reached | (self.since > 0) | (over[:, None] & present)
        if self._on_target != "restart":
            self.since = np.where(kept, np.where(self.since > 0, self.since, time[:, None]), 0)

    def told(
        self,
        over: NDArray[np.bool_],
        member: NDArray[np.bool_],
        time: NDArray[np.int64],
        limit: NDArray[np.int64],
    ) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64]]:
        """Give the figures of worlds ``(worlds,)``, and who reached a goal ``(worlds, agents)``; NaN if not over."""
        metrics = {name: np.full(len(over), np.nan) for name in METRICS[self._on_target]}
        arrived = np.full(member.shape, np.nan)
        if not over.any():
            return metrics, arrived
        done, team = (self.reached > 0) & member, np.maximum(member.sum(1), 1)
        arrived[over[:, None] & member] = done[over[:, None] & member]
        cost = np.where(member, self.since, 0)
        figures = {
            "ISR": done.sum(1) / team,
            "CSR": (done | ~member).all(1),
            "SoC": cost.sum(1),
            "makespan": cost.max(1),
            "avg_throughput": (self.reached * member).sum(1) / limit,
            "ep_length": time,
        }
        for name, values in metrics.items():
            values[over] = figures[name][over]
        return metrics, arrived
