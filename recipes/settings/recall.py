"""Settings of recipes that learn to recall."""

from dataclasses import asdict, dataclass, field
from typing import ClassVar

from recurra.envs.probes import Recall
from recurra.recipes.settings.common import LearningOptions, Recipe, require


@dataclass(kw_only=True)
class RecallEnv:
    """Episodes of associative recall; see `recurra.envs.probes.Recall` for the options that are not lists.

    Args:
        pairs: how many pairs an episode shows; each stream has one episode of each number, again and again.
        queries: how many of them are asked for at most; null asks for all.
        rewritten: what part of them is shown again, with another value.
        noise: fillers for each pair and for each query, on average.
        keys: how many keys there are to choose from.
        values: how many values there are.
        fillers: how many fillers there are.

    Raises:
        UserError: if the numbers do not fit each other.
    """

    pairs: list[int] = field(default_factory=lambda: [4, 8, 16, 32, 64])
    queries: int | None = None
    rewritten: float = 0.0
    noise: float = 0.0
    keys: int = 128
    values: int = 32
    fillers: int = 16

    def __post_init__(self) -> None:
        require(len(self.pairs) > 0, "env.pairs names no numbers: give some, such as --env.pairs [4,16,64]")
        self.tasks()

    def tasks(self) -> list[Recall]:
        """Give the probe for each number of pairs."""
        options = asdict(self)
        return [Recall(**{**options, "pairs": pairs}) for pairs in options["pairs"]]


@dataclass(kw_only=True)
class RecallRecipe(Recipe):
    """A reader that learns associative recall.

    Args:
        steps: for how long to train: tokens, all streams together; whole updates are made.
        env: the episodes.
        reading: how the reader learns.
        evaluation: to be left as it is: every update measures episodes never seen before.

    Raises:
        UserError: if a setting is outside its bounds.
    """

    method: ClassVar[str] = "recall"

    env: RecallEnv = field(default_factory=RecallEnv)
    reading: LearningOptions = field(default_factory=LearningOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        shared = self.reading.streams % self.devices == 0
        require(shared, f"{self.reading.streams} streams cannot be shared out to {self.devices} devices")
        require(
            self.evaluation.every == 0,
            "every update of recall measures episodes never seen before: leave evaluation.every out",
        )

    @property
    def steps_per_update(self) -> int:
        """Tokens of an episode of each number of pairs, in all streams."""
        return self.reading.streams * sum(task.length for task in self.env.tasks())
