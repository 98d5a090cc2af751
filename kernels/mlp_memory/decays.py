"""How much of a write is left when a later token reads it: decays and momentum between the tokens of a chunk.

With the decay α_t and the momentum η_t, W_t = α_t W_{t-1} + S_t and S_t = η_t S_{t-1} + w_t are linear in the weights
W_0 and the momentum S_0 that enter the chunk and in its writes w_j:

    W_t = A_t W_0 + B_t S_0 + Σ_{j≤t} G_tj w_j        L_ti = α_{i+1} … α_t,   M_ij = η_{j+1} … η_i,   G = L M

All are products of gates and sums of such products, never quotients: nothing overflows. Where each channel has a decay
of its own, G would take chunk² numbers a channel, and is not formed: between the two halves of a span it is of rank 2
(what there is in the middle are weights and momentum), which leaves products of matrices, span by span.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from recurra.kernels.linear_recurrence import linear_recurrence


class MomentumPassage(NamedTuple):
    """Of the momentum that enters a span of tokens, and of its tokens' writes, what there is later.

    Attributes:
        entering: B, of what enters in the weights after each token, ``(..., span, 1 or dim)``.
        leaving: of each token's write in the momentum after the span, ``(..., span, 1)``.
        kept: of what enters in the momentum after the span, ``(..., 1, 1)``.
    """

    entering: Tensor
    leaving: Tensor
    kept: Tensor


class Passage(NamedTuple):
    """Of the weights that enter a span of tokens, and of its tokens' writes, what there is later.

    Attributes:
        entering: A, of what enters in the weights after each token, ``(..., span, 1 or dim)``.
        leaving: of each token's write in the weights after the span, of the same shape.
        momentum: the same of the momentum; None without.
    """

    entering: Tensor
    leaving: Tensor
    momentum: MomentumPassage | None


class Decays(NamedTuple):
    """The gates of a chunk, ready for use.

    Attributes:
        whole: from the chunk's first token to its last.
        matrix: G ``(..., chunk, chunk)`` where all channels share a decay, else None.
        spans: where they do not: of 2, 4, … tokens, the passages of their early and of their late halves.
    """

    whole: Passage
    matrix: Tensor | None
    spans: tuple[tuple[Passage, Passage], ...]

    def match(self, rows: Tensor, keys: Tensor) -> Tensor:
        """Σ_c rows_tc G_tjc keys_jc: ``(..., chunk, chunk)``, 0 for j > t."""
        if self.matrix is not None:
            return (rows @ keys.mT) * self.matrix
        scores = (rows * keys).sum(-1)[..., None, None]
        for early, late in self.spans:
            first, second = scores.unflatten(-3, (-1, 2)).unbind(-3)
            seen, left = _halves(rows, scores.shape[-1])[1], _halves(keys, scores.shape[-1])[0]
            across = (late.entering * seen) @ (early.leaving * left).mT
            if early.momentum is not None and late.momentum is not None:
                across = across + (late.momentum.entering * seen) @ (early.momentum.leaving * left).mT
            scores = torch.cat([F.pad(first, (0, scores.shape[-1])), torch.cat([across, second], -1)], -2)
        return scores.squeeze(-3)

    def mix(self, scores: Tensor, values: Tensor) -> Tensor:
        """Σ_{j≤t} scores_tj G_tjc values_jc: ``(..., chunk, dim)``."""
        if self.matrix is not None:
            return (scores * self.matrix) @ values
        mixed = scores.diagonal(dim1=-2, dim2=-1).unsqueeze(-1) * values
        for early, late in self.spans:
            span = 2 * early.leaving.shape[-2]
            # The span's own scores, of its late half for its early half.
            blocks = scores.unflatten(-1, (-1, span)).unflatten(-3, (-1, span)).diagonal(dim1=-4, dim2=-2)
            across = blocks.movedim(-1, -3)[..., span // 2 :, : span // 2]
            left = _halves(values, span // 2)[0]
            first, second = _halves(mixed, span // 2)
            second = second + late.entering * (across @ (early.leaving * left))
            if early.momentum is not None and late.momentum is not None:
                second = second + late.momentum.entering * (across @ (early.momentum.leaving * left))
            mixed = torch.stack([first, second], -3).flatten(-4, -2)
        return mixed


def decays(log_decay: Tensor, log_momentum: Tensor | None, present: Tensor) -> Decays:
    """Prepare gates.

    Args:
        log_decay: ``(..., chunk, 1 or dim)``; of channels, the chunk is a power of 2.
        log_momentum: ``(..., chunk, 1)``; None without momentum.
        present: ``(..., chunk, 1)``, 1 where a token is and 0 elsewhere, where gates are 0: no momentum moves there.
    """
    whole = _passage(log_decay, log_momentum, present)
    if log_decay.shape[-1] == 1:
        matrix = _between(log_decay)
        if log_momentum is not None:
            matrix = (matrix * present.mT) @ _between(log_momentum)
        return Decays(whole, matrix, ())
    spans, half = [], 1
    while 2 * half <= log_decay.shape[-2]:
        gates, there = _halves(log_decay, half), _halves(present, half)
        momenta = (None, None) if log_momentum is None else _halves(log_momentum, half)
        spans.append((_passage(gates[0], momenta[0], there[0]), _passage(gates[1], momenta[1], there[1])))
        half *= 2
    return Decays(whole, None, tuple(spans))


def _passage(log_decay: Tensor, log_momentum: Tensor | None, present: Tensor) -> Passage:
    entering, rest = log_decay.cumsum(-2).exp(), _rest(log_decay).exp()
    if log_momentum is None:
        return Passage(entering, rest, None)
    kept = log_momentum.cumsum(-2).exp()
    leaving = _between(log_momentum).mT @ (rest * present)
    momentum = MomentumPassage(_sum(kept * present, log_decay), _rest(log_momentum).exp(), kept[..., -1:, :])
    return Passage(entering, leaving, momentum)


def _sum(x: Tensor, log_decay: Tensor) -> Tensor:
    """Σ_{i≤t} L_ti x_i ``(..., span, dim)``, x of shape ``(..., span, 1)``."""
    if log_decay.shape[-1] == 1:
        return _between(log_decay) @ x
    flat = log_decay.flatten(0, -3)
    return linear_recurrence(x.flatten(0, -3).expand_as(flat), flat)[0].view_as(log_decay)


def _rest(log_gate: Tensor) -> Tensor:
    """Sum the gates after each token: ``(..., span, dim)``."""
    return F.pad(log_gate[..., 1:, :], (0, 0, 0, 1)).flip(-2).cumsum(-2).flip(-2)


def _between(log_gate: Tensor) -> Tensor:
    """Multiply the gates after token j up to token i, ``(..., span, 1)`` each: ``(..., span, span)``, 0 for j > i."""
    not_after = torch.ones(log_gate.shape[-2], log_gate.shape[-2], dtype=torch.bool, device=log_gate.device).triu()
    sums = log_gate.masked_fill(not_after, 0.0).cumsum(-2)
    return sums.masked_fill(not_after.triu(1), -torch.inf).exp()


def _halves(x: Tensor, half: int) -> tuple[Tensor, Tensor]:
    """Cut ``(..., chunk, dim)`` into spans, and each into its halves: ``(..., spans, half, dim)`` twice."""
    early, late = x.unflatten(-2, (-1, 2, half)).unbind(-3)
    return early, late
