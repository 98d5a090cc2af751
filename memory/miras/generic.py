"""The generic path: any rule, chunk by chunk, with every token's own weights written out.

Within a chunk all gradients are taken at the weights of its start (Miras, arXiv 2504.13173, Section 5.3), at once;
what they write is then added up token by token. With chunk 1 this is the online rule.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from recurra.kernels.biases import Bias
from recurra.kernels.chunks import Grid, gather, scatter
from recurra.memory import state as states
from recurra.memory.miras import architectures, retentions
from recurra.memory.miras.architectures import Form
from recurra.memory.miras.rule import Rule
from recurra.memory.miras.state import Weights


class Tokens(NamedTuple):
    """What the rule is told, ``(batch, time, heads, …)``: the last axis of rates is 1 or the channels.

    Attributes:
        q: queries.
        k: keys.
        v: values.
        step: η, how far to step.
        log_decay: logarithm of α, what is kept; None keeps all.
        log_momentum: logarithm of μ, what is kept of the momentum; None where the algorithm has none.
        threshold: δ of a bias that has one.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    step: Tensor
    log_decay: Tensor | None
    log_momentum: Tensor | None
    threshold: Tensor | None


class Learning(NamedTuple):
    """The fields of `AssociativeState` that the path carries from chunk to chunk."""

    opening: Weights
    written: Weights
    momentum: Weights
    shown: Weights


class Path(NamedTuple):
    """A rule with what it needs beside the tokens.

    Attributes:
        rule: the four choices.
        form: the architecture with its norm.
        bias: the slope of the attentional bias.
        threshold: γ of a soft threshold, ``(heads, 1, 1)`` (a vector's: ``(heads, 1)``).
    """

    rule: Rule
    form: Form
    bias: Bias
    threshold: Tensor | None

    def start(self, written: Weights) -> Learning:
        """Give the state at the beginning, given what is written in it."""
        written = tuple(retentions.settled(self.rule.retention, z) for z in written)
        weights = self.weights(written)
        zeros = tuple(torch.zeros_like(z) for z in written) if self.rule.algorithm == "momentum" else ()
        shown = self.rule.chunk > 1 and self.rule.mapped != "every"
        return Learning(weights if self.rule.chunk > 1 else (), written, zeros, weights if shown else ())

    def weights(self, written: Weights) -> Weights:
        """Give the weights that what is written stands for."""
        rule, cut = self.rule, self.threshold
        return tuple(
            retentions.mapped(rule.retention, z, q=rule.q, mirror=rule.mirror, mass=rule.mass, threshold=cut)
            for z in written
        )

    def run(self, tokens: Tokens, layout: Grid, state: Learning, fresh: Learning) -> tuple[Tensor, Learning]:
        """Read a piece: outputs ``(batch, time, heads, value_dim)`` and what is carried on."""
        time = tokens.q.shape[1]
        laid = [None if x is None else gather(x, layout).transpose(2, 3) for x in tokens]
        outputs = tokens.v.new_zeros(*layout.tokens.shape[:2], tokens.q.shape[2], self.rule.chunk, tokens.v.shape[-1])
        filled, resets = layout.present.any(1).tolist(), layout.resets.any(1).tolist()
        for slot, row in enumerate(filled):
            places = [place for place, used in enumerate(row) if used]
            here = Tokens(*(None if x is None else x[slot][:, :, places] for x in laid))  # type: ignore[arg-type]
            if resets[slot]:
                state = states.reset(state, layout.resets[slot], fresh)
            state, openings = self._opened(state, here, layout.opens[slot], places)
            if places:
                y, state = self._chunk(here, places, layout.present[slot][:, places], state, openings)
                outputs[slot, :, :, places] = y
        return scatter(outputs.transpose(2, 3), layout, time), state

    def _opened(self, state: Learning, here: Tokens, opens: Tensor, places: list[int]) -> tuple[Learning, Weights]:
        """Begin a chunk where one ``opens (batch,)``; give the weights at which gradients are taken, too."""
        rule = self.rule
        weights = self.weights(state.written)
        opening = weights
        if rule.decay_first and here.log_decay is not None and places[:1] == [0]:
            opening = _decayed(rule, weights, here.log_decay[:, :, 0].exp())
        shown = _choose(opens, weights, state.shown) if state.shown else ()
        if rule.chunk > 1:
            opening = _choose(opens, opening, state.opening)
            state = state._replace(opening=opening, shown=shown)
        return state, opening

    def _chunk(
        self, here: Tokens, places: list[int], present: Tensor, state: Learning, opening: Weights
    ) -> tuple[Tensor, Learning]:
        """Write the tokens at some places of a chunk, and read each."""
        rule = self.rule
        answer = architectures.read(self.form, opening, here.k)
        slope = self.bias(answer, here.v, here.threshold)
        factors = architectures.gradient(self.form, opening, here.k, slope)
        factors = [_stepped(rule, layer, factor, here.step) for layer, factor in enumerate(factors)]
        everywhere = present.all(0).tolist()

        read: list[Weights] = []
        for index, place in enumerate(places):
            before = state
            state = self._written(
                state, here, [tuple(side[:, :, index] for side in factor) for factor in factors], index
            )
            last = place == rule.chunk - 1
            if last and rule.retention == "elastic_net":
                assert self.threshold is not None
                cut = tuple(retentions.soft_threshold(z, self.threshold) for z in state.written)
                state = state._replace(written=cut)
            if not state.shown:
                weights = state.written
            elif last or (place == 0 and rule.mapped == "ends"):
                weights = self.weights(state.written)
                state = state._replace(shown=weights)
            else:
                weights = state.shown
            if not everywhere[index]:
                state = states.transform(lambda new, old, i=index: _rows(present[:, i], new, old), state, before)
            read.append(weights)
        stacked: Weights = tuple(torch.stack(layers, 2) for layers in zip(*read, strict=True))
        if not state.shown:
            stacked = self._every(stacked)
        return architectures.read(self.form, stacked, here.q), state

    def _every(self, stacked: Weights) -> Weights:
        """Map what is written at every token, ``(batch, heads, tokens, …)``."""
        threshold = None if self.threshold is None else self.threshold.unsqueeze(1)
        return self._replace(threshold=threshold).weights(stacked)

    def _written(self, state: Learning, here: Tokens, factors: list[tuple[Tensor, ...]], index: int) -> Learning:
        """Write one token: S = μ S - η ∇ℓ, Z = α Z + S."""
        rule = self.rule
        change = tuple(
            -(left * right if rule.architecture == "vector" else _outer(left, right)) for left, right in factors
        )
        momentum = state.momentum
        if momentum and here.log_momentum is not None:
            mu = here.log_momentum[:, :, index].exp()
            momentum = change = tuple(_along(s, mu) * s + c for s, c in zip(momentum, change, strict=True))
        kept, shown = state.written, state.shown
        if here.log_decay is not None:
            alpha = here.log_decay[:, :, index].exp()
            kept, shown = _decayed(rule, kept, alpha), _decayed(rule, shown, alpha)
        return state._replace(
            written=tuple(retentions.settled(rule.retention, z + c) for z, c in zip(kept, change, strict=True)),
            momentum=momentum,
            shown=tuple(w + c for w, c in zip(shown, change, strict=True)) if shown else (),
        )


