"""``recurra bench kernels --device cuda``: the Triton kernels beside fla-core, attention and a copy of memory."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from recurra.benchmarks.memories import LEARNING, READING
from recurra.benchmarks.timing import seconds
from recurra.kernels import delta_rule, launching, linear_recurrence


class Size(NamedTuple):
    """How much is read at once."""

    batch: int
    length: int
    heads: int
    dim: int


FLA = (Size(1, 8192, 96, 128), Size(4, 2048, 16, 128), Size(8, 1024, 8, 64))
"""Those of flash-linear-attention's own benchmark."""

PIECES = tuple(Size(16, 128, heads, dim) for heads, dim in ((1, 16), (4, 16), (4, 64)))
STEPS = tuple(Size(batch, 1, 4, 64) for batch in (16, 256, 4096))
"""An agent's: pieces of rollouts, and single steps."""

OPERATIONS = ("linear_recurrence", "linear_attention", "delta_rule", "gated_delta_rule", "gated_linear_attention")


def run(
    names: Sequence[str] = OPERATIONS,
    *,
    sizes: Sequence[Size] = (*FLA, *PIECES, *STEPS),
    budget: float = 1.0,
    device: str = "cuda",
    dtype: torch.dtype = torch.bfloat16,
) -> list[dict[str, Any]]:
    """Measure the Triton backend, forward and with backward to every argument but the state.

    Args:
        names: which of `OPERATIONS`.
        sizes: at which sizes; a single token is read without gradients.
        budget: seconds for each figure, about.
        device: where: cuda, or any under Triton's interpreter.
        dtype: of the tokens; states and gates are float32.

    Returns:
        A row for each figure: ``name``, ``what``, ``size``, ``per_second`` (tokens), ``seconds``, ``bytes`` that must
        move at least, ``limit`` (the seconds that they take at the bandwidth of a copy), ``operations`` (floating
        point, of the products of matrices), ``error`` (of outputs, or of the worst gradient: root mean square, over
        that of what float64 gives) and ``ratio``, of the time of the ``peer`` to this one.
    """
    moved = bandwidth(device)
    rows = []
    for size in sizes:
        attention = _attention(size, device, dtype)
        for name in names:
            leaves = _draw(name, size, device, dtype)
            ways: dict[str, Callable[[Leaves], Tensor]] = {"triton": partial(_ours, name, backend="triton")}
            if size.length == 1:
                ways["token loop"] = partial(_ours, name, backend="reference")
            elif size.length <= 128:
                ways["chunked"] = partial(_ours, name, backend="chunked")
            if (peer := _fla(name, size)) is not None and not launching.INTERPRETED:
                ways["fla-core"] = peer
            errors = _errors(name, leaves)
            for what in (READING, LEARNING)[: 1 + (size.length > 1)]:
                times = {way: _time(call, leaves, what, budget) for way, call in ways.items()}
                if what in attention and name == names[0]:
                    times["attention"] = seconds(attention[what], budget=budget)
                least = _bytes(leaves, size, what)
                for way, took in times.items():
                    own = way == "triton"
                    rows.append(
                        {
                            "name": name if own else way if way == "attention" else f"{name}, {way}",
                            "what": what,
                            "size": f"B{size.batch} T{size.length} H{size.heads} D{size.dim}",
                            "per_second": size.batch * size.length / took,
                            "seconds": took,
                            "bytes": least if own else None,
                            "limit": least / moved if own else None,
                            "operations": _operations(name, size, what) if own else None,
                            "error": errors[what] if own else None,
                            "ratio": times["fla-core"] / took if own and "fla-core" in times else None,
                            "peer": "fla-core" if own and "fla-core" in times else None,
                        }
                    )
    return rows


def bandwidth(device: str, *, size: int = 2**28) -> float:
    """Measure the bytes that a copy reads and writes in a second."""
    size = size if device == "cuda" else 2**22
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / seconds(lambda: target.copy_(source), budget=0.2)


Leaves = dict[str, Tensor]


def _draw(name: str, size: Size, device: str, dtype: torch.dtype) -> Leaves:
    batch, length, heads, dim = size
    draw = partial(torch.randn, device=device)
    if name == "linear_recurrence":
        x, gate = (draw(batch, length, heads * dim) for _ in range(2))
        leaves = {"x": x.to(dtype), "log_gate": F.logsigmoid(gate + 4)}
    else:
        tokens = batch, length, heads
        q, k = (F.normalize(draw(*tokens, dim), dim=-1).to(dtype) for _ in range(2))
        leaves = {"q": q, "k": k, "v": draw(*tokens, dim).to(dtype)}
        if "delta" in name:
            leaves["beta"] = draw(tokens).sigmoid()
        if "gated" in name:
            channels = [dim] if name == "gated_linear_attention" else []
            leaves["log_decay"] = F.logsigmoid(draw(*tokens, *channels) + 4)
    return {name: x.requires_grad_() for name, x in leaves.items()}


