"""Readers that answer: what they learn from is true, training goes through its stages, reading once answers all."""

import io
import json
import re
import shutil
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from recurra.agents import Reader, tokens
from recurra.agents.tokens import Bytes
from recurra.envs.documents import expand
from recurra.envs.documents.babilong import CHARACTERS_PER_TOKEN, Babilong
from recurra.errors import UserError
from recurra.memory import build as build_memory
from recurra.memory import gates
from recurra.memory import state as states
from recurra.recipes import answering, cli, evaluate, gridreport, parsing, read, settings, train
from recurra.recipes.answering import answers, by_depth
from recurra.recipes.loading import reader as load_reader
from recurra.recipes.questions import judged
from recurra.recipes.stages import Stages
from recurra.recipes.storytelling import Bank, Stream, document, documents, tell, words
from recurra.recipes.training import build

SMALL = {
    "steps": 4 * 256,
    "dim": 16,
    "layers": 1,
    "memory": "min_gru",
    "memory_options": {"closing": True},
    "threads": 1,
    "env.tasks": ["qa1"],
    "env.documents": ["text:shakespeare/phoenix_and_the_turtle", "text:shakespeare/macbeth"],
    "env.held_out": ["text:shakespeare/king_john"],
    "env.vocabulary": 300,
    "reading.streams": 4,
    "reading.tokens": 256,
    "reading.piece": 64,
    "reading.segment": 32,
    "reading.segments": [1, 2],
    "reading.promote_at": 0,
    "reading.window": 1,
    "evaluation.episodes": 2,
    "evaluation.length": "500",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    return train("babilong", root=str(tmp_path_factory.mktemp("runs")), **SMALL)["run"]


@pytest.fixture
def book(tmp_path) -> Path:
    path = tmp_path / "book.txt"
    path.write_bytes(b"".join(Babilong("qa1", expand("text:test"), length=9000).document(1).pieces()))
    return path


BANK = Bank(expand("text:shakespeare/macbeth"), Bytes())


def told(pieces) -> tuple[str, list[tuple[int, str]]]:
    """Give the text of pieces, and where in it which answers end."""
    tokens = np.concatenate([piece.tokens for piece in pieces])
    numbers = np.concatenate([piece.answers for piece in pieces])
    found = []
    for number in range(1, numbers.max(initial=0) + 1):
        places = np.flatnonzero(numbers == number)
        found.append((int(places[0]), bytes(tokens[places].tolist()).decode()))
    return bytes(tokens.tolist()).decode(), found


def check(text: str, found: list[tuple[int, str]]) -> None:
    """Answer qa1's questions by the text before them."""
    for place, answer in found:
        person = re.search(r"Where is (\w+)\?$", text[:place])[1]
        rooms = re.findall(rf"{person} (?:went|moved|travelled|journeyed)(?: back)? to the (\w+)\.", text[:place])
        assert rooms[-1].startswith(answer.strip(" ."))  # the last may be cut


@pytest.mark.parametrize(("facts_alone", "decoys"), [(True, 0.0), (False, 0.0), (False, 1.0)])
def test_what_is_learnt_from_is_true(facts_alone, decoys):
    count = 0
    for seed in range(20):
        made = document("qa1", BANK, Random(seed), length=1500, facts_alone=facts_alone, decoys=decoys)
        assert made.tokens.shape == made.answers.shape == (1500,)
        text, found = told([made])
        check(text, found)
        count += len(found)
    assert count > 40


def test_a_stream_tells_the_truth_over_its_pieces_and_goes_on_where_it_was():
    options = {"length": 400, "mean": 5.0, "rates": (0.5, 3.0), "seed": "7", "decoys": 0.5}
    stream, pieces, places = Stream(["qa1"], BANK, **options), [], []
    for piece in islice(stream, 40):
        if stream.piece == 1 and pieces:
            check(*told(pieces))
            pieces = []
        pieces.append(piece)
        places.append((stream.number, stream.piece))
    assert places[-1][0] > 2
    again = Stream(["qa1"], BANK, **options)
    again.open(*places[-1])
    for one, other in zip(islice(stream, 10), islice(again, 10), strict=True):
        assert np.array_equal(one.tokens, other.tokens)
        assert np.array_equal(one.answers, other.answers)


def words_of(bank, numbers):
    """Give the facts that come before each question, who is asked for, and what is answered."""
    text = bank.tokens.decode(numbers.tolist())
    for match in re.finditer(r"Where is (\w+)\? (\w+)\.", text):
        rooms = re.findall(
            rf"{match[1]} (?:went|moved|travelled|journeyed)(?: back)? to the (\w+)\.", text[: match.start()]
        )
        yield rooms, match[2]


@pytest.mark.parametrize("facts_alone", [True, False])
def test_of_false_answers_the_right_ones_are_learnt(facts_alone):
    """The text says any room, as often as another; what is to be foretold there is where somebody is."""
    sources = expand("text:shakespeare/macbeth")
    bank = Bank(sources, tokens.Vocabulary(tokens.learn(words(sources, ["qa1"]), 512)))
    right, said = [], []
    for seed in range(20):
        made = document("qa1", bank, Random(seed), length=2000, facts_alone=facts_alone, false_answers=1.0)
        assert np.array_equal(made.tokens[made.answers == 0], made.wanted[made.answers == 0])
        right += [rooms[-1] == room for rooms, room in words_of(bank, made.wanted) if rooms]
        said += [rooms[-1] == room for rooms, room in words_of(bank, made.tokens) if rooms]
    assert len(right) == len(said) > 30
    assert all(right)
    assert 0.02 < np.mean(said) < 0.35
    honest = document("qa1", bank, Random(0), length=2000, facts_alone=facts_alone)
    assert np.array_equal(honest.tokens, honest.wanted)


def test_an_answer_of_several_tokens_is_never_false():
    made = document("qa1", BANK, Random(0), length=2000, facts_alone=True, false_answers=1.0)
    assert made.answers.any()
    assert np.array_equal(made.tokens, made.wanted)


def test_what_is_wanted_is_learnt(monkeypatch):
    learner = module(**{"reading.false_answers": 1.0, "env.vocabulary": 512, "steps": 256})
    rows = learner._documents(0)[1]
    numbers, right, read = (np.stack([getattr(row, name) for row in rows]) for name in ("answers", "wanted", "tokens"))
    assert (read != right).any()
    targets = []

    def heard(logits, wanted):
        targets.append(wanted)
        return logits.sum()

    monkeypatch.setattr("recurra.recipes.questions.functional.cross_entropy", heard)
    learner.configure_optimizers()
    monkeypatch.setattr(learner, "improve", lambda loss: {})
    learner.training_step(None, 0)
    assert np.array_equal(targets[0].numpy(), right[numbers > 0])


def test_decoys_lie_between_words_of_the_prose_and_say_nothing():
    found = set()
    for unit in islice(tell("qa1", BANK, Random(0), facts=0.0, questions=0.0, decoys=1.0), 300):
        text = BANK.tokens.decode(unit.tokens)
        assert not re.search(r"(?:Mary|John|Daniel|Sandra) .* to the \w+\.", text)
        found |= {name for name in ("Mary", "Daniel", "bathroom", "hallway", "went") if f" {name}" in text}
    assert len(found) == 5


@pytest.mark.parametrize("decoys", [0.0, 1.0])
def test_facts_are_told_from_the_prose_that_they_stand_in(decoys):
    """They follow a sentence, or stand amid one; all but they need not be written."""
    fact = re.compile(r" (?:Mary|John|Daniel|Sandra) (?:went|moved|travelled|journeyed)(?: back)? to the \w+\.")
    made = document("qa1", BANK, Random(0), length=60_000, facts_alone=False, decoys=decoys)
    text = bytes(made.tokens.tolist()).decode()
    found = [match.span() for match in fact.finditer(text)]
    assert len(found) > 5
    marked = np.zeros(len(text), bool)
    for begin, end in found:
        marked[begin:end] = True
    assert np.array_equal(made.idle, ~marked)
    amid = [text[begin - 1].isalpha() for begin, _ in found]
    assert any(amid) == (decoys > 0)


@pytest.mark.parametrize("facts", [1.0, 0.3])
@pytest.mark.parametrize("task", ["qa4", "qa14", "qa15", "qa18", "qa20", "qa16-varied", "needle", "passkey"])
def test_a_story_that_is_over_is_asked_about_and_makes_way_for_the_next(task, facts):
    """A document is one story, asked about as often as a released one, its questions true of it alone."""
    units = list(islice(documents(task, BANK, Random(0), facts=facts, questions=0.3, decoys=0.0), 600))
    begins = [number for number, unit in enumerate(units) if unit.first]
    assert begins[0] == 0
    assert len(begins) > 5
    count = []
    for begin, end in pairwise(begins):
        asked = [len(unit.answer) > 0 for unit in units[begin:end]]
        if facts == 1.0:  # no prose: what is asked once all is told stands at the end
            assert asked[::-1].index(False) <= 5 + 10 * (task == "qa20")
        assert asked[-1] or task == "qa20"
        count.append(sum(asked))
    assert np.mean(count) > 0.9


def test_pieces_say_where_documents_begin():
    """The flags stand where a story's first fact does: qa4's are of two facts and one question."""
    made = document("qa4", BANK, Random(3), length=2000, facts_alone=True)
    text = bytes(made.tokens.tolist()).decode()
    parts = [part.tobytes() for part in np.split(made.tokens.astype(np.uint8), np.flatnonzero(made.first)[1:])]
    assert "".join(part.decode() for part in parts) == text
    for part in parts[:-1]:
        assert re.fullmatch(r"(?: The [a-z ]+\.){2}(?: What [a-z ]+\? [a-z]+\.){1,2}", part.decode())
    stream = Stream(["qa4"], BANK, length=400, mean=6.0, rates=(2.0, 4.0), seed="7")
    for piece in islice(stream, 30):
        assert piece.first[0] or stream.piece > 1
        assert not (stream.piece > 1 and piece.first[0] and piece.answers[0])


def test_documents_hold_as_many_facts_as_a_story_of_their_task():
    """Of qa3, whose stories take 35 facts on average, far more than qa1's 1 to 8."""

    def most(task: str, deed: str) -> int:
        made = [document(task, BANK, Random(seed), length=12_000, facts_alone=False) for seed in range(12)]
        return max(len(re.findall(deed, told([one])[0])) for one in made)

    deed = r" (?:Mary|John|Daniel|Sandra) \w+(?: \w+){2,4}\."
    assert most("qa1", deed) < 16
    assert most("qa3", deed) > 20


def test_the_vocabulary_knows_the_facts():
    text = " ".join(words(expand("text:shakespeare/phoenix_and_the_turtle"), ["qa1"]))
    assert "Let the bird of loudest lay" in text
    assert "Where is Mary?" in text


def test_stages_then_streams(run):
    rows = (Path(run) / "metrics.csv").read_text().splitlines()
    names = rows[0].split(",")
    stage = [float(row.split(",")[names.index("stage")]) for row in rows[1:]]
    assert stage == [1, 2, 3, 3]
    streamed = [row.split(",")[names.index("stream_accuracy")] != "" for row in rows[1:]]
    assert streamed == [False, False, False, True]


SEGMENTS = ["rmt", "armt", "transformer_xl"]


@pytest.mark.parametrize("memory", ["none", "gru", "lstm", "gated_delta_net", "window", "titans", "mamba2", *SEGMENTS])
def test_any_memory_learns(memory, tmp_path):
    own = {"segment": 16} if memory in SEGMENTS else {}
    options = {**SMALL, "memory": memory, "memory_options": own, "reading.write_penalty": 0, "evaluation.episodes": 1}
    result = train("babilong", root=str(tmp_path), **options)
    assert result["metrics"]["held_out_accuracy"] in (0, 1)
    before = module(**options).agent.state_dict()
    after = load_reader(result["run"]).state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before if "memory" in name and "weight" in name)


