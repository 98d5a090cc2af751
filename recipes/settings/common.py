"""What the settings of all recipes share: learning, measuring, keeping the best, ending early."""

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml

from recurra.errors import UserError


@dataclass(kw_only=True)
class LearningOptions:
    """How a reader learns.

    Args:
        streams: what is read side by side.
        learning_rate: AdamW's highest step size.
        warm_up: updates over which it rises, before it falls to a tenth as a cosine.
        weight_decay: of matrices.
        gradient_norm: what the gradient's norm is clipped to.

    Raises:
        UserError: if a setting is outside its bounds.
    """

    streams: int = 16
    learning_rate: float = 3e-3
    warm_up: int = 50
    weight_decay: float = 0.1
    gradient_norm: float = 1.0

    def __post_init__(self) -> None:
        require(self.streams >= 1, f"reading.streams must be at least 1, got {self.streams}")
        for name in ("learning_rate", "gradient_norm"):
            require(getattr(self, name) > 0, f"reading.{name} must be more than 0, got {getattr(self, name)}")
        for name in ("warm_up", "weight_decay"):
            require(getattr(self, name) >= 0, f"reading.{name} must not be negative, got {getattr(self, name)}")


@dataclass
class EvaluationOptions:
    """Measuring while training goes on.

    Args:
        every: updates between; 0 leaves it out.

    Raises:
        UserError: if a setting is outside its bounds.
    """

    every: int = 0

    def __post_init__(self) -> None:
        require(self.every >= 0, f"evaluation.every must not be negative, got {self.every}")


@dataclass
class ActingEvaluationOptions(EvaluationOptions):
    """Measuring an agent while it trains: eval_mean_return, eval_success_rate.

    Args:
        every: updates between, and at the end; 0 leaves it out.
        episodes: how many, the same each time; the likeliest action is taken.
        env: options of the environment, on top of the recipe's (the curriculum's aim, not where it stands).
        seed: of the episodes.
        video: keep an episode of each evaluation as a moving picture, in the run's folder videos/.

    Raises:
        UserError: if a setting is outside its bounds.
    """

    episodes: int = 100
    env: dict[str, Any] = field(default_factory=dict)
    seed: int = 1_000_000
    video: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.episodes >= 1, f"evaluation.episodes must be at least 1, got {self.episodes}")
        require_seed("evaluation.seed", self.seed)


@dataclass
class BestOptions:
    """Which agent of all those along the way is kept as the best, in the run's folder best/.

    Args:
        metric: the figure that decides; one of evaluation's is known only where evaluation.every is set.
        better: higher or lower: which figure is the better one.
    """

    metric: str
    better: Literal["higher", "lower"] = "higher"


@dataclass
class StopOptions:
    """When to end training early.

    Args:
        metric: the figure that decides.
        above: it is to be at least this; or
        below: it is to be at most this; or
        better: higher or lower; it is to be no better than the best before.
        patience: for so many measurements in a row.

    Raises:
        UserError: if not one of above, below and better is given, or a setting is outside its bounds.
    """

    metric: str
    above: float | None = None
    below: float | None = None
    better: Literal["higher", "lower"] | None = None
    patience: int = 1

    def __post_init__(self) -> None:
        one = [self.above, self.below, self.better].count(None) == 2
        require(one, f"stop needs one of stop.above, stop.below and stop.better, for {self.metric}")
        for name in ("above", "below"):
            bound = getattr(self, name)
            require(bound is None or not math.isnan(bound), f"stop.{name} must be a number, got {bound}")
        require(self.patience >= 1, f"stop.patience must be at least 1, got {self.patience}")

    def met_by(self, figure: float, best: float) -> bool:
        """Whether a figure is where it is to be; ``best`` is the last that was not, NaN if there is none."""
        if self.better is not None:
            return figure <= best if self.better == "higher" else figure >= best
        low = -math.inf if self.above is None else self.above
        high = math.inf if self.below is None else self.below
        return low <= figure <= high


@dataclass(kw_only=True)
class Recipe(ABC):
    """What every recipe sets.

    Args:
        steps: for how long to train, counted as the recipe's kind says; whole updates are made.
        memory: a memory's name (see `recurra memories`), or package.module:Class of your own.
        memory_options: the memory's own options.
        dim: width of the network.
        layers: number of blocks.
        expansion: width of the blocks' MLPs over dim; 0 leaves them out.
        seed: of weights, data and actions; a CPU run repeats bit for bit.
        checkpoint_every: updates between checkpoints, which --resume continues from.
        device: cpu, cuda or auto.
        devices: processes that train together (Lightning's DDP), a CPU's or one for each GPU; streams are shared out.
        precision: 32-true or bf16-mixed.
        threads: CPU threads; null takes what torch would, and the run records it.
        evaluation: measuring while training goes on.
        best: which agent along the way is kept as the best; null for none.
        stop: when to end early; null for never.

    Raises:
        UserError: if a setting is outside its bounds.
    """

    method: ClassVar[str]  #: what trains it, as a recipe's file says

    steps: int
    memory: str = "delta_net"
    memory_options: dict[str, Any] = field(default_factory=dict)
    dim: int = 64
    layers: int = 1
    expansion: float = 4.0
    seed: int = 0
    checkpoint_every: int = 10
    device: str = "cpu"
    devices: int = 1
    precision: str = "32-true"
    threads: int | None = None
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    best: BestOptions | None = None
    stop: StopOptions | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "checkpoint_every", "dim", "layers", "devices", "threads"):
            number = getattr(self, name)
            require(number is None or number >= 1, f"{name} must be at least 1, got {number}")
        for name in ("dim", "layers"):
            require(getattr(self, name) <= 2**16, f"{name} must be at most {2**16}, got {getattr(self, name)}")
        for name in ("devices", "threads"):
            require((getattr(self, name) or 0) <= 1024, f"{name} must be at most 1024, got {getattr(self, name)}")
        require(0 <= self.expansion <= 1024, f"expansion must lie in 0..1024, got {self.expansion}")
        require_seed("seed", self.seed)

    @property
    @abstractmethod
    def steps_per_update(self) -> int:
        """Steps in an update, in the unit of ``steps``."""

    @property
    def updates(self) -> int:
        """How many updates the steps make, rounded up."""
        return -(-self.steps // self.steps_per_update)

    def write(self, path: Path) -> None:
        """Write all settings to a YAML file, itself a recipe."""
        path.write_text(yaml.safe_dump({"method": self.method, **asdict(self)}, sort_keys=False))


def require_seed(name: str, seed: int) -> None:
    """Make sure that every source of random numbers takes a seed.

    Raises:
        UserError: if one would not.
    """
    require(0 <= seed < 2**32, f"{name} must be from 0 to {2**32 - 1}, got {seed}")


def require(holds: bool, message: str) -> None:
    """Refuse what does not hold.

    Raises:
        UserError: with the message.
    """
    if not holds:
        raise UserError(message)
