"""Multi-query associative recall: pairs are shown, then keys, and each is to be followed by its value."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recurra.errors import UserError


class Episodes(NamedTuple):
    """Episodes side by side.

    Attributes:
        tokens: ``(count, length)`` int64.
        asked: ``(count, length)`` bool: the token is the value of a key that was asked for, to be foretold.
    """

    tokens: NDArray[np.int64]
    asked: NDArray[np.bool_]


class Recall:
    """Episodes of multi-query associative recall (Arora et al. 2023, arXiv 2312.04927).

    An episode shows pairs of a key and a value, then asks for keys, each followed by the value that it was last shown
    with. Tokens are numbered: keys, then values, then fillers, which stand between pairs and mean nothing.

    Args:
        pairs: how many keys are shown, each with a value of its own.
        queries: how many of them are asked for at most, in any order; None asks for all.
        rewritten: what part of them is shown again, with another value, after all have been shown.
        noise: fillers for each pair and for each query, on average: they stand anywhere between them.
        keys: how many keys there are to choose from.
        values: how many values there are.
        fillers: how many fillers there are.

    Raises:
        UserError: if the numbers do not fit each other.

    >>> recall = Recall(pairs=2, keys=4, values=4)
    >>> episodes = recall.draw(1, np.random.default_rng(0))
    >>> episodes.tokens  # two pairs, then each key again, with its value
    array([[3, 4, 2, 7, 3, 4, 2, 7]])
    >>> episodes.asked.astype(int)
    array([[0, 0, 0, 0, 0, 1, 0, 1]])
    """

    def __init__(
        self,
        *,
        pairs: int,
        queries: int | None = None,
        rewritten: float = 0.0,
        noise: float = 0.0,
        keys: int = 128,
        values: int = 32,
        fillers: int = 16,
    ) -> None:
        if not 1 <= pairs <= keys:
            raise UserError(f"pairs must lie in 1..{keys}, the number of keys, got {pairs}")
        if queries is not None and queries < 1:
            raise UserError(f"queries must be at least 1, got {queries}")
        if not 0 <= rewritten <= 1:
            raise UserError(f"rewritten must lie in 0..1, a part of the pairs, got {rewritten}")
        if not 0 <= noise < math.inf:
            raise UserError(f"noise must not be negative, and finite, got {noise}")
        if values < 2 or fillers < 1:
            raise UserError(f"at least 2 values and 1 filler are needed, got {values} and {fillers}")
        self.pairs, self.queries, self.rewritten = pairs, min(pairs, queries or pairs), round(rewritten * pairs)
        self.noise, self.keys, self.values, self.fillers = noise, keys, values, fillers

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return self.keys + self.values + self.fillers

    @property
    def length(self) -> int:
        """Tokens of an episode."""
        return sum(2 * count + self._fillers(count) for count in (self.pairs + self.rewritten, self.queries))

    def draw(self, count: int, rng: np.random.Generator) -> Episodes:
        """Draw as many episodes."""
        keys = _choose(self.keys, self.pairs, count, rng)
        values = rng.integers(self.values, size=keys.shape)
        again = _choose(self.pairs, self.rewritten, count, rng)
        late = np.take_along_axis(values, again, 1)
        late = (late + rng.integers(1, self.values, size=late.shape)) % self.values
        shown = self._lay(
            np.concatenate((keys, np.take_along_axis(keys, again, 1)), 1), np.concatenate((values, late), 1), rng
        )
        np.put_along_axis(values, again, late, 1)
        wanted = _choose(self.pairs, self.queries, count, rng)
        asked = self._lay(np.take_along_axis(keys, wanted, 1), np.take_along_axis(values, wanted, 1), rng)
        flags = np.concatenate((np.zeros_like(shown.asked), asked.asked), 1)
        return Episodes(np.concatenate((shown.tokens, asked.tokens), 1), flags)

    def _fillers(self, count: int) -> int:
        return round(self.noise * count)

    def _lay(self, keys: NDArray[np.int64], values: NDArray[np.int64], rng: np.random.Generator) -> Episodes:
        """Lay pairs out in their order, with fillers anywhere between them; mark the values."""
        count, pairs = keys.shape
        parts = pairs + self._fillers(pairs)
        is_pair = _choose(parts, parts, count, rng) < pairs
        begins = np.cumsum(1 + is_pair, 1) - (1 + is_pair)
        at = begins[is_pair].reshape(count, pairs)
        tokens = rng.integers(self.fillers, size=(count, parts + pairs)) + self.keys + self.values
        np.put_along_axis(tokens, at, keys, 1)
        np.put_along_axis(tokens, at + 1, values + self.keys, 1)
        asked = np.zeros(tokens.shape, np.bool_)
        np.put_along_axis(asked, at + 1, True, 1)
        return Episodes(tokens, asked)


def _choose(of: int, chosen: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Choose different numbers below ``of``, in random order: ``(count, chosen)``."""
    return rng.random((count, of)).argsort(1)[:, :chosen]
