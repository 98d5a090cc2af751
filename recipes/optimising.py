"""How readers are optimised."""

import math
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from recurra.recipes.settings import LearningOptions


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


def improve(module: lightning.LightningModule, loss: Tensor, *, gradient_norm: float) -> dict[str, float]:
    """Take one step down the loss, with what `adamw` gave; tell the gradient's norm and the step size."""
    optimizer: Any = module.optimizers()
    schedule: Any = module.lr_schedulers()
    rate = schedule.get_last_lr()[0]
    optimizer.zero_grad()
    module.manual_backward(loss)
    norm = nn.utils.clip_grad_norm_(module.parameters(), gradient_norm)
    optimizer.step()
    schedule.step()
    return {"gradient_norm": norm.item(), "learning_rate": rate}
