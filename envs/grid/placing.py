"""Where agents start and where they are sent: drawn as POGEMA draws them, within what hangs together."""

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
    free = labels >= 0
    if map.may_start is None and map.may_goal is None:
        return paired(labels, rng.permutation(np.flatnonzero(free)), agents)
    starts, goals = (
        np.flatnonzero(free if may is None else free & may.reshape(-1)) for may in (map.may_start, map.may_goal)
    )
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


class Targets:
    """Where lifelong agents can be sent, in many worlds.

    Args:
        worlds: how many.
    """

    def __init__(self, worlds: int) -> None:
        self._width = np.zeros(worlds, dtype=np.int64)
        # Cells that may be goals, those that hang together in a row. For each cell of a world: where in that row those
        # of its own part begin, how many they are, and which of them it is itself, or -1.
        self._pool, self._begin, self._size, self._rank = np.zeros((4, worlds, 0), dtype=np.int64)

    def put(self, world: int, map: Map) -> None:
        """Let a map be a world's."""
        labels = labelled(map)
        room = len(labels) - self._pool.shape[1]
        if room > 0:
            self._pool, self._begin, self._size, self._rank = (
                np.pad(each, ((0, 0), (0, room))) for each in (self._pool, self._begin, self._size, self._rank)
            )
        self._width[world] = map.width
        may = labels >= 0 if map.may_goal is None else map.may_goal.reshape(-1) & (labels >= 0)
        cells = np.flatnonzero(may)
        pool = cells[np.argsort(labels[cells], kind="stable")]
        sizes = np.bincount(labels[pool], minlength=labels.max() + 1)
        begins = np.cumsum(sizes) - sizes
        every = slice(len(labels))
        self._pool[world, : len(pool)] = pool
        self._begin[world, every], self._size[world, every] = begins[labels], np.where(labels >= 0, sizes[labels], 0)
        self._rank[world, every] = -1
        self._rank[world, pool] = np.arange(len(pool)) - begins[labels[pool]]

    def another(self, world: Cells, here: Cells, drawn: NDArray[np.uint64]) -> Cells:
        """Choose places by random numbers: targets of the part where one is, but not where one is.

        Where there is no other, one stays.

        Args:
            world: ``(count,)``.
            here: ``(count, 2)``, rows and columns.
            drawn: ``(count,)``.

        Returns:
            ``(count, 2)``.
        """
        cell = here[:, 0] * self._width[world] + here[:, 1]
        rank, size = self._rank[world, cell], self._size[world, cell]
        others = size - (rank >= 0)
        chosen = _below(np.maximum(others, 1), drawn)
        chosen += (rank >= 0) & (chosen >= rank)
        found = self._pool[world, self._begin[world, cell] + np.minimum(chosen, np.maximum(size - 1, 0))]
        return np.where(others[:, None] > 0, np.stack(np.divmod(found, self._width[world]), axis=1), here)


_GOLDEN, _FIRST, _SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_30, _27, _31, _32 = (np.uint64(n) for n in (30, 27, 31, 32))


def numbers(keys: NDArray[np.uint64], agents: Cells, counts: Cells) -> NDArray[np.uint64]:
    """Draw a number of 64 bits for each agent's next goal.

    It depends on the episode's key, the agent and which goal it is, and on nothing else: not on what other agents did
    before, nor on other worlds. The mixing is that of SplitMix64 (Steele, Lea and Flood, 2014).
    """
    mixed = keys
    for part in (agents, counts):
        mixed = mixed + (part.astype(np.uint64) + np.uint64(1)) * _GOLDEN
        mixed = (mixed ^ (mixed >> _30)) * _FIRST
        mixed = (mixed ^ (mixed >> _27)) * _SECOND
        mixed = mixed ^ (mixed >> _31)
    return mixed


def _below(bound: Cells, drawn: NDArray[np.uint64]) -> Cells:
    """Make numbers below bounds (less than 2^32) of random ones of 64 bits."""
    return (((drawn >> _32) * bound.astype(np.uint64)) >> _32).astype(np.int64)


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
