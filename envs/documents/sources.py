"""Anything that holds bytes, read piece by piece and never loaded whole: files, folders, pipes, bundled works."""

import io
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from recurra.envs.documents import texts
from recurra.errors import UserError

_SKIPPED = 1 << 20  # how much is read past at a time where there is no seeking


@dataclass(frozen=True, kw_only=True)
class Source:
    """A document to read: any bytes at all, none included. `expand` makes them.

    Attributes:
        name: what `expand` finds it by: a path, ``-`` or ``text:`` with a bundled work's name.
        size: its length in bytes; None for standard input and pipes, which end when they end.
    """

    name: str
    size: int | None
    _open: Callable[[], AbstractContextManager[BinaryIO]] = field(repr=False)

    def pieces(self, size: int, *, start: int = 0) -> Iterator[bytes]:
        r"""Read the document from a byte on, holding one piece at a time.

        A pipe's piece is given as soon as its bytes have arrived.

        >>> source, = expand("text:shakespeare/phoenix_and_the_turtle")
        >>> [len(piece) for piece in source.pieces(1000)]
        [1000, 1000, 95]
        >>> next(source.pieces(27, start=53))
        b'Let the bird of loudest lay'

        Args:
            size: bytes in each piece but the last, which may be shorter; an empty document has none.
            start: where to begin: by seeking where the document can, by reading past the beginning where not.

        Raises:
            UserError: once reading begins, if the document cannot be read or ends before `start`.
        """
        if size < 1 or start < 0:
            raise UserError(f"a piece has at least 1 byte and starts at byte 0 or later, got {size} and {start}")
        try:
            with self._open() as stream:
                held = stream.seek(0, io.SEEK_END) if self.size is not None else _read_past(stream, start)
                if held < start:
                    raise UserError(f"{self.name} ends after {held} bytes: it cannot be read from byte {start}")
                if self.size is not None:
                    stream.seek(start)
                while piece := stream.read(size):
                    yield piece
        except OSError as error:
            raise UserError(f"{self.name} cannot be read: {error.strerror or error}") from error

    def array(self) -> NDArray[np.uint8]:
        """Give the whole document as a read-only array `(size,)`, a file's bytes staying in the file until looked at.

        Raises:
            UserError: if the document cannot be read, or cannot be looked into at any place, as a pipe.
        """
        if self.size is None:
            raise UserError(f"{self.name} can be read once only, from its start to its end: save it to a file first")
        try:
            with self._open() as stream:
                if isinstance(stream, io.BytesIO):
                    return np.frombuffer(stream.getvalue(), np.uint8)
                if stream.seek(0, io.SEEK_END) == 0:  # nothing to map
                    return np.zeros(0, np.uint8)
                return np.asarray(np.memmap(stream, np.uint8, mode="r"))
        except OSError as error:
            raise UserError(f"{self.name} cannot be read: {error.strerror or error}") from error


def expand(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Source]:
    """Find the documents that are meant, in the order given.

    - a file is itself;
    - a folder stands for the files in it and in its folders, sorted by path; hidden ones, and what is no file (such as
      a pipe), are left out, and links to folders are not followed;
    - ``-`` is standard input;
    - ``text:shakespeare/hamlet`` is a bundled work; ``text:milton`` and ``text:test`` are all of an author or a part
      (see `texts`).

    >>> [source.name for source in expand("text:test")][1:3]
    ['text:shakespeare/macbeth', 'text:shakespeare/rape_of_lucrece']

    Args:
        paths: one of these or several.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        UserError: if there is no such bundled work, a file or folder cannot be read, a folder holds no files, or
            standard input is named twice.
    """
    paths = [paths] if isinstance(paths, str | os.PathLike) else paths
    sources = [source for path in paths for source in _expand(os.fspath(path))]
    if sum(source.name == "-" for source in sources) > 1:
        raise UserError("standard input can be read once: name - once only")
    return sources


def _expand(path: str) -> list[Source]:
    if path == "-":
        return [Source(name="-", size=None, _open=_standard_input)]
    if path.startswith("text:"):
        return [_bundled(work) for work in texts.select(path.removeprefix("text:"))]
    if not os.path.isdir(path):
        return [_file(path)]
    files = sorted(_walk(path), key=lambda file: file.split(os.sep))
    if not files:
        raise UserError(f"{path} holds no files to read (hidden ones are left out)")
    return [_file(file) for file in files]


def _bundled(work: texts.Work) -> Source:
    return Source(name=f"text:{work.name}", size=work.bytes, _open=partial(_text, work.name))


def _text(name: str) -> BinaryIO:
    return io.BytesIO(texts.read(name))


def _standard_input() -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer)  # not ours to close


def _file(path: str) -> Source:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file or folder") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path!r} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not os.access(path, os.R_OK):  # better now than after hours of reading other documents
        raise UserError(f"{path} cannot be read: permission denied")
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    return Source(name=path, size=size, _open=partial(_opened, path))


def _opened(path: str) -> BinaryIO:
    return open(path, "rb")


def _walk(folder: str) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error

    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (os.path.join(parent, name) for name in files if not name.startswith("."))
        yield from (path for path in paths if os.path.isfile(path))


def _read_past(stream: BinaryIO, start: int) -> int:
    """Read up to `start` bytes away, and say how many there were."""
    held = 0
    while held < start and (piece := stream.read(min(start - held, _SKIPPED))):
        held += len(piece)
    return held
