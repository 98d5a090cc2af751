"""The MLP memory token by token: the specification."""

import math

import torch
from torch import Tensor

from recurra.kernels.mlp_memory.arguments import Arguments
from recurra.kernels.mlp_memory.state import MLPState, Weights


def reference(
    given: Arguments, state: MLPState, first: Tensor | None, present: Tensor | None, chunk: int
) -> tuple[Tensor, MLPState]:
    """Read at least one token after another.

        W' ← W                                 at the first token of a chunk
        S ← η_t S - θ_t ∇ℓ(W'; k_t, v_t)       (without momentum: S ← - θ_t ∇ℓ(W'; k_t, v_t))
        W ← α_t W + S
        o_t = M(q_t; W)

    The learning rate θ and the decay α of a channel act on the rows of the first layer's weights and on the columns of
    the second's, which stand for the channels of a token.
    """
    start, weights, momentum, position = state
    outputs = []
    for t in range(given.q.shape[1]):
        if first is not None:
            begins = first[:, t]
            start, weights = _choose(begins, given.weights, start), _choose(begins, given.weights, weights)
            momentum = tuple(torch.where(_like(begins, s), 0.0, s) for s in momentum)
            position = torch.where(begins, 0, position)
        opens = position % chunk == 0
        start = _choose(opens if present is None else opens & present[:, t], weights, start)

        surprise = tuple(-gradient for gradient in _gradient(given, t, start))
        if given.log_momentum is not None:
            kept = given.log_momentum[:, t].exp().unsqueeze(-1)
            surprise = tuple(kept * s + new for s, new in zip(momentum, surprise, strict=True))
        decay = given.log_decay[:, t].exp()
        after = decay.unsqueeze(-1) * weights[0] + surprise[0], decay.unsqueeze(-2) * weights[1] + surprise[1]
        _, _, _, answer = _ask(given, given.q[:, t], after)
        if present is None:
            weights, position = after, position + 1
            momentum = surprise if momentum else ()
        else:
            here = present[:, t]
            weights, position = _choose(here, after, weights), position + here.long()
            momentum = _choose(here, surprise, momentum) if momentum else ()
            answer = torch.where(_like(here, answer), answer, 0.0)
        outputs.append(answer)
    return torch.stack(outputs, 1), MLPState(start, weights, momentum, position)


def _ask(given: Arguments, x: Tensor, weights: Weights) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """M(x) = x + LN(W_1 GELU(W_2 x)): the hidden layer before and after GELU, what LN takes, and the answer."""
    hidden = _layer(x, weights[0])
    active = hidden * _normal(hidden)
    before = _layer(active, weights[1])
    answer = before
    if given.norm is not None:
        answer = given.norm[0] * _standard(before, given.epsilon) + given.norm[1]
    return hidden, active, before, x + answer if given.residual else answer


def _gradient(given: Arguments, t: int, weights: Weights) -> tuple[Tensor, Tensor]:
    """θ_t ∇ℓ(W; k_t, v_t): back through the answer, LayerNorm, the second layer, GELU and the first."""
    key, rate = given.k[:, t], given.rate[:, t]
    hidden, active, before, answer = _ask(given, key, weights)
    d_before = given.bias(answer, given.v[:, t], None if given.threshold is None else given.threshold[:, t])
    if given.norm is not None:
        d_before = _standard_backward(given.norm[0] * d_before, before, given.epsilon)
    d_active = (weights[1] @ d_before.unsqueeze(-1)).squeeze(-1)[..., : active.shape[-1]]
    d_hidden = d_active * (_normal(hidden) + hidden * torch.exp(-hidden.square() / 2) / math.sqrt(2 * math.pi))
    inputs = rate * _with_one(key, weights[0]), _with_one(active, weights[1])
    return inputs[0].unsqueeze(-1) * d_hidden.unsqueeze(-2), inputs[1].unsqueeze(-1) * (rate * d_before).unsqueeze(-2)


def _layer(x: Tensor, weight: Tensor) -> Tensor:
    return (_with_one(x, weight).unsqueeze(-2) @ weight).squeeze(-2)


def _with_one(x: Tensor, weight: Tensor) -> Tensor:
    """Give x a last 1 where the weights have a last row for it, their bias."""
    return x if weight.shape[-2] == x.shape[-1] else torch.cat([x, torch.ones_like(x[..., :1])], -1)


def _normal(x: Tensor) -> Tensor:
    """Φ(x), the normal distribution: GELU(x) = x Φ(x)."""
    return (1 + torch.erf(x / math.sqrt(2))) / 2


def _standard(x: Tensor, epsilon: float) -> Tensor:
    """LayerNorm without gain and shift: mean 0, variance 1."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt()


def _standard_backward(d_output: Tensor, x: Tensor, epsilon: float) -> Tensor:
    """Give the gradient for x of what `_standard` gives."""
    standard, deviation = _standard(x, epsilon), (x.var(-1, correction=0, keepdim=True) + epsilon).sqrt()
    along = (d_output * standard).mean(-1, keepdim=True)
    return (d_output - d_output.mean(-1, keepdim=True) - along * standard) / deviation


def _choose(mask: Tensor, one: Weights, other: Weights) -> Weights:
    return torch.where(_like(mask, other[0]), one[0], other[0]), torch.where(_like(mask, other[1]), one[1], other[1])


def _like(mask: Tensor, x: Tensor) -> Tensor:
    """Give a mask of streams the dimensions of x."""
    return mask.reshape(-1, *[1] * (x.dim() - 1))
