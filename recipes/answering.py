"""Measuring readers that answer: BABILong's grid of tasks by lengths, with depth, speed and memory."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch

from recurra import resources
from recurra.agents import Reader, ReaderState, tokens, tracing
from recurra.agents.tokens import Vocabulary
from recurra.envs.documents import Source, babilong, expand
from recurra.envs.documents.babilong import Babilong, Document, Given
from recurra.envs.documents.prose import sentences
from recurra.errors import UserError, nearest
from recurra.memory import state as states
from recurra.recipes import devices, evaluation, loading
from recurra.recipes.settings import QuestionsEnv

#: Bytes of each document between looks at the next.
PIECE = 1 << 15

#: The lengths of the grid where none are named, in GPT-2 tokens.
LENGTHS = ["0", "1k", "4k", "16k"]

#: What can be asked for, by ``env`` and ``grid``.
OPTIONS = {"task", "length", "depth", "questions", "held_out", "gpt2"}

#: The most characters of the held-out books that GPT-2's vocabulary is tried on.
TRIED = 1 << 20

#: Into how many equal parts a document is divided where accuracy is told by depth.
DEPTHS = 5


class Answer(NamedTuple):
    """What a reader said to a question: ``depth`` is that of the first fact it follows from, None if not known."""

    question: str
    answer: str
    said: str
    right: bool
    depth: float | None


@torch.inference_mode()
def answers(reader: Reader, task: Babilong, *, episodes: int, at_once: int = 16, first: int = 0) -> list[Answer]:
    """Read documents of a task and ask their questions.

    Args:
        reader: who reads.
        task: makes the documents.
        episodes: how many.
        at_once: the most to read in one batch.
        first: the number of the first.
    """
    found = []
    for begin in range(first, first + episodes, at_once):
        documents = [task.document(number) for number in range(begin, min(begin + at_once, first + episodes))]
        state = _after(reader.side_by_side([document.pieces(PIECE) for document in documents]))
        for row, document in enumerate(documents):
            own = states.select(state, slice(row, row + 1))
            said = reader.ask([question.text for question in document.questions], own)
            found += [_judged(task.task, document, number, output) for number, output in enumerate(said)]
    return found


def _judged(task: str, document: Document, number: int, said: str) -> Answer:
    question = document.questions[number]
    judged = babilong.right(task, question.text, question.answer, said)
    return Answer(question.text, question.answer, said, judged, document.depth(question))


@torch.inference_mode()
def answers_to(reader: Reader, task: str, documents: list[Given]) -> list[Answer]:
    """Read published documents and ask their questions."""
    found = []
    for text, question, answer in documents:
        (said,) = reader.ask([question], _after(reader.stream(_pieces(text))))
        found.append(Answer(question, answer, said, babilong.right(task, question, answer, said), None))
    return found


def _after(reading: Iterator[ReaderState]) -> ReaderState:
    """Give the last state of a reading: of documents that are not empty, there is one."""
    return deque(reading, maxlen=1)[0]


def _pieces(text: str) -> Iterator[bytes]:
    content = text.encode()
    for begin in range(0, len(content), PIECE):
        yield content[begin : begin + PIECE]


def evaluate(
    runs: list[str],
    *,
    env: dict[str, Any],
    grid: dict[str, list[Any]],
    episodes: int,
    at_once: int,
    seed: int,
    device: str,
    precision: str,
    data: str | None = None,
    trace: bool = False,
) -> dict[str, Any]:
    """Measure readers that were trained to answer; what `recurra.recipes.evaluate` does with such runs.

    Args:
        runs: run folders, checkpoints, readers' own folders, or names of those that come with the package.
        env: ``task``, ``length`` (in GPT-2 tokens, such as 128k), ``depth`` (two shares of the document), ``questions``
            (to a document), ``held_out`` (the books) and ``gpt2`` (its ``tokenizer.json``, where it is at hand).
        grid: such options with the values to try, every combination a row; without tasks and lengths those of training
            and 0, 1k, 4k and 16k.
        episodes: how many documents, each row.
        at_once: the most to read side by side.
        seed: of the documents, the same for each run.
        device: cpu, cuda or auto.
        precision: 32-true or bf16-mixed.
        data: a file or folder of the published sets, to read in place of documents that are made.
        trace: also say of each row's first document where its first answer was read.

    Returns:
        ``run``, ``task``, ``episodes``, ``success_rate`` (the share of questions answered, as BABILong judges), of the
        first row, and ``rows``, where each has these, the options of the grid, ``by_depth`` (the share in each fifth of
        the document, None where nothing stood), ``tokens_per_second`` (of GPT-2's, like the lengths: at as many
        characters to a token as its vocabulary has in the held-out books, or else `CHARACTERS_PER_TOKEN`),
        ``resident_bytes`` and ``state_bytes``. With ``trace``, ``traces`` too: of each row a name, a
        `recurra.agents.tracing.Trace`, and where the facts stand, in bytes.

    Raises:
        UserError: if a run, an option or a value is wrong.
    """
    where = devices.device(device)
    computing = devices.precision(precision, where)
    usual = asdict(QuestionsEnv())  # of a reader outside its run's folder the recipe is not known
    loaded = [(run, reader, {**usual, **known}) for run in runs for reader, known in [loading.answerer(run)]]
    for option in sorted({*env, *grid} - OPTIONS):
        raise UserError(f"babilong has no option {option!r}; {nearest(option, OPTIONS)}")
    if data is not None and (env or grid):
        raise UserError("the published sets are read as they are: leave --env and --grid out with --data")
    given = {} if data is None else babilong.load(data)
    trials: list[tuple[str, Reader, dict[str, Any], Babilong | tuple[str, list[Given]], float]] = []
    for run, reader, trained in loaded:
        if data is not None:
            for name, documents in given.items():
                task, _, length = name.partition("/")
                read = task, documents[:episodes]
                trials.append((run, reader, {"task": task, "length": length}, read, babilong.CHARACTERS_PER_TOKEN))
            continue
        for point in evaluation.points(_grid(env, grid, trained)):
            options = {**trained, **env, **point}
            shown = {"task": options["task"], "length": options["length"], **point}
            books = expand(options["held_out"])
            per_token = _per_token(books, options.get("gpt2"))
            trials.append((run, reader, shown, _task(options, books, per_token, seed), per_token))
    rows, traces = [], []
    for run, reader, point, made, per_token in trials:
        reader.to(where)
        start = time.perf_counter()
        with computing:
            if isinstance(made, Babilong):
                found = answers(reader, made, episodes=episodes, at_once=at_once)
                size = sum(made.document(number).length for number in range(episodes))
            else:
                found = answers_to(reader, *made)
                size = sum(len(document.text) for document in made[1])
        rows.append(_row(run, reader, point, found, size / per_token, time.perf_counter() - start))
        if trace and isinstance(made, Babilong):
            document = made.document(0)
            question = document.questions[0]
            traced = tracing.trace(reader, document.pieces(PIECE), question.text)
            name = ", ".join([*([run] if len(runs) > 1 else []), f"{point['task']} at {point['length']}"])
            traces.append((name, traced, document.places(question)))
    names = ("run", "task", "episodes", "success_rate", "mean_return", "std_return")
    return {name: rows[0][name] for name in names} | {"rows": rows} | ({"traces": traces} if trace else {})


def _grid(env: dict[str, Any], grid: dict[str, list[Any]], trained: dict[str, Any]) -> dict[str, list[Any]]:
    tasks = {"task": trained["tasks"], **env, **grid}["task"]
    lengths = {} if "length" in env | grid else {"length": LENGTHS}
    return {"task": [], **lengths, **grid} | {"task": babilong.named(tasks)}


def _per_token(books: list[Source], gpt2: str | None) -> float:
    """Give the characters of a GPT-2 token: those in the books' sentences, where its vocabulary is at hand."""
    if gpt2 is None:
        return babilong.CHARACTERS_PER_TOKEN
    vocabulary = Vocabulary(tokens.read(gpt2))
    taken, size = [], 0
    for sentence in chain.from_iterable(map(sentences, books)):
        taken.append(f" {sentence}")
        size += len(taken[-1])
        if size > TRIED:
            break
    if not taken:
        raise UserError("there are no sentences in the held-out books to try GPT-2's vocabulary on")
    return size / sum(map(len, vocabulary.encode_all(taken)))


