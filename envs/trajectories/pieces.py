"""Pieces of episodes to learn from."""

import heapq
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recurra.envs.trajectories.episode import Episode
from recurra.envs.trajectories.store import Store
from recurra.errors import UserError, nearest
from recurra.spaces import join, split

#: Where pieces of an episode begin.
Begin = Literal["anywhere", "beginning", "onward"]


class Piece(NamedTuple):
    """A piece of several episodes, one a row; what is absent is 0.

    Attributes:
        observations: ``(batch, steps, *shape)``, or dicts and tuples of such.
        actions: ``(batch, steps, *shape)``, what was done upon each observation.
        rewards: ``(batch, steps)`` float64, what that earned.
        returns_to_go: ``(batch, steps)`` float64, the sum of this reward and all later ones of the episode.
        first: ``(batch, steps)`` bool, True where nothing from before counts.
        present: ``(batch, steps)`` bool, False for padding.
    """

    observations: Any
    actions: NDArray[Any]
    rewards: NDArray[np.float64]
    returns_to_go: NDArray[np.float64]
    first: NDArray[np.bool_]
    present: NDArray[np.bool_]


def pieces(
    store: Store,
    *,
    batch: int,
    steps: int,
    seed: int = 0,
    begin: Begin = "anywhere",
    epoch: int = 0,
    index: int = 0,
) -> "Pieces":
    """Cut a store's episodes into pieces without end, each epoch in another order; no row holds two episodes at once.

    ==============  ===================================================================================================
    ``anywhere``    each begins at a random step of an episode (as those of the Decision Transformer, Chen et al. 2021);
                    a longer episode gives more of them: one for every ``steps`` steps that it has
    ``beginning``   the first steps of every episode, once each (as RATE on T-Mazes, Cherepanov et al. 2023)
    ``onward``      a row goes on in the next piece where it ended in this one, so that a memory can be carried, and
                    begins a new episode after the last step of one; rows for which none is left are absent
    ==============  ===================================================================================================

    What is not ``onward`` is independent of what came before it: there ``first`` is True where a row begins, and the
    last piece of an epoch may have fewer rows.

    Args:
        store: the episodes.
        batch: rows of a piece.
        steps: of each row; what an episode does not have is padding.
        seed: of the order.
        begin: see above.
        epoch: where to go on, with ``index``: the `Pieces.position` of another time.
        index: the piece of that epoch.

    Raises:
        UserError: if the store is empty, or a number or a word is none of these.

    >>> import tempfile
    >>> from gymnasium.spaces import Discrete
    >>> from recurra.envs.trajectories import Episode, Writer
    >>> folder = tempfile.mkdtemp()
    >>> with Writer(folder, observation_space=Discrete(9), action_space=Discrete(4)) as writer:
    ...     writer.add_episode(Episode([5, 6, 7, 8], [0, 0, 1], [0.0, 0.5, 1.0], True, False))
    >>> piece = next(pieces(Store(folder), batch=1, steps=4, begin="beginning"))
    >>> piece.returns_to_go, piece.present
    (array([[1.5, 1.5, 1. , 0. ]]), array([[ True,  True,  True, False]]))
    """
    if not len(store):
        raise UserError(f"{store.path} holds no episodes")
    if batch < 1 or steps < 1:
        raise UserError(f"batch and steps must be at least 1, got {batch} and {steps}")
    if begin not in ("anywhere", "beginning", "onward"):
        raise UserError(f"pieces do not begin {begin!r}; {nearest(begin, ('anywhere', 'beginning', 'onward'))}")
    return Pieces(store, batch, steps, seed, begin, epoch, index)


class _Cut(NamedTuple):
    """A row of a piece: the episode, the step it begins at, and whether nothing from before counts."""

    episode: int
    start: int
    first: bool