def test_it_learns_with_a_vocabulary_of_yours(run, tmp_path):
    path = tmp_path / "words"
    path.write_text(load_reader(run).config["tokenizer"])
    reader = module(**{"env.tokens": str(path)}).agent
    assert reader.config["tokenizer"] == path.read_text()


def test_vocabularies_of_any_size():
    class Words(Bytes):
        size = 70_000

        def encode(self, text):
            return [69_000 + byte for byte in text]

        def decode(self, tokens):
            return bytes(token - 69_000 for token in tokens if 0 <= token - 69_000 < 256).decode(errors="replace")

    bank = Bank(expand("text:shakespeare/phoenix_and_the_turtle"), Words())
    assert Words().decode(next(bank.prose(Random(0)))).startswith(" ")
    assert bank.spaces == {69_000 + ord(" ")}


def module(**options):
    recipe = settings.read(settings.find("babilong"), parsing.override({**SMALL, **options}))
    return build(recipe)


def test_a_run_whose_books_have_changed_is_not_resumed(tmp_path):
    books = tmp_path / "books"
    books.mkdir()
    (books / "one.txt").write_text("It was the best of times, it was the worst of times, it was so. " * 50)
    result = train("babilong", root=str(tmp_path), **{**SMALL, "env.documents": [str(books)]})
    (Path(result["run"]) / "result.json").unlink()
    (books / "one.txt").write_text("Call me Ishmael, some years ago and never mind how long precisely. " * 50)
    with pytest.raises(UserError, match="the checkpoint is of other documents"):
        train("babilong", root=str(tmp_path), resume=result["run"])


