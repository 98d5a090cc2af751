"""A grid puts every token where counting through each stream, token by token, puts it."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.kernels.chunks import gather, grid, scatter


@st.composite
def pieces(draw):
    batch, time, chunk = draw(st.integers(0, 3)), draw(st.integers(0, 10)), draw(st.integers(1, 4))
    rows = st.lists(st.booleans(), min_size=time, max_size=time)
    drawn = [draw(st.lists(rows, min_size=batch, max_size=batch)) for _ in range(2)]
    first, present = (torch.tensor(flag, dtype=torch.bool).reshape(batch, time) for flag in drawn)
    position = torch.tensor(draw(st.lists(st.integers(0, 9), min_size=batch, max_size=batch)), dtype=torch.long)
    return position, draw(st.sampled_from([first, None])), draw(st.sampled_from([present, None])), time, chunk


def count(position, first, present, time, chunk):
    """Give one stream's chunks in this piece, as (resets, opens, offset, {place: token}), and its last position."""
    chunks, reset = [], False
    for t in range(time):
        if first is not None and first[t]:
            position, reset = 0, True
        if present is not None and not present[t]:
            continue
        place = position % chunk
        if place == 0 or not chunks:
            chunks.append((reset, place == 0, place, {}))
            reset = False
        chunks[-1][3][place] = t
        position += 1
    if reset:  # an episode that has no token yet
        chunks.append((True, True, 0, {}))
    return chunks, position


@settings(max_examples=300, deadline=None)
@given(pieces())
def test_a_grid_is_counting_through_each_stream(piece):
    position, first, present, time, chunk = piece
    layout = grid(*piece)
    slots, batch = layout.opens.shape
    assert layout.tokens.shape == layout.present.shape == (slots, batch, chunk)
    assert not layout.tokens[~layout.present].any()
    longest = 0
    for row in range(batch):
        flags = (None if flag is None else flag[row].tolist() for flag in (first, present))
        chunks, last = count(int(position[row]), *flags, time, chunk)
        longest = max(longest, len(chunks))
        assert int(layout.position[row]) == last
        chunks += [(False, False, 0, {})] * (slots - len(chunks))
        for slot, expected in enumerate(chunks):
            here = {
                place: int(layout.tokens[slot, row, place])
                for place in range(chunk)
                if layout.present[slot, row, place]
            }
            flags = (bool(field[slot, row]) for field in (layout.resets, layout.opens))
            assert (*flags, int(layout.offset[slot, row]), here) == expected
    assert slots == longest


@settings(max_examples=100, deadline=None)
@given(pieces())
def test_tokens_go_to_their_places_and_back(piece):
    present, time = piece[2], piece[3]
    batch = len(piece[0])
    layout = grid(*piece)
    x = torch.randn(batch, time, 2, dtype=torch.float64)
    absent = torch.zeros(batch, time, dtype=torch.bool) if present is None else ~present
    laid = gather(x.masked_fill(absent.unsqueeze(-1), torch.nan), layout)  # what an absent token holds does not matter
    assert not laid[~layout.present].any()
    assert torch.equal(scatter(laid, layout, time), x.masked_fill(absent.unsqueeze(-1), 0.0))
