"""Where agents start and where they are sent: drawn as POGEMA draws them, within what hangs together."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recurra.envs.grid.fields import components
from recurra.envs.grid.maps import Map
from recurra.errors import UserError

Cells = NDArray[np.int64]

_TRIES = 100


def labelled(map: Map) -> Cells:
    """Number the parts of a map that hang together: ``(height * width,)``, -1 at obstacles."""
    free = np.zeros((1, map.height + 2, map.width + 2), dtype=bool)
    free[0, 1:-1, 1:-1] = ~map.obstacles
    return components(free)[0, 1:-1, 1:-1].reshape(-1)


def place(map: Map, agents: int, rng: np.random.Generator) -> tuple[Cells, Cells] | None:
    """Draw starts and goals, each goal where there is a way to it, no two of either in one cell.

    Args:
        map: the map; where it says nothing of where agents may start and go, they may anywhere, and no cell is both
            start and goal.
        agents: how many.
        rng: what to draw with.

    Returns:
        Cells, row times width plus column, ``(agents,)`` each; None if they do not fit.
    """
    labels = labelled(map)
    if map.may_start is None or map.may_goal is None:
        return paired(labels, rng.permutation(np.flatnonzero(labels >= 0)), agents)
    starts, goals = (np.flatnonzero(may.reshape(-1) & (labels >= 0)) for may in (map.may_start, map.may_goal))
    if len(starts) < agents or len(goals) < agents:
        return None
    for _ in range(_TRIES):
        chosen = rng.permutation(starts)[:agents]
        sent = _dealt(labels, chosen, rng.permutation(goals))
        if sent is not None and (sent != chosen).all():
            return chosen, sent
    return None


def paired(labels: Cells, order: Cells, agents: int) -> tuple[Cells, Cells] | None:
    """Make starts and goals of free cells in a random order: in each part, they take turns."""
    by = np.argsort(labels[order], kind="stable")
    of = labels[order[by]]
    begins = np.flatnonzero(np.r_[True, of[1:] != of[:-1]])[np.cumsum(np.r_[False, of[1:] != of[:-1]])]
    even = np.flatnonzero(((np.arange(len(of)) - begins) % 2 == 0)[:-1] & (of[1:] == of[:-1])) if len(of) else by
    even = even[np.argsort(by[even])][:agents]
    return (order[by[even]], order[by[even + 1]]) if len(even) == agents else None


def _dealt(labels: Cells, starts: Cells, goals: Cells) -> Cells | None:
    """Give each start a goal of its own part, the first that is left."""
    sent = np.empty_like(starts)
    for label in np.unique(labels[starts]):
        here, there = np.flatnonzero(labels[starts] == label), goals[labels[goals] == label]
        if len(there) < len(here):
            return None
        sent[here] = there[: len(here)]
    return sent


class Targets(NamedTuple):
    """Where lifelong agents can be sent, cell by cell of a world.

    Attributes:
        pool: ``(cells,)``, the cells that may be goals, those that hang together in a row.
        begin: ``(cells,)``, where in the pool those of a cell's part begin.
        size: ``(cells,)``, how many they are.
        rank: ``(cells,)``, which of them the cell itself is, or -1.
    """

    pool: Cells
    begin: Cells
    size: Cells
    rank: Cells

    @classmethod
    def of(cls, map: Map) -> "Targets":
        """List them."""
        labels = labelled(map)
        may = labels >= 0 if map.may_goal is None else map.may_goal.reshape(-1) & (labels >= 0)
        cells = np.flatnonzero(may)
        pool = cells[np.argsort(labels[cells], kind="stable")]
        known, place, counts = np.unique(labels[pool], return_inverse=True, return_counts=True)
        begins = np.cumsum(counts) - counts
        begin, size = np.zeros((2, len(labels)), dtype=np.int64)
        rank = np.full(len(labels), -1)
        rank[pool] = np.arange(len(pool)) - begins[place]
        at = np.minimum(np.searchsorted(known, labels), max(len(known) - 1, 0))
        inside = (labels >= 0) & (known[at] == labels) if len(known) else np.zeros(len(labels), dtype=bool)
        begin[inside], size[inside] = begins[at[inside]], counts[at[inside]]
        return cls(pool, begin, size, rank)

    def another(self, here: Cells, drawn: NDArray[np.uint64]) -> Cells:
        """Choose targets by random numbers ``(count,)``: each of the part of the cell where one is, but not that cell.

        Where there is no other, one stays.
        """
        rank = self.rank[here]
        others = self.size[here] - (rank >= 0)
        chosen = _below(np.maximum(others, 1), drawn)
        chosen += (rank >= 0) & (chosen >= rank)
        at = self.begin[here] + np.minimum(chosen, np.maximum(self.size[here] - 1, 0))
        return np.where(others > 0, self.pool[at], here)


def numbers(keys: NDArray[np.uint64], agents: Cells, counts: Cells) -> NDArray[np.uint64]:
    """Draw a number of 64 bits for each agent's next goal.

    It depends on the episode's key, the agent and which goal it is, and on nothing else: not on what other agents did
    before, nor on other worlds. The mixing is that of SplitMix64 (Steele, Lea and Flood, 2014).
    """
    golden, first, second = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
    mixed = keys
    for part in (agents, counts):
        mixed = mixed + (part.astype(np.uint64) + np.uint64(1)) * golden
        mixed = (mixed ^ (mixed >> np.uint64(30))) * first
        mixed = (mixed ^ (mixed >> np.uint64(27))) * second
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed


def _below(bound: Cells, drawn: NDArray[np.uint64]) -> Cells:
    """Make numbers below bounds (less than 2^32) of random ones of 64 bits."""
    return (((drawn >> np.uint64(32)) * bound.astype(np.uint64)) >> np.uint64(32)).astype(np.int64)


def pogema_instance(map: Map, agents: int, seed: int, *, goals: int = 1) -> Map:
    """Give the starts and goals that POGEMA draws on a map with a seed: the instances of its benchmark.

    The benchmark names maps and seeds; with the maps in hand, every algorithm's published figure is of these.

    Args:
        map: the map, without starts and goals.
        agents: how many.
        seed: the benchmark's.
        goals: how many for each agent: 1, or for ``on_target="restart"`` as many as an agent can reach.

    Raises:
        UserError: if the agents do not fit.
    """
    rng = np.random.default_rng(seed)
    labels = labelled(map)
    if map.may_start is not None and map.may_goal is not None:
        marked = [np.argwhere(may).tolist() for may in (map.may_start, map.may_goal)]
        allowed = marked[1]
        for cells in marked:
            rng.shuffle(cells)
        starts, first = (np.array(cells[:agents]) @ np.array((map.width, 1)) for cells in marked)
        found: tuple[Cells, Cells] | None = (starts, first) if len(starts) == len(first) == agents else None
    else:
        allowed = None
        order = np.flatnonzero(labels >= 0).tolist()
        rng.shuffle(order)
        found = paired(labels, np.array(order, dtype=np.int64), agents)
    if found is None:
        raise UserError(f"{map.name}: {agents} agents do not fit; have fewer, or a larger map with fewer obstacles")
    seeds = np.random.default_rng(seed).integers(np.iinfo(np.int32).max, size=agents)
    sequences = []
    for start, cell, own in zip(found[0], found[1], seeds, strict=True):
        drawn, sequence = np.random.default_rng(own), [int(cell)]
        here = (
            np.flatnonzero(labels == labels[start]) if allowed is None else np.array(allowed) @ np.array((map.width, 1))
        )
        while len(sequence) < goals:
            goal = int(here[drawn.integers(len(here), size=1)[0]])
            if goal != sequence[-1] or len(here) == 1:
                sequence.append(goal)
        sequences.append(np.stack(np.divmod(sequence, map.width), axis=1))
    return Map(
        map.obstacles,
        starts=np.stack(np.divmod(found[0], map.width), axis=1),
        goals=tuple(sequences),
        horizon=map.horizon,
        name=map.name,
    )
