"""Settings of recipes that learn to foretell text."""

from dataclasses import dataclass, field
from typing import ClassVar

from recurra.recipes.settings.common import BestOptions, EvaluationOptions, LearningOptions, Recipe, require


@dataclass(kw_only=True)
class ReadingOptions(LearningOptions):
    """How a reader of documents learns.

    Args:
        piece: bytes of each document that gradients flow through; memory goes on beyond.

    Raises:
        UserError: if a setting is outside its bounds.
    """

    piece: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.piece >= 1, f"reading.piece must be at least 1, got {self.piece}")


@dataclass
class ReadingEvaluationOptions(EvaluationOptions):
    """Measuring a reader by held-out documents: held_out_bits_per_byte.

    Args:
        every: updates between; at the end in any case.

    Raises:
        UserError: if a setting is outside its bounds.
    """


@dataclass(kw_only=True)
class ReadingRecipe(Recipe):
    """A reader that learns to foretell text.

    Args:
        steps: for how long to train: bytes, all documents together; whole updates are made.
        documents: files, folders, and bundled works such as ``text:train``, to learn from.
        held_out: the same, to measure by.
        reading: how the reader learns.
        evaluation: measuring by the held-out documents, if there are any.
        best: which reader along the way is kept as the best; null for none.

    Raises:
        UserError: if a setting is outside its bounds.
    """

    method: ClassVar[str] = "reading"

    documents: list[str]
    held_out: list[str] = field(default_factory=list)
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    evaluation: ReadingEvaluationOptions = field(default_factory=ReadingEvaluationOptions)
    best: BestOptions | None = field(default_factory=lambda: BestOptions("held_out_bits_per_byte", better="lower"))

    def __post_init__(self) -> None:
        super().__post_init__()
        shared = self.reading.streams % self.devices == 0
        require(shared, f"{self.reading.streams} streams cannot be shared out to {self.devices} devices")

    @property
    def steps_per_update(self) -> int:
        """Bytes in a piece of all documents that are read side by side."""
        return self.reading.streams * self.reading.piece
