"""How long an agent takes for one step of all its environments."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from recurra.agents import ActorCritic
from recurra.benchmarks.timing import seconds


def acting(agent: ActorCritic, batches: Sequence[int], *, threads: int, budget: float) -> list[float]:
    """Measure the seconds of one call of `ActorCritic.act`, actions drawn, for each number of environments."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return [_act(agent, batch, budget) for batch in batches]
    finally:
        torch.set_num_threads(before)


def _act(agent: ActorCritic, batch: int, budget: float) -> float:
    shape = agent.observation_space.shape
    assert shape is not None
    obs, first = np.zeros((batch, *shape), np.float32), np.zeros(batch, bool)
    state: Any = None

    def act() -> None:
        nonlocal state
        _, state = agent.act(obs, state, first, greedy=False)

    return seconds(act, budget=budget)
