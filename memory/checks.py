"""What the numbers that a memory is built of must be."""

import math

from recurra.errors import UserError


def check_heads(what: str, dim: int, heads: int, *, pairs: bool = False) -> None:
    """Make sure that heads divide a width, and with ``pairs`` of channels half of it.

    Raises:
        UserError: if they do not.
    """
    if heads < 1 or dim % (2 * heads if pairs else heads):
        width, size = ("half its dim", f"{dim} / 2") if pairs else ("its dim", dim)
        raise UserError(f"{what} needs heads that divide {width}: {heads} does not divide {size}")


def check_counts(**counts: int) -> None:
    """Make sure that numbers are at least 1.

    Raises:
        UserError: if one is not.
    """
    for name, count in counts.items():
        if count < 1:
            raise UserError(f"{name} must be at least 1, got {count}")


def check_expansion(expansion: float) -> None:
    """Make sure that an MLP's hidden layer can be so many times as wide as its input.

    Raises:
        UserError: if it cannot.
    """
    if not 0 <= expansion < math.inf:
        raise UserError(f"expansion must be a finite number of 0 or more, got {expansion}")
