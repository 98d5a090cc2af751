"""``recurra bench reading``: how fast a document is read, and in how much memory, by its length."""

import time
from collections import deque
from typing import Any

import torch

from recurra import agents
from recurra.agents import Reader, ReaderState
from recurra.benchmarks.timing import apart, require_counts, seconds
from recurra.envs.documents import expand
from recurra.envs.documents.babilong import CHARACTERS_PER_TOKEN, Babilong
from recurra.errors import UserError
from recurra.memory import state as states

ATTENTION = "attention"


def run(
    *,
    reader: str = "babilong-qa1",
    lengths: list[int] | None = None,
    attention: int = 16_000,
    piece: int = 65_536,
    budget: float = 1.0,
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """Read documents of growing length: facts in the bundled books, made while they are read.

    Each length is measured in a process of its own, whose memory is that of the reading alone. Beside it reads full
    attention of the same width and layers, untrained: how fast it is does not depend on what it has learnt. On a CPU
    time is that of the process, so that what else runs counts for nothing.

    Args:
        reader: a run folder, a reader's folder or shipped name.
        lengths: of the documents, in GPT-2 tokens, at `CHARACTERS_PER_TOKEN`.
        attention: the longest document that full attention reads.
        piece: bytes that are read at once, about.
        budget: seconds for each figure, about; what takes longer is read once.
        device: cpu, cuda or auto.

    Returns:
        A row for each of both and each length: ``name``, ``what``, ``length``, ``parameters``, ``per_second`` (GPT-2
        tokens), ``resident_bytes`` (the most that the process held, what it imports included), ``bytes`` of the state
        after the document, and ``ratio`` of speed to the ``peer``.

    Raises:
        UserError: if a number is less than 1, or there is no such reader.
    """
    lengths = [1_000, 4_000, 10_000, 16_000, 100_000, 1_000_000] if lengths is None else lengths
    require_counts(lengths=lengths, attention=attention, piece=piece)
    _load(reader)  # what is wrong with it is told now
    rows: list[dict[str, Any]] = []
    beside: dict[int, float] = {}
    trials = [(ATTENTION, length) for length in sorted(lengths) if length <= attention]
    trials += [(reader, length) for length in sorted(lengths)]
    found = apart(_measured, ((reader, name, length, piece, budget, device) for name, length in trials))
    for (name, length), figures in zip(trials, found, strict=True):
        peer = None if name == ATTENTION else beside.get(length)
        beside[length] = figures["per_second"]
        rows.append(
            {"name": name, "what": "reading", "length": length, **figures}
            | {"ratio": peer and figures["per_second"] / peer, "peer": peer and ATTENTION}
        )
    return rows


def _load(name: str) -> Reader:
    reader = agents.load(name)
    if not isinstance(reader, Reader):
        raise UserError(f"{name} is an agent that acts and reads no documents")
    return reader


def _measured(name: str, kind: str, length: int, piece: int, budget: float, device: str) -> dict[str, Any]:
    """Read a document of a length."""
    reader = _load(name)
    if kind == ATTENTION:
        torch.manual_seed(0)
        reader = Reader(**(reader.config | {"memory": ATTENTION, "memory_options": {}}))
    reader.eval().to(device)
    document = Babilong("qa1", expand("text:test"), length=round(length * CHARACTERS_PER_TOKEN)).document(0)
    after: list[ReaderState] = []

    def read() -> None:
        after[:] = deque(reader.stream(document.pieces(piece)), maxlen=1)

    taken = seconds(read, budget=budget, clock=time.process_time if device == "cpu" else time.perf_counter)
    return {
        "parameters": sum(parameter.numel() for parameter in reader.parameters()),
        "per_second": length / taken,
        "bytes": states.nbytes(after[0]),
    }
