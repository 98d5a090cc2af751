"""Settings of recipes that learn from recorded streams."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from recurra.recipes.settings.common import ActingEvaluationOptions, BestOptions, LearningOptions, Recipe, require


@dataclass
class ConservativeOptions:
    """Conservative Q-learning, for discrete actions; see `recurra.recipes.conservative`.

    Args:
        weight: alpha, of what keeps the value of what was not done down.
        discount: gamma, of the return.
        following: how far the target network moves to the agent in each update.

    Raises:
        UserError: if a setting is outside its bounds.
    """

    weight: float = 1.0
    discount: float = 0.99
    following: float = 0.01

    def __post_init__(self) -> None:
        require(self.weight >= 0, f"reading.conservative.weight must not be negative, got {self.weight}")
        for name in ("discount", "following"):
            inside = 0 <= getattr(self, name) <= 1
            require(inside, f"reading.conservative.{name} must lie in 0..1, got {getattr(self, name)}")


@dataclass(kw_only=True)
class OfflineOptions(LearningOptions):
    """How an agent learns from recorded streams.

    Args:
        streams: episodes of a piece.
        steps: of each.
        begin: beginning reads the first steps of every episode, anywhere begins at a random one, onward goes on in the
            next piece where the last ended, memory and all.
        shortest: learn from the episodes of up to so many steps first, and twice as long ones whenever what was done
            last in an episode is foretold; 0 learns from all at once.
        promote_at: the share of last actions foretold that earns the longer ones.
        window: over how many updates.
        conservative: learn what actions are worth instead of what was done; null for none.

    Raises:
        UserError: if a setting is outside its bounds.
    """

    streams: int = 32
    steps: int = 150
    begin: Literal["anywhere", "beginning", "onward"] = "anywhere"
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    shortest: int = 0
    promote_at: float = 0.97
    window: int = 5
    conservative: ConservativeOptions | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "window"):
            require(getattr(self, name) >= 1, f"reading.{name} must be at least 1, got {getattr(self, name)}")
        require(self.shortest >= 0, f"reading.shortest must not be negative, got {self.shortest}")
        require(0 <= self.promote_at <= 1, f"reading.promote_at must lie in 0..1, got {self.promote_at}")


@dataclass(kw_only=True)
class OfflineRecipe(Recipe):
    """An agent that learns from recorded streams.

    Args:
        steps: for how long to train: steps of pieces, all rows together, padding counted; whole updates are made.
        env: the Gymnasium id, as ``id``, and the environment's own options beside it: where it is recorded, unless
            there is data, and where the agent is measured.
        data: a folder of trajectories, see `recurra record`; null records some first, into the run's folder.
        episodes: how many to record.
        policy: who is recorded: oracle (which T-Mazes and MiniGrid's tasks of memory have), random, or a trained
            agent's run.
        returns: let the agent read what return is still to come.
        actions: let it read its actions.
        target: the return that is asked for when it acts.
        scale: what returns are divided by.
        environments: the most to act in at once when it is measured.
        reading: how the agent learns.
        evaluation: measuring while training goes on.
        best: which agent along the way is kept as the best; null for none.

    Raises:
        UserError: if a setting is outside its bounds.
    """

    method: ClassVar[str] = "offline"

    env: dict[str, Any]
    data: str | None = None
    episodes: int = 2000
    policy: str = "oracle"
    returns: bool = True
    actions: bool = True
    target: float = 1.0
    scale: float = 1.0
    memory: str = "rate"
    layers: int = 2
    environments: int = 256
    reading: OfflineOptions = field(default_factory=OfflineOptions)
    evaluation: ActingEvaluationOptions = field(default_factory=ActingEvaluationOptions)
    best: BestOptions | None = field(default_factory=lambda: BestOptions("eval_mean_return"))

    def __post_init__(self) -> None:
        super().__post_init__()
        named = isinstance(self.env.get("id"), str)
        require(named, "env needs the id of a Gymnasium environment, such as --env.id CartPole-v1")
        for name in ("episodes", "environments"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        require(math.isfinite(self.target), f"target must be a finite number, got {self.target}")
        require(0 < self.scale < math.inf, f"scale must be a finite number above 0, got {self.scale}")
        require(self.devices == 1, "recorded streams are learnt from in one process: leave devices out")
        grows = self.reading.shortest > 0
        require(
            not (grows and self.reading.begin == "onward"), "reading.shortest is not of pieces that go on: leave it out"
        )

    @property
    def steps_per_update(self) -> int:
        """Steps in a piece of all rows, padding counted."""
        return self.reading.streams * self.reading.steps
