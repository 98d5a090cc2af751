"""Documents to learn from, as tokens: prose with the facts of a story in it and questions on the way."""

from collections import deque
from collections.abc import Iterator, Sequence
from functools import cache, cached_property, lru_cache
from itertools import islice
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recurra.agents.tokens import Tokens, Vocabulary
from recurra.envs.documents import Source, babi
from recurra.envs.documents.babilong import TASKS
from recurra.envs.documents.prose import sentences

#: The most characters of prose that are held as tokens to learn from.
LARGEST_BANK = 16_000_000

#: Stories of each task that a vocabulary is learnt from, beside the books.
STORIES = 1000

#: Stories of a task that tell how many facts it takes.
SOUNDED = 200

#: The most sentences of stories whose tokens are kept.
KNOWN = 1 << 16


class Told(NamedTuple):
    """Tokens of documents, one after another.

    Attributes:
        tokens: ``(time,)``.
        answers: which of them belong to answers: 0 for none, the answers numbered through from 1.
        wanted: ``(time,)``, what is to be foretold: the tokens themselves, in false answers those of the right one.
        idle: which of them need not be written: all but facts; where there are facts alone, none.
        first: which of them a document begins with.
    """

    tokens: NDArray[np.int64]
    answers: NDArray[np.int64]
    wanted: NDArray[np.int64]
    idle: NDArray[np.bool_]
    first: NDArray[np.bool_]


class Unit(NamedTuple):
    """A fact, a sentence of prose or a part of one, or a question with its answer.

    ``answer`` are the tokens of the right answer, in whose place the last of ``tokens`` stand; ``idle`` says whether it
    need not be written, ``first`` whether a document begins with it.
    """

    tokens: list[int]
    idle: bool = False
    answer: Sequence[int] = ()
    first: bool = False


def words(documents: Sequence[Source], tasks: Sequence[str]) -> Iterator[str]:
    """Give what a vocabulary is learnt from: the books' sentences, and stories with their questions and answers."""
    for source in documents:
        yield from sentences(source)
    for task in tasks:
        rng = Random(f"{task}/words")
        for _ in range(STORIES):
            facts, question = babi.tell(TASKS[task](rng))
            yield " ".join(("", *facts, question.text, f"{question.answer}."))


class Bank:
    """The books' sentences as tokens.

    Args:
        documents: the books; of more than `LARGEST_BANK` characters, the first are taken.
        tokens: how text is written as numbers.
    """

    def __init__(self, documents: Sequence[Source], tokens: Tokens) -> None:
        self.tokens = tokens
        self.encode = lru_cache(KNOWN)(self._encode)
        texts, size = [], 0
        for source in documents:
            for sentence in sentences(source):
                texts.append(f" {sentence}")
                size += len(sentence)
                if size > LARGEST_BANK:
                    break
        smallest = np.min_scalar_type(tokens.size)
        if isinstance(tokens, Vocabulary):
            self._sentences = [np.array(found, smallest) for found in tokens.encode_all(texts)]
        else:
            self._sentences = [np.array(tokens.encode(text.encode()), smallest) for text in texts]

    def __len__(self) -> int:
        """How many sentences there are."""
        return len(self._sentences)

    @cached_property
    def mean(self) -> float:
        """How many tokens a sentence has on average."""
        return sum(map(len, self._sentences)) / len(self)

    @cached_property
    def spaces(self) -> set[int]:
        """The tokens that a word can begin with: those before which there is a space, after another word."""
        (word, *_), decode = self.tokens.encode(b" a"), self.tokens.decode
        before = decode([word])
        return {token for token in range(self.tokens.size) if decode([word, token])[len(before) :].startswith(" ")}

    def cut(self, sentence: list[int], rng: Random) -> tuple[list[int], list[int]]:
        """Cut a sentence in two between words; at its end where its tokens do not tell words apart."""
        places = [place for place, token in enumerate(sentence) if token in self.spaces]
        place = rng.choice(places or [len(sentence)])
        return sentence[:place], sentence[place:]

    def prose(self, rng: Random) -> Iterator[list[int]]:
        """Give sentences without end: passages of up to 40, one after another."""
        while True:
            begin = rng.randrange(len(self))
            for sentence in self._sentences[begin : begin + rng.randint(1, 40)]:
                yield sentence.tolist()

    def _encode(self, text: str) -> list[int]:
        """Give the tokens of a fact, a question or an answer, as they are in the midst of a text."""
        return self.tokens.encode(f" {text}".encode())


def tell(
    task: str, bank: Bank, rng: Random, *, facts: float, questions: float, decoys: float, false_answers: float = 0.0
) -> Iterator[Unit]:
    """Tell a story in prose: as long as it goes on, or until it is over and has been asked about.

    After a fact there is a question with probability one half. Of a story that is over no more is asked than in the
    released stories: to ask the same again would teach to look for the answer given before.

    Args:
        task: which.
        bank: the prose.
        rng: decides everything.
        facts: how likely the next sentence is a fact, as long as there are more; 1 leaves prose out.
        questions: how likely a question is after a sentence of prose.
        decoys: how likely a sentence of prose has a few words of a fact in it, which tell nothing; and a fact stands
            in the midst of a sentence of prose.
        false_answers: how likely an answer stands there as any of the task's, drawn at random.
    """
    story, prose, fragments = TASKS[task](rng), bank.prose(rng), _fragments(task, rng)
    left = story.questions
    while left:
        told, asks = len(story.facts), False
        if rng.random() < facts and story.happen():
            for fact in story.facts[told:]:
                before, after = bank.cut(next(prose), rng) if rng.random() < decoys else ([], [])
                parts = (Unit(before, idle=True), Unit(bank.encode(fact)), Unit(after, idle=True))
                yield from (part for part in parts if part.tokens)
            asks = rng.random() < 0.5
        elif facts == 1:
            asks = True
        else:
            sentence = next(prose)
            if rng.random() < decoys:
                before, after = bank.cut(sentence, rng)
                sentence = [*before, *bank.encode(next(fragments)), *after]
            yield Unit(sentence, idle=True)
            asks = rng.random() < questions
        if asks:
            if (question := story.ask()) is not None:
                false = false_answers and story.labels and rng.random() < false_answers
                yield _unit(question, rng.choice(story.labels) if false else question.answer, bank, idle=facts < 1)
            elif story.over:
                return
            left -= story.over


