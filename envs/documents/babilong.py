"""BABILong: the facts of a story, hidden in prose of any length, and a question at its end.

Kuratov et al. 2024 (arXiv 2406.10149). A document is made while it is read: a passage of a book and the facts are held,
not the document, however long it is.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from recurra.envs.documents import babi
from recurra.envs.documents.babi import Question, Story
from recurra.envs.documents.needles import Needle, Passkey
from recurra.envs.documents.prose import Prose
from recurra.envs.documents.sources import Source
from recurra.errors import UserError, nearest

#: Characters in a GPT-2 token, by which lengths in tokens are turned into characters: measured on documents of this
#: kind made of the bundled works of the part ``test`` (6.4 million characters in 1.61 million tokens).
CHARACTERS_PER_TOKEN = 3.97

#: All tasks: bAbI's twenty, these in varied words, then those with needles.
TASKS: dict[str, type[Story]] = {**babi.TASKS, "needle": Needle, "passkey": Passkey}

#: Names that stand for all twenty of bAbI.
ALL = {
    "all": [f"qa{number}" for number in range(1, 21)],
    "all-varied": [f"qa{number}-varied" for number in range(1, 21)],
}

LONGEST = 100_000_000


def named(tasks: str | Iterable[str]) -> list[str]:
    """List tasks by their names, one or several, each once; ``all`` and ``all-varied`` stand for twenty.

    >>> named("qa1"), len(named(["all", "qa1", "needle"]))
    (['qa1'], 21)

    Raises:
        UserError: if there is no such task.
    """
    names = [tasks] if isinstance(tasks, str) else list(tasks)
    found = [task for name in names for task in ALL.get(name, [name])]
    for task in found:
        if task not in TASKS:
            raise UserError(f"there is no task {task!r}; {nearest(str(task), [*ALL, *TASKS])}")
    return list(dict.fromkeys(found))


class Part(NamedTuple):
    """A sentence of a document, and which fact it is: None for prose."""

    text: str
    fact: int | None


class Document:
    """One document: its parts joined by spaces, exactly ``length`` characters long (0: the facts alone).

    Attributes:
        facts: the sentences to be found, in their order.
        questions: about the whole document; the first is BABILong's.
        length: in characters.

    >>> from recurra.envs.documents import expand
    >>> document = Babilong("qa1", expand("text:test"), length=300, seed=1).document(0)
    >>> len(" ".join(part.text for part in document))
    300
    >>> document.questions[0].text, document.questions[0].answer
    ('Where is Sandra?', 'kitchen')
    """

    def __init__(
        self,
        facts: list[str],
        questions: list[Question],
        sources: Sequence[Source],
        *,
        length: int,
        depth: tuple[float, float],
        seed: str,
    ) -> None:
        self.facts, self.questions = facts, questions
        self.length = length or sum(map(len, facts)) + len(facts) - 1
        self._sources, self._depth, self._seed = sources, depth, seed

    def __iter__(self) -> Iterator[Part]:
        """Give the document's parts, the same each time.

        Each fact stands at the first end of a sentence at or after a place drawn evenly from the depths allowed.
        """
        rng = Random(self._seed)
        left = self.length + 1 - sum(len(fact) + 1 for fact in self.facts)  # prose, a space after each sentence
        low, high = (share * left for share in self._depth)
        places = sorted(rng.uniform(low, high) for _ in self.facts)
        prose: Prose | None = None
        told = done = 0
        while left > 0:
            while told < len(places) and places[told] <= done:
                yield Part(self.facts[told], told)
                told += 1
            prose = prose or Prose(self._sources, rng)
            sentence = next(prose)[: left - 1]
            if left - len(sentence) - 1 == 1:  # room for a space alone
                sentence += "."
            yield Part(sentence, None)
            left -= len(sentence) + 1
            done += len(sentence) + 1
        for number in range(told, len(places)):
            yield Part(self.facts[number], number)

    def pieces(self, size: int = 1 << 16) -> Iterator[bytes]:
        """Give the document as UTF-8, in pieces of about ``size`` bytes."""
        held, count, between = [], 0, ""
        for part in self:
            held.append(between + part.text)
            count, between = count + len(held[-1]), " "
            if count >= size:
                yield "".join(held).encode()
                held, count = [], 0
        if held:
            yield "".join(held).encode()

    def depth(self, question: Question) -> float:
        """Say how deep the first fact that a question follows from stands: 0 at the start, 1 at the end."""
        at = 0
        for part in self:
            if part.fact == min(question.support):
                return at / max(1, self.length - len(part.text))
            at += len(part.text) + 1
        raise AssertionError("a question follows from facts")

    def places(self, question: Question) -> list[int]:
        """Say where the facts that a question follows from begin, in bytes."""
        found, at = [], 0
        for part in self:
            if part.fact in question.support:
                found.append(at)
            at += len(part.text.encode()) + 1
        return found


class Babilong:
    """Documents of one task and length, each a function of the seed and its number.

    Args:
        task: ``qa1`` to ``qa20`` or ``qa3-people``, each ``-varied`` too, ``needle`` or ``passkey``.
        sources: books to hide the facts in.
        length: of each document in characters; 0 leaves the prose out.
        depth: between which shares of the prose the facts stand.
        questions: how many are asked about each document, as far as its story answers different ones.
        seed: of everything.

    Raises:
        UserError: if there is no such task, or a number is wrong.
    """

    def __init__(
        self,
        task: str,
        sources: Sequence[Source],
        *,
        length: int,
        depth: tuple[float, float] = (0.0, 1.0),
        questions: int = 1,
        seed: int = 0,
    ) -> None:
        if task not in TASKS:
            raise UserError(f"there is no task {task!r}; {nearest(task, TASKS)}")
        if not 0 <= length <= LONGEST * 5:
            raise UserError(f"a document has 0 to {LONGEST * 5:,} characters, got {length:,}")
        if not 0 <= depth[0] <= depth[1] <= 1:
            raise UserError(f"depth must be two shares of the document, such as 0.2 and 0.4, got {list(depth)}")
        if questions < 1:
            raise UserError(f"questions must be at least 1, got {questions}")
        self.task, self.length, self.depth, self.questions, self.seed = task, length, depth, questions, seed
        self.sources = list(sources)
        self.labels = TASKS[task].labels
        if length:
            Prose(self.sources, Random(0))  # what is wrong with the texts is told now

    def document(self, number: int) -> Document:
        """Make the document of a number.

        Raises:
            UserError: if no story of the task is short enough.
        """
        seed = f"{self.seed}/{self.task}/{self.length}/{number}"
        rng = Random(f"{seed}/story")
        for _ in range(1000):
            story = TASKS[self.task](rng)
            facts, question = babi.tell(story)
            if not self.length or sum(len(fact) + 1 for fact in facts) <= self.length + 1:
                break
        else:
            raise UserError(f"the facts of {self.task} do not fit in {self.length:,} characters: ask for longer ones")
        asked = {question.text: question}
        for _ in range(20 * self.questions):
            if len(asked) < self.questions and (another := story.ask()) is not None:
                asked.setdefault(another.text, another)
        questions = list(asked.values())[: self.questions]
        return Document(facts, questions, self.sources, length=self.length, depth=self.depth, seed=seed)


class Given(NamedTuple):
    """A document of the published sets."""

    text: str
    question: str
    answer: str


def load(path: str | Path) -> dict[str, list[Given]]:
    """Read the published sets: JSON files with the fields ``input``, ``question`` and ``target``, by task and length.

    Args:
        path: a file, or a folder with such files at any depth; their paths name the task, ``…/qa1/128k.json``.

    Returns:
        The documents of each file, by ``qa1/128k``.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        UserError: if a file is none of them, or a document or question in it is empty.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path} holds no JSON files")
    return {f"{_task_of(file)}/{file.stem}": _read(file) for file in files}


