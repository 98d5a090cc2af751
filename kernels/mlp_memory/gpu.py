"""The MLP memory in Triton: one operator that goes through the chunks, and one that goes back.

What hangs on no weights (where tokens stand, gates, scores) is the chunked form's own, in torch, and so are the last
steps of an answer, LayerNorm and the residual. The kernels are in `gpu_forward`, `gpu_reads_backward` and
`gpu_backward`, the biases in `gpu_losses`. Slots are taken in groups of about the root of their number: only what a
group begins with is kept for the way back, which writes its chunks once more.
"""

from typing import Any

import torch
from torch import Tensor

from recurra.kernels import tiles
from recurra.kernels.mlp_memory import gpu_launches
from recurra.kernels.mlp_memory.arguments import Arguments
from recurra.kernels.mlp_memory.chunked import Chunk, Course, Passed, chunked
from recurra.kernels.mlp_memory.fitting import number
from recurra.kernels.mlp_memory.gpu_backward import write_chunks_backward
from recurra.kernels.mlp_memory.gpu_launches import Inputs, Launches
from recurra.kernels.mlp_memory.gpu_reads_backward import read_chunks_backward
from recurra.kernels.mlp_memory.gpu_step import triton_step
from recurra.kernels.mlp_memory.state import MLPState

__all__ = ["mlp_memory_backward", "mlp_memory_forward", "triton_chunks", "triton_step"]


def triton_chunks(
    given: Arguments,
    state: MLPState,
    first: Tensor | None,
    present: Tensor | None,
    chunk: int,
    *,
    fresh: bool,
    narrow: bool,
) -> tuple[Tensor, MLPState]:
    """Read at least one token: see `chunked`. ``narrow``: multiply in bfloat16."""

    def through(given: Arguments, chunks: Chunk, course: Course) -> Passed:
        known = number(given.bias)
        assert known is not None
        if given.threshold is None:
            given.bias(given.v, given.v, None)  # refuses, if it needs one
        inputs, momentum = _inputs(given, chunks, course), given.log_momentum is not None
        read, *after = mlp_memory_forward(
            list(inputs), course.opens, course.resets, given.residual, given.epsilon, *known, narrow
        )
        start, weights, moved = ((after[i], after[i + 1]) for i in (0, 2, 4))
        return read, start, weights, moved if momentum else ()

    return chunked(given, state, first, present, chunk, fresh=fresh, through=through, least=16)


def _inputs(given: Arguments, chunks: Chunk, course: Course) -> Inputs:
    none, whole, momentum = given.q.new_empty(0), chunks.gates.whole, chunks.gates.whole.momentum
    dim = max(chunks.write.shape[-1], whole.entering.shape[-1])

    def widen(x: Tensor) -> Tensor:
        return x.expand(*x.shape[:-1], dim)

    entering, passing = widen(whole.entering), none if momentum is None else widen(momentum.entering)
    bridges = bridges_m = none
    if chunks.gates.spans:
        halves = [(early.leaving, late.entering) for early, late in chunks.gates.spans]
        bridges = _bridges(halves)
        if momentum is not None:
            moved = [(early.momentum, late.momentum) for early, late in chunks.gates.spans]
            bridges_m = _bridges([(a.leaving.expand_as(b.entering), b.entering) for a, b in moved if a and b])
    gain, shift = (none, none) if given.norm is None else (x.squeeze(1) for x in given.norm)
    return Inputs(
        query=chunks.query,
        key=chunks.key,
        value=chunks.value,
        threshold=none if chunks.threshold is None else chunks.threshold,
        write=widen(chunks.write),
        leaving=widen(whole.leaving * chunks.write),
        fading=none if momentum is None else widen(momentum.leaving * chunks.write),
        entering=entering,
        passing=passing,
        keep=entering[..., -1, :],
        carry=none if momentum is None else passing[..., -1, :],
        kept=none if momentum is None else momentum.kept.flatten(-3),
        scores=chunks.scores,
        matrix=none if chunks.gates.matrix is None else chunks.gates.matrix,
        bridges=bridges,
        bridges_m=bridges_m,
        gain=gain,
        shift=shift,
        fresh_a=course.fresh[0],
        fresh_b=course.fresh[1],
        start_a=course.start[0],
        start_b=course.start[1],
        weights_a=course.weights[0],
        weights_b=course.weights[1],
        momentum_a=course.momentum[0] if course.momentum else none,
        momentum_b=course.momentum[1] if course.momentum else none,
    )


