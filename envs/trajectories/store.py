"""Trajectories as they are read."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import Space
from numpy.typing import NDArray

from recurra.envs.trajectories import layout
from recurra.envs.trajectories.episode import Episode
from recurra.errors import UserError
from recurra.spaces import join


class Store(Sequence[Episode]):
    """Episodes out of a folder that a `Writer` has written, or is writing: those that are whole when it is opened.

    Nothing is read before it is asked for: arrays are read-only views of the files.

    Args:
        path: the folder.

    Attributes:
        path: the folder.
        observation_space: of what was observed.
        action_space: of what was done.

    Raises:
        UserError: if there is no such folder, or it is damaged or holds something else.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        spaces = layout.described(self.path)
        if spaces is None:
            raise UserError(f"{path}: there are no trajectories; recurra record ENV --episodes N --out {path}")
        self.observation_space: Space = spaces.observation
        self.action_space: Space = spaces.action
        self._columns = spaces.columns()
        self._index = layout.index(self.path, self._columns)
        steps = int(self._index["length"].sum())
        self._arrays = [
            layout.mapped(self.path, column, steps + column.extra * len(self._index)) for column in self._columns
        ]
        self._chosen = np.arange(len(self._index))

    def select(self, episodes: Sequence[int] | NDArray[np.int64]) -> "Store":
        """Give a store of some of the episodes, in the order given."""
        some = object.__new__(Store)
        vars(some).update(vars(self))
        some._chosen = self._chosen[np.asarray(episodes, dtype=np.int64)]
        return some

    def split(self, fraction: float = 0.8, seed: int = 0) -> tuple["Store", "Store"]:
        """Part the episodes at random: a fraction of them, and the rest, each in the order of recording.

        Raises:
            UserError: if the fraction is not between 0 and 1.
        """
        if not 0 <= fraction <= 1:
            raise UserError(f"a fraction is between 0 and 1, got {fraction}")
        order = np.random.default_rng(seed).permutation(len(self))
        some = round(fraction * len(self))
        return self.select(np.sort(order[:some])), self.select(np.sort(order[some:]))

    def __len__(self) -> int:
        return len(self._chosen)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """``(len,)``, of each episode."""
        return self._index["length"][self._chosen].astype(np.int64)

    @property
    def steps(self) -> int:
        """How many there are in all episodes."""
        return int(self.lengths.sum())

    @property
    def returns(self) -> NDArray[np.float64]:
        """``(len,)`` float64, the sum of each episode's rewards."""
        rewards = self._arrays[-1]
        sums = np.add.reduceat(rewards, self._index["offset"]) if len(self._index) else np.zeros(0)
        return sums[self._chosen]

    def __getitem__(self, item: Any) -> Any:
        """Give an episode, its arrays read-only views of the files; of a slice, a store."""
        if isinstance(item, slice):
            return self.select(np.arange(len(self))[item])
        number = int(self._chosen[item])
        *observations, actions, rewards = self._rows(number)
        flags = int(self._index["flags"][number])
        return Episode(
            join(self.observation_space, observations),
            actions,
            rewards,
            bool(flags & layout.TERMINATED),
            bool(flags & layout.TRUNCATED),
        )

    def __iter__(self) -> Iterator[Episode]:
        return map(self.__getitem__, range(len(self)))

    def _rows(self, number: int) -> list[NDArray[Any]]:
        return layout.episode_rows(self._columns, self._arrays, self._index[number], number)

    def verify(self) -> None:
        """Compare every episode with its checksum, which reads all of it.

        Raises:
            UserError: if one does not agree; the message says which.
        """
        for place, number in enumerate(self._chosen.tolist()):
            record = self._index[number]
            if record["own"] != layout.own(record) or record["data"] != layout.checksum(self._rows(number)):
                raise UserError(f"{self.path} is damaged: episode {place} does not agree with its checksum")

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.path, self._chosen)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}): {len(self)} episodes of {self.steps} steps"


def _reopened(path: Path, chosen: NDArray[np.int64]) -> Store:
    """Open a store in another process."""
    return Store(path).select(chosen)