def test_an_answer_counts_where_all_of_it_is_right():
    numbers = np.array([[0, 1, 1, 0, 2, 2], [0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]])
    right = torch.tensor([True, True, True, False, True, True])
    assert judged(right, numbers) == [[True, False], [], [True]]


def stages(tasks=("qa1",), **options) -> Stages:
    return Stages(tasks, settings.QuestionsOptions(**options))


def test_promotion_needs_a_full_window():
    course = stages(promote_at=0.9, window=3)
    assert not any(course.judge("qa1", share) for share in (1.0, 0.5, 1.0, 1.0))  # 0.5, 1 and 1
    assert course.judge("qa1", 1.0)
    assert (course.mean, course.graduates) == (1, [])


def test_too_hard_a_stage_ends_after_its_updates_and_less_is_asked_for_later():
    course = stages(promote_at=0.9, promote_after=3, window=2, segments=[1])
    assert [course.judge("qa1", share) for share in (0.5, 0.5, 0.5)] == [False, False, True]
    again = stages(promote_at=0.9, promote_after=3, window=2, segments=[1])
    again.load_state_dict(json.loads(json.dumps(course.state_dict())))
    for one in (course, again):  # 0.45 is nine tenths of a half
        assert [one.judge("qa1", share) for share in (0.44, 0.46)] == [False, True]
        assert one.graduates == ["qa1"]


