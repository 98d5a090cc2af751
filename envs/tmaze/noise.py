"""Noise that is known beforehand: what a maze will show in any of its steps follows from a key that it drew once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

KEYS = 2**63
"""How many keys there are."""


def noise(key: Any, time: Any) -> NDArray[np.int64]:
    """Give -1, 0 or 1, each in a third of all steps, for keys and steps of shapes that go together.

    The counter is scrambled as in SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
    2014).

    >>> noise(5, np.arange(8)).tolist()
    [1, 0, 1, 1, 0, 0, -1, -1]
    """
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is what is meant
        z = np.asarray(key).astype(np.uint64) + (np.asarray(time).astype(np.uint64) + np.uint64(1)) * _STEP
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z % np.uint64(3)).astype(np.int64) - 1


_STEP = np.uint64(0x9E3779B97F4A7C15)
