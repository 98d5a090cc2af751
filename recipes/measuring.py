"""Measuring an agent while it trains."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.seed import isolate_rng

from recurra.agents import Acting, ActorCritic
from recurra.envs import make_streams, make_teams
from recurra.envs.documents import Source, expand
from recurra.envs.documents.babilong import Babilong, characters
from recurra.recipes import answering, devices, evaluation, teams, video
from recurra.recipes.reading import score
from recurra.recipes.settings import ActingRecipe, OfflineRecipe, QuestionsRecipe


class Evaluation(lightning.Callback):
    """Measures the agent every few updates and at the end, and leaves training as it would be without.

    Args:
        measure: gives the figures of the agent; a moving picture may be written to the path.
        names: of the figures; where nothing is measured they are NaN.
        every: updates between; 0 for none but the end's.
        precision: what is computed in, as in training.
    """

    def __init__(
        self, measure: Callable[[Any, Path], dict[str, float]], names: tuple[str, ...], *, every: int, precision: str
    ) -> None:
        self.measure, self.names, self.every, self.precision = measure, names, every, precision

    def on_train_batch_end(self, trainer: Any, module: Any, *unused: Any) -> None:
        """Add the figures to the update's."""
        module.metrics |= dict.fromkeys(self.names, math.nan)
        if module.done == module.updates or (self.every and module.done % self.every == 0):
            film = Path(trainer.default_root_dir, "videos", f"{module.done}.gif")
            module.agent.eval()
            # Not inference_mode: what a memory might keep of it could not be trained with.
            with isolate_rng(), torch.no_grad(), devices.precision(self.precision, module.device):
                module.metrics |= self.measure(module.agent, film)
            module.agent.train()


class Scoring:
    """Measures a reader by documents that it does not learn from."""

    names = ("held_out_bits_per_byte",)

    def __init__(self, documents: list[Source]) -> None:
        self.documents = documents

    def __call__(self, reader: Any, film: Path) -> dict[str, float]:
        """Read them all."""
        return {"held_out_bits_per_byte": score(reader, self.documents)}


class Answering:
    """Measures a reader by questions about documents made of the held-out books, the same each time.

    Args:
        recipe: its tasks, the books, and how it is evaluated.

    Raises:
        UserError: if there are no books.
    """

    names = ("held_out_accuracy",)

    def __init__(self, recipe: QuestionsRecipe) -> None:
        self.episodes = recipe.evaluation.episodes
        books, length = expand(recipe.env.held_out), characters(recipe.evaluation.length)
        self.tasks = [Babilong(task, books, length=length, seed=recipe.seed) for task in recipe.env.tasks]

    def __call__(self, reader: Any, film: Path) -> dict[str, float]:
        """Read them all, and ask."""
        answered = [
            answer.right for task in self.tasks for answer in answering.answers(reader, task, episodes=self.episodes)
        ]
        return {"held_out_accuracy": sum(answered) / len(answered)}


class Playing:
    """Measures an agent by episodes of what it is to learn in the end, the same each time.

    Args:
        recipe: its environment, and how it is evaluated.
        agent: what is trained.

    Raises:
        UserError: if the environment is none, or one of other spaces, or none that can be filmed where that is asked.
    """

    names = ("eval_mean_return", "eval_success_rate")

    def __init__(self, recipe: ActingRecipe | OfflineRecipe, agent: Acting) -> None:
        self.how = recipe.evaluation
        self.count = min(self.how.episodes, recipe.environments)
        self.options = evaluation.merge(recipe.env, self.how.env)
        make = make_teams if agent.team else make_streams
        streams = make(count=1, **self.options)  # a mistake is told now
        streams.close()
        evaluation.check_spaces(agent, streams, "the agent")
        if self.how.video and not agent.team:
            video.check(self.options)

    def __call__(self, agent: Acting, film: Path) -> dict[str, float]:
        """Play the episodes, in environments of its own."""
        if isinstance(agent, ActorCritic) and agent.team:
            return self._of_team(agent, film)
        streams = make_streams(count=self.count, **self.options)
        try:
            played = evaluation.play(agent, streams, episodes=self.how.episodes, seed=self.how.seed)
        finally:
            streams.close()
        if self.how.video:
            video.write(film, agent, self.options, seed=self.how.seed)
        success = [episode.success for episode in played]
        return {
            "eval_mean_return": sum(episode.total for episode in played) / len(played),
            "eval_success_rate": sum(success) / len(played),
        }

    def _of_team(self, agent: ActorCritic, film: Path) -> dict[str, float]:
        seed, episodes = self.how.seed, self.how.episodes
        played = teams.measure(agent, self.options, episodes=episodes, seed=seed, at_once=self.count)
        if self.how.video:
            teams.draw(film.with_suffix(".svg"), agent, self.options, seed=seed)
        success = played.metrics.get("CSR")
        return {
            "eval_mean_return": float(played.totals.mean()),
            "eval_success_rate": math.nan if success is None else float(success.mean()),
        }