def test_each_task_goes_on_by_itself():
    course = stages(("qa1", "qa2", "qa3"), promote_at=0.9, window=1, segments=[1])
    assert course.judge("qa2", 1.0)
    assert course.judge("qa2", 1.0)
    assert (course.at(0), course.graduates) == (["qa1", "qa3"], ["qa2"])
    drawn = [course.draw_stage(Random(seed)) for seed in range(300)]
    assert set(drawn) == {0, 2}
    assert 60 < drawn.count(2) < 140  # one of three
    course.judge("qa1", 1.0)
    course.judge("qa1", 1.0)
    drawn = [course.draw_stage(Random(seed)) for seed in range(300)]
    assert 110 < drawn.count(2) < 190  # two of three, but no more than half of the time
    course.options.graduates = 0.1
    assert 10 < [course.draw_stage(Random(seed)) for seed in range(300)].count(2) < 60


def test_tasks_past_the_last_stage_are_drawn_by_what_is_answered_wrong():
    course = stages(("qa1", "qa2", "qa3"), promote_at=1.0, window=2, segments=[1])
    for task in ("qa1", "qa2", "qa3") * 4:
        assert course.judge(task, 1.0) == (course.standing[task].updates == 0)
    drawn = Counter(course.draw_task(Random(seed), 2) for seed in range(300))
    assert all(60 < drawn[task] < 140 for task in ("qa1", "qa2", "qa3"))  # nothing was asked there yet
    for task, share in [("qa1", 1.0), ("qa2", 0.5), ("qa3", 0.7)] * 2:
        assert not course.judge(task, share)
    again = stages(("qa1", "qa2", "qa3"), promote_at=1.0, window=2, segments=[1])
    again.load_state_dict(json.loads(json.dumps(course.state_dict())))
    for one in (course, again):
        drawn = Counter(one.draw_task(Random(seed), 2) for seed in range(1000))
        assert 0 < drawn["qa1"] < 40  # one of 81
        assert 560 < drawn["qa2"] < 680  # 50 of 81


def test_documents_are_of_tasks_at_their_stage_and_streams_of_those_beyond():
    learner = module(**{"env.tasks": ["qa1", "qa4", "qa6"], "reading.window": 1})
    learner.stages.standing["qa4"].stage = 3
    learner.stages.standing["qa6"].stage = 3
    assert set(learner._documents(0)[0]) == {"qa1"}
    for _ in range(12):
        learner.done += 1
        tasks, rows = learner._documents(3)
        assert set(tasks) <= {"qa4", "qa6"}
        assert len(tasks) == len(rows) == 256 // len(rows[0].tokens)
    seen = {task for _ in range(40) for task in learner._pieces()[0]}
    assert seen == {"qa4", "qa6"}


