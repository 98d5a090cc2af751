"""``recurra bench segment``: ARMT segment by segment and by diagonals."""

import time
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from recurra.benchmarks.timing import require_counts, seconds
from recurra.memory import state as states
from recurra.memory.segment import ARMT

READING, LEARNING = "forward", "forward and backward"


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
    """Measure what diagonal batching changes: the same results in fewer and larger operations.

    On a CPU time is that of the process, all threads together, so that what else runs counts for nothing.

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
        torch, of the forward pass), ``bytes`` of state for one stream, and ``ratio`` to the ``peer``.

    Raises:
        UserError: if a number is less than 1, or heads do not divide half of dim.
    """
    require_counts(dim=dim, layers=layers, heads=heads, segment=segment, slots=slots, segments=segments, batch=batch)
    torch.manual_seed(0)
    plain = ARMT(dim, layers=layers, heads=heads, segment=segment, slots=slots).to(device)
    diagonal = ARMT(dim, layers=layers, heads=heads, segment=segment, slots=slots, diagonal=True).to(device)
    diagonal.load_state_dict(plain.state_dict())
    x = torch.randn(batch, segments * segment, dim, device=device)
    size = states.nbytes(plain.initial_state(1))
    rows = []
    for what, function in ((READING, _read), (LEARNING, _learn)):
        beside = None
        for name, memory in (("segment by segment", plain), ("by diagonals", diagonal)):
            clock = time.process_time if device == "cpu" else time.perf_counter
            rate = x[..., 0].numel() / seconds(partial(function, memory, x), budget=budget, clock=clock)
            rows.append(
                {
                    "name": name,
                    "what": what,
                    "per_second": rate,
                    "operations": operations(memory, x),
                    "bytes": size,
                    "ratio": None if beside is None else rate / beside,
                    "peer": None if beside is None else "segment by segment",
                }
            )
            beside = beside or rate
    return rows


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
