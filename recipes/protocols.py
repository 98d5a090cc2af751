"""Teams measured: in worlds of their own, over a grid of options, or by a published protocol."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from recurra.agents import Acting, ActorCritic
from recurra.envs import make_teams
from recurra.envs.grid.adapter import package
from recurra.errors import UserError, nearest
from recurra.files import writable
from recurra.recipes import bottleneck, devices, loading, pogema, teams
from recurra.recipes.evaluation import check_spaces, merge
from recurra.recipes.settings import require_seed
from recurra.recipes.teams import Cell

PROTOCOLS = {"bottleneck": ("lengths",), "pogema": ("kinds", "sizes", "tasks", "data")}
"""By name, which of the options that choose among a protocol's rows each takes."""

_SHOWN = 3
"""Episodes in a report."""


class How(NamedTuple):
    """How rows are measured: the options of `recurra.recipes.evaluation.evaluate` of the same names."""

    episodes: int | None
    environments: int
    seed: int
    device: str
    precision: str
    sample: bool
    in_pogema: bool
    report: str | None
    video: str | None


class Trial(NamedTuple):
    """A team, whose run it is of, and the rows that it is measured in."""

    run: str
    agent: ActorCritic
    cells: list[Cell]


def by_protocol(
    runs: list[str], protocol: str, chosen: dict[str, Any], *, env: dict[str, Any], how: How
) -> dict[str, Any]:
    """Measure teams as a paper does.

    For each run and cell of the protocol a row tells POGEMA's figures, such as the share of episodes in which all
    agents arrived (``CSR``), and for each the interval ``CSR_95`` that the means of 95 of 100 resamplings of the
    episodes lie in (bootstrap).

    Args:
        runs: as in `recurra.recipes.evaluation.evaluate`.
        protocol: one of `PROTOCOLS`.
        chosen: which of its rows: ``{"lengths": [30, 400]}``; None are all.
        env: options of the worlds, on top of those of training.
        how: the rest.

    Raises:
        UserError: if a run is of no team, or an option or a value is wrong.
        FileNotFoundError: if there is no such run.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"there is no protocol {protocol!r}; {nearest(protocol, PROTOCOLS)}")
    for name, given in chosen.items():
        if given is not None and name not in PROTOCOLS[protocol]:
            owner = next(other for other, taken in PROTOCOLS.items() if name in taken)
            raise UserError(f"--{name} are those of the protocol {owner}: leave them out")
    trials = []
    for run in runs:
        agent, known = loading.actor(run)
        if not isinstance(agent, ActorCritic) or not agent.team:
            raise UserError(f"{run} acts alone, the protocol is of teams: recurra train bottleneck")
        rows: dict[str, Any] = {name: chosen[name] for name in PROTOCOLS[protocol]} | {"episodes": how.episodes}
        find = bottleneck.cells if protocol == "bottleneck" else pogema.cells
        trials.append(Trial(run, agent, find(run, merge(known, env), **rows)))
    beside = pogema.beside if protocol == "pogema" else None
    return {"protocol": protocol, **measured(trials, how=how, beside=beside)}


def over_grid(trials: list[tuple[str, Acting, dict[str, Any], dict[str, Any]]], *, how: How) -> dict[str, Any]:
    """Measure teams in worlds of their own.

    Args:
        trials: of each row the run, the team, the point of the grid, and the worlds' options, the id among them.
        how: the rest.

    Raises:
        UserError: if one of the agents acts alone, or an option or a value is wrong.
    """
    alone = next((run for run, agent, _, _ in trials if not agent.team), None)
    if alone is not None:
        raise UserError(f"{alone} acts alone and others in teams: measure them one by one")
    episodes = 100 if how.episodes is None else how.episodes
    return measured(
        [
            Trial(run, agent, [Cell(point, options, episodes)])
            for run, agent, point, options in trials
            if isinstance(agent, ActorCritic)  # as are all teams
        ],
        how=how,
    )


def measured(
    trials: list[Trial], *, how: How, beside: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None
) -> dict[str, Any]:
    """Measure teams in their cells, and write report and drawings; see `recurra.recipes.evaluation.evaluate`.

    Args:
        trials: the teams.
        how: as there.
        beside: gives what others published of what rows measure.
    """
    require_seed("seed + episodes", how.seed + max(cell.episodes for trial in trials for cell in trial.cells))
    where = devices.device(how.device)
    computing = devices.precision(how.precision, where)
    _check(trials, how)
    rows: list[dict[str, Any]] = []
    for run, agent, cells in trials:
        agent.to(where)
        for cell in cells:
            start = time.perf_counter()
            with torch.inference_mode(), computing:
                played = teams.measure(
                    agent, cell.options, episodes=cell.episodes, seed=how.seed, at_once=how.environments,
                    sample=how.sample, in_pogema=how.in_pogema,
                )  # fmt: skip
            env = cell.options["id"] + (f" in pogema {package().__version__}" if how.in_pogema else "")
            row = {"run": run, "memory": agent.config["memory"], "env": env, **cell.point}
            row |= teams.figures(played, time.perf_counter() - start)
            if how.video is not None:
                drawing = Path(how.video, f"{len(rows)}.svg")
                teams.draw(drawing, agent, cell.options, seed=how.seed, sample=how.sample, in_pogema=how.in_pogema)
                row["video"] = str(drawing)
            rows.append(row)
    names = ("run", "env", "episodes", "success_rate", "mean_return", "std_return")
    everything = dict.fromkeys(name for row in rows for name in row)
    rows = [{name: row.get(name) for name in everything} for row in rows]  # some rules have other figures
    result: dict[str, Any] = {name: rows[0][name] for name in names} | {"rows": rows}
    if beside is not None:
        result["published"] = beside(rows)
    if how.report is not None:
        from recurra.recipes import teamreport

        agent = trials[0].agent
        cells = [cell for trial in trials if trial.run == trials[0].run for cell in trial.cells]
        episodes = [
            (
                cell.point,
                *teams.record(agent, cell.options, seed=how.seed, sample=how.sample, in_pogema=how.in_pogema),
            )
            for cell in _spread([cell for cell in cells if cell.drawn] or cells[:1])
        ]
        result["report"] = str(teamreport.write(how.report, result, list(cells[0].point), episodes))
    return result


def _check(trials: list[Trial], how: How) -> None:
    """Tell what is wrong with any of the rows before the work on the first."""
    if how.in_pogema:
        package()
    for run, agent, cells in trials:
        for cell in cells:
            check_spaces(agent, make_teams(count=1, **cell.options), run)
    if how.video is not None:
        writable(how.video, "the drawings")
    if how.report is not None:
        from recurra.recipes import report as reports

        reports.check(how.report)


def _spread(cells: list[Cell]) -> list[Cell]:
    """Choose the first, the last, and what lies evenly between."""
    last = len(cells) - 1
    return [cells[place] for place in dict.fromkeys(round(last * part / (_SHOWN - 1)) for part in range(_SHOWN))]
