"""Facts hidden in prose: lengths to the character, places by depth, the same for a seed, and never held whole."""

import json
import tracemalloc
from itertools import islice
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.envs.documents import babilong, expand, texts
from recurra.envs.documents.babilong import TASKS, Babilong, characters, load, right
from recurra.envs.documents.prose import Prose, sentences
from recurra.errors import UserError

BOOKS = expand("text:test")


def text(document):
    return " ".join(part.text for part in document)


@given(task=st.sampled_from(["qa1", "qa2", "qa17", "needle"]), length=st.integers(500, 6000), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_a_document_is_exactly_as_long_as_asked(task, length, seed):
    document = Babilong(task, BOOKS, length=length, seed=seed).document(0)
    assert len(text(document)) == document.length == length
    assert b"".join(document.pieces(1000)).decode() == text(document)


@pytest.mark.parametrize("task", TASKS)
def test_every_fact_is_there_in_its_order(task):
    for number in range(5):
        document = Babilong(task, BOOKS, length=20_000).document(number)
        found = [(part.fact, part.text) for part in document if part.fact is not None]
        assert found == list(enumerate(document.facts))


def test_without_length_the_facts_alone():
    document = Babilong("qa1", BOOKS, length=0).document(0)
    assert text(document) == " ".join(document.facts)
    assert document.length == len(text(document))


def test_the_prose_is_that_of_the_books():
    book = " ".join(texts.read("shakespeare/macbeth").decode().split())
    document = Babilong("qa1", expand("text:shakespeare/macbeth"), length=5000).document(0)
    prose = [part.text for part in document if part.fact is None]
    assert len(prose) > 20
    assert all(sentence in book for sentence in prose[:-1])  # the last is cut to the length
    assert all(len(sentence) >= 40 for sentence in prose[:-1])


def test_facts_stand_at_the_depth_asked_for():
    depths = []
    for number in range(40):
        task = Babilong("qa1", BOOKS, length=30_000, depth=(0.6, 0.8))
        document, at = task.document(number), 0
        for part in document:
            if part.fact is not None:
                assert 0.55 <= at / 30_000 <= 0.85
            at += len(part.text) + 1
        depths.append(document.depth(document.questions[0]))
    assert 0.65 < sum(depths) / 40 < 0.78
    anywhere = [
        document.depth(document.questions[0])
        for number in range(200)
        if (document := Babilong("needle", BOOKS, length=10_000).document(number))
    ]
    assert min(anywhere) < 0.1
    assert max(anywhere) > 0.9


def test_documents_are_functions_of_seed_and_number():
    def make(seed, number, **options):
        return Babilong("qa2", BOOKS, length=4000, seed=seed, **options).document(number)

    assert text(make(1, 3)) == text(make(1, 3))
    assert make(1, 3).questions == make(1, 3).questions
    assert len({text(make(seed, number)) for seed in (1, 2) for number in (3, 4)}) == 4
    document = make(1, 3)
    assert text(document) == text(document)  # read twice
    assert make(1, 3, questions=3).questions[0] == make(1, 3).questions[0]


def test_a_document_of_ten_million_characters_is_never_held():
    task = Babilong("qa1", BOOKS, length=10_000_000)
    list(islice(task.document(0).pieces(), 3))  # what is read once: the books
    tracemalloc.start()
    try:
        peaks = []
        for _ in range(2):
            tracemalloc.reset_peak()
            length = sum(map(len, Babilong("qa1", BOOKS, length=len(peaks) * 9_900_000 + 100_000).document(1).pieces()))
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert length == 10_000_000
    assert peaks[1] < peaks[0] + 300_000


def test_books_to_learn_from_and_to_be_measured_by_are_apart():
    learnt, measured = ({source.name for source in expand(part)} for part in ("text:train", "text:test"))
    assert learnt
    assert measured
    assert not learnt & measured


def test_prose_of_a_file_of_one_s_own(tmp_path):
    (tmp_path / "book.txt").write_text("A sentence of some length, which is long enough to count. Short. " * 50)
    told = set(islice(Prose(expand(str(tmp_path / "book.txt")), Random(0)), 100))
    assert told == {"A sentence of some length, which is long enough to count."}
    (tmp_path / "endless.txt").write_text("word " * 5000)
    assert all(40 <= len(piece) <= 600 for piece in islice(Prose(expand(str(tmp_path / "endless.txt")), Random(0)), 50))


def test_what_is_no_prose_is_told(tmp_path):
    (tmp_path / "digits.txt").write_text("1. 2. 3. " * 100)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(UserError, match="it is no prose"):
        next(Prose(expand(str(tmp_path / "digits.txt")), Random(0)))
    (tmp_path / "program").write_bytes(b"\x7fELF\0\0 A sentence of some length, which is long enough to count. " * 9)
    with pytest.raises(UserError, match="program is no text: there is a byte 0 in it"):
        next(Prose(expand(str(tmp_path / "program")), Random(0)))
    with pytest.raises(UserError, match="program is no text"):
        next(sentences(expand(str(tmp_path / "program"))[0]))
    with pytest.raises(UserError, match="empty ones only"):
        Prose(expand(str(tmp_path / "empty.txt")), Random(0))
    with pytest.raises(UserError, match="save it to a file"):
        Prose(expand("-"), Random(0))


def test_mistakes_are_told():
    with pytest.raises(UserError, match="there is no task 'qa0'"):
        Babilong("qa0", BOOKS, length=0)
    for options in ({"length": -1}, {"depth": (0.8, 0.2)}, {"questions": 0}):
        with pytest.raises(UserError):
            Babilong("qa1", BOOKS, **{"length": 1000, **options})
    with pytest.raises(UserError, match="do not fit in 30 characters"):
        Babilong("qa1", BOOKS, length=30).document(0)
    assert Babilong("qa3", BOOKS, length=900).document(0).length == 900  # a story that is short enough is told
    for wrong in ("ten", "-5", "5g", "200M"):
        with pytest.raises(UserError, match="tokens"):
            characters(wrong)


def test_the_published_sets_are_read(tmp_path):
    rows = [{"input": "Mary went to the garden.", "question": "Where is Mary? ", "target": "garden"}] * 2
    (tmp_path / "qa1").mkdir()
    (tmp_path / "qa1" / "0k.json").write_text(json.dumps(rows))
    (tmp_path / "qa1" / "1k.json").write_text("\n".join(map(json.dumps, rows)))
    found = load(tmp_path)
    assert list(found) == ["qa1/0k", "qa1/1k"]
    assert found["qa1/0k"] == found["qa1/1k"]
    assert found["qa1/0k"][0].answer == "garden"
    assert list(load(tmp_path / "qa1" / "1k.json")) == ["qa1/1k"]
    (tmp_path / "qa1" / "2k.json").write_text('[{"input": 5}]')
    with pytest.raises(UserError, match="none of BABILong's files"):
        load(tmp_path)
    (tmp_path / "qa1" / "2k.json").write_text(json.dumps([*rows, {**rows[0], "input": " "}]))
    with pytest.raises(UserError, match="its document 2, counted from 0, has an empty input"):
        load(tmp_path)
    (tmp_path / "qa1" / "2k.json").write_text("[]")
    with pytest.raises(UserError, match="holds no documents"):
        load(tmp_path)
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(UserError, match="does not say its task"):
        load(tmp_path / "other.json")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere")
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="holds no JSON"):
        load(tmp_path / "none")