def _task(options: dict[str, Any], books: list[Source], per_token: float, seed: int) -> Babilong:
    depth = options.get("depth", [0, 1])
    if not (isinstance(depth, list | tuple) and len(depth) == 2 and all(isinstance(x, int | float) for x in depth)):
        raise UserError(f"depth must be two shares of the document, such as [0.2,0.4], got {depth!r}")
    questions = options.get("questions", 1)
    if not isinstance(questions, int):
        raise UserError(f"questions must be a number, got {questions!r}")
    return Babilong(
        str(options["task"]),
        books,
        length=babilong.characters(options["length"], per_token),
        depth=(float(depth[0]), float(depth[1])),
        questions=questions,
        seed=seed,
    )


def _row(
    run: str, reader: Reader, point: dict[str, Any], found: list[Answer], read: float, seconds: float
) -> dict[str, Any]:
    right = np.array([answer.right for answer in found], float)
    return {
        "run": run,
        "memory": reader.config["memory"],
        **point,
        "episodes": len(found),
        "success_rate": float(right.mean()),
        "mean_return": float(right.mean()),
        "std_return": float(right.std()),
        "by_depth": by_depth(found),
        "seconds": round(seconds, 3),
        "tokens_per_second": round(read / max(seconds, 1e-9), 1),
        "resident_bytes": resources.resident(),
        "state_bytes": states.nbytes(reader.initial_state(1)),
    }


def by_depth(found: list[Answer]) -> list[float | None]:
    """Give the share of questions answered whose first fact stands in each part of the document."""
    parts: list[list[bool]] = [[] for _ in range(DEPTHS)]
    for answer in found:
        if answer.depth is not None:
            parts[min(DEPTHS - 1, int(answer.depth * DEPTHS))].append(answer.right)
    return [sum(part) / len(part) if part else None for part in parts]
