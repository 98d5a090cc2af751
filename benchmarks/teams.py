"""``recurra bench teams``: steps per second of teams: their worlds alone, acting in them, and training, end to end."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from recurra import memory
from recurra.agents import ActorCritic
from recurra.benchmarks.timing import require_counts, steady
from recurra.envs import make_teams
from recurra.errors import UserError, nearest
from recurra.memory import state as states

WORLDS: dict[str, dict[str, Any]] = {
    "bottleneck": {"id": "recurra/Bottleneck-v0", "options": {"corridor": [3, 30]}},
    "pathfinding": {
        "id": "recurra/Grid-v0",
        "maps": "mazes",
        "agents": 8,
        "on_target": "restart",
        "collision_system": "soft",
        "observation_type": "guided",
        "radius": 5,
        "horizon": 128,
        "reward": "way",
    },
}
"""By the recipes' names."""


def run(
    train: Callable[..., dict[str, Any]],
    names: list[str] | None = None,
    *,
    recipe: str = "bottleneck",
    agents: int | None = None,
    environments: int = 32,
    dim: int = 32,
    rollout: int = 64,
    updates: int = 4,
    rounds: int = 2,
) -> list[dict[str, Any]]:
    """Measure teams of each memory.

    One thread. Worlds and acting are timed in seconds of CPU time, so that other work on the machine does little to
    them, training by the clock, without its first update and all that is made before it. Each figure is the best of the
    rounds.

    Args:
        train: `recurra.recipes.train`, with a folder for its runs.
        names: which memories; by default srmt, pooled_gated_delta_net, gru and none.
        recipe: bottleneck or pathfinding.
        agents: in a team; None are the recipe's.
        environments: worlds side by side.
        dim: width of the networks.
        rollout: steps of each world between updates.
        updates: rollouts that are learnt from, after the first.
        rounds: how often each is measured.

    Returns:
        A row for each figure: ``name``, ``what`` (``worlds``, ``acting``, ``training``), ``agents``, ``per_second``
        (steps of one world), ``agents_per_second`` (steps of one agent), ``bytes`` of a team's state, and ``ratio`` and
        ``peer``, None.

    Raises:
        UserError: if there is no such memory or recipe, or a number is less than 1.
    """
    if recipe not in WORLDS:
        raise UserError(f"there is no recipe {recipe!r} of teams; {nearest(recipe, WORLDS)}")
    counts = {"environments": environments, "rollout": rollout, "updates": updates, "rounds": rounds}
    require_counts(**counts | ({} if agents is None else {"agents": agents}))
    wanted = ["srmt", "pooled_gated_delta_net", "gru", "none"] if names is None else names
    for name in wanted:
        memory.describe(name)
    options = WORLDS[recipe] if agents is None else {**WORLDS[recipe], "agents": agents}
    teams = make_teams(count=environments, **options)
    size, rows = teams.shape[1], []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        best = min(_stepping(options, environments, rollout) for _ in range(rounds))
        rows.append(_row("random", "worlds", size, environments * rollout / best, 0))
        for name in wanted:
            torch.manual_seed(0)
            agent = ActorCritic(teams.observation_space, teams.action_space, memory=name, dim=dim, team=True).eval()
            held = states.nbytes(agent.initial_state(1, size))
            best = min(_acting(agent, options, environments, rollout) for _ in range(rounds))
            rows.append(_row(name, "acting", size, environments * rollout / best, held))
            settings: dict[str, Any] = {"memory": name, "dim": dim, "environments": environments, "threads": 1}
            settings |= {"ppo.rollout": rollout, "ppo.sequence": math.gcd(16, rollout)}
            settings |= {} if agents is None else {"env.agents": agents}
            steps = (1 + updates) * environments * rollout
            best = max(steady(train(recipe, steps=steps, **settings)["run"])[0] for _ in range(rounds))
            rows.append(_row(name, "training", size, best, held))
    finally:
        torch.set_num_threads(threads)
    return rows


def _row(name: str, what: str, agents: int, rate: float, held: int) -> dict[str, Any]:
    about = {"name": name, "what": what, "agents": agents}
    return about | {
        "per_second": rate,
        "agents_per_second": rate * agents,
        "bytes": held,
        "ratio": None,
        "peer": None,
    }


def _stepping(options: dict[str, Any], environments: int, steps: int) -> float:
    """Step worlds at random: seconds."""
    teams = make_teams(count=environments, **options)
    teams.reset(seed=0)
    actions = np.random.default_rng(0).integers(5, size=(steps, *teams.shape))
    start = time.process_time()
    for each in actions:
        teams.step(each)
    return time.process_time() - start


def _acting(agent: ActorCritic, options: dict[str, Any], environments: int, steps: int) -> float:
    """Act in worlds, drawn actions: seconds."""
    teams = make_teams(count=environments, **options)
    obs, first = teams.reset(seed=0)
    state = None
    start = time.process_time()
    for _ in range(steps):
        actions, state = agent.act(obs, state, first, present=teams.present, greedy=False)
        step = teams.step(actions)
        obs, first = step.obs, step.first
    return time.process_time() - start
