"""``recurra bench grid``: environment steps per second of grid worlds, beside the package pogema."""

import importlib.util
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from recurra.benchmarks.peers import script
from recurra.benchmarks.timing import require_counts
from recurra.envs.grid import GridWorlds
from recurra.envs.grid.observing import OBSERVATIONS
from recurra.errors import UserError, nearest

PEER = "pogema"


def run(
    *,
    worlds: int = 16,
    agents: int = 64,
    size: int = 64,
    density: float = 0.3,
    radius: int = 5,
    horizon: int = 256,
    on_target: str = "restart",
    collision_system: str = "soft",
    observation_types: Sequence[str] = ("default", "POMAPF", "MAPF", "guided"),
    rounds: int = 3,
    peer_python: str | None = None,
) -> list[dict[str, Any]]:
    """Step grid worlds at random, all at once, and the peer's one after the other.

    Figures are of seconds of CPU time, one thread each, so that other work on the machine does little to them. Rounds
    take turns, each contestant's best counts.

    Args:
        worlds: how many.
        agents: in each.
        size: rows and columns of each, with obstacles strewn.
        density: the share of obstacles.
        radius: of what agents see.
        horizon: steps of an episode.
        on_target: finish, nothing or restart.
        collision_system: priority, block_both or soft.
        observation_types: what agents are shown; "guided", with shortest ways, the peer does not have.
        rounds: how many.
        peer_python: a Python that has pogema; by default this one, if it has.

    Returns:
        A row for each figure: ``name``, ``what`` (``steps``, or ``with resets``: an episode from its map's drawing on),
        ``observation_type``, ``per_second`` (steps of one world, all of its agents), ``bytes`` of observations for a
        step of one world, and ``ratio`` to the ``peer``.

    Raises:
        UserError: if a number is less than 1, there is no such rule, or ``peer_python`` cannot run the peer.
    """
    require_counts(rounds=rounds, horizon=horizon, observation_types=[len(observation_types)])
    for given in observation_types:
        if given not in OBSERVATIONS:
            raise UserError(f"there is no observation_type {given!r}; {nearest(given, OBSERVATIONS)}")
    rules: dict[str, Any] = {"worlds": worlds, "agents": agents, "radius": radius, "horizon": horizon}
    rules |= {"on_target": on_target, "collision_system": collision_system}
    beside = peer_python is not None or importlib.util.find_spec(PEER) is not None
    rows = []
    for observation_type in observation_types:
        ours, theirs = [], []
        for seed in range(rounds):
            options = {**rules, "observation_type": observation_type, "seed": seed}
            if beside and observation_type != "guided":
                told = {**options, "size": size, "density": density}
                theirs.append(script(peer_python or sys.executable, "pogema_steps.py", told, peer=PEER, needs=PEER))
            ours.append(_measured(**options, map_options={"height": size, "width": size, "density": density}))
        steps, shown = worlds * horizon, ours[0]["bytes"] / worlds
        for what, parts in (("steps", ("steps",)), ("with resets", ("resets", "steps"))):
            reference = None
            for name, measured in ((PEER, theirs), ("recurra", ours)):
                if measured:
                    rate = steps / min(sum(each[part] for part in parts) for each in measured)
                    row = {"name": name, "what": what, "observation_type": observation_type, "per_second": rate}
                    compared = name != PEER and reference is not None
                    rows.append(
                        row
                        | {"bytes": int(shown), "ratio": rate / reference if compared and reference else None}
                        | {"peer": PEER if compared else None}
                    )
                    reference = rate
    return rows


def _measured(
    *, worlds: int, horizon: int, agents: int, seed: int, map_options: dict[str, Any], **rules: Any
) -> dict[str, float]:
    """Step an episode of all worlds."""
    team = GridWorlds(worlds=worlds, agents=agents, horizon=horizon, options=map_options, **rules)
    actions = np.random.default_rng(seed).integers(5, size=(horizon, worlds, agents))
    start = time.process_time()
    obs, _ = team.reset(seed=seed)
    begun = time.process_time()
    for each in actions[:-1]:  # the last step would begin the next episode
        team.step(each)
    steps = (time.process_time() - begun) * horizon / max(horizon - 1, 1)
    shown = sum(values.nbytes for values in obs.values()) if isinstance(obs, dict) else obs.nbytes
    return {"resets": begun - start, "steps": steps, "bytes": shown}
