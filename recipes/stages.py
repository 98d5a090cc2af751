"""How far a reader has come in each task: who answers documents of one length goes on to longer ones."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from recurra.recipes.settings import QuestionsOptions

#: A task past the last stage is drawn as if at least this share of its questions were answered wrong.
LEAST_NEED = 0.01


@dataclass
class Standing:
    """Where a task stands.

    Attributes:
        stage: which of the lengths; as many as there are once the last has been passed.
        wanted: the share of answers that earns the next stage.
        updates: made of it at this stage.
        shares: of right answers, in the last of them; past the last stage too.
    """

    stage: int
    wanted: float
    updates: int
    shares: deque[float]

    @property
    def need(self) -> float:
        """The share of questions answered wrong lately; 1 before any was asked."""
        return max(LEAST_NEED, 1 - float(np.mean(self.shares))) if self.shares else 1.0


class Stages:
    """The stage of each task, and when the next is earned; see `QuestionsOptions`.

    A task whose stage ended with no more than a certain share, as it was too hard, is asked for ``promote_at`` of that
    from then on: later stages are about length.

    >>> stages = Stages(["qa1", "qa2"], QuestionsOptions(window=2, promote_at=0.9))
    >>> stages.judge("qa1", 0.9), stages.judge("qa1", 1.0), stages.judge("qa2", 0.5)
    (False, True, False)
    >>> stages.mean, stages.graduates
    (0.5, [])
    """

    def __init__(self, tasks: Sequence[str], options: QuestionsOptions) -> None:
        self.options = options
        self.standing = {task: Standing(0, options.promote_at, 0, deque(maxlen=options.window)) for task in tasks}

    @property
    def mean(self) -> float:
        """The stage of all tasks, on average."""
        return float(np.mean([standing.stage for standing in self.standing.values()]))

    @property
    def end(self) -> int:
        """The stage of tasks that have passed the last."""
        return len(self.options.lengths)

    @property
    def graduates(self) -> list[str]:
        """The tasks that have passed the last stage."""
        return self.at(self.end)

    def at(self, stage: int) -> list[str]:
        """Give the tasks at a stage."""
        return [task for task, standing in self.standing.items() if standing.stage == stage]

    def draw_stage(self, rng: Random) -> int:
        """Draw a stage that tasks stand at, the likelier the more there are.

        Those that have passed the last are drawn a certain share of the time at the most: so the few left behind learn
        the more.
        """
        stages = [standing.stage for standing in self.standing.values()]
        left = [stage for stage in stages if stage < self.end]
        if not left or rng.random() < min(self.options.graduates, 1 - len(left) / len(stages)):
            return self.end
        return rng.choice(left)

    def draw_task(self, rng: Random, stage: int) -> str:
        """Draw a task at a stage; past the last, the likelier the more of its questions are answered wrong."""
        tasks = self.at(stage)
        if stage < self.end:
            return rng.choice(tasks)
        return rng.choices(tasks, [self.standing[task].need for task in tasks])[0]

    def judge(self, task: str, share: float) -> bool:
        """Take in what share of an update's questions was answered; say whether the task goes on to the next stage."""
        standing = self.standing[task]
        standing.shares.append(share)
        if standing.stage == self.end:
            return False
        standing.updates += 1
        reached = float(np.mean(standing.shares))
        earned = len(standing.shares) == self.options.window and reached >= standing.wanted
        if not earned and standing.updates != self.options.promote_after:
            return False
        if not earned:
            standing.wanted = min(standing.wanted, self.options.promote_at * reached)
        standing.stage, standing.updates = standing.stage + 1, 0
        standing.shares.clear()
        return True

    def state_dict(self) -> dict[str, Any]:
        """Give all that goes on from here."""
        return {
            task: [standing.stage, standing.wanted, standing.updates, list(standing.shares)]
            for task, standing in self.standing.items()
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from where `state_dict` was called."""
        for task, (stage, wanted, updates, shares) in saved.items():
            self.standing[task] = Standing(stage, wanted, updates, deque(shares, maxlen=self.options.window))