def _task_of(file: Path) -> str:
    for part in reversed(file.absolute().with_suffix("").parts):
        found = re.search(r"qa\d+", part)
        if found and found[0] in TASKS:
            return found[0]
    raise UserError(f"{file} does not say its task: name it, or its folder, qa1 to qa20")


def _read(file: Path) -> list[Given]:
    try:
        content = file.read_text("utf-8")
        try:
            rows = json.loads(content)
        except json.JSONDecodeError:  # an object a line
            rows = [json.loads(line) for line in content.splitlines() if line.strip()]
        found = [Given(str(row["input"]), str(row["question"]), str(row["target"])) for row in rows]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{file} is none of BABILong's files: input, question and target of each document") from error
    if not found:
        raise UserError(f"{file} holds no documents")
    for number, given in enumerate(found):
        if not (given.text.strip() and given.question.strip()):
            raise UserError(f"{file}: its document {number}, counted from 0, has an empty input or question")
    return found


def right(task: str, question: str, answer: str, output: str) -> bool:
    """Judge an answer as BABILong does: by the first sentence of what was written.

    The answer must be in it, and no other of the task's labels but those in the question. Labels are whole words: the
    released metric finds "one" in "none", so that qa7's "none" is never right.

    >>> right("qa1", "Where is Mary?", "kitchen", "Mary is in the Kitchen. Not in the garden.")
    True
    >>> right("qa1", "Where is Mary?", "kitchen", "In the kitchen or the garden")
    False
    >>> right("qa7", "How many objects is Mary carrying?", "none", "none")
    True
    """
    said = output.lower().split(".")[0].split("<context>")[0].split("<example>")[0]
    wanted = answer.lower()
    labels = {label.lower() for label in TASKS[task].labels}
    if not labels:
        return wanted in said
    named = _words(labels, said) - _words(labels, question.lower())
    parts = wanted.split(",") if wanted not in labels else [wanted]
    return named == set(parts)


def _words(labels: set[str], text: str) -> set[str]:
    """Give the labels that a text has as words."""
    return {label for label in labels if re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text)}


def characters(length: str | int, per_token: float = CHARACTERS_PER_TOKEN) -> int:
    """Turn a length in GPT-2 tokens, as BABILong names it, into characters, so many to a token.

    >>> characters("1k"), characters("10M"), characters(0)
    (3970, 39700000, 0)

    Raises:
        UserError: if it is none.
    """
    found = re.fullmatch(r"(\d+)([kKmM]?)", str(length).strip())
    if not found:
        raise UserError(f"{length!r} is no length in tokens, such as 0, 500, 128k or 10M")
    tokens = int(found[1]) * {"": 1, "k": 1000, "m": 1_000_000}[found[2].lower()]
    if tokens > LONGEST:
        raise UserError(f"a document has at most 100M tokens, got {length}")
    return round(tokens * per_token)
