"""Packing: each episode of each stream as a sequence of its own, present tokens only.

What runs on plain sequences (a fused recurrent network) needs no code for resets and padding: it runs on the packed
tokens, from the states that `Packing.starts` gives, and hands its last states to `Packing.ends`.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Packing(NamedTuple):
    """Where the present tokens of a piece lie: sequences longest first, tokens position by position.

    Attributes:
        tokens: ``(tokens,)`` index of each packed token in the piece, flattened to ``batch * time``.
        sizes: ``(longest,)`` int64 on the CPU: how many sequences have a token at each position, the
            ``batch_sizes`` of `torch.nn.utils.rnn.PackedSequence`.
        row: ``(sequences,)`` the stream that each sequence is of.
        fresh: ``(sequences,)`` bool: whether the sequence begins an episode, and so starts afresh.
        last: ``(batch,)`` the sequence that each stream ends in; -1 if its last episode has no present token yet.
        reset: ``(batch,)`` bool: whether the stream was reset anywhere in the piece.
    """

    tokens: Tensor
    sizes: Tensor
    row: Tensor
    fresh: Tensor
    last: Tensor
    reset: Tensor

    def starts(self, state: Tensor, fresh: Tensor) -> Tensor:
        """Give what each sequence starts from, given the streams' ``(batch, dim)`` and what is fresh ``(1, dim)``."""
        return torch.where(self.fresh[:, None], fresh, state[self.row])

    def ends(self, sequences: Tensor, state: Tensor, fresh: Tensor) -> Tensor:
        """Give what each stream holds after the piece, given what the sequences end with ``(sequences, dim)``."""
        untouched = torch.where(self.reset[:, None], fresh, state)
        if not len(self.row):
            return untouched
        return torch.where((self.last < 0)[:, None], untouched, sequences[self.last.clamp(min=0)])


def pack(shape: tuple[int, int], first: Tensor | None, present: Tensor | None, device: torch.device) -> Packing:
    """Find the sequences of a piece of shape ``(batch, time)``.

    In numpy: many small steps, whose sizes hang on what the flags hold, and of which a GPU would wait for each.
    """
    batch, time = shape
    first_at = np.zeros(shape, dtype=bool) if first is None else first.cpu().numpy()
    episode = first_at.cumsum(1)
    name = np.arange(batch)[:, None] * (time + 1) + episode  # a number for each episode, in the order of tokens
    ending = np.arange(batch) * (time + 1) + first_at.sum(1)  # of each row's last

    tokens = np.arange(batch * time) if present is None else np.flatnonzero(present.cpu().numpy())
    names = name.ravel()[tokens]
    begins = np.append(True, names[1:] != names[:-1])[: len(tokens)]
    starts, sequence = np.flatnonzero(begins), begins.cumsum() - 1
    longest_first = np.argsort(-np.diff(starts, append=len(tokens)), kind="stable")
    rank = np.empty_like(longest_first)
    rank[longest_first] = np.arange(len(longest_first))
    position = np.arange(len(tokens)) - starts[sequence]
    sizes = np.bincount(position)
    packed = np.empty_like(tokens)
    packed[(sizes.cumsum() - sizes)[position] + rank[sequence]] = tokens

    names = names[starts[longest_first]]
    row = names // (time + 1)
    last, ends_row = np.full(batch, -1), names == ending[row]
    last[row[ends_row]] = np.flatnonzero(ends_row)

    def there(array: Any) -> Tensor:
        return torch.from_numpy(array).to(device)

    fresh, reset = names % (time + 1) > 0, first_at.any(1)
    return Packing(there(packed), torch.from_numpy(sizes), there(row), there(fresh), there(last), there(reset))
