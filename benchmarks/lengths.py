"""``recurra bench lengths``: what a step of acting takes, and what the state holds, after so many steps."""

import time
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from recurra.agents import RATE, ActingState, RATEState
from recurra.benchmarks.timing import require_counts, seconds
from recurra.memory import state as states
from recurra.memory.attention import AttentionState
from recurra.memory.network import NetworkState

#: Steps that are read at once on the way to where a step is timed.
PIECE = 1000


def run(
    *,
    names: list[str] | None = None,
    lengths: list[int] | None = None,
    dim: int = 32,
    layers: int = 2,
    segment: int = 150,
    slots: int = 4,
    budget: float = 1.0,
    most_bytes: int = 4 * 10**9,
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """Measure a step of an agent of recorded streams, which reads three tokens, late in an episode.

    A state that does not grow is read up to the length. That of full attention is made up: how long a step takes does
    not depend on what keys and values say. On a CPU time is that of the process, so that what else runs counts for
    nothing.

    Args:
        names: of memories; attention makes the agent a Decision Transformer of unbounded context, the peer.
        lengths: after how many steps.
        dim: width.
        layers: how many.
        segment: tokens of a segment, of memories that have them.
        slots: memory tokens, of memories that have them.
        budget: seconds for each figure, about.
        most_bytes: of a state; what would hold more is left out.
        device: cpu, cuda or auto.

    Returns:
        A row for each memory and length: ``name``, ``what``, ``steps``, ``microseconds``, ``per_second``, ``bytes`` of
        the state, and ``ratio`` of speed to the ``peer``.

    Raises:
        UserError: if a number is less than 1, or there is no such memory.
    """
    names = ["attention", "rate", "elmur", "gated_delta_net"] if names is None else names
    lengths = [100, 10_000, 1_000_000] if lengths is None else lengths
    require_counts(lengths=lengths, dim=dim, layers=layers, segment=segment, slots=slots)
    rows, peer = [], {}
    for name in sorted(names, key="attention".__ne__):  # the peer first
        torch.manual_seed(0)
        segmented = {"segment": segment, "slots": slots} if name in ("rate", "rmt", "elmur", "armt") else {}
        agent = RATE(
            spaces.Box(-1, 1, (4,)), spaces.Discrete(4), memory=name, dim=dim, layers=layers, memory_options=segmented
        )
        agent.eval().to(device)
        state, done = agent.initial_state(1), 0
        for length in sorted(lengths):
            if name == "attention":
                if 2 * 4 * 3 * length * dim * layers > most_bytes:
                    continue
                state = _made_up(agent, length)
            else:
                state, done = _read_on(agent, state, length - done), length
            rate = 1.0 / _step(agent, state, budget)
            if name == "attention":
                peer[length] = rate
            rows.append(
                {
                    "name": name,
                    "what": "acting",
                    "steps": length,
                    "microseconds": 1e6 / rate,
                    "per_second": rate,
                    "bytes": states.nbytes(state),
                    "ratio": rate / peer[length] if length in peer and name != "attention" else None,
                    "peer": "attention" if length in peer and name != "attention" else None,
                }
            )
    return rows


def _step(agent: RATE, state: Any, budget: float) -> float:
    """Time `RATE.act`, again and again from the same state."""
    obs, first, reward = np.zeros((1, 4), np.float32), np.zeros(1, bool), np.zeros(1)
    clock = time.process_time if agent.device.type == "cpu" else time.perf_counter
    return seconds(lambda: agent.act(obs, state, first, reward), budget=budget, clock=clock)


@torch.no_grad()
def _read_on(agent: RATE, state: Any, steps: int) -> Any:
    """Read so many steps of random observations."""
    memory = state.memory
    while steps > 0:
        time = min(steps, PIECE)
        obs = torch.randn(1, time, 4, device=agent.device)
        action = torch.zeros(1, time, 4, dtype=torch.bool, device=agent.device)
        first = torch.zeros(1, time, dtype=torch.bool, device=agent.device)
        _, memory = agent((obs, action, torch.zeros(1, time, device=agent.device)), memory, first=first)
        steps -= time
    return ActingState(memory, state.action)


def _made_up(agent: RATE, steps: int) -> Any:
    """Give the state of full attention after so many steps, with random keys and values."""
    begun = agent.initial_state(1)
    tokens = 3 * steps - 1  # no action before the first
    layers = []
    for layer in begun.memory.memory.layers:
        keys, values = torch.randn(2, 1, tokens, agent.memory.dim, device=agent.device)
        layers.append(AttentionState(keys, values, layer.position + tokens))
    return ActingState(RATEState(NetworkState(tuple(layers)), begun.memory.to_go), begun.action)
