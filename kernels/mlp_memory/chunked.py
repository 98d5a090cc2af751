"""The MLP memory chunk by chunk: parallel within a chunk, plain differentiable torch.

All gradients of a chunk are taken at its first weights, so a chunk is products of matrices: the dual form of TTT
(arXiv 2407.04620, Appendix A), with the decays of Miras (arXiv 2504.13173, Equation 28) and the momentum of Titans
(arXiv 2501.00663, Section 3.2). A token's own weights are never formed. What a layer makes of a query's x is what the
weights and momentum that entered the chunk make of it, and what the chunk has written since, outer products of a key's
input x_j and a gradient δ_j, which the query meets as scores (A, B and G as in `decays`):

    x_t W_t = A_t x_t W_0 + B_t x_t S_0 - Σ_{j≤t} G_tj (x_t · x_j) θ_j δ_j
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from recurra.kernels import compiling
from recurra.kernels.chunks import Grid, gather, grid, scatter, steady
from recurra.kernels.mlp_memory.arguments import Arguments
from recurra.kernels.mlp_memory.decays import Decays, decays
from recurra.kernels.mlp_memory.state import MLPState, Weights


class Chunk(NamedTuple):
    """What of a chunk depends on no weights: found for all chunks at once, ``(rows, chunk, ...)`` for each.

    A row is a stream's head. Queries and keys have a last 1 where the first layer has a bias.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    threshold: Tensor | None
    write: Tensor  # -θ
    gates: Decays
    scores: Tensor  # of each query for the keys' writes


class Course(NamedTuple):
    """What a piece begins with, and where in it chunks and episodes begin; ``(rows, ...)`` and ``(slots, rows)``.

    Attributes:
        fresh: the weights of an episode's beginning.
        start: those at the start of the chunk that goes on.
        weights: those that enter.
        momentum: that enters.
        opens: whether a chunk begins at a slot.
        resets: whether an episode does.
        known: that all chunks begin in the piece and no episode in its middle.
    """

    fresh: Weights
    start: Weights
    weights: Weights
    momentum: Weights
    opens: Tensor
    resets: Tensor
    known: bool


Read = Callable[..., tuple[Tensor, Weights, Weights]]
Passed = tuple[Tensor, Weights, Weights, Weights]  #: what LayerNorm takes of answers; start, weights, momentum after
Through = Callable[[Arguments, Chunk, Course], Passed]


