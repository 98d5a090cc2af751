"""``recurra bench memory``: tokens per second of every memory, beside its token loop and titans-pytorch."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from recurra import memory
from recurra.benchmarks.timing import matrix_rate, require_counts, seconds
from recurra.memory import Memory
from recurra.memory import state as states

#: Tokens read at once: longer streams are read piece by piece, in training with the state detached between pieces.
PIECE = 10_000

#: Of the matrices whose product says what the machine can do.
MATRIX = 512

READING, LEARNING = "forward", "forward and backward"


def run(
    names: list[str] | None = None,
    *,
    dim: int = 128,
    batch: int = 4,
    lengths: Sequence[int] = (1_000, 10_000, 100_000),
    budget: float = 0.5,
    longest: float = 10.0,
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """Measure memories.

    Each reads, and learns from, streams of every length, in pieces of at most 10,000 tokens with the state carried, and
    in learning detached; at the shortest length beside the token loop of its reference backend. One token at a time is
    compared with reading the shortest length. titans-pytorch's NeuralMemory, where it is installed, runs at the
    shortest length; and the rate of matrix products, in floating-point operations, says what the machine can do.

    Args:
        names: which memories; by default all listed ones that no team shares.
        dim: width.
        batch: streams side by side.
        lengths: tokens of each stream.
        budget: seconds for each figure, about; one that takes longer is measured once.
        longest: seconds; a length that would take longer, by the rate at the length before, is left out.
        device: cpu, cuda or auto.

    Returns:
        A row for each figure: ``name``, ``what``, ``length``, ``per_second`` (tokens, all streams together),
        ``bytes`` of state for one stream, and ``ratio`` to the ``peer``.

    Raises:
        UserError: if there is no such memory, or a number is less than 1.
    """
    require_counts(dim=dim, batch=batch, lengths=lengths)
    names = names or memory.names(team=False)
    modules = {name: memory.build(name, dim).to(device) for name in names}  # a wrong name is told now
    product = matrix_rate(MATRIX, device=device)
    rows = [_row("matrix product", f"float32, {MATRIX} by {MATRIX}", None, product, None)]
    for name, module in modules.items():
        rows += _measure(name, module.eval(), batch, sorted(lengths), budget, longest, device)
    return rows + list(_titans(dim, batch, min(lengths), budget, device))


def _row(
    name: str, what: str, length: int | None, rate: float, size: int | None, peer: tuple[str, float] | None = None
) -> dict[str, Any]:
    ratio, named = (None, None) if peer is None else (rate / peer[1], peer[0])
    about = {"name": name, "what": what, "length": length, "per_second": rate, "bytes": size}
    return {**about, "ratio": ratio, "peer": named}


def _measure(
    name: str, module: Memory, batch: int, lengths: Sequence[int], budget: float, longest: float, device: str
) -> Iterator[dict[str, Any]]:
    size = states.nbytes(module.initial_state(1))

    def rate(function: Callable[[Memory, Tensor], None], length: int) -> float:
        x = torch.randn(batch, length, module.dim, device=device)
        return batch * length / seconds(lambda: function(module, x), budget=budget)

    rates: dict[str, list[float]] = {READING: [], LEARNING: []}
    for length in lengths:
        for what, function in ((READING, _read), (LEARNING, _learn)):
            loop = None
            if not rates[what] and "reference" in module.backends:
                chooser: Any = module
                usual, chooser.backend = chooser.backend, "reference"
                loop = "token loop", rate(function, length)
                chooser.backend = usual
            if rates[what] and batch * length / rates[what][-1] > longest:
                continue
            rates[what].append(rate(function, length))
            yield _row(name, what, length, rates[what][-1], size, loop)
    x, state = torch.randn(batch, module.dim, device=device), module.initial_state(batch)
    with torch.inference_mode():
        time = seconds(lambda: module.step(x, state), budget=budget)
    yield _row(name, "step", 1, batch / time, size, (f"{READING} of {lengths[0]:,}", rates[READING][0]))


@torch.inference_mode()
def _read(module: Memory, x: Tensor) -> None:
    state = None
    for piece in x.split(PIECE, dim=1):
        _, state = module(piece, state)


def _learn(module: Memory, x: Tensor) -> None:
    state = None
    for piece in x.split(PIECE, dim=1):
        y, state = module(piece.requires_grad_(), None if state is None else states.detach(state))
        y.square().mean().backward()


def _titans(dim: int, batch: int, length: int, budget: float, device: str) -> Iterator[dict[str, Any]]:
    try:
        from titans_pytorch import NeuralMemory
    except ImportError:
        return
    module: nn.Module = NeuralMemory(dim=dim, chunk_size=64).to(device)
    x = torch.randn(batch, length, dim, device=device)
    with torch.no_grad():
        _, state = module(x)
    held = [leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor)]
    size = sum(tensor.numel() * tensor.element_size() for tensor in held) // batch

    def learn() -> None:
        y, _ = module(x.requires_grad_())
        y.square().mean().backward()

    for what, function in ((READING, torch.no_grad()(lambda: module(x))), (LEARNING, learn)):
        yield _row("titans-pytorch", what, length, batch * length / seconds(function, budget=budget), size)
