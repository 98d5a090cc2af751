"""Writing files: whole or not at all, and where they can be written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recurra.errors import UserError


def writable(folder: str | os.PathLike[str], what: str) -> None:
    """Make sure, before the work, that ``what`` can be written to a folder, which need not be there yet.

    Raises:
        UserError: if it cannot.
    """
    there = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"{there} is a file: name a folder for {what}")
    if not os.access(there, os.W_OK):
        raise UserError(f"{folder} cannot be written to: name another folder for {what}")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give the path of a new file, which takes the place of ``path`` once it is complete and on the disk.

    If writing it fails, what was at ``path`` stays, and the room is given back.
    """
    scratch = path.with_name(f".{path.name}.new")
    try:
        yield scratch
        with scratch.open("rb+") as file:
            os.fsync(file.fileno())  # or a power cut could leave an empty file under the name
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