class Pieces(Iterator[Piece]):
    """What `pieces` gives: an iterator, with as many pieces in the present epoch as ``len`` says."""

    def __init__(
        self, store: Store, batch: int, steps: int, seed: int, begin: Begin, epoch: int = 0, index: int = 0
    ) -> None:
        self.store, self.batch, self.steps, self.seed, self.begin = store, batch, steps, seed, begin
        self._lengths = store.lengths
        self._enter(epoch, index)

    @property
    def position(self) -> tuple[int, int]:
        """The epoch and the index in it of the piece that comes next."""
        return self._epoch, self._index

    def __len__(self) -> int:
        return len(self._plan)

    def __next__(self) -> Piece:
        if self._index >= len(self._plan):
            self._enter(self._epoch + 1, 0)
        rows = self._plan.rows(self._index)
        self._index += 1
        return self._gather(rows)

    def _enter(self, epoch: int, index: int) -> None:
        self._epoch, self._index = epoch, index
        random = np.random.default_rng([self.seed, epoch])
        plan = _Onward if self.begin == "onward" else _Apart
        self._plan: _Onward | _Apart = plan(self._lengths, self.batch, self.steps, random, self.begin)

    def _gather(self, rows: list[_Cut | None]) -> Piece:
        shape, example = (len(rows), self.steps), self.store[0]
        seen = split(self.store.observation_space, example.observations)
        observations = [np.zeros((*shape, *leaf.shape[1:]), leaf.dtype) for leaf in seen]
        actions = np.zeros((*shape, *example.actions.shape[1:]), example.actions.dtype)
        rewards, returns_to_go = np.zeros(shape), np.zeros(shape)
        first, present = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        for row, cut in enumerate(rows):
            if cut is None:
                continue
            episode: Episode = self.store[cut.episode]
            end = min(cut.start + self.steps, episode.length)
            here, there = slice(end - cut.start), slice(cut.start, end)
            for mine, leaf in zip(observations, split(self.store.observation_space, episode.observations), strict=True):
                mine[row, here] = leaf[there]
            actions[row, here] = episode.actions[there]
            rewards[row, here] = earned = episode.rewards[there]
            returns_to_go[row, here] = earned[::-1].cumsum()[::-1] + episode.rewards[end:].sum()
            first[row, 0] = cut.first
            present[row, here] = True
        return Piece(join(self.store.observation_space, observations), actions, rewards, returns_to_go, first, present)


class _Apart:
    """An epoch of pieces that do not go on from each other."""

    def __init__(
        self, lengths: NDArray[np.int64], batch: int, steps: int, random: np.random.Generator, begin: Begin
    ) -> None:
        self._batch = batch
        times = -(-lengths // steps) if begin == "anywhere" else np.ones_like(lengths)
        self._episodes = random.permutation(np.repeat(np.arange(len(lengths)), times))
        most = lengths[self._episodes] if begin == "anywhere" else np.ones_like(self._episodes)
        self._starts = random.integers(most)

    def __len__(self) -> int:
        return -(-len(self._episodes) // self._batch)

    def rows(self, index: int) -> list[_Cut | None]:
        part = slice(index * self._batch, (index + 1) * self._batch)
        pairs = zip(self._episodes[part].tolist(), self._starts[part].tolist(), strict=True)
        return [_Cut(episode, start, True) for episode, start in pairs]


class _Onward:
    """An epoch of pieces of which each row goes on where it ended; an episode goes to the row that is free first."""

    def __init__(
        self, lengths: NDArray[np.int64], batch: int, steps: int, random: np.random.Generator, begin: Begin
    ) -> None:
        self._steps, self._counts = steps, -(-lengths // steps)
        self._rows: list[list[tuple[int, int]]] = [[] for _ in range(batch)]  # (the piece it begins in, episode)
        free = [(0, row) for row in range(batch)]
        for episode in random.permutation(len(lengths)).tolist():
            at, row = free[0]
            self._rows[row].append((at, episode))
            heapq.heapreplace(free, (at + int(self._counts[episode]), row))
        self._length = max(at for at, _ in free)

    def __len__(self) -> int:
        return self._length

    def rows(self, index: int) -> list[_Cut | None]:
        return [self._row(begun, index) for begun in self._rows]

    def _row(self, begun: list[tuple[int, int]], index: int) -> _Cut | None:
        if not begun:
            return None
        at, episode = begun[bisect_right(begun, index, key=lambda pair: pair[0]) - 1]
        if index - at >= self._counts[episode]:
            return None
        return _Cut(episode, (index - at) * self._steps, index == at)
