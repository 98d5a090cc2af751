"""Evaluation: a trained agent in environments of its own or of others' sizes."""

import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces

from recurra.agents import Acting
from recurra.agents.encoder import Leaves
from recurra.agents.spaces import is_image
from recurra.envs import Streams, Teams, make_streams
from recurra.errors import UserError
from recurra.files import writable
from recurra.memory import state as states
from recurra.recipes import devices, loading
from recurra.recipes.rollout import Episode, drawing, fresh
from recurra.recipes.settings import require_seed
from recurra.spaces import brief

#: The most tokens, over all environments, that are read ahead at once where an environment foretells them.
TOKENS_AHEAD = 16_384

_ASKED = {"questions": "answer questions", "recall": "recall"}


def evaluate(
    runs: str | list[str],
    *,
    env: dict[str, Any] | None = None,
    grid: dict[str, list[Any]] | None = None,
    episodes: int | None = None,
    environments: int = 256,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "32-true",
    report: str | None = None,
    video: str | None = None,
    data: str | None = None,
    protocol: str | None = None,
    lengths: list[int] | None = None,
    kinds: list[str] | None = None,
    sizes: list[int] | None = None,
    tasks: list[str] | None = None,
    sample: bool = False,
    in_pogema: bool = False,
    trace: bool = False,
) -> dict[str, Any]:
    """Measure trained agents; the Python door of ``recurra eval``.

    Agents take their likeliest action, or draw one with ``sample``. Where an environment foretells what it will show
    as long as the agent goes on as expected (a corridor), the agent that takes the likeliest reads many observations at
    once; its actions are compared with the expected ones and count up to the first that differs, which is what stepping
    gives, by the law of splitting. Teams are measured in an episode of each seed (see `recurra.recipes.protocols`).
    Runs that were trained to recall are measured by the queries that they answer (see
    `recurra.recipes.recalling.evaluate`), readers that were trained to answer questions by those (see
    `recurra.recipes.answering.evaluate`).

    Args:
        runs: run folders, checkpoints, agents' own folders or shipped names; the first is the one in question, others
            stand beside it.
        env: options of the environment, and its ``id``, on top of what the agent was trained in.
        grid: options of the environment with the values to try, every combination a row.
        episodes: how many, each row; None is 100, or as many as the protocol has.
        environments: the most to act in at once; of documents that are read to answer, at most 16.
        seed: of the episodes, the same for each row.
        device: cpu, cuda or auto.
        precision: 32-true or bf16-mixed.
        report: a folder to write an HTML report to.
        video: a folder to write moving pictures to: for each row, the first episode of its seed; of teams as SVG.
        data: published files to read: BABILong's, where runs answer questions; of the protocol pogema a file of maps.
        protocol: a published one instead of a grid: bottleneck or pogema, see the modules of these names.
        lengths: of bottleneck's corridors; None are all that it has.
        kinds: of pogema's maps: random, mazes, warehouse, puzzles; None are these; movingai and pathfinding with data.
        sizes: of pogema's teams; None are the benchmark's.
        tasks: of pogema's: lifelong, one-shot; None are both.
        sample: draw actions from the policy, by the seed: alike agents that take their likeliest action can block each
            other for ever.
        in_pogema: have teams play the same episodes in the package `pogema` itself, if it is installed; rewards are
            the package's then.
        trace: show in the report where in each row's first document its first answer was read.

    Returns:
        ``run``, ``env``, ``episodes``, ``success_rate`` (None where the environment tells none), ``mean_return``,
        ``std_return`` of the first row, and ``rows``, where each has these, the options of the grid and its ``video``;
        rows of teams also POGEMA's figures with intervals, see `recurra.recipes.teams.figures`.

    Raises:
        UserError: if a run, an option or a value is wrong.
        FileNotFoundError: if there is no such run.
    """
    runs = [runs] if isinstance(runs, str) else runs
    env, grid = env or {}, grid or {}
    if environments < 1 or (episodes is not None and episodes < 1):
        raise UserError("episodes and environments must be at least 1")
    require_seed("seed", seed)
    chosen = {"lengths": lengths, "kinds": kinds, "sizes": sizes, "tasks": tasks}
    if protocol is not None:
        for name, given in (("grid", grid), ("trace", trace)):
            if given:
                raise UserError(f"a protocol takes no {name}: leave out --{name}")
        from recurra.recipes import protocols

        how = protocols.How(episodes, environments, seed, device, precision, sample, in_pogema, report, video)
        return protocols.by_protocol(runs, protocol, {**chosen, "data": data}, env=env, how=how)
    if any(given is not None for given in chosen.values()):
        name = next(name for name, given in chosen.items() if given is not None)
        raise UserError(f"--{name} are of a protocol: --protocol {'bottleneck' if name == 'lengths' else 'pogema'}")
    episodes = 100 if episodes is None else episodes
    for name, values in grid.items():
        if not values:
            raise UserError(f"grid.{name} names no values: give some, such as --grid.{name} 10,100")
    method = loading.method(runs[0])
    if data is not None and method != "questions":
        raise UserError(f"--data holds questions: {runs[0]} was not trained to answer them")
    if trace:
        _check_trace(runs[0], method, report, data)
    if method in ("questions", "recall"):
        if sample or in_pogema:
            name = "sample" if sample else "in_pogema"
            raise UserError(f"--{name} is of agents that act: {runs[0]} was trained to {_ASKED[method]}")
        asked = {"env": env, "grid": grid, "episodes": episodes, "seed": seed, "device": device, "precision": precision}
        if method == "questions":
            return _asked(_answers, runs, report, video, **asked, at_once=min(environments, 16), data=data, trace=trace)
        return _asked(_recalled, runs, report, video, **asked, at_once=environments)
    loaded = [(run, *loading.actor(run)) for run in runs]
    trials = [
        (run, agent, point, _options(run, known, {**env, **point}))
        for run, agent, known in loaded
        for point in points(grid)
    ]
    if any(agent.team for _, agent, _, _ in trials):
        from recurra.recipes import protocols

        how = protocols.How(episodes, environments, seed, device, precision, sample, in_pogema, report, video)
        return protocols.over_grid(trials, how=how)
    if in_pogema:
        raise UserError(f"--in_pogema is of teams: {runs[0]} acts alone")
    where = devices.device(device)
    computing = devices.precision(precision, where)
    _check(trials, report, video)
    rows = []
    for number, (run, agent, point, options) in enumerate(trials):
        agent.to(where)
        streams = make_streams(count=min(episodes, environments), **options)
        start = time.perf_counter()
        try:
            with torch.inference_mode(), computing:
                played = play(agent, streams, episodes=episodes, seed=seed, sample=sample)
        finally:
            streams.close()
        figures = _figures(played, time.perf_counter() - start)
        row = {"run": run, "memory": agent.config["memory"], "env": options["id"], **point, **figures}
        if video is not None:
            from recurra.recipes import video as videos

            film = Path(video, f"{number}.gif")
            with drawing(sample, seed):
                videos.write(film, agent, options, seed=seed, sample=sample)
            row["video"] = str(film)
        rows.append(row)
    names = ("run", "env", "episodes", "success_rate", "mean_return", "std_return")
    result = {name: rows[0][name] for name in names} | {"rows": rows}
    if report is not None:
        from recurra.recipes import report as reports
        from recurra.recipes.episode import record

        _, agent, _, options = trials[0]
        with drawing(sample, seed):
            episode = record(agent.cpu(), options, seed=seed, sample=sample)
        result["report"] = str(reports.write(report, result, list(grid), episode))
    return result


