"""Settings of recipes that learn by acting."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from recurra.recipes.curriculum import CurriculumOptions
from recurra.recipes.settings.common import ActingEvaluationOptions, BestOptions, Recipe, require


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
        gae_lambda: lambda, of generalised advantage estimation.
        clip: how far the policy's ratio may move before its gradient stops.
        entropy: weight of the policy's entropy.
        value: weight of the critic's loss.
        gradient_norm: what the gradient's norm is clipped to.

    Raises:
        UserError: if a setting is outside its bounds.
    """

    learning_rate: float = 1e-3
    anneal: bool = True
    rollout: int = 128
    sequence: int = 128
    epochs: int = 4
    minibatches: int = 4
    discount: float = 0.99
    scale_rewards: bool = True
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy: float = 0.01
    value: float = 0.5
    gradient_norm: float = 0.5

    def __post_init__(self) -> None:
        for name in ("epochs", "minibatches"):
            require(getattr(self, name) >= 1, f"ppo.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip", "gradient_norm"):
            require(getattr(self, name) > 0, f"ppo.{name} must be more than 0, got {getattr(self, name)}")
        for name in ("entropy", "value"):
            require(getattr(self, name) >= 0, f"ppo.{name} must not be negative, got {getattr(self, name)}")
        for name in ("discount", "gae_lambda"):
            require(0 <= getattr(self, name) <= 1, f"ppo.{name} must lie in 0..1, got {getattr(self, name)}")
        divides = 1 <= self.sequence <= self.rollout and self.rollout % self.sequence == 0
        require(divides, f"ppo.sequence must divide ppo.rollout: {self.sequence} does not divide {self.rollout}")


@dataclass(kw_only=True)
class ActingRecipe(Recipe):
    """An agent that learns by acting, by PPO.

    Args:
        steps: for how long to train: environment steps, all environments together; whole updates are made.
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

    Raises:
        UserError: if a setting is outside its bounds.
    """

    method: ClassVar[str] = "ppo"

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
        require(named, "env needs the id of a Gymnasium environment, such as --env.id CartPole-v1")
        require(
            not (self.compile and self.team),
            "--compile is for agents that act alone: a team's steps would take many minutes to compile; leave it out",
        )
        require(self.environments >= 1, f"environments must be at least 1, got {self.environments}")
        shared = self.environments % self.devices == 0
        require(shared, f"{self.environments} environments cannot be shared out to {self.devices} devices")

    @property
    def steps_per_update(self) -> int:
        """Environment steps in a rollout."""
        return self.ppo.rollout * self.environments
