"""``recurra bench kernels``: the operations' chunked forms beside token loops, and on a GPU the Triton kernels."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recurra.benchmarks import gpu
from recurra.benchmarks.memories import LEARNING, READING
from recurra.benchmarks.timing import require_counts, seconds
from recurra.errors import UserError, nearest
from recurra.kernels import delta_rule, linear_recurrence


def run(
    names: list[str] | None = None,
    *,
    batch: int = 4,
    length: int = 1000,
    heads: int = 4,
    dim: int = 64,
    budget: float = 1.0,
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """Measure each operation, forward and with backward to every argument, beside its reference backend.

    On a GPU the Triton kernels are measured too, at sizes of their own: see `recurra.benchmarks.gpu.run`.

    Args:
        names: which operations: linear_recurrence, linear_attention, delta_rule, gated_delta_rule; all by default.
        batch: streams side by side.
        length: tokens of each.
        heads: of the matrices; the linear recurrence has as many channels as they all have.
        dim: of keys and values of a head.
        budget: seconds for each figure, about.
        device: cpu, or cuda for an NVIDIA GPU.

    Returns:
        A row for each figure: ``name``, ``what``, ``per_second`` (tokens), ``bytes`` of a stream's state, and, of the
        chunked forms, ``ratio`` to the ``peer``, the token loop.

    Raises:
        UserError: if there is no such operation, or a number is less than 1.
    """
    require_counts(batch=batch, length=length, heads=heads, dim=dim)
    for name in names or []:
        if name not in _OPERATIONS:
            raise UserError(f"no operation is named {name!r}; {nearest(name, _OPERATIONS)}")
    rows = []
    for name in names or _OPERATIONS:
        operation, arguments = _OPERATIONS[name](batch, length, heads, dim)
        leaves = {key: value.to(device).requires_grad_() for key, value in arguments.items()}
        size = 4 * heads * dim * (1 if name == "linear_recurrence" else dim)
        for what, measured in ((READING, _read), (LEARNING, _learn)):
            loop, chunked = (
                batch * length / seconds(partial(measured, operation, leaves, backend), budget=budget)
                for backend in ("reference", "chunked")
            )
            about = {"what": what, "bytes": size}
            rows.append({"name": f"{name}, token loop", **about, "per_second": loop, "ratio": None, "peer": None})
            rows.append({"name": name, **about, "per_second": chunked, "ratio": chunked / loop, "peer": "token loop"})
    if device != "cpu":
        rows += gpu.run(names or gpu.OPERATIONS, budget=budget, device=device)
    return rows


@torch.no_grad()
def _read(operation: Callable[..., Any], arguments: dict[str, Tensor], backend: str) -> None:
    operation(**arguments, backend=backend)


def _learn(operation: Callable[..., Any], arguments: dict[str, Tensor], backend: str) -> None:
    operation(**arguments, backend=backend)[0].square().mean().backward()


Drawn = tuple[Callable[..., Any], dict[str, Tensor]]


def _linear_recurrence(batch: int, length: int, heads: int, dim: int) -> Drawn:
    x, gate = torch.randn(2, batch, length, heads * dim)
    return linear_recurrence, {"x": x, "log_gate": F.logsigmoid(gate + 4)}


def _delta_rule(batch: int, length: int, heads: int, dim: int, *, beta: bool, decay: bool) -> Drawn:
    tokens = batch, length, heads
    q, k, v = torch.randn(3, *tokens, dim)
    arguments = {"q": F.normalize(q, dim=-1), "k": F.normalize(k, dim=-1), "v": v}
    arguments |= {"beta": torch.rand(tokens)} if beta else {}
    return delta_rule, arguments | ({"log_decay": F.logsigmoid(torch.randn(tokens) + 4)} if decay else {})


_OPERATIONS: dict[str, Callable[[int, int, int, int], Drawn]] = {
    "linear_recurrence": _linear_recurrence,
    "linear_attention": partial(_delta_rule, beta=False, decay=False),
    "delta_rule": partial(_delta_rule, beta=True, decay=False),
    "gated_delta_rule": partial(_delta_rule, beta=True, decay=True),
}