def documents(task: str, bank: Bank, rng: Random, **chances: float) -> Iterator[Unit]:
    """Tell stories of a task without end, each as a document of its own; see `tell`."""
    while True:
        first = True
        for unit in tell(task, bank, rng, **chances):
            yield unit._replace(first=first)
            first = False


def _fragments(task: str, rng: Random) -> Iterator[str]:
    """Give parts of facts of other stories: up to half of a fact's words, too few to say anything."""
    while True:
        story = TASKS[task](rng)
        while len(story.facts) < 20 and story.happen():
            pass
        for fact in story.facts:
            words = fact.rstrip(".").split()
            length = rng.randint(1, max(1, len(words) // 2))
            begin = rng.randint(0, len(words) - length)
            yield " ".join(words[begin : begin + length])


def _unit(question: babi.Question, said: str, bank: Bank, *, idle: bool) -> Unit:
    """Give a question, and what is said to be its answer; the right one unless both differ in their first token alone.

    A later token is foretold from those before it, which have to be right.
    """
    answer, stated = (bank.encode(f"{text}.") for text in (question.answer, said))
    stated = stated if stated[1:] == answer[1:] else answer
    return Unit([*bank.encode(question.text), *stated], idle=idle, answer=answer)


class Roll(Iterator[Told]):
    """Documents as pieces of so many tokens each."""

    def __init__(self, units: Iterator[Unit], length: int) -> None:
        self._units, self._length, self._count = units, length, 0
        self._held: deque[tuple[int, int, int, bool, bool]] = deque()

    def __next__(self) -> Told:
        """Give the next piece."""
        while len(self._held) < self._length:
            unit = next(self._units)
            self._count += len(unit.answer) > 0
            asking = len(unit.tokens) - len(unit.answer)
            wanted = [*unit.tokens[:asking], *unit.answer]
            for place, (token, right) in enumerate(zip(unit.tokens, wanted, strict=True)):
                number = self._count if place >= asking else 0
                self._held.append((token, number, right, unit.idle, unit.first and place == 0))
        piece = [self._held.popleft() for _ in range(self._length)]
        return Told(*map(np.array, zip(*piece, strict=True)))


def document(
    task: str,
    bank: Bank,
    rng: Random,
    *,
    length: int,
    facts_alone: bool,
    decoys: float = 0.0,
    false_answers: float = 0.0,
) -> Told:
    """Make a document of exactly so many tokens, or of facts alone; where its story is over, another follows.

    It has from about 1 fact in it to twice as many as a story of the task has on average. See `tell`.
    """
    if facts_alone:
        alone = documents(task, bank, rng, facts=1.0, questions=0.0, decoys=0.0, false_answers=false_answers)
        return next(Roll(alone, length))
    units = length / bank.mean
    facts = min(0.8, rng.uniform(1, 2 * _usual(task)) / units)
    chances = {"facts": facts, "questions": min(0.5, 4 / units), "decoys": decoys, "false_answers": false_answers}
    told = documents(task, bank, rng, **chances)
    return next(Roll(told, length))


@cache
def _usual(task: str) -> float:
    """Give how many facts a story of a task has on average."""
    rng = Random(f"{task}/usual")
    return sum(len(babi.tell(TASKS[task](rng))[0]) for _ in range(SOUNDED)) / SOUNDED


class Stream(Iterator[Told]):
    """Documents one after another, in pieces of so many tokens; only the place in them has to be kept.

    A document goes on for a while, with as many stories as have room in it, one after another.

    Attributes:
        number: of the document at hand, -1 before the first.
        piece: how many of its pieces have been given.
        task: which it is of.
        tasks: those that the next may be of.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        bank: Bank,
        *,
        length: int,
        mean: float,
        rates: tuple[float, float],
        seed: str,
        decoys: float = 0.0,
        false_answers: float = 0.0,
    ) -> None:
        self.tasks, self.bank, self.length, self.mean, self.rates, self.seed = tasks, bank, length, mean, rates, seed
        self.decoys, self.false_answers = decoys, false_answers
        self.number, self.piece, self.pieces, self.task = -1, 0, 0, ""

    def open(self, number: int, piece: int = 0, task: str | None = None) -> None:
        """Go to a piece of a document, of the task that is given or of any."""
        rng = Random(f"{self.seed}/{number}")
        self.task = Random(f"{self.seed}/{number}/task").choice(self.tasks) if task is None else task
        low, high = np.log(self.rates)
        rate = float(np.exp(rng.uniform(low, high))) * self.bank.mean / self.length
        self.pieces = 1 + int(rng.expovariate(1 / self.mean))
        told = documents(
            self.task,
            self.bank,
            rng,
            facts=min(0.8, rate),
            questions=self.bank.mean / self.length,
            decoys=self.decoys,
            false_answers=self.false_answers,
        )
        self._roll = Roll(told, self.length)
        self.number, self.piece = number, piece
        for _ in islice(self._roll, piece):
            pass

    def __next__(self) -> Told:
        """Give the next piece: the first of a document where `piece` is 1 afterwards."""
        if self.piece == self.pieces:
            self.open(self.number + 1)
        self.piece += 1
        return next(self._roll)
