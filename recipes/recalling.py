"""Learning associative recall: episodes of growing numbers of pairs, one after another, in streams side by side.

One step of the Lightning trainer is one episode of each number of pairs in every stream. No episode is seen twice, so
what is measured while learning is what was never seen before.
"""

import inspect
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from recurra.agents import Reader
from recurra.envs.probes import Recall
from recurra.errors import UserError, nearest
from recurra.memory import state as states
from recurra.recipes import devices, evaluation, loading, processes
from recurra.recipes.optimising import Learning
from recurra.recipes.settings import LearningOptions


class Recalling(Learning):
    """A reader, the episodes it learns from, and the steps.

    Args:
        reader: what learns.
        tasks: what it learns, of one vocabulary: an episode of each makes a piece of a stream.
        options: see `LearningOptions`.
        updates: how many pieces to learn from.
        seed: of the episodes.
    """

    def __init__(
        self, reader: Reader, tasks: list[Recall], *, options: LearningOptions, updates: int, seed: int
    ) -> None:
        super().__init__(reader, options=options, updates=updates)
        self.tasks, self.seed = tasks, seed
        lengths = [task.length for task in tasks]
        self.first = torch.zeros(sum(lengths), dtype=torch.bool)
        self.first[np.cumsum([0, *lengths[:-1]])] = True
        self.lengths = lengths
        self.shown = ("loss", *(f"accuracy_{task.pairs}" for task in tasks), "gradient_norm", "learning_rate")

    def next(self, run: str) -> str:
        """Give the command that measures what was learnt."""
        return f"recurra eval {run} --grid.pairs {','.join(str(task.pairs) for task in self.tasks)}"

    @property
    def steps_per_update(self) -> int:
        """Tokens in a piece of all streams."""
        return self.options.streams * sum(self.lengths)

    def piece(self, index: int) -> tuple[Tensor, Tensor]:
        """Give a piece's tokens, and which of them are asked for: it depends on nothing but the seed and its number."""
        rng = np.random.default_rng([self.seed, index])
        drawn = [task.draw(self.options.streams, rng) for task in self.tasks]
        own = processes.rows(self, self.options.streams)
        tokens, asked = (np.concatenate(parts, 1)[own] for parts in zip(*drawn, strict=True))
        return torch.as_tensor(tokens, device=self.device), torch.as_tensor(asked, device=self.device)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Read a piece, and learn from what was asked for."""
        tokens, asked = self.piece(self.done)
        logits = self.agent.foretell(tokens, first=self.first.to(self.device).expand_as(asked))
        losses = [
            F.cross_entropy(scores[wanted], wished[wanted])
            for scores, wished, wanted in zip(*(x.split(self.lengths, 1) for x in (logits, tokens, asked)), strict=True)
        ]
        loss = torch.stack(losses).mean()  # of few pairs and many alike: few are learnt first

        step = self.improve(loss)
        right = ((logits.detach().argmax(-1) == tokens) & asked).sum(0).split(self.lengths)
        shares = zip(right, asked.sum(0).split(self.lengths), strict=True)
        self.metrics = {
            "loss": processes.mean(loss).item(),
            **{
                f"accuracy_{task.pairs}": processes.mean(hits.sum() / wanted.sum()).item()
                for task, (hits, wanted) in zip(self.tasks, shares, strict=True)
            },
            **step,
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what learning goes on from: the number of the piece."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["recall"] = {"done": self.done}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from where `on_save_checkpoint` was called."""
        self.done = checkpoint["recall"]["done"]


def evaluate(
    runs: list[str],
    *,
    env: dict[str, Any],
    grid: dict[str, list[Any]],
    episodes: int,
    at_once: int,
    seed: int,
    device: str,
    precision: str,
) -> dict[str, Any]:
    """Measure readers that were trained to recall; what `recurra.recipes.evaluate` does with such runs.

    Args:
        runs: run folders, checkpoints, readers' own folders or shipped names.
        env: options of `recurra.envs.probes.Recall`, on top of those of training.
        grid: such options with the values to try, every combination a row; without pairs, those of training.
        episodes: how many, each row.
        at_once: the most to read side by side.
        seed: of the episodes, the same for each run.
        device: cpu, cuda or auto.
        precision: 32-true or bf16-mixed.

    Returns:
        ``run``, ``task``, ``episodes``, ``success_rate`` (the share of queries whose value is thought likeliest),
        ``mean_return`` and ``std_return`` (of an episode's share) of the first row, and ``rows``, where each has these,
        the options of the grid and ``state_bytes`` (of a stream).

    Raises:
        UserError: if a run, an option or a value is wrong.
    """
    where = devices.device(device)
    rows = []
    for run, reader, trained in [(run, *loading.recaller(run)) for run in runs]:
        reader.to(where)
        wanted = grid if {"pairs"} & (env.keys() | grid.keys()) else {"pairs": trained["pairs"], **grid}
        for point in evaluation.points(wanted):
            task = _task(run, reader, {**trained, **env, **point})
            start = time.perf_counter()
            with torch.inference_mode(), devices.precision(precision, where):
                shares = _shares(reader, task, episodes, at_once, seed)
            seconds = time.perf_counter() - start
            rows.append(
                {
                    "run": run,
                    "memory": reader.config["memory"],
                    "task": "recall",
                    **point,
                    "episodes": episodes,
                    "success_rate": float(shares.mean()),
                    "mean_return": float(shares.mean()),
                    "std_return": float(shares.std()),
                    "mean_length": task.length,
                    "state_bytes": states.nbytes(reader.memory.initial_state(1)),
                    "seconds": round(seconds, 3),
                    "steps_per_second": round(episodes * task.length / max(seconds, 1e-9), 1),
                }
            )
    names = ("run", "task", "episodes", "success_rate", "mean_return", "std_return")
    return {name: rows[0][name] for name in names} | {"rows": rows}


def _task(run: str, reader: Reader, options: dict[str, Any]) -> Recall:
    known = inspect.signature(Recall).parameters
    for option in options.keys() - known:
        raise UserError(f"recall has no option {option!r}; {nearest(option, known)}")
    try:
        task = Recall(**options)
    except TypeError as error:  # a word for a number
        raise UserError(f"recall's options are numbers: {options}") from error
    if task.vocabulary != reader.config["vocabulary"]:
        raise UserError(
            f"{run} knows {reader.config['vocabulary']} tokens, not {task.vocabulary}: leave keys, values "
            "and fillers as they were trained"
        )
    return task


def _shares(reader: Reader, task: Recall, episodes: int, at_once: int, seed: int) -> NDArray[np.float64]:
    """Give the share of each episode's queries that are answered."""
    rng, shares = np.random.default_rng([seed, task.pairs, 1]), []
    for done in range(0, episodes, at_once):
        drawn = task.draw(min(at_once, episodes - done), rng)
        tokens = torch.as_tensor(drawn.tokens, device=reader.head.weight.device)
        right = (reader.foretell(tokens).argmax(-1) == tokens).cpu().numpy() & drawn.asked
        shares.append(right.sum(1) / drawn.asked.sum(1))
    return np.concatenate(shares)