def _outer(left: Tensor, right: Tensor) -> Tensor:
    return left.unsqueeze(-1) * right.unsqueeze(-2)


def _along(weights: Tensor, rate: Tensor) -> Tensor:
    """Shape a rate ``(batch, heads, 1)`` to multiply weights."""
    return rate if weights.dim() == rate.dim() else rate.unsqueeze(-1)


def _faces(rule: Rule, layer: int) -> str:
    """Say which side of a layer's weights the channels of a token are on: the rows of the first, the columns of last.

    A matrix's are its rows, the channels of the key; a vector has no sides.
    """
    last = {"mlp": 1, "gated_mlp": 2}.get(rule.architecture)
    return "columns" if layer == last or rule.architecture == "vector" else "rows"


def _decayed(rule: Rule, weights: Weights, alpha: Tensor) -> Weights:
    """Let weights decay by α ``(batch, heads, 1 or channels)``."""
    if rule.architecture == "vector":
        return tuple(alpha * z for z in weights)
    sides = (
        alpha.unsqueeze(-2) if _faces(rule, layer) == "columns" else alpha.unsqueeze(-1)
        for layer in range(len(weights))
    )
    return tuple(side * z for side, z in zip(sides, weights, strict=True))


def _stepped(rule: Rule, layer: int, factor: tuple[Tensor, Tensor], step: Tensor) -> tuple[Tensor, Tensor]:
    """Scale a gradient by η ``(batch, heads, tokens, 1 or channels)``."""
    left, right = factor
    return (left, step * right) if _faces(rule, layer) == "columns" else (step * left, right)


def _rows(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(mask.reshape(-1, *[1] * (yes.dim() - 1)), yes, no)


def _choose(mask: Tensor, yes: Weights, no: Weights) -> Weights:
    return tuple(_rows(mask, a, b) for a, b in zip(yes, no, strict=True))
