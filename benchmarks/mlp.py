"""``recurra bench mlp_memory``: how much of what the machine can do the MLP memory does, beside titans-pytorch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recurra.benchmarks.gpu import bandwidth
from recurra.benchmarks.memories import LEARNING, MATRIX, READING
from recurra.benchmarks.timing import by_turns, matrix_rate, require_counts, seconds
from recurra.errors import UserError
from recurra.kernels import launching, mlp_memory
from recurra.kernels.biases import l2
from recurra.kernels.mlp_memory import COMPILED, fitting

PRODUCTS = 100  # of matrices, by turns with a call of ours


def run(
    *,
    dim: int = 256,
    heads: int = 1,
    batch: int = 2,
    length: int = 2048,
    chunk: int = 64,
    expansion: int = 4,
    momentum: bool = True,
    budget: float = 5.0,
    compile: bool = False,
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """Measure `recurra.kernels.mlp_memory` as Titans' long-term memory uses it: decay, momentum, residual, LayerNorm.

    Beside it stand products of square matrices, by turns, whose rate says what the machine can do, and, where it is
    installed, titans-pytorch's NeuralMemory of the same width and chunk (which projects its tokens, too). On a GPU the
    Triton kernels are measured beside the chunked form where they take the sizes (heads of up to 128 channels), with
    tokens in float32 and in bfloat16, and a step of each stream.

    Args:
        dim: width, all heads together.
        heads: memories side by side.
        batch: streams side by side.
        length: tokens of each stream.
        chunk: tokens whose gradients are taken at the same weights.
        expansion: hidden units over a head's width.
        momentum: whether there is one.
        budget: seconds for each figure, about.
        compile: measure the chunked form with its chunks compiled, too, once that is done.
        device: cpu or cuda.

    Returns:
        A row for each figure: ``name``, ``what``, ``per_second`` (tokens; products), ``operations`` (floating-point,
        for a token, of the dual form's products), ``flops`` (of those, a second), ``bytes`` of a stream's state, and
        ``ratio`` of ``flops`` to those of the ``peer``, the matrix product. Rows of the kernels have ``limit``, too:
        the tokens per second at which the bytes that must move (what goes in and comes out, once; backward twice that
        besides; for a step, the state in and out) take all the bandwidth of a copy.

    Raises:
        UserError: if a number is less than 1, or heads do not divide dim.
    """
    require_counts(dim=dim, heads=heads, batch=batch, length=length, chunk=chunk, expansion=expansion)
    if dim % heads:
        raise UserError(f"heads must divide dim: {heads} does not divide {dim}")
    rate, product = matrix_rate(MATRIX, device=device), 2 * MATRIX**3
    rows = [_row("matrix product", f"float32, {MATRIX} by {MATRIX}", rate / product, product, rate, None)]
    a, b = torch.randn(2, MATRIX, MATRIX, device=device)

    def multiply() -> None:
        for _ in range(PRODUCTS):
            a @ b

    width, hidden = dim // heads, expansion * dim // heads
    size = 4 * heads * 2 * width * hidden * (3 if momentum else 2)  # at the chunk's start, now, and momentum
    counted = heads * operations(width, hidden, min(chunk, length), momentum=momentum)
    moved = bandwidth(device)
    module = _titans(dim, heads, chunk, device)
    x = torch.randn(batch, length, dim, device=device)

    def titans_learn() -> None:
        module(x)[0].square().mean().backward()

    tokens = batch * length
    ways: list[tuple[str, str, torch.dtype]] = [("mlp_memory", "chunked", torch.float32)]
    if compile:
        ways.append(("mlp_memory, compiled", COMPILED, torch.float32))
    if launching.runs_on(torch.device(device)):
        for dtype in (torch.float32, torch.bfloat16):
            narrow = dtype == torch.bfloat16
            if fitting.unfit(l2, width, width, min(chunk, length), dtype, narrow=narrow, wide=False) is None:
                ways.append((f"mlp_memory, triton, {str(dtype).removeprefix('torch.')}", "triton", dtype))
    for name, backend, dtype in ways:
        arguments = _arguments(batch, length, heads, width, hidden, momentum, device)
        arguments |= {token: arguments[token].detach().to(dtype).requires_grad_() for token in "qkv"}
        call = partial(mlp_memory, **arguments, chunk=chunk, backend=backend)
        read: Callable[[], object] = torch.no_grad()(call)
        learn: Callable[[], object] = partial(_learn, call)
        for what, passes, function in ((READING, 1, read), (LEARNING, 3, learn)):
            ours, theirs = by_turns(function, multiply, budget=budget)
            flops, beside = tokens / ours * passes * counted, PRODUCTS * product / theirs
            row = _row(name, what, tokens / ours, passes * counted, flops, size, beside)
            rows.append(row | ({"limit": tokens / (passes * _moved(arguments) / moved)} if backend == "triton" else {}))
        if backend == "triton":
            rows.append(_step(name, arguments, chunk, budget, size, moved))
    if module is not None:
        for what, function in ((READING, torch.no_grad()(lambda: module(x))), (LEARNING, titans_learn)):
            rows.append(_row("titans-pytorch", what, tokens / seconds(function, budget=budget), None, None, None))
    return rows


def _learn(call: Callable[[], tuple[Tensor, Any]]) -> None:
    call()[0].square().mean().backward()


@torch.no_grad()
def _step(
    name: str, arguments: dict[str, Any], chunk: int, budget: float, size: int, moved: float
) -> dict[str, Any]:  # fmt: skip
    """Measure a step of all streams, at which the state, above all, is read and written."""
    over_time = ("q", "k", "v", "rate", "log_decay", "log_momentum")
    token = {key: x[:, :1] if key in over_time else x for key, x in arguments.items()}
    _, state = mlp_memory(**token, chunk=chunk, backend="triton")
    step = partial(mlp_memory, **token, initial_state=state, chunk=chunk, backend="triton")
    batch = len(arguments["q"])
    per_second = batch / seconds(step, budget=budget)
    return _row(name, "step", per_second, None, None, size) | {"limit": batch / (2 * batch * size / moved)}


def _moved(arguments: dict[str, Any]) -> int:
    """Count the bytes of what goes in, and of the answers."""
    tensors = [x for value in arguments.values() for x in (value if isinstance(value, tuple) else (value,))]
    return sum(x.numel() * x.element_size() for x in (*tensors, arguments["v"]))


def operations(dim: int, hidden: int, chunk: int, *, momentum: bool) -> float:
    """Count the floating-point operations of a head's products for one token, read and not learnt from.

    Of a chunk's tokens with the weights there are seven products: keys through both layers and the gradient back
    through one, queries through both, and the writes to both; momentum adds two of queries and two of writes. Within
    the chunk there are four: queries with keys and what they find, in each layer.

    >>> operations(256, 1024, 64, momentum=True) / 1e6
    6.094848
    """
    return (11 if momentum else 7) * 2 * dim * hidden + 4 * chunk * (dim + hidden)


def _row(
    name: str, what: str, per_second: float, operations: float | None, flops: float | None, size: int | None,
    rate: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "name": name,
        "what": what,
        "per_second": per_second,
        "operations": operations,
        "flops": flops,
        "bytes": size,
        "ratio": flops / rate if flops and rate else None,
        "peer": "matrix product" if flops and rate else None,
    }


def _arguments(
    batch: int, length: int, heads: int, dim: int, hidden: int, momentum: bool, device: str
) -> dict[str, Any]:
    """Draw what the operation takes, with a gradient for everything."""

    def leaf(x: Tensor) -> Tensor:
        return x.to(device).requires_grad_()

    tokens = batch, length, heads
    arguments: dict[str, Any] = {
        "q": leaf(F.normalize(torch.randn(*tokens, dim), dim=-1)),
        "k": leaf(F.normalize(torch.randn(*tokens, dim), dim=-1)),
        "v": leaf(torch.randn(*tokens, dim)),
        "weights": (
            leaf(torch.randn(heads, dim, hidden) / dim**0.5),
            leaf(torch.randn(heads, hidden, dim) / hidden**0.5),
        ),
        "rate": leaf(torch.rand(*tokens) / 10),
        "log_decay": leaf(F.logsigmoid(torch.randn(*tokens) + 4)),
        "norm": (leaf(torch.ones(heads, dim)), leaf(torch.zeros(heads, dim))),
    }
    return arguments | ({"log_momentum": leaf(F.logsigmoid(torch.randn(*tokens)))} if momentum else {})


def _titans(dim: int, heads: int, chunk: int, device: str) -> Any:
    try:
        from titans_pytorch import NeuralMemory
    except ImportError:
        return None
    return NeuralMemory(dim=dim, heads=heads, dim_head=dim // heads, chunk_size=chunk).to(device)