def test_documents_of_facts_alone_come_first():
    learner = module(**{"reading.facts_alone": [1, 4], "reading.segments": [2]})
    standing = learner.stages.standing["qa1"]
    for stage, (length, alone) in enumerate([(32, True), (128, True), (64, False)]):
        standing.stage = stage
        for row in learner._documents(stage)[1]:
            assert (len(row.tokens), row.idle.any()) == (length, not alone)
    standing.stage = 3
    seen = set()
    for _ in range(60):
        learner.done += 1
        seen |= {(len(row.tokens), bool(row.idle.any())) for row in learner._documents(3)[1]}
    assert seen == {(32, False), (64, False), (128, False), (64, True)}  # those of facts alone, as long as any


def test_the_penalty_lowers_what_is_written():
    torch.manual_seed(0)
    memory = build_memory("delta_net", 16, heads=2)
    x = torch.randn(2, 9, 16)
    with gates.heard() as costs:
        memory(x)
    (cost,) = costs
    assert cost.shape == (2, 9, 2)
    cost.mean().backward()
    assert memory.strength.weight.grad.abs().sum() > 0
    wide_open = torch.full((1,), 9.0, requires_grad=True)
    with gates.heard() as costs:
        assert gates.write_gate(wide_open, closing=True) == 1.0
    costs[0].sum().backward()
    assert wide_open.grad > 0.9  # though the gate itself no longer changes
    with gates.heard() as nothing:
        build_memory("linear_attention", 16)(x)
    assert nothing == []
    memory(x)
    assert len(costs) == 1  # nothing is heard afterwards


def test_where_there_are_facts_alone_all_may_be_written():
    made = document("qa1", BANK, Random(0), length=2000, facts_alone=True)
    assert made.answers.any()
    assert not made.idle.any()


def test_the_penalty_is_on_idle_writing():
    costs = [torch.ones(2, 3, 4, requires_grad=True), torch.ones(2, 3, 1, requires_grad=True)]
    idle = torch.tensor([[True, False, False], [False, True, True]])
    written = module()._written(costs, idle)
    written.backward()
    assert written == 0.5
    assert torch.equal(costs[0].grad > 0, idle.unsqueeze(-1).expand(2, 3, 4))


def test_evaluation(run, tmp_path):
    result = evaluate(run, grid={"task": ["qa1", "qa6"], "length": ["0", "500"]}, episodes=6)
    assert [(row["task"], row["length"]) for row in result["rows"]] == [
        ("qa1", "0"), ("qa1", "500"), ("qa6", "0"), ("qa6", "500"),
    ]  # fmt: skip
    for row in result["rows"]:
        assert {"tokens_per_second", "resident_bytes", "state_bytes", "by_depth"} <= row.keys()
        assert row["episodes"] == 6
    again = evaluate(run, grid={"task": ["qa1", "qa6"], "length": ["0", "500"]}, episodes=6, environments=2)
    assert [row["success_rate"] for row in again["rows"]] == [row["success_rate"] for row in result["rows"]]
    agent = shutil.copytree(Path(run) / "agent", tmp_path / "agent")
    both = evaluate([run, str(agent)], grid={"length": ["0"]}, episodes=3)["rows"]
    assert both[0]["success_rate"] == both[1]["success_rate"]
    several = evaluate(run, env={"questions": 3, "length": "500"}, episodes=4)
    assert several["episodes"] > 4
    (row,) = evaluate(run, env={"task": "qa4", "length": "500"}, episodes=2)["rows"]
    assert (row["task"], row["length"]) == ("qa4", "500")
    rows = evaluate(run, grid={"task": ["all"]}, env={"length": "0"}, episodes=1)["rows"]
    assert [row["task"] for row in rows] == [f"qa{number}" for number in range(1, 21)]


def test_lengths_are_counted_by_gpt2_s_own_vocabulary_where_it_is_at_hand(run, tmp_path):
    """By one of its kind, whose tokens are shorter than GPT-2's."""
    path = tmp_path / "tokenizer.json"
    path.write_text(tokens.learn(words(expand("text:train")[:2], ["qa1"]), 600))
    books = expand("text:test")
    per_token = answering._per_token(books, str(path))
    assert per_token < 3
    task = answering._task({"task": "qa1", "length": "20k"}, books, per_token, 0)
    count = len(tokens.Vocabulary(path.read_text()).encode(b"".join(task.document(0).pieces())))
    assert count == pytest.approx(20_000, rel=0.03)
    options = {"length": "2k", "gpt2": str(path)}
    (row,) = evaluate(run, env={"task": "qa1", **options}, episodes=2)["rows"]
    assert row["tokens_per_second"] * row["seconds"] == pytest.approx(4000, rel=0.02)
    with pytest.raises(FileNotFoundError, match="no such tokenizer file"):
        evaluate(run, env={"task": "qa1", **options, "gpt2": str(tmp_path / "none.json")}, episodes=2)


