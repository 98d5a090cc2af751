"""Documents side by side: rows of bytes that go on from piece to piece, for truncated back-propagation through time."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recurra.envs.documents.sources import Source
from recurra.errors import UserError


class Piece(NamedTuple):
    """The next bytes of every row; each field is `(streams, length)`.

    Attributes:
        tokens: uint8, the bytes to read.
        first: bool, True at each document's first byte, where memory starts afresh.
        present: bool, False where a row has nothing more to read, which only `epochs` brings about.
    """

    tokens: NDArray[np.uint8]
    first: NDArray[np.bool_]
    present: NDArray[np.bool_]


class Batches(Iterator[Piece]):
    r"""Reads documents in rows: each row reads one from its start to its end, piece by piece, then takes the next.

    An epoch is every document once, in an order that the seed and the epoch's number decide. Whichever row is done
    takes the next document, and those of one epoch are all begun before the next epoch's: no row waits, so a long
    document may still be read when the next epoch begins. Empty documents are left out. Files are memory-mapped, one
    for each row: what is held is a piece and each row's place (a mapped file's pages may count as resident memory, but
    the system drops them when it needs room).

    >>> from recurra.envs.documents import expand
    >>> batches = Batches(expand("text:shakespeare/macbeth"), streams=1, length=8)
    >>> piece = next(batches)
    >>> piece.tokens.tobytes(), piece.first[0, :3].tolist()
    (b'MACBETH\n', [True, False, False])

    Args:
        sources: files or bundled works, as `expand` gives them.
        streams: rows.
        length: bytes of each row in a piece.
        seed: of the order.
        window: documents longer than this many bytes are read as several, each of which starts afresh. None means an
            even share, the bytes of all documents over `streams`, so that one long file fills all rows with different
            text; with `epochs` it means that none is cut.
        epochs: how many to read before the iterator ends; None means endlessly.

    Raises:
        UserError: if a number is less than 1, a document is no file (standard input), or all are empty.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        streams: int,
        length: int,
        seed: int = 0,
        window: int | None = None,
        epochs: int | None = None,
    ) -> None:
        numbers = {"streams": streams, "length": length, "window": window, "epochs": epochs}
        for name, number in numbers.items():
            if number is not None and number < 1:
                raise UserError(f"{name} must be at least 1, got {number}")
        for source in sources:
            if source.size is None:
                raise UserError(f"{source.name} can be read once only: to train on it, save it to a file first")
        self.streams, self.length, self.epochs = streams, length, epochs
        self._sources = [source for source in sources if source.size]
        sizes = np.array([source.size for source in self._sources], np.int64)
        self.bytes = int(sizes.sum())
        """Bytes in an epoch."""
        if self.bytes == 0:
            raise UserError("there is nothing to read: no documents, or empty ones only")
        self._window = window or (self.bytes if epochs else max(1, self.bytes // streams))
        self._parts = np.cumsum(-(-sizes // self._window))  # documents' parts are numbered through
        self._corpus = hashlib.sha256(f"{sizes.tolist()} {self._window}".encode()).hexdigest()
        self._seed = seed
        self._taken = 0
        self._order: tuple[int, NDArray[np.int64]] | None = None
        self._rows: list[_Place | None] = [None] * streams

    @property
    def epoch(self) -> int:
        """How many epochs have been begun and all their documents taken."""
        return self._taken // int(self._parts[-1])

    def __next__(self) -> Piece:
        """Read on.

        Raises:
            StopIteration: after `epochs`.
            UserError: if a document cannot be read any more.
        """
        shape = (self.streams, self.length)
        piece = Piece(np.zeros(shape, np.uint8), np.zeros(shape, np.bool_), np.zeros(shape, np.bool_))
        for row in range(self.streams):
            done = 0
            while done < self.length and (place := self._rows[row] or self._take()):
                done += place.read(piece, row, done)
                self._rows[row] = place if place.at < len(place.text) else None
        if not piece.present.any():
            raise StopIteration
        return piece

    def _take(self) -> "_Place | None":
        """Begin the next document of the epoch, if there is one."""
        epoch, index = divmod(self._taken, int(self._parts[-1]))
        if epoch == self.epochs:
            return None
        if self._order is None or self._order[0] != epoch:  # the order is a function of seed and epoch: no state
            self._order = epoch, np.random.default_rng([self._seed, epoch]).permutation(self._parts[-1])
        self._taken += 1
        return self._open(int(self._order[1][index]), 0)

    def _open(self, part: int, at: int) -> "_Place":
        document = int(np.searchsorted(self._parts, part, side="right"))
        begin = (part - int(self._parts[document - 1] if document else 0)) * self._window
        source = self._sources[document]
        text = source.array()[begin : source.size]  # a file that has grown meanwhile stays what it was
        if begin + len(text) != source.size:
            raise UserError(f"{source.name} has become shorter since reading began: it held {source.size} bytes")
        return _Place(part=part, at=at, text=text[: self._window])

    def state_dict(self) -> dict[str, Any]:
        """Give everything needed to continue identically, in dicts, lists, numbers and strings only."""
        return {
            "seed": self._seed,
            "taken": self._taken,
            "rows": [place and [place.part, place.at] for place in self._rows],
            "corpus": self._corpus,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave; `length` and `epochs` may be others now, and the files may have moved.

        Raises:
            UserError: if the state is of another number of streams, of other documents or another window.
        """
        if len(state["rows"]) != self.streams:
            raise UserError(f"the state is of {len(state['rows'])} streams, there are {self.streams} here")
        if state["corpus"] != self._corpus:
            raise UserError("the state is of other documents, or of another window: name the same files as before")
        self._seed, self._taken, self._order = state["seed"], state["taken"], None
        self._rows = [place and self._open(*place) for place in state["rows"]]


@dataclass
class _Place:
    """Where a row stands: at byte `at` of a part, whose bytes are `text`."""

    part: int
    at: int
    text: NDArray[np.uint8]

    def read(self, piece: Piece, row: int, begin: int) -> int:
        """Fill a row of the piece from `begin` on as far as the part goes, and say how many bytes that is."""
        count = min(piece.tokens.shape[1] - begin, len(self.text) - self.at)
        here = slice(begin, begin + count)
        piece.tokens[row, here] = self.text[self.at : self.at + count]
        piece.first[row, begin] = self.at == 0
        piece.present[row, here] = True
        self.at += count
        return count
