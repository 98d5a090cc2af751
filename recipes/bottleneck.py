"""SRMT's evaluation of teams: corridors of growing lengths, between rooms that two agents have to change."""

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recurra.agents import ActorCritic
from recurra.envs import Teams, make_teams
from recurra.errors import UserError, nearest
from recurra.recipes import devices, loading
from recurra.recipes.evaluation import check_spaces, merge
from recurra.recipes.rollout import fresh
from recurra.recipes.settings import require_seed

LENGTHS = (*range(3, 51), *range(100, 1001, 100))
"""Of the corridors (Sagirova et al. 2025, arXiv 2501.13200), 10 episodes each."""

EPISODES = 10
FIGURES = ("CSR", "ISR", "SoC")
_RESAMPLED = 10_000


def evaluate(
    runs: list[str],
    protocol: str,
    lengths: list[int] | None,
    *,
    env: dict[str, Any],
    episodes: int | None,
    seed: int,
    device: str,
    precision: str,
    unused: list[str],
) -> dict[str, Any]:
    """Measure teams as SRMT's paper does: 10 episodes at each length L, of 2 L + 100 steps at most.

    Agents take their likeliest action. For each run and length a row tells the shares of episodes in which all agents
    arrived (CSR) and of agents that arrived (ISR), the sum of agents' steps (SoC), and for each figure the interval,
    such as ``CSR_95``, that the means of 95 of 100 resamplings of the episodes lie in (bootstrap).

    Args:
        runs: as in `recurra.recipes.evaluation.evaluate`.
        protocol: ``bottleneck``.
        lengths: of corridors; None is `LENGTHS`.
        env: as there.
        episodes: at each length, of as many seeds; None is 10.
        seed: the first of them.
        device: as there.
        precision: as there.
        unused: options that were given, and that a protocol does not take.

    Raises:
        UserError: if a run is of no team, or an option or a value is wrong.
        FileNotFoundError: if there is no such run.
    """
    if protocol != "bottleneck":
        raise UserError(f"there is no protocol {protocol!r}; {nearest(protocol, ['bottleneck'])}")
    if unused:
        raise UserError(f"a protocol takes no {unused[0]}: leave out --{unused[0]}")
    lengths, episodes = list(LENGTHS) if lengths is None else lengths, EPISODES if episodes is None else episodes
    if episodes < 1:
        raise UserError("episodes must be at least 1")
    require_seed("seed", seed)
    require_seed("seed + episodes", seed + episodes)
    for length in lengths:
        if not isinstance(length, int) or isinstance(length, bool) or not 1 <= length <= 10_000:
            raise UserError(f"lengths are whole numbers from 1 to 10000, such as --lengths 30,400; got {length!r}")
    where = devices.device(device)
    computing = devices.precision(precision, where)
    trials = [(run, *_team(run, env)) for run in runs]
    rows = []
    for run, agent, options in trials:
        agent.to(where)
        for length in lengths:
            start = time.perf_counter()
            corridor = {**options, "options": {**options.get("options", {}), "corridor": length}, "horizon": None}
            teams = make_teams(count=episodes, **corridor)
            with torch.inference_mode(), computing:
                figures, steps = play(agent, teams, seeds=range(seed, seed + episodes))
            told: dict[str, Any] = {}
            for name in FIGURES:
                told |= {name: float(figures[name].mean()), f"{name}_95": interval(figures[name])}
            seconds = time.perf_counter() - start
            rows.append(
                {"run": run, "memory": agent.config["memory"], "env": options["id"], "length": length}
                | {"episodes": episodes, "success_rate": told["CSR"], **told}
                | {"mean_return": float(figures["return"].mean()), "std_return": float(figures["return"].std())}
                | {"seconds": round(seconds, 3), "steps_per_second": round(steps / max(seconds, 1e-9), 1)}
            )
    names = ("run", "env", "episodes", "success_rate", "mean_return", "std_return")
    return {name: rows[0][name] for name in names} | {"protocol": protocol, "rows": rows}


def _team(run: str, env: dict[str, Any]) -> tuple[ActorCritic, dict[str, Any]]:
    agent, known = loading.actor(run)
    if not agent.team:
        raise UserError(f"{run} acts alone, the protocol is of teams: recurra train bottleneck")
    options = {"id": "recurra/Bottleneck-v0", **merge(known, env)}
    check_spaces(agent, make_teams(count=1, **options), run)
    if options.get("maps", "bottleneck") != "bottleneck" or options["id"] != "recurra/Bottleneck-v0":
        raise UserError(f"{run} was trained in {options['id']}: --env.id recurra/Bottleneck-v0 measures it in another")
    return agent, options


def play(agent: ActorCritic, teams: Teams, *, seeds: range) -> tuple[dict[str, NDArray[np.float64]], int]:
    """Play an episode in each world, and give its figures, and the number of steps of all."""
    obs, first = teams.reset(seed=list(seeds))
    state: Any = fresh(agent, teams)
    totals, steps, done = np.zeros(teams.num), 0, np.zeros(teams.num, bool)
    figures = {name: np.full(teams.num, np.nan) for name in (*FIGURES, "return")}
    while not done.all():
        present = teams.present
        _, actions, state = agent.respond(
            agent.observe(obs),
            state,
            noise=None,
            first=torch.as_tensor(first, device=agent.device) if first.any() else None,
            present=None if present.all() else torch.as_tensor(present, device=agent.device),
        )
        step = teams.step(agent.actions.to_environment(actions))
        steps += int((~done).sum())
        totals += step.reward.mean(1)
        ended = step.over & ~done
        for name in FIGURES:
            figures[name][ended] = step.metrics[name][ended]
        figures["return"][ended] = totals[ended]
        done |= ended
        obs, first = step.obs, step.first
    return figures, steps


def interval(values: NDArray[np.float64]) -> list[float]:
    """Give where the mean of resampled values lies in 95 of 100 cases: low and high.

    >>> interval(np.ones(10))
    [1.0, 1.0]
    """
    drawn = np.random.default_rng(0).integers(len(values), size=(_RESAMPLED, len(values)))
    return [float(bound) for bound in np.quantile(values[drawn].mean(1), (0.025, 0.975))]