def _check_trace(run: str, method: str | None, report: str | None, data: str | None) -> None:
    if method != "questions":
        raise UserError(f"--trace is of readers that answer questions, and {run} is none: leave it out")
    if data is not None:
        raise UserError("--trace is of documents made for the reader: leave out --data")
    if report is None:
        raise UserError("--trace is shown in the report: name a folder for it with --report DIR")


def _asked(
    measure: Callable[..., tuple[dict[str, Any], Callable[[str], Path]]],
    runs: list[str],
    report: str | None,
    video: str | None,
    **how: Any,
) -> dict[str, Any]:
    """Measure runs that are asked for what they have read, and write their report."""
    if video is not None:
        raise UserError("videos are of agents that act: leave out --video")
    if report is not None:
        from recurra.recipes import report as reports

        reports.check(report)
    result, write = measure(runs, **how)
    if report is not None:
        result["report"] = str(write(report))
    return result


def _recalled(runs: list[str], **how: Any) -> tuple[dict[str, Any], Callable[[str], Path]]:
    """Measure runs that recall; give the figures, and what writes a report of them."""
    from recurra.recipes import recalling
    from recurra.recipes import report as reports

    result = recalling.evaluate(runs, **how)
    varied = [name for name in dict.fromkeys(("pairs", *how["grid"])) if name in result["rows"][0]]
    return result, lambda folder: reports.write(folder, result, varied)


