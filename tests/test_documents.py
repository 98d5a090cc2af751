"""Text streams: bundled works are clean and apart, any bytes are read in pieces, and rows read every document once."""

import hashlib
import io
import itertools
import json
import os
import re
import resource
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.envs.documents import Batches, expand, texts
from recurra.errors import UserError

ROOT = Path(__file__).parents[1]


# Bundled works


def test_bundled_works_are_those_of_the_provenance_page():
    page = (ROOT / "envs/documents/PROVENANCE.md").read_text()
    works = texts.works()
    assert len(works) == 43
    assert [work.name for work in works] == sorted(work.name for work in works)
    assert all(len(texts.read(work.name)) == work.bytes for work in works)
    whole = b"".join(texts.read(work.name) for work in works)
    assert hashlib.sha256(whole).hexdigest() in page
    for part in ("train", "test", "out_of_author"):
        assert f"{sum(work.bytes for work in texts.select(part)):,}" in page


def test_bundled_works_are_clean_text():
    for work in texts.works():
        text = texts.read(work.name).decode("ascii")
        assert not re.search(r"[^\n -~]|[@_#<>\\^~|]| \n|\n\n\n\n", text), work.name
        assert not re.search(r"gutenberg|\betext|copyright|licen[cs]e agreement", text, re.IGNORECASE), work.name
        assert text.strip("\n") + "\n" == text
    assert b"To be, or not to be,--that is the question:--" in texts.read("shakespeare/hamlet")


def test_held_out_works_do_not_occur_in_training():
    def lines(part):
        found = (line for work in texts.select(part) for line in texts.read(work.name).split(b"\n"))
        return [line.strip().lower() for line in found if len(line) > 30]

    seen = set(lines("train"))
    assert sum(work.bytes for work in texts.works() if work.held_out) / sum(work.bytes for work in texts.works()) < 0.17
    for part in ("test", "out_of_author"):
        assert np.mean([line in seen for line in lines(part)]) < 1e-3


def test_unknown_works_are_told_with_the_nearest():
    with pytest.raises(UserError, match=r"did you mean 'shakespeare/hamlet'"):
        texts.read("shakespeare/hamlt")
    with pytest.raises(UserError, match=r"did you mean 'milton/paradise_lost'"):
        expand("text:milton/paradise_lots")
    with pytest.raises(UserError, match="bundled text"):
        expand("text:")


# Sources


def read(source, size=7, start=0):
    return list(source.pieces(size, start=start))


@settings(deadline=None, max_examples=60)
@given(data=st.binary(max_size=60), size=st.integers(1, 70), start=st.integers(0, 60))
def test_pieces_are_the_bytes_from_the_start_on(tmp_path_factory, data, size, start):
    path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes(data)
    (file,) = expand(path)
    assert file.size == len(data)
    assert file.array().tobytes() == data
    out, into = os.pipe()
    os.write(into, data)
    os.close(into)
    (pipe,) = expand(f"/dev/fd/{out}")
    assert pipe.size is None
    for source in (file, pipe):
        if start > len(data):
            with pytest.raises(UserError, match=f"ends after {len(data)} bytes"):
                read(source, size, start)
        else:
            assert read(source, size, start) == [data[i : i + size] for i in range(start, len(data), size)]
    with pytest.raises(UserError, match="save it to a file"):
        pipe.array()
    os.close(out)


def test_standard_input_gives_a_piece_as_soon_as_it_is_there(monkeypatch):
    out, into = os.pipe()
    with open(out, "rb") as stream, open(into, "wb", buffering=0) as writer:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
        (source,) = expand(["-"])
        pieces = source.pieces(4, start=3)
        got = []
        for sent, expected in [(b"abcdefg", b"defg"), (b"hijkl", b"hijk")]:  # nothing more is sent until it is read
            writer.write(sent)
            reader = threading.Thread(target=lambda: got.append(next(pieces)), daemon=True)
            reader.start()
            reader.join(timeout=10)
            assert got.pop() == expected
        writer.close()
        assert list(pieces) == [b"l"]
        assert not stream.closed
        with pytest.raises(UserError, match="once"):
            expand(["-", "-"])


