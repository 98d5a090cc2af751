"""Several processes that train one agent together, by Lightning's DDP strategy.

The first process makes the run folder and starts the others, which run the same command again, find the folder that
they belong to in the environment, and write nothing.
"""

import os
from typing import Any

import lightning
import numpy as np
import torch

from recurra.memory import state as states
from recurra.memory.state import State

_FOLDER = "RECURRA_RUN"


def lead(folder: str, *, threads: int) -> None:
    """Tell the processes that this one will start which run they belong to."""
    os.environ[_FOLDER] = folder
    os.environ["OMP_NUM_THREADS"] = str(threads)  # else Lightning chooses a number, and that decides how sums round


def dismiss() -> None:
    """Forget what `lead` told: the run has ended."""
    os.environ.pop(_FOLDER, None)


def followed() -> str | None:
    """Give the run's folder if another process leads it, None in the process that leads."""
    return os.environ.get(_FOLDER) if rank() else None


def rank() -> int:
    """Count the processes before this one: 0 in the one that leads."""
    return int(os.environ.get("LOCAL_RANK", 0)) if _FOLDER in os.environ else 0


def seed(*numbers: int) -> int:
    """Draw a seed from whole numbers, another one in each process."""
    return int(np.random.SeedSequence([*numbers, *([rank()] if rank() else [])]).generate_state(1)[0])


def gather(value: Any) -> list[Any]:
    """Give every process's value, in their order: plain containers, numbers and tensors."""
    if not _together():
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def mean(number: torch.Tensor) -> torch.Tensor:
    """Give the mean of every process's number, which is detached."""
    if not _together():
        return number.detach()
    total = number.detach().clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def join(state: State) -> State:
    """Put every process's streams together, in their order."""
    return states.transform(lambda *parts: torch.cat(parts), *gather(states.move(state, "cpu")))


def rows(module: lightning.LightningModule, count: int) -> slice:
    """Give the share of ``count`` streams that is this process's."""
    share = count // module.trainer.world_size
    return slice(module.global_rank * share, (module.global_rank + 1) * share)


def _together() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
