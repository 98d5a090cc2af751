"""What lies where in a folder of trajectories, and how much of it is whole: read by `Store` and `Writer` alike."""

import json
import math
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium import Space
from numpy.typing import NDArray

from recurra.errors import UserError
from recurra.spaces import check, from_json, leaves, to_json

FORMAT = "recurra trajectories"
DESCRIPTION, INDEX, SYNCED = "store.json", "index.bin", "synced.json"
OPEN = "open"
"""The folder of what open episodes have that no longer fits in memory."""

TERMINATED, TRUNCATED = 1, 2

RECORD = np.dtype([("offset", "<i8"), ("length", "<i8"), ("flags", "<u4"), ("data", "<u4"), ("own", "<u4")])
"""An episode in the index: how many steps lie before it, how many it has, how it ended, the checksums of both."""


class Column(NamedTuple):
    """A file of rows, one after the other.

    Attributes:
        file: its name.
        dtype: of a row's numbers, little-endian.
        shape: of a row.
        extra: rows of an episode beyond its length: 1 of observations, else 0.
    """

    file: str
    dtype: np.dtype
    shape: tuple[int, ...]
    extra: int

    @property
    def row(self) -> int:
        """Bytes of a row."""
        return self.dtype.itemsize * math.prod(self.shape)


class Spaces(NamedTuple):
    """The spaces of what a folder holds."""

    observation: Space
    action: Space

    def columns(self) -> list[Column]:
        """List the files, observations first, rewards last."""
        seen = [_column(f"observations-{number}.bin", leaf, 1) for number, (_, leaf) in enumerate(leaves(self[0]))]
        return [*seen, _column("actions.bin", self.action, 0), Column("rewards.bin", np.dtype("<f8"), (), 0)]

    def description(self) -> dict[str, Any]:
        """Describe them in JSON."""
        return {"observation_space": to_json(self.observation), "action_space": to_json(self.action)}


def _column(file: str, leaf: Space, extra: int) -> Column:
    assert leaf.dtype is not None
    assert leaf.shape is not None
    return Column(file, leaf.dtype.newbyteorder("<"), leaf.shape, extra)


def checked(observation: Space, action: Space) -> Spaces:
    """Give spaces that can be written.

    Raises:
        UserError: if they cannot.
    """
    check(observation, "observation")
    check(action, "action")
    return Spaces(observation, action)


def described(folder: Path) -> Spaces | None:
    """Read whose trajectories a folder holds; None if there is no folder yet, or an empty one.

    Raises:
        UserError: if it is no folder of ours, or a damaged one.
    """
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder of trajectories")
    path = folder / DESCRIPTION
    if not path.is_file():
        if {inside.name for inside in folder.iterdir()} <= {f".{DESCRIPTION}.new"}:  # a writer killed at its beginning
            return None
        raise UserError(f"{folder} holds something else than trajectories: there is no {DESCRIPTION}")
    try:
        found = json.loads(path.read_bytes())
        ours = found["format"] == FORMAT
        spaces = Spaces(from_json(found["observation_space"]), from_json(found["action_space"])) if ours else None
    except (ValueError, KeyError, TypeError, AssertionError, AttributeError) as error:
        raise UserError(f"{path} is damaged or none of recurra's: no trajectories can be read") from error
    if spaces is None or found.get("version") != 1:
        raise UserError(f"{path} is of another program or release: no trajectories can be read")
    return spaces


def index(folder: Path, columns: Sequence[Column]) -> NDArray[Any]:
    """Read the index of the episodes that are whole, `RECORD`.

    What was on the disk when the mark was set is taken to be there; what was written later is compared with its
    checksums, and left out from the first that is not whole.

    Raises:
        UserError: if something is gone that was on the disk.
    """
    synced = _mark(folder)  # before the index, which may be growing
    path = folder / INDEX
    content = path.read_bytes() if path.exists() else b""
    records = np.frombuffer(content[: len(content) // RECORD.itemsize * RECORD.itemsize], dtype=RECORD)
    if len(records) < synced:
        raise UserError(f"{path} is damaged: it lists {len(records)} of {synced} episodes")
    ends = np.cumsum(records["length"][:synced])
    if (records["length"][:synced] < 1).any() or (
        records["offset"][:synced] != ends - records["length"][:synced]
    ).any():
        raise UserError(f"{path} is damaged: its episodes do not lie one after the other")
    steps = int(ends[-1]) if synced else 0
    rows = [_rows(folder, column) for column in columns]
    for column, there in zip(columns, rows, strict=True):
        if there < steps + column.extra * synced:
            raise UserError(f"{folder / column.file} is damaged: it is shorter than its episodes")
    count = synced
    if count < len(records):
        arrays = [mapped(folder, column, there) for column, there in zip(columns, rows, strict=True)]
        while count < len(records) and _follows(records[count], steps) and _fits(records[count], count, columns, rows):
            if checksum(episode_rows(columns, arrays, records[count], count)) != records[count]["data"]:
                break
            steps, count = steps + int(records[count]["length"]), count + 1
    return records[:count]


def _mark(folder: Path) -> int:
    """Read how many episodes were on the disk when that was last made sure."""
    path = folder / SYNCED
    try:
        return int(json.loads(path.read_bytes())["episodes"]) if path.exists() else 0
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged") from error


def _rows(folder: Path, column: Column) -> int:
    path = folder / column.file
    if not column.row:  # of nothing there is always enough
        return 2**62
    return path.stat().st_size // column.row if path.exists() else 0


def _follows(record: Any, steps: int) -> bool:
    return record["own"] == own(record) and record["offset"] == steps and record["length"] >= 1


def _fits(record: Any, number: int, columns: Sequence[Column], rows: Sequence[int]) -> bool:
    end = int(record["offset"] + record["length"])
    return all(end + column.extra * (number + 1) <= there for column, there in zip(columns, rows, strict=True))


def own(record: Any) -> int:
    """Compute the checksum that a record has of itself."""
    return zlib.crc32(record.tobytes()[: -RECORD["own"].itemsize])


def checksum(parts: Iterable[NDArray[Any]]) -> int:
    """Compute the checksum of an episode from its rows in each column: the CRC-32 of their CRC-32s."""
    return combined([zlib.crc32(np.ascontiguousarray(rows).data.cast("B")) if rows.size else 0 for rows in parts])


def combined(sums: Sequence[int]) -> int:
    """Make one checksum of those of each column."""
    return zlib.crc32(np.array(sums, dtype="<u4").tobytes())


def mapped(folder: Path, column: Column, rows: int) -> NDArray[Any]:
    """Map the first rows of a column, read-only."""
    if not column.row or not rows:
        nothing = np.zeros((), dtype=column.dtype)
        return np.broadcast_to(nothing, (min(rows, 2**40), *column.shape))
    # Without numpy's own class slices are made in a fifth of the time.
    return np.asarray(np.memmap(folder / column.file, dtype=column.dtype, mode="r", shape=(rows, *column.shape)))


def episode_rows(
    columns: Sequence[Column], arrays: Sequence[NDArray[Any]], record: Any, number: int
) -> list[NDArray[Any]]:
    """Cut an episode's rows out of all columns; ``number`` is how many episodes lie before it."""
    start, length = int(record["offset"]), int(record["length"])
    return [
        array[start + column.extra * number : start + length + column.extra * (number + 1)]
        for column, array in zip(columns, arrays, strict=True)
    ]
