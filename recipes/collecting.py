"""Trajectories on disk, of random actions, an oracle's or a trained agent's."""

import time
from pathlib import Path
from typing import Any

import torch

from recurra.agents.shipped import find
from recurra.envs import make_streams
from recurra.envs.oracles import oracle
from recurra.envs.trajectories import Writer
from recurra.envs.trajectories import record as act
from recurra.errors import UserError, nearest
from recurra.recipes import devices
from recurra.recipes.settings import require_seed


def record(
    env: str,
    out: str,
    *,
    policy: str = "random",
    episodes: int = 100,
    options: dict[str, Any] | None = None,
    environments: int = 64,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "32-true",
) -> dict[str, Any]:
    """Record episodes of an environment into a folder; the Python door of ``recurra record``.

    Args:
        env: its id.
        out: the folder: a new one, or one of the same environment's trajectories, which these are added to.
        policy: random, oracle (which T-Mazes and MiniGrid's tasks of memory have), or a trained agent, which takes
            its likeliest action: a run folder, a checkpoint, the agent's own folder or a shipped name.
        episodes: how many.
        options: of the environment; an agent's own count where it was trained in this one.
        environments: the most to act in at once.
        seed: of the environments, and of random actions.
        device: what an agent computes on: cpu, cuda or auto.
        precision: what it computes in: 32-true or bf16-mixed.

    Returns:
        ``out``, ``env``, ``policy``, ``episodes``, ``steps``, ``mean_return``, ``success_rate`` (None where the
        environment tells none), ``seconds``, ``steps_per_second``, and ``total_episodes`` and ``bytes`` of the folder.

    Raises:
        UserError: if the environment, an option, the policy or the folder is wrong.
    """
    if episodes < 1 or environments < 1:
        raise UserError("episodes and environments must be at least 1")
    require_seed("seed", seed)
    where = devices.device(device)
    computing = devices.precision(precision, where)
    given = {**(options or {}), "id": env}
    trained = policy not in ("random", "oracle")
    chosen: Any = policy
    if trained:
        given, chosen = _agent(policy, given, where)
    streams = make_streams(count=min(episodes, environments), **given)
    try:
        if trained:
            from recurra.recipes.evaluation import check_spaces

            check_spaces(chosen, streams, policy)
        elif policy == "oracle":
            chosen = oracle(streams, env)
        spaces = {"observation_space": streams.observation_space, "action_space": streams.action_space}
        with Writer(out, streams=streams.num, **spaces) as writer:
            start = time.perf_counter()
            try:
                with computing:
                    recorded = act(streams, chosen, writer, episodes=episodes, seed=seed)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"stopped; {out} holds {writer.episodes} whole episodes") from None
            seconds = max(time.perf_counter() - start, 1e-9)
    finally:
        streams.close()
    return {
        "out": out,
        "env": env,
        "policy": policy,
        **recorded._asdict(),
        "seconds": round(seconds, 3),
        "steps_per_second": round(recorded.steps / seconds, 1),
        "total_episodes": writer.episodes,
        "bytes": sum(file.stat().st_size for file in Path(out).iterdir()),
    }


def _agent(run: str, given: dict[str, Any], where: torch.device) -> tuple[dict[str, Any], Any]:
    """Load an agent; give the options of its environment and it."""
    if not find(run).exists():
        raise UserError(f"there is no policy {run!r}, nor a run of that name; {nearest(run, ('random', 'oracle'))}")
    from recurra.recipes import loading
    from recurra.recipes.evaluation import merge

    agent, known = loading.actor(run)
    if agent.team:
        raise UserError(f"{run} acts in a team, and agents that act alone are recorded: name another --policy")
    return merge(known, given), agent.to(where)