def _ours(name: str, leaves: Leaves, *, backend: str) -> Tensor:
    operation: Callable[..., tuple[Tensor, Tensor]] = delta_rule
    if name == "linear_recurrence":
        operation = linear_recurrence
    return operation(**leaves, backend=backend)[0]


def _fla(name: str, size: Size) -> Callable[[Leaves], Tensor] | None:
    """Find what flash-linear-attention has for an operation, if it is installed."""
    module, parts = {
        "linear_attention": ("linear_attn", "linear_attn"),
        "delta_rule": ("delta_rule", "delta_rule"),
        "gated_delta_rule": ("gated_delta_rule", "gated_delta_rule"),
        "gated_linear_attention": ("gla", "gla"),
    }.get(name, ("", ""))
    try:
        found = getattr(__import__(f"fla.ops.{module}", fromlist=["ops"]), _kind(size) + parts) if module else None
    except (ImportError, AttributeError):
        found = None
    if found is None:
        return None
    decay = "gk" if name == "gated_linear_attention" and size.length == 1 else "g"

    def call(leaves: Leaves) -> Tensor:
        names = {"log_decay": decay}
        more = {"normalize": False} if name == "linear_attention" else {}
        output: Tensor = found(**{names.get(n, n): x for n, x in leaves.items()}, **more, scale=1.0)[0]
        return output

    return call


def _kind(size: Size) -> str:
    return "fused_recurrent_" if size.length == 1 else "chunk_"


def _attention(size: Size, device: str, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """Give PyTorch's causal attention over pieces of the same size."""
    if size.length == 1:
        return {}
    batch, length, heads, dim = size
    q, k, v = (torch.randn(batch, heads, length, dim, device=device, dtype=dtype, requires_grad=True) for _ in range(3))

    def read() -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def learn() -> None:
        torch.autograd.grad(read(), (q, k, v), q.detach())

    return {READING: torch.no_grad()(read), LEARNING: learn}


def _time(call: Callable[[Leaves], Tensor], leaves: Leaves, what: str, budget: float) -> float:
    if what == READING:
        return seconds(torch.no_grad()(lambda: call(leaves)), budget=budget)
    slope = torch.randn_like(call(leaves))
    return seconds(lambda: torch.autograd.grad(call(leaves), list(leaves.values()), slope), budget=budget)


def _errors(name: str, leaves: Leaves) -> dict[str, float]:
    """Compare outputs, and gradients, with those in float64: of the first stream, and of two heads or so of it."""
    width = 128 if name == "linear_recurrence" else 2
    few = {n: x.detach()[:1, :, :width] for n, x in leaves.items()}
    given = [{n: x.to(d).requires_grad_() for n, x in few.items()} for d in (None, torch.float64)]
    ours, exact = (_ours(name, x, backend=b) for x, b in zip(given, ("triton", "chunked"), strict=True))
    slope = torch.randn_like(exact)
    slopes, wanted = (
        torch.autograd.grad(y, list(x.values()), slope.to(y.dtype)) for x, y in zip(given, (ours, exact), strict=True)
    )
    worst = max(_error(a, b) for a, b in zip(slopes, wanted, strict=True))
    return {READING: _error(ours, exact), LEARNING: worst}


def _error(a: Tensor, b: Tensor) -> float:
    a, b = a.detach().double(), b.detach()
    return float((a - b).square().mean().sqrt() / b.square().mean().sqrt().clamp(min=1e-30))


def _bytes(leaves: Leaves, size: Size, what: str) -> int:
    """Count the bytes that must move: arguments and outputs once, and the state, which for a step is read as well.

    Going backward, arguments and the outputs' gradient are read, and the arguments' gradients written, besides.
    """
    given = sum(x.numel() * x.element_size() for x in leaves.values())
    token = leaves["x"] if "x" in leaves else leaves["v"]
    output = token.numel() * token.element_size()
    state = 4 * size.batch * size.heads * size.dim * (1 if "x" in leaves else size.dim)
    reading = given + output + state * (2 if size.length == 1 else 1)
    return reading if what == READING else reading + 2 * given + output


def _operations(name: str, size: Size, what: str, *, chunk: int = 64) -> float:
    """Count floating-point operations of the products of matrices; a backward pass is taken as two forward ones."""
    batch, length, heads, dim = size
    if name == "linear_recurrence":
        each = 2.0 * dim
    elif length == 1:
        each = 2.0 * dim * dim * (3 if "delta" in name else 2)
    else:  # Q and K with S; Q with K, and what that finds; with the delta rule W with S, K with K, and W and U
        each = 2.0 * dim * (2 * dim + 2 * chunk + ("delta" in name) * (dim + 3 * chunk))
    return batch * length * heads * each * (1 if what == READING else 3)