def test_folders_are_read_in_order_without_hidden_files(tmp_path):
    for name in ["b.txt", "a/z", "a/.hidden", ".git/config", "a-b/x", "A/y", "c"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    names = [os.path.relpath(source.name, tmp_path) for source in expand([tmp_path])]
    assert names == ["A/y", "a/z", "a-b/x", "b.txt", "c"]
    assert [source.name for source in expand([tmp_path / "c", "text:test", tmp_path / "b.txt"])][::5] == [
        str(tmp_path / "c"),
        str(tmp_path / "b.txt"),
    ]


def test_what_cannot_be_read_is_told_in_a_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        expand(tmp_path / "missing")
    with pytest.raises(UserError, match="holds no files"):
        expand(tmp_path)
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    with pytest.raises(UserError, match="Not a directory"):
        expand(file / "inner")
    with pytest.raises(UserError, match="cannot be read"):
        expand("a\0b")
    (source,) = expand(file)
    with pytest.raises(UserError, match="at least 1 byte"):
        read(source, size=0)
    file.unlink()
    for use in (read, type(source).array):
        with pytest.raises(UserError, match="No such file"):
            use(source)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission_are_told_before_reading(tmp_path):
    (tmp_path / "file").touch(mode=0)
    with pytest.raises(UserError, match="permission denied"):
        expand(tmp_path)


def test_files_larger_than_memory_are_read_in_place(tmp_path):
    path, size = tmp_path / "large", 1 << 40
    path.touch()
    try:
        os.truncate(path, size)  # a hole: nothing is stored
    except OSError:
        pytest.skip("no files of a terabyte here")
    with path.open("r+b") as file:
        file.seek(size - 5)
        file.write(b"tail!")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (source,) = expand(path)
    for start in (0, size // 3, size - (1 << 16)):
        assert sum(map(len, itertools.islice(source.pieces(1 << 16, start=start), 500))) in (500 << 16, 1 << 16)
    assert read(source, start=size - 5) == [b"tail!"]
    batches = Batches([source], streams=3, length=1 << 12)
    for _ in range(100):
        assert next(batches).present.all()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 8 << 10  # kB


# Batches

CORPORA = st.lists(st.binary(max_size=20), min_size=1, max_size=8).filter(any)
SHAPES = {"streams": st.integers(1, 5), "length": st.integers(1, 13), "seed": st.integers(0, 3)}
WINDOWS = st.none() | st.integers(1, 25)


class Memory:
    """A document in memory, as much of a source as Batches asks for."""

    def __init__(self, data):
        self.name, self.size, self.data = "memory", len(data), data

    def array(self):
        return np.frombuffer(self.data, np.uint8)


def runs(pieces):
    """Cut what the rows were given where `first` is set, leaving out what is absent: lists of bytes."""
    found = []
    for row in zip(*(zip(*piece, strict=True) for piece in pieces), strict=True) if pieces else []:
        for tokens, first, present in row:
            assert not first[~present].any()
            assert not tokens[~present].any()
            for token, starts in zip(tokens[present].tolist(), first[present].tolist(), strict=True):
                if starts:
                    found.append([])
                found[-1].append(token)
    return found


def documents(corpus, window):
    """Give the bytes of each document, cut at the window."""
    return [list(data[i : i + window]) for data in corpus for i in range(0, len(data), window)]


@settings(deadline=None, max_examples=150)
@given(corpus=CORPORA, window=WINDOWS, epochs=st.integers(1, 3), **SHAPES)
def test_every_document_is_read_once_an_epoch(corpus, window, epochs, **shape):
    batches = Batches([Memory(data) for data in corpus], window=window, epochs=epochs, **shape)
    assert batches.bytes == sum(map(len, corpus))
    pieces = list(batches)
    assert all(piece.tokens.shape == (shape["streams"], shape["length"]) for piece in pieces)
    assert all(piece.tokens.dtype == np.uint8 for piece in pieces)
    assert sorted(runs(pieces), key=repr) == sorted(documents(corpus, window or 99) * epochs, key=repr)
    assert batches.epoch == epochs
    assert next(batches, None) is None


@settings(deadline=None, max_examples=100)
@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=8), window=WINDOWS, **SHAPES)
def test_endless_reading_never_pauses_and_begins_an_epoch_after_all_of_the_one_before(sizes, window, **shape):
    batches = Batches([Memory(bytes([i]) * size) for i, size in enumerate(sizes)], window=window, **shape)
    share = window or max(1, sum(sizes) // shape["streams"])
    parts = np.array([-(-size // share) for size in sizes])
    if window is None and sum(sizes) >= shape["streams"]:
        assert parts.sum() >= shape["streams"]  # each row has a text of its own
    begun = np.zeros_like(parts)
    for _ in range(3 * sum(sizes) // (shape["streams"] * shape["length"]) + 2):
        piece = next(batches)
        assert piece.present.all()
        begun += np.bincount(piece.tokens[piece.first], minlength=len(sizes))
        epochs = begun.sum() / parts.sum()
        assert (np.floor(epochs) * parts <= begun).all()
        assert (begun <= np.ceil(epochs) * parts).all()
        assert batches.epoch == int(epochs)


@settings(deadline=None, max_examples=60)
@given(corpus=CORPORA, window=WINDOWS, before=st.integers(0, 20), epochs=st.none() | st.integers(1, 3), **SHAPES)
def test_a_resumed_iterator_continues_identically(corpus, window, before, epochs, **shape):
    def make(seed):
        options = shape | {"seed": seed}
        return Batches([Memory(data) for data in corpus], window=window, epochs=epochs, **options)

    batches = make(shape["seed"])
    for _ in itertools.islice(batches, before):
        pass
    state = json.loads(json.dumps(batches.state_dict()))
    resumed = make(seed=99)  # the state knows the seed
    resumed.load_state_dict(state)
    for _ in range(25):
        expected, got = next(batches, None), next(resumed, None)
        assert (expected is None) == (got is None)
        for one, other in zip(expected or (), got or (), strict=True):
            np.testing.assert_array_equal(one, other)
    assert batches.state_dict() == resumed.state_dict()


def test_orders_differ_by_seed_and_epoch():
    corpus = [Memory(bytes([i])) for i in range(50)]

    def order(seed):
        return [piece.tokens[0].tobytes() for piece in Batches(corpus, streams=1, length=50, seed=seed, epochs=2)]

    first, second = order(0)
    assert first != second
    assert order(0) == [first, second]
    assert order(1)[0] not in (first, second)


def test_files_are_read_in_rows_like_arrays(tmp_path):
    rng = np.random.default_rng(0)
    corpus = [rng.integers(0, 256, size, np.uint8).tobytes() for size in (1000, 0, 1, 333)]
    for index, data in enumerate(corpus):
        (tmp_path / str(index)).write_bytes(data)
    options = {"streams": 3, "length": 17, "epochs": 2, "window": 100}
    files = list(Batches(expand(tmp_path), **options))
    for one, other in zip(files, Batches([Memory(data) for data in corpus], **options), strict=True):
        for got, expected in zip(one, other, strict=True):
            np.testing.assert_array_equal(got, expected)


def test_files_that_grow_stay_what_they_were_and_those_that_shrink_are_told(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"abc")
    batches = Batches(expand(path), streams=1, length=3)
    path.write_bytes(b"abcdef")
    assert [next(batches).tokens.tobytes() for _ in range(2)] == [b"abc", b"abc"]
    path.write_bytes(b"ab")
    with pytest.raises(UserError, match="shorter"):
        next(batches)


def test_wrong_uses_are_told():
    corpus = [Memory(b"some text")]
    for wrong in ({"streams": 0}, {"length": 0}, {"window": 0}, {"epochs": 0}):
        with pytest.raises(UserError, match=f"{next(iter(wrong))} must be at least 1"):
            Batches(corpus, **{"streams": 1, "length": 1} | wrong)
    with pytest.raises(UserError, match="save it to a file"):
        Batches(expand("-"), streams=1, length=1)
    with pytest.raises(UserError, match="nothing to read"):
        Batches([Memory(b"")], streams=1, length=1)
    state = Batches(corpus, streams=2, length=1).state_dict()
    with pytest.raises(UserError, match="2 streams, there are 1"):
        Batches(corpus, streams=1, length=1).load_state_dict(state)
    with pytest.raises(UserError, match="other documents"):
        Batches([Memory(b"other text")], streams=2, length=1).load_state_dict(state)
