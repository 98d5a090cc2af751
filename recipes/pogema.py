"""POGEMA's benchmark: its kinds of maps and sizes of teams, lifelong and one-shot, beside published figures.

Maps, starts and goals of kind random and mazes are the benchmark's own, cell by cell; the warehouse's map is, and its
starts and goals are drawn as there; puzzles are drawn, 16 with 10 teams each. From the benchmark's own files,
``algorithms/experiments/*/maps.yaml`` of its repository, come its puzzles and its maps of cities, cell by cell, too.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from recurra.envs.grid import GENERATORS, Map, pogema_instance, read, validation
from recurra.errors import UserError, nearest
from recurra.recipes.teams import Cell

KINDS = {"random": 128, "mazes": 128, "warehouse": 128, "puzzles": 160, "movingai": 128, "pathfinding": 80}
"""Maps by kind, and how many episodes the benchmark has of each size of team."""


class Filed(NamedTuple):
    """How the benchmark sets maps to work that are only in its files, as `recurra.envs.grid.generators.Kind` says."""

    agents: tuple[int, ...]
    horizon: int
    lifelong: int


FILED = {"movingai": Filed((64, 128, 192, 256), 256, 256), "pathfinding": Filed((1,), 2048, 0)}
"""Kinds whose maps are only in the benchmark's files: parts of cities, and whole ones for an agent alone, one-shot."""

TASKS = {"lifelong": "restart", "one-shot": "nothing"}
"""By name, what happens on targets: agents are sent on, or all have to stand on their goals at once."""

_ID = "recurra/Grid-v0"
_MAPS, _PUZZLES = 128, 16


def cells(
    run: str,
    options: dict[str, Any],
    *,
    kinds: list[Any] | None,
    sizes: list[Any] | None,
    tasks: list[Any] | None,
    episodes: int | None,
    data: str | None = None,
) -> list[Cell]:
    """Give what a team is measured in.

    Args:
        run: whose.
        options: the worlds' that it was trained in, and what was given on top: what agents see counts, and the reward.
        kinds: of maps; None are all of `KINDS` but those of `FILED`.
        sizes: of teams; None are the benchmark's for each kind.
        tasks: of `TASKS`; None are both.
        episodes: at each; None are the benchmark's.
        data: a file of maps, for the one kind that is named.

    Raises:
        UserError: if there is no such kind, size, task or file, or maps are only in files and none is given.
    """
    choices: tuple[tuple[str, list[Any] | None, Mapping[str, Any]], ...]
    choices = (("kind", kinds, KINDS), ("task", tasks, TASKS))
    for what, given, known in choices:
        for name in given or ():
            if name not in known:
                raise UserError(f"there is no {what} {name!r}; {nearest(str(name), known)}")
    for size in sizes or ():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise UserError(f"sizes are numbers of agents, such as --sizes 8,16; got {size!r}")
    if data is not None and (kinds is None or len(kinds) != 1):
        raise UserError("--data holds the maps of one kind: name it, such as --kinds movingai")
    maps = () if data is None else read(data)
    options = dict(options)
    trained = gymnasium.spec(options.pop("id", _ID)).kwargs | options
    seen: dict[str, Any] = {name: trained[name] for name in ("observation_type", "radius", "reward") if name in trained}
    found = []
    for kind in kinds or (name for name in KINDS if name not in FILED):
        if kind in FILED and not maps:
            raise UserError(f"maps of kind {kind} are read from the benchmark's own file: --data maps.yaml")
        setting = FILED.get(kind) or GENERATORS[kind]
        for task in tasks or TASKS:
            horizon = setting.lifelong if task == "lifelong" else setting.horizon
            for size in sizes or setting.agents if horizon else ():
                # No agent comes to more goals: a step for each in a puzzle, and four at least on larger maps.
                goals = 1 if task != "lifelong" else horizon if kind == "puzzles" else horizon // 4
                worlds: dict[str, Any] = {"id": _ID, **seen, "agents": size, "horizon": horizon}
                worlds |= {"on_target": TASKS[task], "collision_system": "soft"}
                worlds |= {"maps": _drawn(partial(instance, kind, goals, maps=maps))}
                found.append(
                    Cell({"kind": kind, "task": task, "agents": size}, worlds, episodes or KINDS[kind], size <= 64)
                )
    if not found:
        raise UserError("pathfinding is one-shot: leave out --tasks")
    return found


