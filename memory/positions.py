"""Where in its episode each token stands."""

import torch
from torch import Tensor


def positions(
    before: Tensor, shape: tuple[int, int], first: Tensor | None, present: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Count the present tokens of the episode before each token.

    Args:
        before: ``(batch,)`` int64, how many tokens of each stream's episode came before the piece.
        shape: the piece's ``(batch, time)``.
        first: ``(batch, time)`` bool; an episode begins here.
        present: ``(batch, time)`` bool; absent tokens do not count.

    Returns:
        ``(batch, time)`` positions, and ``(batch,)`` the count after the piece.

    >>> first = torch.tensor([[False, False, True, False]])
    >>> positions(torch.tensor([7]), (1, 4), first, None)
    (tensor([[7, 8, 0, 1]]), tensor([2]))
    """
    counted = torch.ones(shape, dtype=torch.long, device=before.device) if present is None else present.long()
    through = counted.cumsum(1)
    start = -before.unsqueeze(1)  # the count at which the episode began, were it counted from this piece's start
    if first is not None and shape[1]:
        begun = torch.where(first, through - counted, start)
        start = begun.cummax(1).values
    after = through - start
    return after - counted, after[:, -1] if shape[1] else before