def chunked(
    given: Arguments,
    state: MLPState,
    first: Tensor | None,
    present: Tensor | None,
    chunk: int,
    *,
    fresh: bool,
    through: Through | None = None,
    least: int = 1,
) -> tuple[Tensor, MLPState]:
    """Read at least one token, a chunk of each stream at a time; ``fresh``: with these tokens all streams begin.

    ``through`` goes through the chunks, plain torch if it is None; chunks have ``least`` places, if not 1 a power of 2.
    """
    batch, time, heads, _ = given.q.shape
    known = fresh and first is None and present is None  # where tokens stand, whatever they hold
    device, position = given.q.device, state.position
    layout = steady(batch, time, chunk, device) if known else grid(position, first, present, time, chunk)
    width = max(min(time, chunk), least)
    layout = _compact(layout, width, power_of_2=given.log_decay.shape[-1] > 1 or least > 1)
    if not len(layout.tokens):  # no token, and no episode that begins
        return torch.zeros_like(given.v), state

    def lay(x: Tensor) -> Tensor:
        """(batch, time, heads, dim) as (slots, rows, chunk, dim)."""
        return gather(x, layout).transpose(2, 3).flatten(1, 2)

    def join(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """(batch or 1, heads, ...) as (rows, ...)."""
        return tuple(x.expand(batch, *x.shape[1:]).flatten(0, 1) for x in tensors)

    def part(tensors: tuple[Tensor, ...]) -> Any:
        return tuple(x.unflatten(0, (batch, heads)) for x in tensors)

    if given.norm is not None:
        gain, shift = join(tuple(x[None, :, None] for x in given.norm))
        given = given._replace(norm=(gain, shift))
    opens, resets = (flags.repeat_interleave(heads, 1) for flags in (layout.opens, layout.resets))
    new, start, weights, momentum = map(join, (given.weights, state.start, state.weights, state.momentum))
    course = Course(new, start, weights, momentum, opens, resets, known)
    before, start, weights, momentum = (through or one_by_one)(given, _chunks(given, lay), course)
    answers = _outcome(given, lay(given.q), before).answer
    output = scatter(answers.unflatten(1, (batch, heads)).transpose(2, 3), layout, time)
    return output, MLPState(part(start), part(weights), part(momentum), layout.position)


def one_by_one(given: Arguments, chunks: Chunk, course: Course, *, read: Read | None = None) -> Passed:
    """Go through the chunks; ``read`` reads one, plain torch if it is None."""
    read = read or _read
    new, start, weights, momentum = course[:4]
    opens, resets = (flags[..., None, None] for flags in (course.opens, course.resets))
    if course.known:
        all_open, some_reset = [True] * len(opens), [False] * len(opens)
    else:
        all_open, some_reset = course.opens.all(1).tolist(), course.resets.any(1).tolist()
    before = []
    for slot, piece in enumerate(_each(chunks, len(opens))):
        if some_reset[slot]:
            weights = _choose(resets[slot], new, weights)
            momentum = tuple(s.masked_fill(resets[slot], 0.0) for s in momentum)
        start = weights if all_open[slot] else _choose(opens[slot], weights, start)
        found, weights, momentum = read(given, piece, start, weights, momentum)
        before.append(found)
    return torch.stack(before), start, weights, momentum


def one_by_one_compiled(given: Arguments, chunks: Chunk, course: Course) -> Passed:
    """Go through the chunks, each read by compiled code; what is being compiled itself takes the plain one."""
    return one_by_one(given, chunks, course, read=None if torch.compiler.is_compiling() else _compiled())


@functools.cache
def _compiled() -> Read:
    """Compile once what all chunks do: where the whole were compiled, each chunk would be once more."""
    compiling.require()
    return torch.compile(_read)


def _chunks(given: Arguments, lay: Callable[[Tensor], Tensor]) -> Chunk:
    """Prepare all chunks: ``(slots, rows, chunk, ...)``."""
    momentum = None if given.log_momentum is None else lay(given.log_momentum)
    gates = decays(lay(given.log_decay), momentum, lay(torch.ones_like(given.q[..., :1])))
    query, key = (_with_one(lay(x), given.weights[0]) for x in (given.q, given.k))
    write = -lay(given.rate)
    return Chunk(
        query=query,
        key=key,
        value=lay(given.v),
        threshold=None if given.threshold is None else lay(given.threshold),
        write=write,
        gates=gates,
        scores=gates.match(query, write * key),
    )


def _read(
    given: Arguments, part: Chunk, start: Weights, weights: Weights, momentum: Weights
) -> tuple[Tensor, Weights, Weights]:
    """Give what LayerNorm takes of the answers to a chunk's queries, and the weights and momentum after the chunk."""
    # The surprise, at the chunk's first weights: back through the answer, LayerNorm, the second layer and GELU.
    hidden = part.key @ start[0]
    active = _with_one(F.gelu(hidden), start[1])
    d_before = _surprise(given, part, active @ start[1])
    d_active = (d_before @ start[1].mT)[..., : hidden.shape[-1]]
    d_hidden = torch.ops.aten.gelu_backward(d_active, hidden)
    write_k, write_before = part.write * part.key, part.write * d_before

    # The queries, each at its own weights.
    whole = part.gates.whole
    read_hidden = torch.baddbmm(part.scores @ d_hidden, whole.entering * part.query, weights[0])
    if whole.momentum is not None:
        read_hidden = torch.baddbmm(read_hidden, whole.momentum.entering * part.query, momentum[0])
    read_active = _with_one(F.gelu(read_hidden), weights[1])
    before = part.gates.mix(read_active @ active.mT, write_before) + whole.entering * (read_active @ weights[1])
    if whole.momentum is not None:
        before = before + whole.momentum.entering * (read_active @ momentum[1])

    # After the chunk. Additions are in place: on a CPU, new memory of the weights' size costs more than a product.
    decay = whole.entering[..., -1:, :]
    after = decay.mT * weights[0], decay * weights[1]
    if whole.momentum is not None:
        moved = whole.momentum.entering[..., -1:, :]
        after[0].addcmul_(moved.mT, momentum[0])
        after[1].addcmul_(moved, momentum[1])
        momentum = whole.momentum.kept * momentum[0], whole.momentum.kept * momentum[1]
        _write(momentum, whole.momentum.leaving, write_k, d_hidden, active, write_before)
    _write(after, whole.leaving, write_k, d_hidden, active, write_before)
    return before, after, momentum


def _write(to: Weights, left: Tensor, write_k: Tensor, d_hidden: Tensor, active: Tensor, write_before: Tensor) -> None:
    """Add what is left of a chunk's writes."""
    to[0].baddbmm_((left * write_k).mT, d_hidden)
    to[1].baddbmm_(active.mT, left * write_before)


class Outcome(NamedTuple):
    """The memory's answer, and what LayerNorm found on the way to it: its output, and 1 / deviation of its input."""

    answer: Tensor
    standard: Tensor
    inverse: Tensor | None


def _outcome(given: Arguments, x: Tensor, before: Tensor) -> Outcome:
    """Finish the memory's answer for x, given what the second layer made of it."""
    answer, standard, inverse = before, before, None
    if given.norm is not None:
        centred = before - before.mean(-1, keepdim=True)
        inverse = (centred.square().mean(-1, keepdim=True) + given.epsilon).rsqrt()
        standard = inverse * centred
        answer = given.norm[0] * standard + given.norm[1]
    return Outcome(x + answer if given.residual else answer, standard, inverse)


def _surprise(given: Arguments, part: Chunk, before: Tensor) -> Tensor:
    """Give the loss's gradient for what the second layer made of the keys."""
    outcome = _outcome(given, part.key[..., : given.q.shape[-1]], before)
    d_answer = given.bias(outcome.answer, part.value, part.threshold)
    if given.norm is None or outcome.inverse is None:
        return d_answer
    d_standard = given.norm[0] * d_answer
    along = (d_standard * outcome.standard).mean(-1, keepdim=True)
    return outcome.inverse * (d_standard - d_standard.mean(-1, keepdim=True) - along * outcome.standard)


def _with_one(x: Tensor, weight: Tensor) -> Tensor:
    """Give x a last 1 where the weights have a last row for it, their bias."""
    return x if weight.shape[-2] == x.shape[-1] else torch.cat([x, torch.ones_like(x[..., :1])], -1)


def _choose(mask: Tensor, one: Weights, other: Weights) -> Weights:
    return torch.where(mask, one[0], other[0]), torch.where(mask, one[1], other[1])


def _compact(layout: Grid, width: int, *, power_of_2: bool) -> Grid:
    """Let every chunk's tokens begin at its first place, and leave out the places that no token can then need."""
    if power_of_2:
        width = 1 << (width - 1).bit_length()
    place = torch.arange(width, device=layout.tokens.device) + layout.offset.unsqueeze(-1)
    chunk = layout.tokens.shape[-1]
    inside, place = place < chunk, place.clamp(max=chunk - 1)
    return layout._replace(tokens=layout.tokens.gather(-1, place), present=layout.present.gather(-1, place) & inside)


def _each(tree: Any, count: int) -> Iterator[Any]:
    """Take tuples of tensors apart along their first axis."""
    if tree is None:
        return iter([None] * count)
    if isinstance(tree, Tensor):
        return iter(tree.unbind())
    branches = [_each(branch, count) for branch in tree]
    make = type(tree)._make if hasattr(tree, "_make") else tuple
    return iter([make(next(branch) for branch in branches) for _ in range(count)])
