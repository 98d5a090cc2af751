"""Packing: each episode of each stream as a sequence of its own, present tokens only.

A memory that runs on plain sequences (a fused recurrent network) needs no code for resets and padding: it runs on
the packed tokens, from the states that `Packing.starts` gives, and hands its last states to `Packing.ends`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from recurra.memory import state as states
from recurra.memory.state import State


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

    def starts(self, state: State, fresh: State) -> State:
        """Give each sequence the state that it starts from, given the streams' states and one fresh state."""
        return states.reset(states.select(state, self.row), self.fresh, fresh)

    def ends(self, sequences: State, state: State, fresh: State) -> State:
        """Give each stream its state after the piece, given the sequences' last states."""
        untouched = states.reset(state, self.reset, fresh)
        if not len(self.row):
            return untouched
        ended = states.select(sequences, self.last.clamp(min=0))
        return states.reset(ended, self.last < 0, untouched)


def pack(shape: tuple[int, int], first: Tensor | None, present: Tensor | None, device: torch.device) -> Packing:
    """Find the sequences of a piece of shape ``(batch, time)``."""
    batch, time = shape
    if first is None:
        first = torch.zeros(shape, dtype=torch.bool, device=device)
    if present is None:
        present = torch.ones(shape, dtype=torch.bool, device=device)
    rows = torch.arange(batch, device=device)
    episode = first.long().cumsum(1)
    name = rows[:, None] * (time + 1) + episode  # one number for each episode of each row, in the order of tokens

    tokens = present.flatten().nonzero().squeeze(1)
    names, sequence, lengths = torch.unique_consecutive(name.flatten()[tokens], return_inverse=True, return_counts=True)
    position = torch.arange(len(tokens), device=device) - (lengths.cumsum(0) - lengths)[sequence]
    longest_first = lengths.argsort(descending=True, stable=True)
    rank = torch.empty_like(longest_first)
    rank[longest_first] = torch.arange(len(names), device=device)
    names = names[longest_first]
    order = (position * max(len(names), 1) + rank[sequence]).argsort()

    row = names // (time + 1)
    ends_row = names == (rows * (time + 1) + first.long().sum(1))[row]
    last = torch.full((batch,), -1, device=device)
    last[row[ends_row]] = ends_row.nonzero().squeeze(1)
    return Packing(
        tokens=tokens[order],
        sizes=torch.bincount(position).cpu(),
        row=row,
        fresh=names % (time + 1) > 0,
        last=last,
        reset=first.any(1),
    )
