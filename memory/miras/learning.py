"""Fourth choice, how a memory learns: any rule, with every token's own weights written out (the generic path).

Within a chunk all gradients are taken at the weights of its start (Miras, arXiv 2504.13173, Section 5.3), at once;
what they write is then added up token by token. With chunk 1 this is the online rule. `learn` reads pieces, `step` one
token of each stream.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from recurra.kernels.chunks import Grid, gather, scatter
from recurra.memory import state as states
from recurra.memory.miras import retentions
from recurra.memory.miras.architectures import gradient, read
from recurra.memory.miras.learner import Learner
from recurra.memory.miras.rule import Rule
from recurra.memory.miras.state import Learning, Weights
from recurra.memory.miras.tokens import Tokens

When = bool | Tensor  #: for all streams, or ``(batch,)`` for each


def learn(learner: Learner, tokens: Tokens, layout: Grid, state: Learning) -> tuple[Tensor, Learning]:
    """Read a piece that is laid out in chunks: outputs ``(batch, time, heads, value_dim)``, and what is carried on."""
    time, rule = tokens.q.shape[1], learner.rule
    laid = [None if x is None else gather(x, layout).transpose(2, 3) for x in tokens]
    outputs = tokens.v.new_zeros(*layout.tokens.shape[:2], tokens.q.shape[2], rule.chunk, tokens.v.shape[-1])
    outputs, state = by_chunk(learner, laid, layout, state, _chunk, outputs)
    return scatter(outputs.transpose(2, 3), layout, time), state


def by_chunk(
    learner: Learner,
    laid: list[Tensor | None],
    layout: Grid,
    state: Learning,
    read_chunk: Callable[[Learner, Tokens, list[int], Tensor, Learning, Weights], tuple[Tensor, Learning]],
    outputs: Tensor,
) -> tuple[Tensor, Learning]:
    """Go through a piece chunk by chunk, resetting and opening as its layout says.

    Args:
        learner: the rule.
        laid: the fields of `Tokens` in their layout, ``(slots, batch, heads, chunk, …)``.
        layout: where the tokens lie.
        state: what the piece continues from.
        read_chunk: gives the outputs of the places of a chunk that are used, and the state after them.
        outputs: ``(slots, batch, heads, chunk, …)``, filled with them.
    """
    filled, resets = layout.present.any(1).tolist(), layout.resets.any(1).tolist()
    opening_rows = layout.opens.tolist()
    fresh = learner.start(1) if any(resets) else state
    for slot, row in enumerate(filled):
        places = [place for place, used in enumerate(row) if used]
        here = Tokens(*(None if x is None else x[slot][:, :, places] for x in laid))  # type: ignore[arg-type]
        if resets[slot]:
            state = states.reset(state, layout.resets[slot], fresh)
        opens = uniform(opening_rows[slot], layout.opens[slot])
        state, opening = opened(learner, state, here, opens, first=places[:1] == [0])
        if places:
            y, state = read_chunk(learner, here, places, layout.present[slot][:, places], state, opening)
            outputs[slot, :, :, places] = y
    return outputs, state


def step(learner: Learner, tokens: Tokens, position: Tensor, state: Learning) -> tuple[Tensor, Learning]:
    """Read one token of each stream, or the writes of one, ``position (batch,)`` writes having come before."""
    chunk, reads = learner.rule.chunk, []
    tokens = Tokens(*(None if x is None else x.transpose(1, 2) for x in tokens))  # type: ignore[arg-type]
    for index in range(tokens.q.shape[2]):
        here = tokens if learner.rule.steps == 1 else _token(tokens, index)
        opens: When = True
        closes: When = True
        if chunk > 1:
            places = ((position + index) % chunk).tolist()
            opens, closes = (uniform([place == end for place in places], position) for end in (0, chunk - 1))
        state, opening = opened(learner, state, here, opens, first=True)
        state = written(learner, state, slopes(learner, opening, here))
        state = closed(learner, state, opens, closes)
        reads.append(read(learner.form, state.shown or learner.weights(state.written), here.q))
    return (reads[0] if len(reads) == 1 else torch.cat(reads, 2)).transpose(1, 2), state


def _token(tokens: Tokens, index: int) -> Tokens:
    return Tokens(*(None if x is None else x[:, :, index : index + 1] for x in tokens))  # type: ignore[arg-type]


def opened(learner: Learner, state: Learning, here: Tokens, opens: When, *, first: bool) -> tuple[Learning, Weights]:
    """Begin a chunk where one opens; give the weights at which gradients are taken, too.

    ``first``: the first of the tokens here is that of a chunk, where a chunk opens.
    """
    rule = learner.rule
    if opens is False and rule.chunk > 1:
        return state, state.opening
    weights = learner.weights(state.written)
    opening = weights
    if rule.decay_first and here.log_decay is not None and first:
        opening = _decayed(rule, weights, here.log_decay[:, :, :1].exp())
    if state.shown:
        state = state._replace(shown=_choose(opens, weights, state.shown))
    if state.opening:
        opening = _choose(opens, opening, state.opening)
        state = state._replace(opening=opening)
    return state, opening


class Writes(NamedTuple):
    """What tokens write to each layer's weights, ``(batch, heads, tokens, …)``.

    Attributes:
        pairs: η ∇ℓ(M(k; W'), v), as the factors of an outer product.
        keep: α; None keeps all.
        carry: μ, of momentum.
    """

    pairs: list[tuple[Tensor, Tensor]]
    keep: Tensor | None
    carry: Tensor | None


def slopes(learner: Learner, opening: Weights, here: Tokens) -> Writes:
    """Find what tokens write: all gradients at the chunk's first weights."""
    rule, eta = learner.rule, here.step
    factors = gradient(learner.form, opening, here.k, lambda answer: learner.bias(answer, here.v, here.threshold))
    pairs = [
        (left, eta * right) if _columns(rule, layer) else (eta * left, right)
        for layer, (left, right) in enumerate(factors)
    ]
    keep = None if here.log_decay is None else here.log_decay.exp()
    return Writes(pairs, keep, None if here.log_momentum is None else here.log_momentum.exp())


def _of(writes: Writes, index: int) -> Writes:
    """Take one token's."""
    here = slice(index, index + 1)
    pairs = [(left[:, :, here], right[:, :, here]) for left, right in writes.pairs]
    keep, carry = (None if x is None else x[:, :, here] for x in writes[1:])
    return Writes(pairs, keep, carry)


def _chunk(
    learner: Learner, here: Tokens, places: list[int], present: Tensor, state: Learning, opening: Weights
) -> tuple[Tensor, Learning]:
    """Write the tokens at some places of a chunk, and read each."""
    rule = learner.rule
    writes = slopes(learner, opening, here)
    everywhere = present.all(0).tolist()
    seen: list[Weights] = []
    for index, place in enumerate(places):
        before = state
        state = written(learner, state, _of(writes, index))
        state = closed(learner, state, place == 0, place == rule.chunk - 1)
        seen.append(state.shown or state.written)
        if not everywhere[index]:
            state = states.transform(lambda new, old, i=index: rows(present[:, i], new, old), state, before)
    stacked: Weights = tuple(torch.stack(layers, 2) for layers in zip(*seen, strict=True))
    if not state.shown:
        cut = None if learner.cut is None else learner.cut.unsqueeze(1)
        stacked = learner._replace(cut=cut).weights(stacked)
    return read(learner.form, stacked, here.q), state


def written(learner: Learner, state: Learning, writes: Writes) -> Learning:
    """Write one token, or several at once: S = μ S - η ∇ℓ, Z = α Z + S."""
    rule, (pairs, keep, carry) = learner.rule, writes
    vector = rule.architecture == "vector"
    if pairs[0][0].shape[2] == 1:
        sides = [(left[:, :, 0], right[:, :, 0]) if vector else (left.mT, right) for left, right in pairs]
    else:  # the sum of their products, and 1
        one = pairs[0][0].new_ones(())
        sides = [((left * right).sum(2) if vector else left.mT @ right, one) for left, right in pairs]

    def less(weights: Weights, *, new: bool) -> Weights:
        """Take the gradient away, in place where the weights are new: another copy of them is what costs."""
        pairs = zip(weights, sides, strict=False)
        return tuple(w.addcmul_(*side, value=-1) if new else torch.addcmul(w, *side, value=-1) for w, side in pairs)

    _, weights, momentum, shown = state
    weights, shown, new = _decayed(rule, weights, keep), _decayed(rule, shown, keep), keep is not None
    if momentum and carry is not None:
        momentum = less(tuple((carry[:, :, 0] if vector else carry) * s for s in momentum), new=True)
        weights, shown = (
            tuple(z.add_(s) if new else z + s for z, s in zip(w, momentum, strict=False)) for w in (weights, shown)
        )
    else:
        weights, shown = less(weights, new=new), less(shown, new=new)
    if rule.retention in retentions.MAPPED:
        weights = tuple(retentions.settled(rule.retention, z) for z in weights)
    return state._replace(written=weights, momentum=momentum, shown=shown)


def closed(learner: Learner, state: Learning, opens: When, closes: When) -> Learning:
    """Do what is done at the ends of a chunk, where this token is its first or its last."""
    rule = learner.rule
    if rule.retention == "elastic_net" and closes is not False:
        assert learner.cut is not None
        cut = tuple(retentions.soft_threshold(z, learner.cut) for z in state.written)
        state = state._replace(written=_choose(closes, cut, state.written))
    now = closes | opens if rule.mapped == "ends" else closes
    if state.shown and now is not False:
        state = state._replace(shown=_choose(now, learner.weights(state.written), state.shown))
    return state


def _columns(rule: Rule, layer: int) -> bool:
    """Say whether a token's channels are a layer's columns, as in an MLP's last, and not its rows.

    A matrix's are its rows, the channels of the key; a vector has no sides.
    """
    return layer == {"mlp": 1, "gated_mlp": 2, "vector": 0}.get(rule.architecture)


def _decayed(rule: Rule, weights: Weights, keep: Tensor | None) -> Weights:
    """Let weights decay by a token's α ``(batch, heads, 1, 1 or channels)``."""
    if keep is None:
        return weights
    if rule.architecture == "vector":
        return tuple(keep[:, :, 0] * z for z in weights)
    return tuple((keep if _columns(rule, layer) else keep.mT) * z for layer, z in enumerate(weights))


def uniform(held: list[bool], mask: Tensor) -> When:
    """Give what holds for all streams as one answer: choosing between weights, row by row, costs more than learning."""
    if all(held) or not any(held):
        return held[:1] == [True]
    return torch.tensor(held, device=mask.device)


def _choose(when: When, yes: Weights, no: Weights) -> Weights:
    if isinstance(when, bool):
        return yes if when else no
    return tuple(rows(when, a, b) for a, b in zip(yes, no, strict=True))


def rows(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Choose by ``mask (batch,)``."""
    return torch.where(mask.reshape(-1, *[1] * (yes.dim() - 1)), yes, no)
