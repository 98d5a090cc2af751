"""``recurra bench memory``: tokens per second of every memory, beside its token loop and titans-pytorch."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from recurra import memory
from recurra.benchmarks.timing import seconds
from recurra.memory import Memory
from recurra.memory import state as states

#: Backward passes keep every token's intermediate values: longer streams are trained in pieces of this many.
TRAINED = 10_000


def run(
    names: list[str] | None = None,
    *,
    dim: int = 128,
    batch: int = 4,
    lengths: Sequence[int] = (1_000, 10_000, 100_000),
    budget: float = 1.0,
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """Measure memories.

    Args:
        names: which; all listed ones by default.
        dim: width.
        batch: streams side by side.
        lengths: tokens of each stream.
        budget: seconds spent on each figure, about.
        device: cpu or cuda.

    Returns:
        A row for each figure: ``name``, ``what``, ``length``, ``per_second`` (tokens, all streams together),
        ``bytes`` of state for one stream, and ``ratio`` to the ``peer``.
    """
    rows = []
    for name in names or memory.names():
        rows += list(_measure(name, memory.build(name, dim).to(device).eval(), dim, batch, lengths, budget, device))
    rows += list(_titans(dim, batch, lengths, budget, device))
    return rows


def _measure(
    name: str, module: Memory, dim: int, batch: int, lengths: Sequence[int], budget: float, device: str
) -> Iterator[dict[str, Any]]:
    size = states.nbytes(module.initial_state(1))
    loop = _loop_rate(module, torch.randn(batch, min(lengths), dim, device=device), budget)

    def row(what: str, length: int, tokens: int, time: float, peer: tuple[str, float] | None) -> dict[str, Any]:
        rate = tokens / time
        ratio = {"ratio": rate / peer[1], "peer": peer[0]} if peer else {"ratio": None, "peer": None}
        return {"name": name, "what": what, "length": length, "per_second": rate, "bytes": size, **ratio}

    for length in lengths:
        x = torch.randn(batch, length, dim, device=device)
        time = seconds(lambda x=x: _read(module, x), budget=budget)  # type: ignore[misc]
        yield row("forward", length, x[..., 0].numel(), time, loop)
        if length <= TRAINED:
            time = seconds(lambda x=x: _learn(module, x), budget=budget)  # type: ignore[misc]
            yield row("forward and backward", length, x[..., 0].numel(), time, None)
    x, state = torch.randn(batch, dim, device=device), module.initial_state(batch)
    with torch.inference_mode():
        time = seconds(lambda: module.step(x, state), budget=budget)
    yield row("step", 1, batch, time, None)


def _loop_rate(module: Memory, x: Tensor, budget: float) -> tuple[str, float] | None:
    """Measure the token loop of the memory's reference backend, if it has one."""
    if "reference" not in module.backends:
        return None
    chooser: Any = module
    usual, chooser.backend = chooser.backend, "reference"
    time = seconds(lambda: _read(module, x), budget=budget, least=1)
    chooser.backend = usual
    return "token loop", x[..., 0].numel() / time


@torch.inference_mode()
def _read(module: Memory, x: Tensor) -> None:
    state = None
    for piece in x.split(TRAINED, dim=1):
        _, state = module(piece, state)


def _learn(module: Callable[[Tensor], tuple[Tensor, Any]], x: Tensor) -> None:
    y, _ = module(x.requires_grad_())
    y.square().mean().backward()


def _titans(dim: int, batch: int, lengths: Sequence[int], budget: float, device: str) -> Iterator[dict[str, Any]]:
    """Measure titans-pytorch's NeuralMemory, where it is installed, at the shortest length."""
    try:
        from titans_pytorch import NeuralMemory
    except ImportError:
        return
    module, length = NeuralMemory(dim=dim, chunk_size=64).to(device), min(lengths)
    x = torch.randn(batch, length, dim, device=device)
    for what, function in (("forward", torch.no_grad()(module)), ("forward and backward", lambda x: _learn(module, x))):
        rate = batch * length / seconds(lambda function=function: function(x), budget=budget, least=1)  # type: ignore[misc]
        yield {"name": "titans-pytorch", "what": what, "length": length, "per_second": rate, "bytes": None} | {
            "ratio": None,
            "peer": None,
        }
