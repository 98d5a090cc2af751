"""Streams from an environment's id."""

import difflib
import importlib
import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator, registry
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import FilterObservation

from recurra.envs.cells import Cells
from recurra.envs.grid import GridVector, GridWorlds
from recurra.envs.teams import Teams
from recurra.envs.vector import SAME_STEP, Streams
from recurra.errors import UserError, nearest

_HOMES = {"MiniGrid-": "minigrid", "BabyAI-": "minigrid", "popgym-": "popgym", "ALE/": "ale_py"}
"""Packages that register their ids when imported, by how the ids begin."""

_EXTRA = ("minigrid", "popgym")
"""Those of them that come with the extra ``envs``."""

_CELLS = ("MiniGrid-", "BabyAI-")
"""How the ids of environments begin whose views are `recurra.envs.cells.Cells`."""


def make_streams(id: str, count: int, *, leave_out: str | Sequence[str] = (), **options: Any) -> Streams:
    """Make streams of an environment: batched where it is one of ours that has such a form, else one by one.

    >>> make_streams("recurra/TMaze-v0", 4, corridor=(1, 9)).num
    4

    Args:
        id: a registered Gymnasium id, or ``module:id`` where a module has to be imported first.
        count: how many streams.
        leave_out: a part, or parts, of observations in a Dict that are not shown, such as MiniGrid's mission, a text.
        options: what ``gymnasium.make`` passes to the environment.

    Raises:
        UserError: if there is no such environment, a package that it needs is missing, it does not take an option or
            its value, or the count is less than 1.
    """
    if count < 1:
        raise UserError(f"the number of streams must be at least 1, got {count}")
    if not isinstance(limit := options.get("max_episode_steps"), int | None):
        # Gymnasium before 1.0 would notice at the first step.
        raise UserError(f"{id} cannot be made with max_episode_steps={limit!r}: give a number of steps")
    with _telling(id, options):
        spec = _find(id)
        if _batched(spec) and not leave_out:
            return Streams(_creator(spec)(num_envs=count, **{**spec.kwargs, **options}))
        make = partial(make_single, id, leave_out=leave_out, **{"disable_env_checker": True, **options})
        return Streams(SyncVectorEnv([make] * count, **SAME_STEP))


def make_single(id: str, *, leave_out: str | Sequence[str] = (), **options: Any) -> gymnasium.Env:
    """Make one environment that shows what streams of it show.

    Args:
        id: as of `make_streams`.
        leave_out: the same.
        options: the same.

    Raises:
        UserError: if there is no such environment, or no such part of its observations.
    """
    name = _find(id).id
    env = gymnasium.make(name, **options)
    if name.startswith(_CELLS):
        env = Cells(env)
    if not leave_out:
        return env
    unwanted = [leave_out] if isinstance(leave_out, str) else leave_out
    parts = list(env.observation_space.spaces) if isinstance(env.observation_space, gymnasium.spaces.Dict) else []
    for part in unwanted:
        if part not in parts:
            known = nearest(part, parts) if parts else "its observations have none"
            raise UserError(f"{name} shows no part {part!r} to leave out; {known}")
    return FilterObservation(env, [part for part in parts if part not in unwanted])


def make_teams(id: str, count: int, **options: Any) -> Teams:
    """Make streams of teams, of an environment that has them.

    >>> make_teams("recurra/Bottleneck-v0", 4).shape
    (4, 2)

    Args:
        id: ``recurra/Grid-v0`` or ``recurra/Bottleneck-v0``.
        count: how many teams.
        options: those of `recurra.envs.grid.GridWorlds`.

    Raises:
        UserError: as `make_streams` does, or if the environment's agents are no teams.
    """
    if count < 1:
        raise UserError(f"the number of teams must be at least 1, got {count}")
    with _telling(id, options):
        spec = _find(id)
        if not _batched(spec) or _creator(spec) is not GridVector:
            raise UserError(f"{id} has no teams: recurra/Grid-v0 and recurra/Bottleneck-v0 have")
        return Teams(GridWorlds(worlds=count, **{**spec.kwargs, **options}))


@contextmanager
def _telling(id: str, options: dict[str, Any]) -> Iterator[None]:
    """Tell in a line why an environment cannot be made."""
    try:
        yield
    except ModuleNotFoundError as error:
        how = ": pip install 'recurra[envs]'" if error.name in _EXTRA else ""
        raise UserError(f"{id} needs the package {error.name!r}, which is not installed{how}") from error
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(f"{id}: {error}") from error
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if not options:
            raise
        if not refused or refused[1] not in options:
            given = ", ".join(f"{name}={value!r}" for name, value in options.items())
            raise UserError(f"{id} cannot be made with {given}: {' '.join(str(error).split())}") from error
        taken = set(inspect.signature(_creator(_find(id))).parameters) - {"num_envs", "args", "kwargs"}
        map = options["options"] if isinstance(options.get("options"), dict) else {}
        told = f"it is its map's, options.{refused[1]}" if refused[1] in map else nearest(refused[1], {*taken, *map})
        raise UserError(f"{id} takes no option {refused[1]!r}: {told}") from error


def _batched(spec: EnvSpec) -> bool:
    return spec.namespace == "recurra" and spec.vector_entry_point is not None


def _creator(spec: EnvSpec) -> Any:
    creator: Any = spec.vector_entry_point if _batched(spec) else spec.entry_point
    return load_env_creator(creator) if isinstance(creator, str) else creator


def _find(id: str) -> EnvSpec:
    module, _, name = id.rpartition(":")
    if not module and name not in registry:
        module = next((home for start, home in _HOMES.items() if name.startswith(start)), "")
    if module:
        importlib.import_module(module)
    if name in registry:
        return registry[name]
    close = difflib.get_close_matches(name, registry, n=3, cutoff=0.5)
    told = f"nearest: {', '.join(close)}" if close else "gymnasium.pprint_registry() lists those that there are"
    raise UserError(f"there is no environment {name!r}; {told}")