def _bridges(halves: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Lay out ``(..., spans, half, dim)`` of early and of late halves as ``(..., levels, chunk, dim)``."""
    return torch.stack([torch.stack(pair, -3).flatten(-4, -2) for pair in halves], -3)


@torch.library.custom_op("recurra::mlp_memory_forward", mutates_args=())
def mlp_memory_forward(
    inputs: list[Tensor], opens: Tensor, resets: Tensor, residual: bool, epsilon: float, bias: int, power: float,
    narrow: bool,
) -> list[Tensor]:  # fmt: skip
    """Give y, the weights at the last chunk's start, and weights and momentum after it; then what groups begin with."""
    launches = Launches(Inputs(*inputs), opens, resets, residual, epsilon, bias, power, narrow)
    read, count = torch.empty_like(launches.inputs.value), len(launches.groups)
    kept = [x.new_empty(count, 2, *x.shape[1:]) for x in launches.states]
    kept += [x.new_empty(count, *x.shape[1:]) if launches.momentum else x.new_empty(0) for x in launches.momenta]
    with tiles.on(read):
        launches.first()
        for index in range(count):
            launches.keep(index, kept)
            launches.write(index)
            launches.read(index, read)
            launches.next(index)
    (states_a, states_b), momenta = launches.states, launches.momenta
    after = [x[0] if launches.momentum else x for x in momenta]
    return [read, *(x.clone() for x in (states_a[0], states_b[0], states_a[1], states_b[1], *after)), *kept]


# What goes back through reads, and through writes, gives the gradients of.
_READ = ("query", "write", "entering", "passing", "scores", "matrix", "bridges", "bridges_m")
_WRITTEN = ("key", "value", "threshold", "leaving", "fading", "keep", "carry", "kept")


@torch.library.custom_op("recurra::mlp_memory_backward", mutates_args=())
def mlp_memory_backward(
    inputs: list[Tensor], opens: Tensor, resets: Tensor, residual: bool, epsilon: float, bias: int, power: float,
    narrow: bool, kept: list[Tensor], slopes: list[Tensor],
) -> list[Tensor]:  # fmt: skip
    """Give the gradient of every input, of those of y and of what comes after it."""
    launches = Launches(Inputs(*inputs), opens, resets, residual, epsilon, bias, power, narrow)
    given = launches.inputs
    grads: dict[str, Tensor] = {name: torch.empty_like(x) for name, x in given._asdict().items()}
    d_read, d_start_a, d_start_b, d_weights_a, d_weights_b, d_momentum_a, d_momentum_b = (
        x.clone(memory_format=torch.contiguous_format) for x in slopes
    )
    running = {
        "d_fresh_a": torch.zeros_like(given.fresh_a), "d_fresh_b": torch.zeros_like(given.fresh_b),
        "d_start_a": d_start_a, "d_start_b": d_start_b, "d_weights_a": d_weights_a, "d_weights_b": d_weights_b,
        "d_momentum_a": d_momentum_a, "d_momentum_b": d_momentum_b,
    }  # fmt: skip
    if given.gain.numel():
        d_gain, d_shift = given.gain.new_empty(2, launches.slots, *given.gain.shape).unbind()
    else:
        d_gain = d_shift = given.gain
    size, hidden = len(launches.before), given.weights_a.shape[2]
    scratch = given.query.new_empty(4, size, *given.query.shape[1:3], hidden).unbind()
    between = dict(zip(("reads", "d_reads", "d_inner", "d_active"), scratch, strict=True))
    d_surprises = torch.empty_like(launches.before)
    with tiles.on(d_read):
        for index in reversed(range(len(launches.groups))):
            group = launches.groups[index]
            launches.take(index, kept)
            launches.write(index)
            common = {
                **launches.weights, **between, "starts": launches.starts[index], "surprises": launches.surprises,
                "d_surprises": d_surprises, "d_read": d_read[group],
            }  # fmt: skip

            def slopes_of(*names: str, group: slice = group) -> dict[str, Tensor]:
                return {f"d_{name}": grads[name][group] if grads[name].numel() else grads[name] for name in names}

            read_chunks_backward[(launches.rows, group.stop - group.start)](
                **launches.parts(group, *gpu_launches.READ),
                **slopes_of(*_READ),
                **common,
                **launches.sizes,
                **launches.levels,
            )
            write_chunks_backward[(launches.rows,)](
                **launches.parts(group, *_WRITTEN, "gain", "shift", "query", "entering", "passing"),
                **slopes_of(*_WRITTEN), **common, **running, before=launches.before, opens=launches.opens[group],
                resets=launches.resets[group], d_gain=d_gain[group], d_shift=d_shift[group],
                slots=group.stop - group.start, **launches.sizes, **launches.loss,
            )  # fmt: skip
    grads |= {name[2:]: x for name, x in running.items()}
    grads |= {"gain": d_gain.sum(0), "shift": d_shift.sum(0)} if given.gain.numel() else {}
    return [grads[name] for name in Inputs._fields]


@mlp_memory_forward.register_fake
def _forward_fake(inputs: list[Tensor], opens: Tensor, *_: Any) -> list[Tensor]:
    given, slots = Inputs(*inputs), len(opens)
    count, momentum = -(-slots // gpu_launches.group_of(slots)), given.momentum_a.numel() > 0
    after = (given.start_a, given.start_b, given.weights_a, given.weights_b, given.momentum_a, given.momentum_b)
    kept = [x.new_empty(count, 2, *x.shape) for x in (given.weights_a, given.weights_b)]
    kept += [x.new_empty(count, *x.shape) if momentum else x.new_empty(0) for x in (given.momentum_a, given.momentum_b)]
    return [x.new_empty(x.shape) for x in (given.value, *after)] + kept


@mlp_memory_backward.register_fake
def _backward_fake(inputs: list[Tensor], *_: Any) -> list[Tensor]:
    return [x.new_empty(x.shape) for x in inputs]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    tensors, opens, resets, *ctx.options = inputs
    ctx.save_for_backward(*tensors, opens, resets, *output)


def _backward(ctx: Any, slopes: list[Tensor]) -> tuple[Any, ...]:
    count = len(Inputs._fields)
    tensors, (opens, resets, *output) = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
    found = [torch.zeros_like(x) if slope is None else slope for slope, x in zip(slopes[:7], output, strict=False)]
    return mlp_memory_backward(list(tensors), opens, resets, *ctx.options, output[7:], found), *[None] * 7


mlp_memory_forward.register_autograd(_backward, setup_context=_remember)
