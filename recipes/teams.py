"""Teams in episodes of their own: their figures with intervals, and what an episode looked like."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from recurra.agents import ActorCritic
from recurra.envs import Teams, make_teams
from recurra.envs.grid import PogemaWorlds, Recording
from recurra.files import whole
from recurra.recipes.rollout import drawing, fresh

FIGURES = ("CSR", "ISR", "SoC", "avg_throughput")
"""What rows tell of episodes, where the rules have it: see `recurra.envs.grid.scores`."""

_RESAMPLED = 10_000


class Cell(NamedTuple):
    """What a row is measured in.

    Attributes:
        point: what tells it from others: ``{"length": 30}``.
        options: the worlds', the id among them.
        episodes: how many.
        drawn: whether a report may show an episode of it.
    """

    point: dict[str, Any]
    options: dict[str, Any]
    episodes: int
    drawn: bool = True


class Played(NamedTuple):
    """What came of episodes, ``(episodes,)`` each.

    Attributes:
        totals: their returns, means over a team's agents.
        lengths: their steps.
        metrics: POGEMA's figures of each.
    """

    totals: NDArray[np.float64]
    lengths: NDArray[np.int64]
    metrics: dict[str, NDArray[np.float64]]


def episodes_of(options: dict[str, Any], seeds: range, *, in_pogema: bool = False) -> Teams:
    """Make the worlds in which a team plays the episodes of seeds, one in each.

    Args:
        options: the worlds', the id among them.
        seeds: of the episodes.
        in_pogema: have the package `pogema` play the same ones.
    """
    teams = make_teams(count=len(seeds), **options)
    if not in_pogema:
        return teams
    teams.reset(seed=list(seeds))
    return Teams(PogemaWorlds.like(teams.env))


def play(agent: ActorCritic, teams: Teams, *, seeds: range, sample: bool = False) -> Played:
    """Play an episode in each world.

    Args:
        agent: who acts, for a team.
        teams: the worlds.
        seeds: one for each of them.
        sample: draw actions, by the first of the seeds, instead of taking the likeliest.
    """
    obs, first = teams.reset(seed=list(seeds))
    state: Any = fresh(agent, teams)
    totals, lengths, done = np.zeros(teams.num), np.zeros(teams.num, np.int64), np.zeros(teams.num, bool)
    metrics: dict[str, NDArray[np.float64]] = {}
    with drawing(sample, seeds[0]):
        while not done.all():
            present = teams.present
            _, actions, state = agent.respond(
                agent.observe(obs),
                state,
                noise=agent.actions.noise(*teams.shape) if sample else None,
                first=torch.as_tensor(first, device=agent.device) if first.any() else None,
                present=None if present.all() else torch.as_tensor(present, device=agent.device),
            )
            step = teams.step(agent.actions.to_environment(actions))
            lengths += ~done
            totals += np.where(done, 0.0, step.reward.mean(1))
            ended = step.over & ~done
            for name, values in step.metrics.items():
                metrics.setdefault(name, np.full(teams.num, np.nan))[ended] = values[ended]
            done |= ended
            obs, first = step.obs, step.first
    return Played(totals, lengths, metrics)


def measure(
    agent: ActorCritic,
    options: dict[str, Any],
    *,
    episodes: int,
    seed: int,
    at_once: int,
    sample: bool = False,
    in_pogema: bool = False,
) -> Played:
    """Play episodes of as many seeds, so many at once.

    Args:
        agent: who acts, for a team.
        options: the worlds', the id among them.
        episodes: how many.
        seed: the first one's.
        at_once: worlds side by side, at most.
        sample: see `play`.
        in_pogema: see `episodes_of`.
    """
    parts = []
    for begin in range(0, episodes, at_once):
        seeds = range(seed + begin, seed + min(begin + at_once, episodes))
        teams = episodes_of(options, seeds, in_pogema=in_pogema)
        parts.append(play(agent, teams, seeds=seeds, sample=sample))
    totals, lengths = (np.concatenate(column) for column in list(zip(*parts, strict=True))[:2])
    metrics = {name: np.concatenate([part.metrics[name] for part in parts]) for name in parts[0].metrics}
    return Played(totals, lengths, metrics)


def figures(played: Played, seconds: float) -> dict[str, Any]:
    """Give what a row tells: means, and for each figure where those of 95 of 100 resamplings of the episodes lie."""
    told: dict[str, Any] = {}
    for name in FIGURES:
        if name in played.metrics:
            told |= {name: float(played.metrics[name].mean()), f"{name}_95": interval(played.metrics[name])}
    return {
        "episodes": len(played.totals),
        "success_rate": told.get("CSR"),
        **told,
        "mean_return": float(played.totals.mean()),
        "std_return": float(played.totals.std()),
        "mean_length": float(played.lengths.mean()),
        "seconds": round(seconds, 3),
        "steps_per_second": round(float(played.lengths.sum()) / max(seconds, 1e-9), 1),
    }


def interval(values: NDArray[np.float64]) -> list[float]:
    """Give where the mean of resampled values lies in 95 of 100 cases (bootstrap): low and high.

    >>> interval(np.ones(10))
    [1.0, 1.0]
    """
    drawn = np.random.default_rng(0).integers(len(values), size=(_RESAMPLED, len(values)))
    return [float(bound) for bound in np.quantile(values[drawn].mean(1), (0.025, 0.975))]


@torch.no_grad()
def record(
    agent: ActorCritic,
    options: dict[str, Any],
    *,
    seed: int,
    sample: bool = False,
    in_pogema: bool = False,
    most: int = 3000,
) -> tuple[Recording, dict[str, float]]:
    """Play the episode of a seed, to be drawn with how strongly agents attend to each other's memories, if they do.

    Args:
        agent: who acts, for a team.
        options: the world's, the id among them.
        seed: of the episode.
        sample: draw actions, by the same seed.
        in_pogema: see `episodes_of`.
        most: after how many steps to stop.

    Returns:
        The recording, and the episode's figures; none if it was cut.
    """
    teams = episodes_of(options, range(seed, seed + 1), in_pogema=in_pogema)
    obs, _ = teams.reset(seed=[seed])
    state: Any = fresh(agent, teams)
    recording, figures = Recording(teams.env), {}
    with drawing(sample, seed):
        for _ in range(most):
            there = torch.as_tensor(teams.present, device=agent.device)
            tokens = agent.observe(obs)
            heeds = agent.heed(tokens, state, present=there)
            noise = agent.actions.noise(*teams.shape) if sample else None
            _, actions, state = agent.respond(tokens, state, noise=noise, present=there)
            step = teams.step(agent.actions.to_environment(actions))
            recording.add(step, attention=None if heeds is None else heeds[0].cpu().numpy())
            if recording.over:
                figures = {name: float(values[0]) for name, values in step.metrics.items()}
                break
            obs = step.obs
    return recording, figures


def draw(path: Path, agent: ActorCritic, options: dict[str, Any], **how: Any) -> None:
    """Write an episode, see `record`, as an SVG that plays in a browser; the folder is made where it is missing."""
    recording, _ = record(agent, options, **how)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as scratch:
        recording.save(scratch)
