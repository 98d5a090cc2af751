"""Trajectories as they are written."""

import fcntl
import json
import os
import shutil
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from gymnasium import Space
from numpy.typing import NDArray

from recurra.envs.trajectories import layout
from recurra.envs.trajectories.episode import Episode
from recurra.errors import UserError
from recurra.files import whole, writable
from recurra.spaces import brief, split

#: Memory for the steps of open episodes, in bytes, and how many of them at most.
BLOCK_BYTES, BLOCK_ROWS = 16 * 2**20, 4096

#: How long episodes may have been handed to the system alone, in seconds.
SYNC_EVERY = 5.0


class Writer:
    """Writes episodes to a folder, step by step or whole, after those that are there.

    An episode is in the folder once its last step was added: a writer that is killed loses the open ones alone. A power
    cut may lose those of the last seconds, too; what is left is whole.

    Args:
        path: the folder; a new one, an empty one, or one of the same spaces.
        observation_space: of what is observed.
        action_space: of what is done.
        streams: how many episodes are open at once, as in a vector environment; arrays then have that axis first. None
            for one, without the axis.

    Attributes:
        episodes: how many the folder holds.
        steps: how many they have.

    Raises:
        UserError: if the folder holds trajectories of other spaces, or something else, or is being written to.

    >>> import tempfile
    >>> from gymnasium.spaces import Box, Discrete
    >>> folder = tempfile.mkdtemp()
    >>> with Writer(folder, observation_space=Box(-1, 1, (2,)), action_space=Discrete(4)) as writer:
    ...     writer.add([0, 1], 0, 0.0)
    ...     writer.add([1, 0], 1, 1.0, terminated=True, final=[1, 1])
    >>> from recurra.envs.trajectories import Store
    >>> Store(folder)[0].actions
    array([0, 1])
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        observation_space: Space,
        action_space: Space,
        streams: int | None = None,
    ) -> None:
        if streams is not None and streams < 1:
            raise UserError(f"the number of streams must be at least 1, got {streams}")
        self.path, self.streams = Path(path), streams
        self._spaces = layout.checked(observation_space, action_space)
        self._columns = self._spaces.columns()
        self._files: list[int] = []
        layout.described(self.path)  # refuse before anything is made
        writable(path, "trajectories")
        self.path.mkdir(parents=True, exist_ok=True)
        self._folder = os.open(self.path, os.O_RDONLY)
        try:
            self._lock()
            self._describe()
            self._continue()
        except BaseException:
            self._release()
            raise
        count = self._count = streams or 1
        rows = BLOCK_BYTES // (count * sum(column.row for column in self._columns))
        self._rows = min(max(rows, 16), BLOCK_ROWS)
        self._blocks = [np.empty((self._rows, count, *column.shape), column.dtype) for column in self._columns]
        self._filled = 0
        self._begins = np.zeros(count, dtype=np.int64)  # where in the block each open episode does
        self._spilled: list[list[int]] = [[] for _ in range(count)]  # how many rows of it went to a file, each time

    def _lock(self) -> None:
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it when the process ends
        except BlockingIOError as error:
            raise UserError(
                f"{self.path} is being written to: wait for the other writer, or name another folder"
            ) from error

    def _describe(self) -> None:
        there, given = layout.described(self.path), self._spaces.description()
        if there is None:
            with whole(self.path / layout.DESCRIPTION) as scratch:
                scratch.write_text(json.dumps({"format": layout.FORMAT, "version": 1, **given}, indent=1))
            os.fsync(self._folder)
            there = layout.described(self.path)
            assert there is not None
        if there.description() != given:
            raise UserError(
                f"{self.path} holds observations of {brief(there.observation)} and actions of {brief(there.action)}, "
                f"not of {brief(self._spaces.observation)} and {brief(self._spaces.action)}: name another folder"
            )

    def _continue(self) -> None:
        """Go to the end of the last whole episode, and cut off what is behind it."""
        records = layout.index(self.path, self._columns)
        self.episodes, self.steps = len(records), int(records["length"].sum())
        names = [*(column.file for column in self._columns), layout.INDEX]
        self._files = [os.open(self.path / name, os.O_RDWR | os.O_CREAT, 0o666) for name in names]
        shutil.rmtree(self.path / layout.OPEN, ignore_errors=True)
        self._cut_off()
        self._synced = -1  # what an earlier writer left to the system may not be on the disk
        self.sync()

    def _ends(self) -> list[int]:
        sizes = [column.row * (self.steps + column.extra * self.episodes) for column in self._columns]
        return [*sizes, layout.RECORD.itemsize * self.episodes]

    def _cut_off(self) -> None:
        for file, size in zip(self._files, self._ends(), strict=True):
            os.ftruncate(file, size)
            os.lseek(file, size, os.SEEK_SET)

    def add(
        self,
        observation: Any,
        action: Any,
        reward: Any,
        *,
        terminated: Any = False,
        truncated: Any = False,
        final: Any = None,
        present: Any = None,
    ) -> None:
        """Add a step of each stream: what was observed, what was then done, and what it earned.

        Args:
            observation: ``(streams, ...)``, in dicts and tuples where the space is one; as all others without the axis
                where ``streams`` is None.
            action: ``(streams, ...)``.
            reward: ``(streams,)``.
            terminated: ``(streams,)`` bool.
            truncated: ``(streams,)`` bool.
            final: what was observed last, as ``observation``; read where an episode ends.
            present: ``(streams,)`` bool, False for streams that have no such step, which may be between episodes; None
                if all have.

        Raises:
            UserError: if something is of another shape or kind than its space says, an episode ends without ``final``,
                or a stream is absent in the middle of an episode.
        """
        here = self._filled
        there = np.full(self._count, True) if present is None else self._flags(present)
        over, cut = self._flags(terminated) & there, self._flags(truncated) & there
        ended = over | cut
        if present is not None and any(self._length(stream) for stream in np.flatnonzero(~there).tolist()):
            raise UserError("a stream can be absent between its episodes only")
        if ended.any() and final is None:
            raise UserError("an episode ends with an observation: give final")
        finals = self._final(final) if ended.any() else []
        for column, block, value in zip(
            self._columns, self._blocks, (*self._split(observation), action, reward), strict=True
        ):
            block[here] = self._fitting(column, value)
        self._filled += 1
        self._begins[~there] = self._filled
        for stream in np.flatnonzero(ended).tolist():
            self._end(stream, [leaf[stream] for leaf in finals], bool(over[stream]), bool(cut[stream]))
        if self._filled == self._rows:
            self._spill()

    def cut(self, final: Any) -> None:
        """End all open episodes as truncated; ``final`` is what is observed now, as in `add`."""
        finals = self._final(final)
        for stream in range(self._count):
            if self._length(stream):
                self._end(stream, [leaf[stream] for leaf in finals], False, True)

    def add_episode(self, episode: Episode) -> None:
        """Add a whole episode.

        Raises:
            UserError: if something is of another shape or kind than its space says, it has no steps, or no end.
        """
        if not episode.terminated and not episode.truncated:
            raise UserError("a whole episode is terminated or truncated")
        length = len(episode.rewards)
        values = (*self._split(episode.observations), episode.actions, episode.rewards)
        parts = [
            [_array(column, value, (length + column.extra, *column.shape))]
            for column, value in zip(self._columns, values, strict=True)
        ]
        self._commit(length, parts, episode.terminated, episode.truncated)

    def _split(self, observation: Any) -> list[Any]:
        try:
            return list(split(self._spaces.observation, observation))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise UserError(f"observations are to be of {brief(self._spaces.observation)}: {said}") from error

    def _fitting(self, column: layout.Column, value: Any) -> NDArray[Any]:
        return _array(column, value, column.shape if self.streams is None else (self._count, *column.shape))

    def _final(self, observation: Any) -> list[NDArray[Any]]:
        pairs = zip(self._columns, self._split(observation), strict=False)
        return [self._fitting(column, value).reshape(self._count, *column.shape) for column, value in pairs]

    def _flags(self, value: Any) -> NDArray[np.bool_]:
        return np.broadcast_to(np.asarray(value, dtype=bool), self._count)

    def _length(self, stream: int) -> int:
        return sum(self._spilled[stream]) + self._filled - int(self._begins[stream])

    def _end(self, stream: int, final: list[NDArray[Any]], terminated: bool, truncated: bool) -> None:
        begin, end = int(self._begins[stream]), self._filled
        parts = []
        for number, block in enumerate(self._blocks):
            last = [final[number][None]] if number < len(final) else []
            parts.append([*self._recall(stream, number), block[begin:end, stream], *last])
        self._commit(self._length(stream), parts, terminated, truncated)
        self._begins[stream] = end
        if self._spilled[stream]:
            self._spilled[stream] = []
            self._spill_path(stream).unlink()

    def _commit(self, length: int, parts: Sequence[Sequence[Any]], terminated: bool, truncated: bool) -> None:
        """Write an episode's rows, pieces of each column one after the other, and then its line in the index."""
        if not self._files:
            raise UserError(f"the writer of {self.path} is closed")
        if length < 1:
            raise UserError("an episode has at least one step")
        try:
            sums = []
            for file, pieces in zip(self._files, parts, strict=False):
                total = 0
                for piece in pieces:
                    content = np.ascontiguousarray(piece).tobytes()
                    total = zlib.crc32(content, total)
                    _write(file, content)
                sums.append(total)
            record = np.zeros((), dtype=layout.RECORD)
            record["offset"], record["length"] = self.steps, length
            record["flags"] = layout.TERMINATED * terminated + layout.TRUNCATED * truncated
            record["data"] = layout.combined(sums)
            record["own"] = layout.own(record)
            _write(self._files[-1], record.tobytes())
        except BaseException:  # a full disk, or Ctrl-C
            self._cut_off()
            raise
        self.episodes += 1
        self.steps += length
        if time.monotonic() > self._due:
            self.sync()

    def _spill(self) -> None:
        """Put the steps of open episodes into a file of each stream, and begin the block anew."""
        for stream in range(self._count):
            begin = int(self._begins[stream])
            if begin < self._filled:
                (self.path / layout.OPEN).mkdir(exist_ok=True)
                with self._spill_path(stream).open("ab") as file:
                    for block in self._blocks:
                        file.write(np.ascontiguousarray(block[begin : self._filled, stream]).tobytes())
                self._spilled[stream].append(self._filled - begin)
        self._filled = 0
        self._begins[:] = 0

    def _recall(self, stream: int, number: int) -> Iterator[NDArray[Any]]:
        """Read back the rows of a column that went to the stream's file, piece by piece."""
        if not self._spilled[stream]:
            return
        widths = [column.row for column in self._columns]
        before = sum(widths[:number])
        with self._spill_path(stream).open("rb") as file:
            start = 0
            for rows in self._spilled[stream]:
                file.seek(start + rows * before)
                yield np.frombuffer(file.read(rows * widths[number]), dtype=np.uint8)
                start += rows * sum(widths)

    def _spill_path(self, stream: int) -> Path:
        return self.path / layout.OPEN / f"{stream}.bin"

    def sync(self) -> None:
        """Make sure that all whole episodes are on the disk, where no power cut takes them; done every few seconds."""
        self._due = time.monotonic() + SYNC_EVERY
        if self.episodes == self._synced:
            return
        for file in self._files:  # the index is the last of them: what it lists is there
            os.fsync(file)
        with whole(self.path / layout.SYNCED) as scratch:
            scratch.write_text(json.dumps({"episodes": self.episodes}))
        os.fsync(self._folder)
        self._synced = self.episodes

    def close(self) -> None:
        """Make sure that all whole episodes are on the disk, forget the open ones, and let others write."""
        if self._files:
            try:
                self.sync()
            finally:
                shutil.rmtree(self.path / layout.OPEN, ignore_errors=True)
                self._release()

    def _release(self) -> None:
        for file in (*self._files, self._folder):
            with suppress(OSError):
                os.close(file)
        self._files = []

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _array(column: layout.Column, value: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read a value as a column has it; numbers may change their width, but not lose what is behind the point."""
    array = np.asarray(value)
    if array.shape != shape or array.dtype.kind not in ("fiub" if column.dtype.kind == "f" else "iub"):
        what = column.file.removesuffix(".bin")
        raise UserError(f"{what}: expected {column.dtype} of shape {shape}, got {array.dtype} of {array.shape}")
    return array.astype(column.dtype, copy=False)


def _write(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
