"""Settings of recipes that learn to answer questions about documents."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from recurra.envs.documents.babilong import characters, named
from recurra.recipes.settings.common import BestOptions, EvaluationOptions, LearningOptions, Recipe, require


@dataclass(kw_only=True)
class QuestionsEnv:
    """Documents with facts in them, and questions.

    Args:
        tasks: BABILong's, qa1 to qa20, needle and passkey: each document is of one of them; all stands for the twenty.
            With facts in words that vary and do not stand out from a book's, qa1-varied to qa20-varied, or all-varied.
            Beside them qa3-people, where somebody was before, from which qa3 is learnt sooner.
        documents: books to hide facts in while learning: files, folders, and bundled works such as ``text:train``.
        held_out: the same, to measure by.
        tokens: bpe learns a vocabulary from the books and the facts; bytes; or the path of a tokenizers file.
        vocabulary: how many tokens bpe learns.

    Raises:
        UserError: if there is no such task, or a setting is outside its bounds.
    """

    tasks: list[str] | str = field(default_factory=lambda: ["qa1"])
    documents: list[str] = field(default_factory=lambda: ["text:train"])
    held_out: list[str] = field(default_factory=lambda: ["text:test"])
    tokens: str = "bpe"
    vocabulary: int = 1024

    def __post_init__(self) -> None:
        require(len(self.tasks) > 0, "env.tasks names no task: give some, such as --env.tasks [qa1,qa2]")
        self.tasks = named(self.tasks)
        require(256 <= self.vocabulary <= 65_536, f"env.vocabulary must be from 256 to 65536, got {self.vocabulary}")


@dataclass(kw_only=True)
class QuestionsOptions(LearningOptions):
    """How a reader learns to answer: documents of growing length first, then streams that go on from piece to piece.

    Args:
        tokens: tokens of an update, all documents together.
        segment: tokens of a segment.
        facts_alone: how many segments a document has, stage by stage, of those of facts without prose, which come
            first.
        segments: how many a document has, stage by stage, of those with prose.
        promote_at: the share of questions answered that earns the next stage, each task by itself.
        window: over how many updates.
        promote_after: the most updates of a stage, for tasks that are too hard to earn the next; null sets no bound.
        graduates: the most of updates that tasks past the last stage get, as long as there are others: the lower, the
            more is learnt of what is hard.
        piece: tokens of a stream between updates, which gradients flow through; of tasks past the last stage
            every second update reads on in the streams, the others documents of all stages.
        document: how many pieces a document in a stream has on average.
        facts: how many facts there are on average in a piece of a stream: from and to, each document its own number.
        decoys: how likely a sentence of prose has a few words of a fact in it, which tell nothing: not to be written;
            and a whole fact, which is, stands in the midst of a sentence of prose.
        false_answers: how likely the answer that stands in the text after a question is drawn from all of the task's;
            the right one is learnt all the same. Readers lean on answers that they have read before, where these are
            right: of a story that has been asked about they answer what they otherwise would not. Answers of one token
            alone.
        write_penalty: what is added to the loss for the mean cost of writing what is no fact, except in documents of
            facts alone, see `recurra.memory.gates.heard`.

    Raises:
        UserError: if a setting is outside its bounds, or settings do not fit each other.
    """

    streams: int = 8
    tokens: int = 8192
    segment: int = 128
    facts_alone: list[int] = field(default_factory=lambda: [1])
    segments: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16, 32])
    promote_at: float = 0.97
    window: int = 10
    promote_after: int | None = None
    graduates: float = 0.5
    piece: int = 1024
    document: float = 64.0
    facts: list[float] = field(default_factory=lambda: [0.003, 2.0])
    decoys: float = 0.0
    false_answers: float = 0.0
    write_penalty: float = 0.0
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tokens", "segment", "window", "piece"):
            require(getattr(self, name) >= 1, f"reading.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("facts_alone", "segments"):
            counts = getattr(self, name)
            grow = min(counts, default=1) >= 1 and sorted(counts) == counts
            require(grow, f"reading.{name} must be numbers from 1 that grow, such as [1,2,4], got {counts}")
        require(len(self.lengths) > 0, "reading.facts_alone and reading.segments name no stage: give one, such as [1]")
        longest = max(self.lengths)
        require(longest <= self.tokens, f"reading.tokens must hold the longest documents, of {longest} tokens")
        bound = self.promote_after
        require(bound is None or bound >= 1, f"reading.promote_after must be at least 1, or null, got {bound}")
        fits = self.streams * self.piece == self.tokens
        require(fits, f"reading.streams times reading.piece must be reading.tokens, {self.tokens}")
        require(1 <= self.document < math.inf, f"reading.document must be at least 1, and finite, got {self.document}")
        rates = len(self.facts) == 2 and 0 < self.facts[0] <= self.facts[1] < math.inf
        require(rates, f"reading.facts must be two numbers above 0, from and to, got {self.facts}")
        for name in ("promote_at", "graduates", "decoys", "false_answers"):
            require(0 <= getattr(self, name) <= 1, f"reading.{name} must lie in 0..1, got {getattr(self, name)}")
        require(self.write_penalty >= 0, f"reading.write_penalty must not be negative, got {self.write_penalty}")

    @property
    def lengths(self) -> list[int]:
        """Tokens of a document, stage by stage."""
        return [count * self.segment for count in (*self.facts_alone, *self.segments)]


@dataclass
class AnsweringEvaluationOptions(EvaluationOptions):
    """Measuring a reader that answers, by documents made of the held-out books: held_out_accuracy.

    Args:
        every: updates between; at the end in any case.
        episodes: how many documents of each task; 0 leaves it out.
        length: of each, in GPT-2 tokens, such as 4k.

    Raises:
        UserError: if a setting is outside its bounds, or nothing is measured every few updates.
    """

    episodes: int = 20
    length: str = "4k"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.episodes >= 0, f"evaluation.episodes must not be negative, got {self.episodes}")
        measured = self.episodes > 0 or self.every == 0
        require(measured, "evaluation.every needs documents to measure by: set evaluation.episodes, now 0, to 20, say")
        characters(self.length)


@dataclass(kw_only=True)
class QuestionsRecipe(Recipe):
    """A reader that learns to answer questions about documents.

    Args:
        steps: for how long to train: tokens, all documents together; whole updates are made.
        env: the documents and the questions.
        reading: how the reader learns.
        pretrained: a Hugging Face causal language model of the GPT-2 or Llama family to begin from: a folder, or
            user/name on the hub. Then memory is rmt or armt, and tokens, dim, layers and expansion are the model's.
        evaluation: measuring while training goes on, and at its end.
        best: which reader along the way is kept as the best; null for none.

    Raises:
        UserError: if a setting is outside its bounds.
    """

    method: ClassVar[str] = "questions"

    env: QuestionsEnv = field(default_factory=QuestionsEnv)
    pretrained: str | None = None
    reading: QuestionsOptions = field(default_factory=QuestionsOptions)
    evaluation: AnsweringEvaluationOptions = field(default_factory=AnsweringEvaluationOptions)
    best: BestOptions | None = field(default_factory=lambda: BestOptions("held_out_accuracy"))

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.devices == 1, "questions are learnt in one process: leave devices out")

    @property
    def steps_per_update(self) -> int:
        """Tokens of an update."""
        return self.reading.tokens