def test_speed_is_of_what_was_read(run):
    """Of facts alone, too, whose length is that of the story."""
    (row,) = evaluate(run, env={"length": "0"}, episodes=3)["rows"]
    task = Babilong("qa1", expand("text:test"), length=0)
    read = sum(len(" ".join(task.document(number).facts)) for number in range(3)) / CHARACTERS_PER_TOKEN
    assert row["tokens_per_second"] * row["seconds"] == pytest.approx(read, rel=0.05)


def test_what_evaluation_judges_is_what_the_reader_says(run):
    reader = load_reader(run)
    task = Babilong("qa1", expand("text:test"), length=2000, seed=3)
    found = answers(reader, task, episodes=3, at_once=3)
    for number, answer in enumerate(found):
        *_, state = reader.stream(task.document(number).pieces(777))
        assert reader.ask([answer.question], state) == [answer.said]
    shares = by_depth(found)
    assert len(shares) == 5
    assert sum(share is not None for share in shares) <= 3


def test_the_published_files(run, tmp_path):
    rows = [{"input": "Mary went to the garden.", "question": "Where is Mary? ", "target": "garden"}] * 3
    (tmp_path / "qa1").mkdir()
    for length in ("0k", "1k"):
        (tmp_path / "qa1" / f"{length}.json").write_text(json.dumps(rows))
    result = evaluate(run, data=str(tmp_path), episodes=2)
    assert [(row["task"], row["length"], row["episodes"]) for row in result["rows"]] == [
        ("qa1", "0k", 2), ("qa1", "1k", 2),
    ]  # fmt: skip


def test_a_report(run, tmp_path):
    pytest.importorskip("matplotlib")
    grid = {"task": ["qa1", "qa4"], "length": ["0", "500"]}
    result = evaluate(run, grid=grid, episodes=4, report=str(tmp_path / "report"))
    page = Path(result["report"]).read_text()
    assert "<th>500</th>" in page
    mean = sum(row["success_rate"] for row in result["rows"] if row["length"] == "500") / 2
    assert re.search(rf"<td>mean</td><td>[\d.]+</td><td>{100 * mean:.1f}</td>", page)
    assert "ARMT" in page
    assert "Llama-3.1-70B" in page
    assert "76.6" in page
    halves = [{"task": "qa1", "length": "4k", "success_rate": share} for share in (1.0, 0.5)]
    assert "<td>qa1</td><td>75.0</td>" in gridreport.grid(halves)  # of rows that differ by depth, their mean
    assert {path.name for path in Path(result["report"]).parent.iterdir()} == {"index.html", "grid-1.svg", "speed.svg"}


QUESTIONS = ["Where is Mary?", "Where is John?", "Where is Daniel?"]


def said(result) -> list[list[str]]:
    return [[answer["answer"] for answer in row["answers"]] for row in result["documents"]]


def test_reading_once_answers_all_and_later_too(run, book, tmp_path):
    state = str(tmp_path / "state")
    whole = read(str(book), reader=run, questions=QUESTIONS, state_out=state)
    assert [answer["question"] for answer in whole["documents"][0]["answers"]] == QUESTIONS
    assert whole["documents"][0]["bytes"] == 9000
    assert whole["documents"][0]["bits_per_byte"] is None
    for question, answer in zip(QUESTIONS, said(whole)[0], strict=True):
        assert said(read(str(book), reader=run, questions=[question], piece=100)) == [[answer]]
    written = Path(state).read_bytes()
    later = read([], reader=run, questions=QUESTIONS, state_in=state)
    assert said(later) == said(whole)
    assert later["documents"][0]["tokens"] == 0
    assert Path(state).read_bytes() == written


