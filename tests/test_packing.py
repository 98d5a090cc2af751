"""Packing is splitting every stream into its episodes, present tokens only."""

from itertools import accumulate

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.kernels.packing import pack


@st.composite
def flags(draw):
    batch, time = draw(st.integers(0, 4)), draw(st.integers(0, 9))
    rows = st.lists(st.booleans(), min_size=time, max_size=time)
    drawn = [draw(st.lists(rows, min_size=batch, max_size=batch)) for _ in range(2)]
    first, present = (torch.tensor(flag, dtype=torch.bool).reshape(batch, time) for flag in drawn)
    return draw(st.sampled_from([first, None])), draw(st.sampled_from([present, None])), (batch, time)


def episodes(first, present, shape):
    """Split in plain Python: (row, whether it begins an episode, indices of its present tokens), and each row's end."""
    found, ends = [], []
    for row in range(shape[0]):
        fresh, tokens = False, []
        for t in range(shape[1]):
            if first is not None and first[row, t]:
                found.append((row, fresh, tokens))
                fresh, tokens = True, []
            if present is None or present[row, t]:
                tokens.append(row * shape[1] + t)
        found.append((row, fresh, tokens))
        ends.append((fresh, tokens))
    return [sequence for sequence in found if sequence[2]], ends


@settings(max_examples=200, deadline=None)
@given(flags())
def test_packing_is_a_split_into_episodes(drawn):
    first, present, shape = drawn
    packing = pack(shape, first, present, torch.device("cpu"))
    expected, ends = episodes(*drawn)

    sizes = packing.sizes.tolist()
    assert sizes == sorted(sizes, reverse=True)  # what PackedSequence asks for
    offsets = [0, *accumulate(sizes)]
    lengths = [sum(size > sequence for size in sizes) for sequence in range(len(packing.row))]
    sequences = [
        (row, fresh, [int(packing.tokens[offsets[position] + sequence]) for position in range(length)])
        for sequence, (row, fresh, length) in enumerate(
            zip(packing.row.tolist(), packing.fresh.tolist(), lengths, strict=True)
        )
    ]
    assert sorted(sequences) == sorted(expected)
    for row, (fresh, tokens) in enumerate(ends):
        last = int(packing.last[row])
        assert (sequences[last] == (row, fresh, tokens)) if tokens else (last == -1)
        assert bool(packing.reset[row]) == fresh


@settings(max_examples=100, deadline=None)
@given(flags())
def test_states_go_in_and_come_out_where_they_belong(drawn):
    """A state that holds the last token read, 0 when fresh and -1 - row before the piece."""
    packing = pack(drawn[2], drawn[0], drawn[1], torch.device("cpu"))
    before, fresh = -1.0 - torch.arange(drawn[2][0])[:, None], torch.zeros(1, 1)
    starts = packing.starts(before, fresh)[:, 0]
    assert starts.tolist() == [0.0 if f else -1.0 - row for row, f in zip(packing.row, packing.fresh, strict=True)]

    offsets = [0, *accumulate(packing.sizes.tolist())]
    lengths = [sum(size > sequence for size in packing.sizes.tolist()) for sequence in range(len(packing.row))]
    last = [float(packing.tokens[offsets[n - 1] + sequence]) + 1 for sequence, n in enumerate(lengths)]
    after = packing.ends(torch.tensor(last)[:, None], before, fresh)[:, 0]
    ends = episodes(*drawn)[1]
    expected = [
        tokens[-1] + 1.0 if tokens else 0.0 if reset else -1.0 - row for row, (reset, tokens) in enumerate(ends)
    ]
    assert after.tolist() == expected
