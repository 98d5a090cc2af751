"""``recurra bench rl``: environment steps per second of training and of acting, beside sb3-contrib's RecurrentPPO."""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gymnasium import spaces

from recurra import memory
from recurra.agents import ActorCritic
from recurra.benchmarks.acting import acting
from recurra.benchmarks.peers import script
from recurra.benchmarks.timing import require_counts, steady
from recurra.errors import UserError
from recurra.memory import state as states

PEER = "RecurrentPPO"

#: Of the passive T-Maze that all learn in: each episode draws its own.
CORRIDOR = [2, 32]


class Measured(NamedTuple):
    """What is known of a contestant: environment steps per second of training, and seconds of an acting step.

    Where it is compiled, ``start`` is the seconds of the first update, which the rate leaves out.
    """

    per_second: float
    acting: list[float]
    parameters: int
    bytes: int
    start: float | None = None


def run(
    train: Callable[..., dict[str, Any]],
    names: list[str] | None = None,
    *,
    dim: int = 64,
    expansion: float = 1.0,
    environments: int = 16,
    rollout: int = 128,
    updates: int = 10,
    epochs: int = 4,
    minibatches: int = 2,
    rounds: int = 2,
    batches: Sequence[int] = (1, 16, 1024),
    budget: float = 0.5,
    threads: Sequence[int] = (1, 2),
    peer_python: str | None = None,
    compile: bool = False,
) -> list[dict[str, Any]]:
    """Measure agents in training, whole loop beside whole loop, and in acting.

    All train in the same T-Maze, with the same environment steps, rollouts, epochs and minibatches, and with each
    number of CPU threads. The peer runs in a process of its own, and the best of each of its figures is what we are
    compared with. Rounds take turns, and each contestant's best counts: other work on the machine only ever slows.

    Args:
        train: `recurra.recipes.train`, with a folder for its runs.
        names: which memories; by default all listed ones that no team shares.
        dim: width of the networks.
        expansion: of our blocks' MLPs: 1 makes an agent with gru as large as the peer is; 0 leaves them out, and the
            peer's own layers after its LSTM too.
        environments: how many side by side.
        rollout: steps of each between updates.
        updates: rollouts that are learnt from.
        epochs: how often each is.
        minibatches: in how many parts.
        rounds: how often each contestant trains and acts.
        batches: how many environments to act in at once.
        budget: seconds for each figure of acting, about.
        threads: of the CPU, one number after the other.
        peer_python: a Python that has sb3-contrib; by default this one, if it has.
        compile: compile our agents; their rate is then of what follows the first update, whose seconds stand beside it.

    Returns:
        A row for each figure: ``name``, ``threads``, ``what``, ``batch`` (environments), ``per_second`` (environment
        steps), ``microseconds`` (of an acting step, all environments together), ``start`` (seconds of the first
        update, where it compiles), ``parameters``, ``bytes`` of state for one stream, and ``ratio`` to the ``peer``.

    Raises:
        UserError: if there is no such memory, a number is less than 1, ``peer_python`` cannot run the peer, or there
            are no updates after the one that compiles.
    """
    if compile and updates < 2:
        raise UserError("the first update compiles and is not counted: with --compile, updates must be at least 2")
    agents = {name: _agent(name, dim, expansion) for name in names or memory.names(team=False)}
    require_counts(rounds=rounds, updates=updates, batches=batches, threads=threads)
    equal = {"rollout": rollout, "epochs": epochs, "minibatches": minibatches}

    def ours(name: str, threads: int) -> Measured:
        settings: dict[str, Any] = {f"ppo.{option}": value for option, value in equal.items()}
        settings |= {"ppo.sequence": rollout, "env.corridor": CORRIDOR, "curriculum": None, "memory": name}
        settings |= {"dim": dim, "expansion": expansion, "environments": environments}
        told = train("tmaze", steps=updates * rollout * environments, threads=threads, compile=compile, **settings)
        agent = agents[name]
        parameters = sum(parameter.numel() for parameter in agent.parameters())
        size = states.nbytes(agent.memory.initial_state(1))
        rate, start = steady(told["run"]) if compile else (told["steps_per_second"], None)
        return Measured(rate, acting(agent, batches, threads=threads, budget=budget), parameters, size, start)

    def peer(threads: int) -> Measured:
        options = {**equal, "corridor": CORRIDOR, "environments": environments, "updates": updates, "dim": dim}
        options |= {"threads": threads, "seed": 0, "batches": list(batches), "budget": budget}
        # None: as it comes, two layers of 64 for the actor and two for the critic.
        return Measured(
            **script(
                peer_python or sys.executable,
                "recurrent_ppo.py",
                options | {"layers": None if expansion else []},
                peer=PEER,
                needs="sb3-contrib and gymnasium",
            )
        )

    there = peer_python is not None or importlib.util.find_spec("sb3_contrib") is not None
    contestants = [(name, count) for name in [*[PEER] * there, *agents] for count in threads]
    turns = [
        {(name, count): peer(count) if name == PEER else ours(name, count) for name, count in contestants}
        for _ in range(rounds)
    ]
    best = {contestant: _best([turn[contestant] for turn in turns]) for contestant in contestants}
    peers = [one for (name, _), one in best.items() if name == PEER]
    return _rows(best, _best(peers) if peers else None, environments, batches)


def _agent(name: str, dim: int, expansion: float) -> ActorCritic:
    return ActorCritic(spaces.Box(-1, 1, (2,)), spaces.Discrete(4), memory=name, dim=dim, expansion=expansion)


def _best(several: list[Measured]) -> Measured:
    quickest = [min(times) for times in zip(*(one.acting for one in several), strict=True)]
    return several[0]._replace(per_second=max(one.per_second for one in several), acting=quickest)


def _rows(
    measured: dict[tuple[str, int], Measured], peer: Measured | None, environments: int, batches: Sequence[int]
) -> list[dict[str, Any]]:
    def row(
        who: tuple[str, int], what: str, batch: int, rate: float, step: float | None, reference: float | None
    ) -> dict[str, Any]:
        compared = reference is not None and who[0] != PEER
        return {
            "name": who[0],
            "threads": who[1],
            "what": what,
            "batch": batch,
            "per_second": rate,
            "microseconds": None if step is None else step * 1e6,
            "start": measured[who].start if what == "training" else None,
            "parameters": measured[who].parameters,
            "bytes": measured[who].bytes,
            "ratio": rate / reference if compared and reference else None,
            "peer": PEER if compared else None,
        }

    rows = []
    for who, one in measured.items():
        rows.append(row(who, "training", environments, one.per_second, None, peer and peer.per_second))
    for index, batch in enumerate(batches):
        for who, one in measured.items():
            reference = None if peer is None else batch / peer.acting[index]
            rows.append(row(who, "acting", batch, batch / one.acting[index], one.acting[index], reference))
    return rows
