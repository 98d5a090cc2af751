"""Associative recall: what is asked for was shown, and nothing else tells it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.envs.probes import Recall
from recurra.errors import UserError


@st.composite
def recalls(draw):
    keys = draw(st.integers(1, 40))
    pairs = draw(st.integers(1, keys))
    return Recall(
        pairs=pairs,
        queries=draw(st.none() | st.integers(1, keys)),
        rewritten=draw(st.floats(0, 1)),
        noise=draw(st.sampled_from([0.0, 0.3, 1.0, 2.5])),
        keys=keys,
        values=draw(st.integers(2, 30)),
        fillers=draw(st.integers(1, 5)),
    )


@settings(deadline=None, max_examples=100)
@given(recalls(), st.integers(0, 2**31))
def test_each_value_asked_for_is_the_last_that_was_shown_with_its_key(recall, seed):
    tokens, asked = recall.draw(3, np.random.default_rng(seed))
    assert tokens.shape == asked.shape == (3, recall.length)
    assert tokens.min() >= 0
    assert tokens.max() < recall.vocabulary
    for row, flags in zip(tokens, asked, strict=True):
        known, shown, answered, at = {}, [], [], 0
        while at < len(row):
            if row[at] >= recall.keys:  # not a key: a filler
                assert row[at] >= recall.keys + recall.values
                assert not flags[at]
                at += 1
                continue
            key, value = int(row[at]), int(row[at + 1])
            assert recall.keys <= value < recall.keys + recall.values
            assert not flags[at]
            if flags[at + 1]:
                assert known[key] == value
                answered.append(key)
            else:
                assert not answered  # all is shown before anything is asked for
                assert known.get(key) != value
                known[key] = value
                shown.append(key)
            at += 2
        assert len(known) == len(set(shown[: recall.pairs])) == recall.pairs
        assert len(shown) == recall.pairs + recall.rewritten
        assert len(answered) == len(set(answered)) == recall.queries


def test_values_are_told_by_nothing_but_the_pairs():
    """Keys, values and the order of queries are uniform and independent."""
    recall = Recall(pairs=4, keys=8, values=8, noise=1.0)
    tokens, asked = recall.draw(20_000, np.random.default_rng(0))
    values = tokens[asked].reshape(-1, 4) - 8
    keys = tokens[:, :-1][asked[:, 1:]].reshape(-1, 4)
    for place in range(4):
        table = np.zeros((8, 8))
        np.add.at(table, (keys[:, place], values[:, place]), 1)
        expected = 20_000 / 64
        assert ((table - expected) ** 2 / expected).sum() < 63 + 5 * np.sqrt(2 * 63)  # chi-squared
    first = tokens[tokens < 8].reshape(-1, 8)[:, 0]
    assert abs((first == keys[:, 0]).mean() - 1 / 4) < 0.02
    assert abs((tokens[:, 0] >= 16).mean() - 1 / 2) < 0.02  # a filler as often as a pair


def test_a_seed_gives_the_same_episodes():
    recall = Recall(pairs=5, noise=0.5)
    one, two, other = (recall.draw(4, np.random.default_rng(seed)).tokens for seed in (1, 1, 2))
    assert (one == two).all()
    assert (one != other).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": 129}, r"pairs must lie in 1\.\.128, the number of keys, got 129"),
        ({"pairs": 0}, "pairs must lie in"),
        ({"pairs": 4, "queries": 0}, "queries must be at least 1, got 0"),
        ({"pairs": 4, "rewritten": 5}, r"rewritten must lie in 0\.\.1"),
        ({"pairs": 4, "values": 1}, "at least 2 values"),
        ({"pairs": 4, "noise": -1.0}, "noise must not be negative"),
    ],
)
def test_numbers_that_do_not_fit_are_told(options, message):
    with pytest.raises(UserError, match=message):
        Recall(**options)