@pytest.mark.parametrize(
    ("task", "question", "answer", "output", "judged"),
    [
        ("qa1", "Where is Mary?", "kitchen", " Kitchen.", True),
        ("qa1", "Where is Mary?", "kitchen", "She was in the garden, now in the kitchen", False),
        ("qa1", "Where is Mary?", "kitchen", "the kitchen. The garden is far", True),
        ("qa1", "Where is Mary?", "kitchen", "", False),
        # A room that the question names is not counted against the answer.
        ("qa3", "Where was the milk before the garden?", "kitchen", "before the garden in the kitchen", True),
        ("qa7", "How many objects is Mary carrying?", "none", "None.", True),  # "one" is no word of it
        ("qa7", "How many objects is Mary carrying?", "one", "none", False),
        ("qa8", "What is Mary carrying?", "milk,apple", "apple and milk", True),
        ("qa8", "What is Mary carrying?", "milk,apple", "milk", False),
        ("qa8", "What is Mary carrying?", "milk", "milk,apple", False),
        ("qa19", "How do you go from the garden to the office?", "n,w", "n,w", True),
        ("qa19", "How do you go from the garden to the office?", "n,w", "n,n", False),
        ("passkey", "What is the pass key?", "12345", "it is 12345", True),
        ("passkey", "What is the pass key?", "12345", "54321", False),
    ],
)
def test_answers_are_judged_as_babilong_judges_them(task, question, answer, output, judged):
    assert right(task, question, answer, output) is judged


def test_lengths_in_tokens_are_those_of_babilong_s_names():
    assert [characters(name) for name in ("0", "1k", "128K", "10M")] == [0, 3970, 508_160, 39_700_000]
    assert babilong.LONGEST == 100_000_000