def test_several_documents_in_one_batch(run, book, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("Mary went to the garden. John moved to the office.")
    paths, state = [str(book), str(short), str(book)], str(tmp_path / "states")
    alone = read(paths, reader=run, questions=QUESTIONS)
    together = read(paths, reader=run, questions=QUESTIONS, at_once=3, piece=500, state_out=state)
    assert said(together) == said(alone)
    for name in ("bytes", "tokens"):
        assert [row[name] for row in together["documents"]] == [row[name] for row in alone["documents"]]
    assert said(read([], reader=run, questions=QUESTIONS, state_in=state)) == said(alone)


def test_stopped_in_the_middle_and_resumed(run, book, tmp_path):
    whole, half = str(tmp_path / "whole"), str(tmp_path / "half")
    wanted = read(str(book), reader=run, questions=QUESTIONS, state_out=whole)
    beginning = tmp_path / "beginning.txt"
    content = book.read_bytes()
    beginning.write_bytes(content[: content.index(b" ", 4000)])
    read(str(beginning), reader=run, state_out=half)
    resumed = read(str(book), reader=run, questions=QUESTIONS, state_in=half, resume=True, state_out=half)
    assert said(resumed) == said(wanted)
    assert resumed["documents"][0]["bytes"] == 9000
    for name, tensor in load_file(half).items():
        torch.testing.assert_close(tensor, load_file(whole)[name], rtol=1e-4, atol=1e-5)


def test_only_the_document_that_was_stopped_is_resumed(run, book, tmp_path):
    state, other = str(tmp_path / "state"), tmp_path / "other.txt"
    content = book.read_bytes()
    other.write_bytes(content[:3000] + b"!" + content[3001:])
    half = tmp_path / "half.txt"
    half.write_bytes(content[:4000])
    read(str(half), reader=run, state_out=state)
    with pytest.raises(UserError, match=r"other.txt is not the document that .*state was saved in"):
        read(str(other), reader=run, state_in=state, resume=True)
    half.write_bytes(content[1:4001])
    with pytest.raises(UserError, match=r"half.txt is not the document"):
        read(str(half), reader=run, state_in=state, resume=True)
    # A second document that continues the first: of it alone what was read is skipped, and counted.
    read(str(half), reader=run, state_in=state, state_out=state)
    half.write_bytes(content[1:4001] + b" and more")
    (row,) = read(str(half), reader=run, state_in=state, resume=True, state_out=state)["documents"]
    assert row["bytes"] == 4009
    assert int(states.load(state, like=load_reader(run).initial_state(1)).read) == 8009


def test_a_state_takes_the_place_of_a_state_alone(run, book, tmp_path):
    precious = tmp_path / "notes"
    for path in (book, precious):
        path.touch()
        before = path.write_bytes(b"what is mine ") and path.read_bytes()
        with pytest.raises(UserError, match="is there, and is no state: name a new file for --state-out"):
            read(str(book), reader=run, state_out=str(path))
        assert path.read_bytes() == before
    (tmp_path / "empty").touch()
    for _ in range(2):
        read(str(book), reader=run, state_out=str(tmp_path / "empty"))


@pytest.mark.parametrize("at_once", [1, 2])
def test_answers_are_not_lost_where_another_document_is_no_text(run, book, tmp_path, capsys, monkeypatch, at_once):
    monkeypatch.setenv("COLUMNS", "500")
    (tmp_path / "broken").write_bytes(b"all is well " * 9000 + b"\xff")
    command = ["read", *[str(book)] * at_once, str(tmp_path / "broken"), "--reader", run, "--question", QUESTIONS[0]]
    assert cli.main([*command, "--at-once", str(at_once)]) == 2
    told = capsys.readouterr()
    assert told.out.count(QUESTIONS[0]) == at_once
    assert f"{tmp_path / 'broken'}: this is no UTF-8 text: byte 108,000 is none" in told.err


def test_answers_as_it_goes(run, book):
    (row,) = read(str(book), reader=run, questions=QUESTIONS[:1], answers_every=1000)["documents"]
    at = [answer["at"] for answer in row["answers"]]
    assert len(at) == row["tokens"] // 1000 + 1
    assert [place // 1000 for place in at[:-1]] == list(range(1, len(at)))
    assert all(place % 1000 < 150 for place in at[:-1])
    assert at[-1] == row["tokens"]


def test_a_terminal_shows_how_reading_goes(run, book):
    shown = io.StringIO()
    read(str(book), reader=run, piece=500, console=Console(file=shown, force_terminal=True, width=200))
    assert "tokens/s" in shown.getvalue()
    assert "9,000 bytes" in shown.getvalue()
    plain = io.StringIO()
    read(str(book), reader=run, console=Console(file=plain))
    assert plain.getvalue() == ""


def test_a_state_of_another_reader_is_refused(run, book, tmp_path):
    other = train("babilong", root=str(tmp_path), **{**SMALL, "seed": 1})["run"]
    state = str(tmp_path / "state")
    read(str(book), reader=run, state_out=state)
    with pytest.raises(UserError, match="the state of another model, though of the same form"):
        read([], reader=other, questions=QUESTIONS, state_in=state)
    tensors = load_file(state)
    save_file(tensors, state, {"format": "recurra-state", "version": "0"})
    with pytest.raises(UserError, match="is of state format 0, this version reads 1"):
        read([], reader=run, questions=QUESTIONS, state_in=state)


def test_a_state_of_as_many_documents(run, book, tmp_path):
    state = str(tmp_path / "state")
    read([str(book), str(book)], reader=run, at_once=2, state_out=state)
    with pytest.raises(UserError, match="is the state of 2 documents, read here are 1: name as many, with --at-once 2"):
        read(str(book), reader=run, state_in=state)


def test_reading_leaves_no_trace_of_questions(run):
    reader = load_reader(run)
    *_, state = reader.stream([b"Mary went to the garden. John moved to the office."])
    before = {name: tensor.clone() for name, tensor in states.fields(state)}
    reader.ask(QUESTIONS, state)
    assert all(torch.equal(before[name], tensor) for name, tensor in states.fields(state))


def test_a_reader_with_a_vocabulary_is_saved_with_it(run):
    reader = load_reader(run)
    assert json.loads(reader.config["tokenizer"])["model"]["type"] == "BPE"
    assert reader.tokens.size == reader.config["vocabulary"] == 300


def test_mistakes_are_told(run, book, tmp_path):
    (tmp_path / "nothing").touch()
    plain = Reader(memory="gru", dim=8, layers=1)
    with pytest.raises(UserError, match="was not trained to answer"):
        plain.ask(["Where is Mary?"], plain.initial_state(1))
    with pytest.raises(UserError, match="not to go on with a text"):
        read(str(book), reader=run, write=5)
    with pytest.raises(UserError, match="babilong has no option 'lenght'; did you mean 'length'"):
        evaluate(run, env={"lenght": "4k"})
    with pytest.raises(UserError, match="babilong has no option 'tasks'; did you mean 'task'"):
        evaluate(run, env={"tasks": "qa6"})
    with pytest.raises(UserError, match="babilong has no option 'vocabulary'"):
        evaluate(run, grid={"vocabulary": [300, 400]})
    read(str(tmp_path / "nothing"), reader=run, state_out=str(tmp_path / "unread"))
    with pytest.raises(UserError, match="of which nothing was read"):
        read([], reader=run, questions=QUESTIONS, state_in=str(tmp_path / "unread"))
    with pytest.raises(UserError, match="leave --env and --grid out with --data"):
        evaluate(run, env={"length": "4k"}, data=str(book))
    with pytest.raises(UserError, match="videos are of agents that act"):
        evaluate(run, video=str(tmp_path / "film"))
    for wrong, message in [
        ({"env.tasks": ["qa21"]}, "there is no task 'qa21'"),
        ({"env.tasks": []}, "names no task"),
        ({"env.tokens": "words"}, "env.tokens must be bpe, bytes or the path"),
        ({"env.tokens": "none.json"}, "no such tokenizer file"),
        ({"env.held_out": ["text:shakespeare/macbeth"]}, "macbeth is learnt from and measured by"),
        ({"reading.segments": [2, 1]}, "must be numbers from 1 that grow"),
        ({"reading.facts_alone": [0, 1]}, "must be numbers from 1 that grow"),
        ({"reading.facts_alone": [], "reading.segments": []}, "name no stage"),
        ({"reading.segments": [64]}, "must hold the longest documents"),
        ({"reading.streams": 3}, "must be reading.tokens"),
        ({"reading.promote_after": 0}, "must be at least 1"),
        ({"reading.graduates": 1.5}, "graduates must lie in 0..1"),
        ({"reading.facts": [0, 1]}, "two numbers above 0"),
        ({"memory": "linear_attention", "memory_options": {"heads": 2}}, "how strongly it writes: --reading.write_pen"),
        ({"memory": "gru", "memory_options.heads": 2}, "babilong sets heads, closing for delta_net, which gru does"),
        ({"devices": 2}, "learnt in one process"),
        ({"evaluation.length": "long"}, "is no length in tokens"),
    ]:
        with pytest.raises((UserError, FileNotFoundError), match=message):
            train("babilong", root=str(tmp_path / "runs"), **{**SMALL, **wrong})
