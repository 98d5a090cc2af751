"""How readers, and agents of recorded streams, learn: the optimiser, its schedule, one step after another."""

import math
from abc import ABC, abstractmethod
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from recurra.recipes.settings import LearningOptions


class Learning(lightning.LightningModule, ABC):
    """An agent and the updates that it learns by. A subclass says what an update learns from.

    Args:
        agent: what learns.
        options: see `LearningOptions`.
        updates: how many to make.

    Attributes:
        agent: what learns.
        done: updates made.
        metrics: figures of the last one.
    """

    options: LearningOptions

    #: Whether a checkpoint holds all that learning goes on from.
    saves = True

    def __init__(self, agent: Any, *, options: LearningOptions, updates: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.agent, self.options, self.updates, self.done = agent, options, updates, 0
        self.metrics: dict[str, float] = {}

    def close(self) -> None:
        """Do nothing: what is read needs no closing."""

    @abstractmethod
    def next(self, run: str) -> str:
        """Give the command that shows what was learnt."""

    @property
    @abstractmethod
    def steps_per_update(self) -> int:
        """Tokens of an update."""

    @property
    def steps(self) -> int:
        """Tokens read."""
        return self.done * self.steps_per_update

    def configure_optimizers(self) -> Any:
        """Give AdamW and its schedule."""
        return adamw(self.agent, self.options, updates=self.updates)

    def train_dataloader(self) -> DataLoader:
        """Give the numbers of the updates that are left: reading itself goes on from where it stands."""
        return DataLoader(range(self.done, self.updates), batch_size=None)  # type: ignore[arg-type]

    def improve(self, loss: Tensor) -> dict[str, float]:
        """Take one step down the loss, which is an update; tell the gradient's norm and the step size."""
        optimizer: Any = self.optimizers()
        schedule: Any = self.lr_schedulers()
        rate = schedule.get_last_lr()[0]
        optimizer.zero_grad()
        self.manual_backward(loss)
        norm = nn.utils.clip_grad_norm_(self.parameters(), self.options.gradient_norm)
        optimizer.step()
        schedule.step()
        self.done += 1
        return {"gradient_norm": norm.item(), "learning_rate": rate}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the agent is built from."""
        checkpoint["agent"] = {"kind": type(self.agent).__name__, **self.agent.config}


def adamw(module: nn.Module, options: LearningOptions, *, updates: int) -> Any:
    """Give AdamW, with weight decay on matrices alone; its rate rises in a line and falls as a cosine, to a tenth."""
    matrices = [parameter for parameter in module.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in module.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}]

    def share(update: int) -> float:
        if update < options.warm_up:
            return (update + 1) / options.warm_up
        done = (update - options.warm_up) / max(1, updates - options.warm_up)
        return 0.55 + 0.45 * math.cos(math.pi * min(done, 1.0))

    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.95))
    return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, share)]