def _answers(runs: list[str], **how: Any) -> tuple[dict[str, Any], Callable[[str], Path]]:
    """Measure runs that answer questions; give the figures, and what writes a report of them."""
    from recurra.recipes import answering, gridreport

    result = answering.evaluate(runs, **how)
    traces = result.pop("traces", [])
    return result, lambda folder: gridreport.write(folder, result, traces)


def _check(trials: list[tuple[str, Acting, Any, dict[str, Any]]], report: str | None, video: str | None) -> None:
    """Tell what is wrong with any of the rows before the work on the first."""
    for run, agent, _, options in trials:
        streams = make_streams(count=1, **options)
        streams.close()
        check_spaces(agent, streams, run)
        if video is not None:
            from recurra.recipes import video as videos

            videos.check(options)
    if video is not None:
        writable(video, "the videos")
    if report is not None:
        from recurra.recipes import report as reports

        reports.check(report)


def play(agent: Acting, streams: Streams, *, episodes: int, seed: int, sample: bool = False) -> list[Episode]:
    """Play episodes, as near as can be equally many in each environment, and give their figures.

    Args:
        agent: who acts, alone.
        streams: the environments.
        episodes: how many.
        seed: of the environments, and of actions that are drawn.
        sample: draw actions instead of taking the likeliest.
    """
    with drawing(sample, seed):
        return _play(agent, streams, episodes=episodes, seed=seed, sample=sample)


