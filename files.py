"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