def instance(kind: str, goals: int, number: int, agents: int, *, maps: Sequence[Map] = ()) -> Map:
    """Give an episode of the benchmark: a map with starts, and so many goals for each agent.

    With ``maps`` these are the kind's, in their order.

    >>> instance("mazes", 1, 0, 8).name
    'validation-mazes-seed-000'
    """
    if maps:
        return pogema_instance(maps[number % len(maps)], agents, number // len(maps), goals=goals)
    if kind == "puzzles":
        map = GENERATORS[kind].draw(np.random.default_rng(number % _PUZZLES), agents)
        return pogema_instance(map, agents, number // _PUZZLES, goals=goals)
    if kind == "warehouse":
        return pogema_instance(GENERATORS[kind].draw(np.random.default_rng(0), agents), agents, number, goals=goals)
    return pogema_instance(validation(kind, number % _MAPS), agents, number // _MAPS, goals=goals)


def _drawn(numbered: Callable[[int, int], Map]) -> Callable[[np.random.Generator, int], Map]:
    """Let a world's seed name its episode."""

    def draw(rng: np.random.Generator, agents: int) -> Map:
        entropy: Any = getattr(rng.bit_generator.seed_seq, "entropy", 0)
        return numbered(entropy if isinstance(entropy, int) else 0, agents)

    return draw


class Published(NamedTuple):
    """What an algorithm reached: a figure for each number of agents."""

    kind: str
    task: str
    figure: str
    model: str
    by_agents: dict[int, float]


def _lifelong(kind: str, sizes: tuple[int, ...], **models: tuple[float, ...]) -> list[Published]:
    names = {"MATS_LP": "MATS-LP", "RHCR": "RHCR (centralised)"}
    return [
        Published(kind, "lifelong", "avg_throughput", names.get(model, model), dict(zip(sizes, values, strict=True)))
        for model, values in models.items()
    ]


def _one_shot(kind: str, model: str, by_agents: dict[int, float]) -> Published:
    return Published(kind, "one-shot", "CSR", model, by_agents)


_SIZES = (8, 16, 24, 32, 48, 64)

PUBLISHED = [
    *_lifelong(
        "random",
        _SIZES,
        Follower=(0.589, 1.114, 1.512, 1.801, 2.220, 2.416),
        MATS_LP=(0.596, 1.143, 1.567, 1.872, 2.301, 2.381),
        MAMBA=(0.501, 0.848, 1.047, 1.092, 1.109, 0.998),
        QPLEX=(0.574, 1.043, 1.346, 1.495, 1.528, 1.336),
        RHCR=(0.625, 1.251, 1.798, 2.286, 3.203, 3.819),
    ),
    *_lifelong(
        "mazes",
        _SIZES,
        Follower=(0.456, 0.851, 1.142, 1.343, 1.577, 1.653),
        MATS_LP=(0.466, 0.872, 1.168, 1.344, 1.504, 1.457),
        MAMBA=(0.360, 0.559, 0.668, 0.676, 0.667, 0.635),
        QPLEX=(0.439, 0.773, 0.993, 1.089, 1.080, 0.914),
        RHCR=(0.477, 0.939, 1.356, 1.703, 2.263, 2.587),
    ),
    *_lifelong(
        "warehouse",
        (32, 64, 96, 128, 160, 192),
        Follower=(1.127, 1.957, 2.613, 3.151, 3.599, 3.937),
        MATS_LP=(1.109, 1.668, 1.792, 1.825, 1.904, 1.911),
        MAMBA=(0.851, 1.381, 1.514, 1.628, 1.776, 1.910),
        QPLEX=(1.051, 1.738, 2.206, 2.422, 2.431, 2.257),
        RHCR=(1.225, 2.268, 3.103, 3.493, 2.456, 1.568),
    ),
    *_lifelong(
        "puzzles",
        (2, 3, 4),
        Follower=(0.359, 0.324, 0.274),
        MATS_LP=(0.392, 0.432, 0.358),
        MAMBA=(0.187, 0.120, 0.091),
        QPLEX=(0.268, 0.213, 0.170),
        RHCR=(0.454, 0.565, 0.594),
    ),
    *_lifelong(
        "movingai",
        (64, 128, 192, 256),
        Follower=(1.503, 2.823, 3.948, 4.812),
        MATS_LP=(1.570, 2.980, 4.040, 4.691),
        MAMBA=(1.017, 1.418, 2.051, 2.461),
        QPLEX=(1.469, 2.669, 3.613, 4.216),
        RHCR=(1.572, 3.002, 4.219, 5.127),
    ),
    _one_shot("pathfinding", "MAMBA", {1: 0.887}),
    _one_shot("random", "DCC", {8: 1.0, 16: 0.961, 32: 0.727, 64: 0.062}),
    _one_shot("random", "MAMBA", {8: 0.578, 16: 0.078, 32: 0.0, 64: 0.0}),
    _one_shot("random", "QPLEX", {8: 0.258, 16: 0.0}),
    _one_shot("random", "LaCAM", {8: 1.0, 16: 1.0, 32: 1.0, 64: 1.0}),
    _one_shot("mazes", "SCRIMP", {8: 1.0, 16: 0.875, 24: 0.81, 32: 0.555, 48: 0.28, 64: 0.148}),
    _one_shot("mazes", "DCC", {8: 0.96, 16: 0.77, 24: 0.57, 32: 0.36, 48: 0.12, 64: 0.02}),
    _one_shot("mazes", "MAMBA", {8: 0.52, 16: 0.07, 24: 0.0, 32: 0.0, 48: 0.0, 64: 0.0}),
    _one_shot("mazes", "LaCAM", {8: 1.0, 16: 1.0, 24: 1.0, 32: 1.0, 48: 1.0, 64: 0.91}),
    _one_shot("puzzles", "SCRIMP", {2: 0.94, 3: 0.81, 4: 0.71}),
    _one_shot("puzzles", "DCC", {2: 0.89, 3: 0.73, 4: 0.51}),
    _one_shot("puzzles", "QPLEX", {2: 0.81, 3: 0.50, 4: 0.18}),
    _one_shot("puzzles", "LaCAM", {2: 1.0, 3: 0.96, 4: 0.94}),
]
"""Means of the benchmark's results (Skrynnik et al., arXiv 2407.14931; raw data of the repository pogema-benchmark).

Lifelong the average throughput, one-shot the share of episodes in which all arrived; SRMT is not among them.
"""


def beside(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give what others reached in the rows' kinds, tasks and sizes: the figures that are known."""
    measured = list(dict.fromkeys((row["kind"], row["task"], row["agents"]) for row in rows))
    return [
        {"model": one.model, "kind": kind, "task": task, "agents": agents, one.figure: one.by_agents[agents]}
        for kind, task, agents in measured
        for one in PUBLISHED
        if (one.kind, one.task) == (kind, task) and agents in one.by_agents
    ]
