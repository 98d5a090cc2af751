"""``recurra bench segment``: ARMT segment by segment, by diagonals, and with memory replay."""

import time
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from recurra.benchmarks.timing import apart, require_counts, seconds
from recurra.memory import state as states
from recurra.memory.segment import ARMT

READING, LEARNING = "forward", "forward and backward"

#: What is measured, by its options; replay does what the plain one does where nothing is learnt.
PLAIN, DIAGONAL, REPLAYED = "segment by segment", "by diagonals", "replayed"
OPTIONS: dict[str, dict[str, bool]] = {PLAIN: {}, DIAGONAL: {"diagonal": True}, REPLAYED: {"replay": True}}


def run(
    *,
    dim: int = 128,
    layers: int = 8,
    heads: int = 4,
    segment: int = 64,
    slots: int = 8,
    segments: int = 32,
    batch: int = 1,
    budget: float = 5.0,
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """Measure what diagonal batching and memory replay change: the same results, gradients too.

    Diagonals are fewer and larger operations; replay holds one segment's activations and reads each segment twice.
    Each is measured in a process of its own, whose memory is that of the measured alone. On a CPU time is that of the
    process, all threads together, so that what else runs counts for nothing.

    Args:
        dim: width.
        layers: how many.
        heads: of attention.
        segment: tokens of a segment.
        slots: memory tokens.
        segments: of each stream.
        batch: streams side by side.
        budget: seconds for each figure, about.
        device: cpu, cuda or auto.

    Returns:
        A row for each figure: ``name``, ``what``, ``per_second`` (tokens, all streams together), ``operations`` (of
        torch, of the forward pass), ``resident_bytes`` (the most that the process held, what it imports included),
        ``bytes`` of state for one stream, and ``ratio`` of speed to the ``peer``.

    Raises:
        UserError: if a number is less than 1, or heads do not divide half of dim.
    """
    require_counts(dim=dim, layers=layers, heads=heads, segment=segment, slots=slots, segments=segments, batch=batch)
    sizes: dict[str, Any] = {"dim": dim, "layers": layers, "heads": heads, "segment": segment, "slots": slots}
    ARMT(**sizes)  # what is wrong with it is told now
    trials = [(name, what) for what in (READING, LEARNING) for name in OPTIONS if (name, what) != (REPLAYED, READING)]
    shape = batch, segments * segment, dim
    found = apart(_measured, ((name, what, sizes, shape, budget, device) for name, what in trials))
    rows: list[dict[str, Any]] = []
    plain: dict[str, float] = {}
    for (name, what), figures in zip(trials, found, strict=True):
        beside = plain.setdefault(what, figures["per_second"])
        compared = {"ratio": figures["per_second"] / beside, "peer": PLAIN} if name != PLAIN else {}
        rows.append({"name": name, "what": what, **figures, "ratio": None, "peer": None} | compared)
    return rows


def _measured(
    name: str, what: str, sizes: dict[str, Any], shape: tuple[int, int, int], budget: float, device: str
) -> dict[str, Any]:
    torch.manual_seed(0)
    memory, x = ARMT(**sizes, **OPTIONS[name]).to(device), torch.randn(shape, device=device)
    clock = time.process_time if device == "cpu" else time.perf_counter
    function = partial(_read if what == READING else _learn, memory, x)
    return {
        "per_second": x[..., 0].numel() / seconds(function, budget=budget, clock=clock),
        "operations": operations(memory, x),
        "bytes": states.nbytes(memory.initial_state(1)),
    }


@torch.no_grad()
def _read(memory: nn.Module, x: torch.Tensor) -> None:
    memory(x)


def _learn(memory: nn.Module, x: torch.Tensor) -> None:
    memory(x)[0].square().mean().backward()


@torch.no_grad()
def operations(memory: nn.Module, x: torch.Tensor) -> int:
    """Count torch's operations in a forward pass, views left out: on a GPU about as many launches."""
    with _Counted() as counted:
        memory(x)
    return counted.count


class _Counted(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not function.is_view
        return function(*args, **(kwargs or {}))
