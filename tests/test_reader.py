"""A reader scores every byte once, however its documents are cut."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.agents.reader import Reader
from recurra.errors import UserError
from recurra.memory import state as states


def reader(memory="delta_net", **options):
    torch.manual_seed(0)
    return Reader(memory=memory, dim=16, layers=1, **options).double().eval()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), memory=st.sampled_from(["none", "gru", "delta_net"]))
@torch.no_grad()
def test_flags_are_separate_documents(seed, memory):
    model = reader(memory)
    torch.manual_seed(seed)
    tokens = torch.randint(256, (3, 20), dtype=torch.uint8)
    first, present = torch.rand(3, 20) < 0.15, torch.rand(3, 20) < 0.7
    scores, last = model(tokens, first=first, present=present)
    for row in range(3):
        state = model.initial_state(1)
        for t in range(20):
            if first[row, t]:
                state = model.initial_state(1)
            expected = torch.zeros(1, 1).double()
            if present[row, t]:
                foretold = model.head(state.features).log_softmax(-1)  # before the byte is seen
                expected, state = model(tokens[row : row + 1, t : t + 1], state)
                assert expected.item() == pytest.approx(foretold[0, tokens[row, t].long()].item(), abs=1e-12)
            assert scores[row, t].item() == pytest.approx(expected.item(), abs=1e-10)
        for (name, actual), (_, wanted) in zip(
            states.fields(states.select(last, slice(row, row + 1))), states.fields(state), strict=True
        ):
            torch.testing.assert_close(actual, wanted, rtol=1e-10, atol=1e-10, msg=name)


def test_probabilities_of_all_bytes_sum_to_one():
    model = reader()
    tokens = torch.arange(256, dtype=torch.uint8).unsqueeze(1)
    scores, _ = model(tokens)
    assert scores.exp().sum().item() == pytest.approx(1.0)


@settings(deadline=None, max_examples=15)
@given(text=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60), max_size=5))
def test_stream_in_any_pieces(text, cuts):
    model = reader()
    whole = [model.initial_state(1), *model.stream([text])][-1]
    edges = [0, *sorted(cuts), len(text)]
    pieces = [text[begin:end] for begin, end in pairwise(edges)]
    *_, last = model.stream(pieces)
    assert last.read.item() == whole.read.item() == len(text)
    assert last.bits.item() == pytest.approx(whole.bits.item(), abs=1e-9)


def test_a_saved_state_scores_the_next_byte(tmp_path):
    model = reader()
    *_, whole = model.stream([b"To be, or not to be"])
    *_, half = model.stream([b"To be, or"])
    states.save(half, tmp_path / "state")
    *_, rest = model.stream([b" not to be"], states.load(tmp_path / "state", like=model.initial_state(1)))
    assert rest.read.item() == whole.read.item() == 19
    assert rest.bits.item() == pytest.approx(whole.bits.item(), abs=1e-10)


def test_long_pieces_are_read_a_part_at_a_time(monkeypatch):
    model = reader()
    (whole,) = model.stream([bytes(range(100))])
    monkeypatch.setattr("recurra.agents.reader.AT_ONCE_ON_CPU", 7)
    (parts,) = model.stream([bytes(range(100))])
    assert parts.bits.item() == pytest.approx(whole.bits.item(), abs=1e-9)


def test_writes_what_it_finds_likely():
    model = reader()
    likeliest, _ = model.write(5, temperature=0)
    assert likeliest == model.write(5, temperature=0)[0]
    *_, read = model.stream([likeliest[:2]])
    assert model.write(3, read, temperature=0)[0] == likeliest[2:]
    assert model.write(20, seed=1)[0] == model.write(20, seed=1)[0] != model.write(20, seed=2)[0]
    with pytest.raises(UserError, match="temperature"):
        model.write(1, temperature=-1)
    with pytest.raises(UserError, match="the state of one stream, got one of 2"):
        model.write(1, model.initial_state(2))


def test_a_batch_is_no_stream():
    model = reader()
    with pytest.raises(UserError, match="one stream"):
        next(model.stream([b"a"], model.initial_state(2)))