def _play(agent: Acting, streams: Streams, *, episodes: int, seed: int, sample: bool) -> list[Episode]:
    quota = np.full(streams.num, episodes // streams.num)
    quota[: episodes % streams.num] += 1
    device = agent.device
    # A piece of a coarse memory cannot end anywhere.
    foretells = hasattr(streams.env, "forecast") and not sample and agent.memory.grain == 1
    ahead, most = 64, max(2, TOKENS_AHEAD // streams.num)
    shown, first = streams.reset(seed=seed)
    obs, previous = agent.observe(shown), agent.no_previous(streams.num)
    present = streams.present
    state: Any = fresh(agent, streams)
    totals, lengths = np.zeros(streams.num), np.zeros(streams.num, np.int64)
    played: list[Episode] = []
    while quota.any():
        if foretells:
            accepted, obs, previous, rewards, state = _read_ahead(
                agent, streams, obs, previous, first, state, limit=ahead
            )
            first = first & (accepted == 0)
            totals += rewards
            lengths += accepted
            ahead = int(min(max(2, 2 * accepted.max()), most))
        output, state = agent.step(
            (*obs, *previous),
            state,
            first=torch.as_tensor(first, device=device),
            present=None if present.all() else torch.as_tensor(present, device=device),
        )
        actions = output.policy.sample() if sample else output.policy.mode
        step = streams.step(agent.actions.to_environment(actions))
        earned = np.where(present, step.reward, 0.0)
        totals += earned
        lengths += present
        for index in np.flatnonzero(step.over):
            if quota[index]:
                quota[index] -= 1
                played.append(Episode(float(totals[index]), int(lengths[index]), float(step.success[index])))
            totals[index], lengths[index] = 0, 0
        obs, previous = agent.observe(step.obs), agent.previous(actions, earned)
        first, present = step.first, step.present
    return played


def _read_ahead(
    agent: Acting, streams: Streams, obs: Leaves, previous: Leaves, first: np.ndarray, state: Any, *, limit: int
) -> tuple[np.ndarray, Leaves, Leaves, np.ndarray, Any]:
    """Read what the environments foretell, as far as the agent acts as they expect."""
    env: Any = streams.env
    forecast = env.forecast(limit)
    longest = int(forecast.counts.max())
    if not longest:
        return forecast.counts, obs, previous, np.zeros(streams.num), state
    device = agent.device
    expected = agent.previous(agent.actions.from_environment(forecast.actions), forecast.rewards)
    repeated = states.transform(lambda leaf: leaf.unsqueeze(1).expand(-1, longest, *leaf.shape[1:]), expected)
    tokens = states.transform(
        lambda now, later: torch.cat((now.unsqueeze(1), later[:, : longest - 1]), 1),
        (*obs, *previous),
        (*agent.observe(forecast.observations), *repeated),
    )
    resets = torch.zeros(streams.num, longest, dtype=torch.bool, device=device)
    resets[:, 0] = torch.as_tensor(first, device=device)
    within = np.arange(longest) < forecast.counts[:, None]
    output, after = agent(
        tokens,
        state,
        first=resets if first.any() else None,
        present=None if within.all() else torch.as_tensor(within, device=device),
    )
    chosen = agent.actions.to_environment(output.policy.mode) == forecast.actions[:, None]
    as_expected = chosen.reshape(*within.shape, -1).all(-1) & within
    accepted = np.cumprod(as_expected, axis=1).sum(1)
    if (accepted < forecast.counts).any():  # take back what was read after the first action that differs
        read = torch.as_tensor(np.arange(longest) < accepted[:, None], device=device)
        resets[torch.as_tensor(accepted == 0, device=device)] = False
        _, after = agent(tokens, state, first=resets, present=read)
    shown, rewards = env.advance(accepted)
    walked = torch.as_tensor(accepted > 0, device=device)
    return accepted, agent.observe(shown), states.reset(previous, walked, expected), rewards, after


def _figures(played: list[Episode], seconds: float) -> dict[str, Any]:
    totals = np.array([episode.total for episode in played])
    success = [episode.success for episode in played if not math.isnan(episode.success)]
    steps = sum(episode.length for episode in played)
    return {
        "episodes": len(played),
        "success_rate": sum(success) / len(success) if success else None,
        "mean_return": float(totals.mean()),
        "std_return": float(totals.std()),
        "mean_length": steps / len(played),
        "seconds": round(seconds, 3),
        "steps_per_second": round(steps / max(seconds, 1e-9), 1),
    }


def check_spaces(agent: Acting, streams: Streams | Teams, run: str) -> None:
    """Make sure that an environment is of the kind that an agent was trained in; ``run`` names it in the error.

    Raises:
        UserError: if it is not.
    """
    for role in ("observation_space", "action_space"):
        trained, met = getattr(agent, role), getattr(streams, role)
        if not _alike(trained, met):
            said = f"{run} was trained with {role.replace('_', ' ')} {brief(trained)}"
            raise UserError(f"{said}, this environment has {brief(met)}")


def _alike(trained: Space, met: Space) -> bool:
    """Whether spaces are the same but for the bounds of a Box, which may grow with the task."""
    if isinstance(trained, spaces.Dict) and isinstance(met, spaces.Dict):
        same = trained.spaces.keys() == met.spaces.keys()
        return same and all(_alike(part, met[name]) for name, part in trained.spaces.items())
    if isinstance(trained, spaces.Tuple) and isinstance(met, spaces.Tuple):
        return len(trained) == len(met) and all(map(_alike, trained.spaces, met.spaces))
    if isinstance(trained, spaces.Box) and isinstance(met, spaces.Box):
        return trained.shape == met.shape and is_image(trained) == is_image(met)
    return trained == met


def _options(run: str, trained_in: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    options = merge(trained_in, given)
    if "id" not in options:
        raise UserError(f"{run} does not say what it was trained in: name it with --env.id")
    return options


def merge(trained_in: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Put options on top of those of training, which count only for the same environment, but for what it left out.

    >>> merge({"id": "recurra/Grid-v0", "maps": "mazes", "options": {"height": 9}, "agents": 8}, {"maps": "rooms"})
    {'id': 'recurra/Grid-v0', 'maps': 'rooms', 'agents': 8}
    """
    left = {"leave_out": trained_in["leave_out"]} if "leave_out" in trained_in else {}
    known = trained_in if given.get("id", trained_in.get("id")) == trained_in.get("id") else left
    if given.get("maps", known.get("maps")) != known.get("maps"):  # another generator, or none
        known = {name: value for name, value in known.items() if name != "options"}
    maps = known.get("options")
    if not isinstance(maps, dict):
        return {**known, **given}
    # Options of a grid world's maps are named as a curriculum names them: corridor, not options.corridor.
    inner = {name: value for name, value in given.items() if name in maps and name not in known}
    outer = {name: value for name, value in given.items() if name not in inner}
    return {**known, "options": {**maps, **inner}, **outer}


def points(grid: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """List the combinations of a grid's values; without a grid, the one that sets nothing."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
