"""Recipes: YAML files of settings, with types, help and overrides.

A recipe is a file that a user can copy and edit; the shipped ones lie in ``configs/``.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from recurra.envs.documents.babilong import TASKS, characters
from recurra.envs.probes import Recall
from recurra.errors import UserError, nearest
from recurra.recipes import parsing
from recurra.recipes.curriculum import CurriculumOptions


@dataclass
class PPOOptions:
    """How an agent learns.

    Args:
        learning_rate: Adam's step size.
        anneal: let the learning rate fall to 0 in a straight line.
        rollout: steps of each environment between updates.
        sequence: steps that gradients flow through; divides ``rollout``.
        epochs: how often each rollout is learnt from.
        minibatches: in how many parts, whole sequences each.
        discount: gamma, of the return.
        scale_rewards: divide rewards by the running standard deviation of discounted returns.
        trace: lambda, of generalised advantage estimation.
        clip: how far the policy's ratio may move before its gradient stops.
        entropy: weight of the policy's entropy.
        value: weight of the critic's loss.
        gradient_norm: what the gradient's norm is clipped to.
    """

    learning_rate: float = 1e-3
    anneal: bool = True
    rollout: int = 128
    sequence: int = 128
    epochs: int = 4
    minibatches: int = 4
    discount: float = 0.99
    scale_rewards: bool = True
    trace: float = 0.95
    clip: float = 0.2
    entropy: float = 0.01
    value: float = 0.5
    gradient_norm: float = 0.5

    def __post_init__(self) -> None:
        for name in ("epochs", "minibatches"):
            _require(getattr(self, name) >= 1, f"ppo.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip", "gradient_norm"):
            _require(getattr(self, name) > 0, f"ppo.{name} must be more than 0, got {getattr(self, name)}")
        for name in ("discount", "trace"):
            _require(0 <= getattr(self, name) <= 1, f"ppo.{name} must lie in 0..1, got {getattr(self, name)}")
        divides = 1 <= self.sequence <= self.rollout and self.rollout % self.sequence == 0
        _require(divides, f"ppo.sequence must divide ppo.rollout: {self.sequence} does not divide {self.rollout}")


@dataclass(kw_only=True)
class LearningOptions:
    """How a reader learns.

    Args:
        streams: what is read side by side.
        learning_rate: AdamW's highest step size.
        warm_up: updates over which it rises, before it falls to a tenth as a cosine.
        weight_decay: of matrices.
        gradient_norm: what the gradient's norm is clipped to.
    """

    streams: int = 16
    learning_rate: float = 3e-3
    warm_up: int = 50
    weight_decay: float = 0.1
    gradient_norm: float = 1.0

    def __post_init__(self) -> None:
        _require(self.streams >= 1, f"reading.streams must be at least 1, got {self.streams}")
        for name in ("learning_rate", "gradient_norm"):
            _require(getattr(self, name) > 0, f"reading.{name} must be more than 0, got {getattr(self, name)}")
        for name in ("warm_up", "weight_decay"):
            _require(getattr(self, name) >= 0, f"reading.{name} must not be negative, got {getattr(self, name)}")


@dataclass(kw_only=True)
class ReadingOptions(LearningOptions):
    """How a reader of documents learns.

    Args:
        piece: bytes of each document that gradients flow through; memory goes on beyond.
    """

    piece: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.piece >= 1, f"reading.piece must be at least 1, got {self.piece}")


@dataclass
class EvaluationOptions:
    """Measuring while training goes on.

    Args:
        every: updates between; 0 leaves it out (held-out documents are read at the end in any case).
    """

    every: int = 0

    def __post_init__(self) -> None:
        _require(self.every >= 0, f"evaluation.every must not be negative, got {self.every}")


@dataclass
class ActingEvaluationOptions(EvaluationOptions):
    """Measuring an agent while it trains: eval_mean_return, eval_success_rate.

    Args:
        episodes: how many, the same each time; the likeliest action is taken.
        env: options of the environment, on top of the recipe's (the curriculum's aim, not where it stands).
        seed: of the episodes.
        video: keep an episode of each evaluation as a moving picture, in the run's folder videos/.
    """

    episodes: int = 100
    env: dict[str, Any] = field(default_factory=dict)
    seed: int = 1_000_000
    video: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.episodes >= 1, f"evaluation.episodes must be at least 1, got {self.episodes}")
        require_seed("evaluation.seed", self.seed)


@dataclass
class BestOptions:
    """Which agent of all those along the way is kept as the best, in the run's folder best/.

    Args:
        metric: the figure that decides; one of evaluation's is known only where evaluation.every is set.
        order: highest or lowest, whichever is best.
    """

    metric: str
    order: Literal["highest", "lowest"] = "highest"


@dataclass
class StopOptions:
    """When to end training early.

    Args:
        metric: the figure that decides.
        above: it is to be at least this; or
        below: it is to be at most this; or
        better: higher or lower; it is to be no better than the best before.
        patience: for so many measurements in a row.
    """

    metric: str
    above: float | None = None
    below: float | None = None
    better: Literal["higher", "lower"] | None = None
    patience: int = 1

    def __post_init__(self) -> None:
        one = [self.above, self.below, self.better].count(None) == 2
        _require(one, f"stop needs one of stop.above, stop.below and stop.better, for {self.metric}")
        _require(self.patience >= 1, f"stop.patience must be at least 1, got {self.patience}")

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
        steps: for how long to train: environment steps, all environments together, or bytes; whole updates are made.
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
    """

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
            _require(number is None or number >= 1, f"{name} must be at least 1, got {number}")
        for name in ("dim", "layers"):
            _require(getattr(self, name) <= 2**16, f"{name} must be at most {2**16}, got {getattr(self, name)}")
        _require(self.threads is None or self.threads <= 1024, f"threads must be at most 1024, got {self.threads}")
        _require(self.expansion >= 0, f"expansion must not be negative, got {self.expansion}")
        require_seed("seed", self.seed)

    @property
    @abstractmethod
    def steps_per_update(self) -> int:
        """Environment steps or bytes in an update."""

    @property
    def updates(self) -> int:
        """How many updates the steps make, rounded up."""
        return -(-self.steps // self.steps_per_update)

    def write(self, path: Path) -> None:
        """Write all settings to a YAML file, itself a recipe."""
        method = next(name for name, kind in METHODS.items() if isinstance(self, kind))
        path.write_text(yaml.safe_dump({"method": method, **asdict(self)}, sort_keys=False))


@dataclass(kw_only=True)
class ActingRecipe(Recipe):
    """An agent that learns by acting, by PPO.

    Args:
        env: the Gymnasium id, as ``id``, and the environment's own options beside it.
        environments: how many environments to act in at once.
        previous_action: tell the agent its last action with each observation.
        previous_reward: tell it the last reward too.
        normalize_observations: normalise numbers that are observed by their running mean and deviation.
        encoder: how planes of numbers, a grid world's, are encoded: plain, in a row; residual, SRMT's convolutions.
        encoder_options: the residual encoder's, filters and blocks.
        team: the agents of a grid world are a team that shares a memory; environments and steps are those of worlds.
        compile: have torch compile what is computed over and over: a minute or more at the start, then quicker updates;
            not of teams.
        ppo: how the agent learns.
        curriculum: an option of the environment that grows as the agent succeeds; null for none.
        evaluation: measuring while training goes on.
        best: which agent along the way is kept as the best; null for none.
    """

    env: dict[str, Any]
    environments: int = 64
    previous_action: bool = False
    previous_reward: bool = False
    normalize_observations: bool = False
    encoder: str = "plain"
    encoder_options: dict[str, Any] = field(default_factory=dict)
    team: bool = False
    compile: bool = False
    ppo: PPOOptions = field(default_factory=PPOOptions)
    curriculum: CurriculumOptions | None = None
    evaluation: ActingEvaluationOptions = field(default_factory=ActingEvaluationOptions)
    best: BestOptions | None = field(default_factory=lambda: BestOptions("eval_mean_return"))

    def __post_init__(self) -> None:
        super().__post_init__()
        named = isinstance(self.env.get("id"), str)
        _require(named, "env needs the id of a Gymnasium environment, such as --env.id CartPole-v1")
        _require(
            not (self.compile and self.team),
            "--compile is for agents that act alone: a team's steps would take many minutes to compile; leave it out",
        )
        _require(self.environments >= 1, f"environments must be at least 1, got {self.environments}")
        shared = self.environments % self.devices == 0
        _require(shared, f"{self.environments} environments cannot be shared out to {self.devices} devices")

    @property
    def steps_per_update(self) -> int:
        """Environment steps in a rollout."""
        return self.ppo.rollout * self.environments


@dataclass(kw_only=True)
class ReadingRecipe(Recipe):
    """A reader that learns to foretell text.

    Args:
        documents: files, folders, and bundled works such as ``text:train``, to learn from.
        held_out: the same, to measure by at the end.
        reading: how the reader learns.
        best: which reader along the way is kept as the best; null for none.
    """

    documents: list[str]
    held_out: list[str] = field(default_factory=list)
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    best: BestOptions | None = field(default_factory=lambda: BestOptions("held_out_bits_per_byte", order="lowest"))

    def __post_init__(self) -> None:
        super().__post_init__()
        shared = self.reading.streams % self.devices == 0
        _require(shared, f"{self.reading.streams} streams cannot be shared out to {self.devices} devices")

    @property
    def steps_per_update(self) -> int:
        """Bytes in a piece of all documents that are read side by side."""
        return self.reading.streams * self.reading.piece


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
    """

    pairs: list[int] = field(default_factory=lambda: [4, 8, 16, 32, 64])
    queries: int | None = None
    rewritten: float = 0.0
    noise: float = 0.0
    keys: int = 256
    values: int = 64
    fillers: int = 16

    def __post_init__(self) -> None:
        _require(len(self.pairs) > 0, "env.pairs names no numbers: give some, such as --env.pairs [4,16,64]")
        self.tasks()

    def tasks(self) -> list[Recall]:
        """Give the probe for each number of pairs."""
        options = asdict(self)
        return [Recall(**{**options, "pairs": pairs}) for pairs in options["pairs"]]


@dataclass(kw_only=True)
class RecallRecipe(Recipe):
    """A reader that learns associative recall.

    Args:
        env: the episodes.
        reading: how the reader learns.
    """

    env: RecallEnv = field(default_factory=RecallEnv)
    reading: LearningOptions = field(default_factory=LearningOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        shared = self.reading.streams % self.devices == 0
        _require(shared, f"{self.reading.streams} streams cannot be shared out to {self.devices} devices")
        _require(
            self.evaluation.every == 0,
            "every update of recall measures episodes never seen before: leave evaluation.every out",
        )

    @property
    def steps_per_update(self) -> int:
        """Tokens of an episode of each number of pairs, in all streams."""
        return self.reading.streams * sum(task.length for task in self.env.tasks())


@dataclass(kw_only=True)
class QuestionsEnv:
    """Documents with facts in them, and questions.

    Args:
        tasks: BABILong's, qa1 to qa20, needle and passkey: each document is of one of them. With facts in words that
            vary and do not stand out from a book's, qa1-varied to qa20-varied.
        documents: books to hide facts in while learning: files, folders, and bundled works such as ``text:train``.
        held_out: the same, to measure by.
        tokens: bpe learns a vocabulary from the books and the facts; bytes; or the path of a tokenizers file.
        vocabulary: how many tokens bpe learns.
    """

    tasks: list[str] = field(default_factory=lambda: ["qa1"])
    documents: list[str] = field(default_factory=lambda: ["text:train"])
    held_out: list[str] = field(default_factory=lambda: ["text:test"])
    tokens: str = "bpe"
    vocabulary: int = 1024

    def __post_init__(self) -> None:
        _require(len(self.tasks) > 0, "env.tasks names no task: give some, such as --env.tasks [qa1,qa2]")
        for task in self.tasks:
            _require(task in TASKS, f"env.tasks: there is no task {task!r}; {nearest(task, TASKS)}")
        _require(256 <= self.vocabulary <= 65_536, f"env.vocabulary must be from 256 to 65536, got {self.vocabulary}")


@dataclass(kw_only=True)
class QuestionsOptions(LearningOptions):
    """How a reader learns to answer: documents of growing length first, then streams that go on from piece to piece.

    Args:
        tokens: tokens of an update, all documents together.
        segment: tokens of a segment.
        segments: how many a document has, stage by stage; 0 stands for one of facts alone.
        promote_at: the share of questions answered that earns the next stage.
        window: over how many updates.
        piece: tokens of a stream between updates, which gradients flow through; after the last stage every second
            update reads on in the streams, the others documents of all stages.
        document: how many pieces a document in a stream has on average.
        facts: how many facts there are on average in a piece of a stream: from and to, each document its own number.
        write_penalty: what is added to the loss for each memory's mean write strength, for those that have gates.
    """

    streams: int = 8
    tokens: int = 8192
    segment: int = 128
    segments: list[int] = field(default_factory=lambda: [0, 1, 2, 4, 8, 16, 32])
    promote_at: float = 0.97
    window: int = 10
    piece: int = 1024
    document: float = 64.0
    facts: list[float] = field(default_factory=lambda: [0.003, 2.0])
    write_penalty: float = 0.0
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tokens", "segment", "window", "piece"):
            _require(getattr(self, name) >= 1, f"reading.{name} must be at least 1, got {getattr(self, name)}")
        whole = len(self.segments) > 0 and min(self.segments) >= 0 and sorted(self.segments) == self.segments
        _require(whole, f"reading.segments must be numbers that grow, such as [0,1,2,4], got {self.segments}")
        longest = max(self.segments) * self.segment
        _require(longest <= self.tokens, f"reading.tokens must hold the longest documents, of {longest} tokens")
        _require(0 <= self.promote_at <= 1, f"reading.promote_at must lie in 0..1, got {self.promote_at}")
        fits = self.streams * self.piece == self.tokens
        _require(fits, f"reading.streams times reading.piece must be reading.tokens, {self.tokens}")
        _require(self.document >= 1, f"reading.document must be at least 1, got {self.document}")
        rates = len(self.facts) == 2 and 0 < self.facts[0] <= self.facts[1]
        _require(rates, f"reading.facts must be two numbers above 0, from and to, got {self.facts}")
        _require(self.write_penalty >= 0, f"reading.write_penalty must not be negative, got {self.write_penalty}")


@dataclass
class AnsweringEvaluationOptions(EvaluationOptions):
    """Measuring a reader that answers, by documents made of the held-out books: held_out_accuracy.

    Args:
        episodes: how many documents of each task; 0 leaves it out.
        length: of each, in GPT-2 tokens, such as 4k.
    """

    episodes: int = 20
    length: str = "4k"

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.episodes >= 0, f"evaluation.episodes must not be negative, got {self.episodes}")
        characters(self.length)


@dataclass(kw_only=True)
class QuestionsRecipe(Recipe):
    """A reader that learns to answer questions about documents.

    Args:
        env: the documents and the questions.
        reading: how the reader learns.
        pretrained: a Hugging Face causal language model of the GPT-2 or Llama family to begin from: a folder, or
            user/name on the hub. Then memory is rmt or armt, and tokens, dim, layers and expansion are the model's.
        evaluation: measuring while training goes on, and at its end.
        best: which reader along the way is kept as the best; null for none.
    """

    env: QuestionsEnv = field(default_factory=QuestionsEnv)
    pretrained: str | None = None
    reading: QuestionsOptions = field(default_factory=QuestionsOptions)
    evaluation: AnsweringEvaluationOptions = field(default_factory=AnsweringEvaluationOptions)
    best: BestOptions | None = field(default_factory=lambda: BestOptions("held_out_accuracy"))

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.devices == 1, "questions are learnt in one process: leave devices out")

    @property
    def steps_per_update(self) -> int:
        """Tokens of an update."""
        return self.reading.tokens


@dataclass
class ConservativeOptions:
    """Conservative Q-learning, for discrete actions; see `recurra.recipes.conservative`.

    Args:
        weight: alpha, of what keeps the value of what was not done down.
        discount: gamma, of the return.
        following: how far the target network moves to the agent in each update.
    """

    weight: float = 1.0
    discount: float = 0.99
    following: float = 0.01

    def __post_init__(self) -> None:
        _require(self.weight >= 0, f"reading.conservative.weight must not be negative, got {self.weight}")
        for name in ("discount", "following"):
            inside = 0 <= getattr(self, name) <= 1
            _require(inside, f"reading.conservative.{name} must lie in 0..1, got {getattr(self, name)}")


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
            _require(getattr(self, name) >= 1, f"reading.{name} must be at least 1, got {getattr(self, name)}")
        _require(self.shortest >= 0, f"reading.shortest must not be negative, got {self.shortest}")
        _require(0 <= self.promote_at <= 1, f"reading.promote_at must lie in 0..1, got {self.promote_at}")


@dataclass(kw_only=True)
class OfflineRecipe(Recipe):
    """An agent that learns from recorded streams.

    Args:
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
    """

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
        _require(named, "env needs the id of a Gymnasium environment, such as --env.id CartPole-v1")
        for name in ("episodes", "environments"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        _require(self.scale > 0, f"scale must be more than 0, got {self.scale}")
        _require(self.devices == 1, "recorded streams are learnt from in one process: leave devices out")
        grows = self.reading.shortest > 0
        _require(
            not (grows and self.reading.begin == "onward"), "reading.shortest is not of pieces that go on: leave it out"
        )

    @property
    def steps_per_update(self) -> int:
        """Steps in a piece of all rows, padding counted."""
        return self.reading.streams * self.reading.steps


#: What a recipe's ``method`` may be.
METHODS: dict[str, type[Recipe]] = {
    "ppo": ActingRecipe,
    "reading": ReadingRecipe,
    "recall": RecallRecipe,
    "questions": QuestionsRecipe,
    "offline": OfflineRecipe,
}


def shipped() -> dict[str, Path]:
    """Find the shipped recipes by name.

    >>> "tmaze" in shipped()
    True
    """
    folder = Path(str(resources.files("recurra.recipes.configs")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def summary(path: Path) -> str:
    """Say what a recipe is for: the first line of its file, a comment."""
    return path.read_text().partition("\n")[0].lstrip("# ")


def find(recipe: str) -> Path:
    """Find a recipe by a shipped name or the path of a YAML file.

    Raises:
        UserError: if there is neither.
    """
    known = shipped()
    if recipe in known:
        return known[recipe]
    if Path(recipe).suffix in (".yaml", ".yml"):
        if Path(recipe).is_file():
            return Path(recipe)
        raise UserError(f"{recipe}: no such recipe file")
    raise UserError(f"no recipe is named {recipe!r}; {nearest(recipe, known)}; your own is the path of a YAML file")


def read(path: Path, overrides: list[str], *, prog: str = "recurra train RECIPE") -> Recipe:
    """Read a recipe's file, with overrides such as ``["--ppo.learning_rate", "3e-4"]`` on top.

    Raises:
        UserError: if the file is no YAML, or a setting does not exist or has a wrong value.
    """
    method = _method(path)
    kind = METHODS[method]
    parser = parsing.parser(prog)
    parser.add_argument("--config", action="config", help="a recipe's YAML file")
    parser.add_argument(
        "--method", type=str, help="ppo, reading, recall, questions or offline, as the recipe's file says"
    )
    parser.add_class_arguments(kind)
    values = parsing.parse(parser, ["--config", str(path), *overrides])
    _require(values["method"] == method, f"{path} is a recipe of method {method}, and only of that")
    return kind(**{setting.name: values[setting.name] for setting in fields(kind)})


def _method(path: Path) -> str:
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no YAML: {error}") from error
    _require(isinstance(content, dict), f"{path} is no recipe: expected settings, one a line, such as steps: 100000")
    method = str(content.get("method"))
    _require(method in METHODS, f"{path} needs a line for its method; {nearest(method, METHODS)}")
    return method


def require_seed(name: str, seed: int) -> None:
    """Make sure that every source of random numbers takes a seed.

    Raises:
        UserError: if one would not.
    """
    _require(0 <= seed < 2**32, f"{name} must be from 0 to {2**32 - 1}, got {seed}")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise UserError(message)
