"""First choice: what a memory is. Each architecture reads, and says what a bias at its answer asks of its weights.

Tokens are ``(batch, heads, tokens, dim)``. Weights are those of one moment, ``(batch, heads, in, out)``, or each
token's own, ``(batch, heads, tokens, in, out)`` (a vector's: without ``in``). The gradient of every weight matrix is
an outer product, so it is given as its two factors, ``left (…, in)`` and ``right (…, out)``.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from recurra.memory.miras.state import Weights

EPSILON = 1e-6  # of the norm inside a memory


class Form(NamedTuple):
    """An architecture, as `read` and `gradient` take it.

    Attributes:
        architecture: ``vector``, ``matrix``, ``mlp`` or ``gated_mlp``.
        offset: every layer has a learnt offset: its input is given a last 1, and its weights one more row.
        scale: weight of the norm ``(heads, 1, dim)``; None for a memory without residual path and norm.
        shift: offset of the norm, likewise.
    """

    architecture: str
    offset: bool = False
    scale: Tensor | None = None
    shift: Tensor | None = None


def shapes(form: Form, key_dim: int, value_dim: int, expansion: int) -> list[tuple[int, ...]]:
    """Give the shapes of an architecture's weights, without batch and heads."""
    hidden, one = expansion * key_dim, int(form.offset)
    match form.architecture:
        case "vector":
            return [(key_dim,)]
        case "matrix":
            return [(key_dim + one, value_dim)]
        case "mlp":
            return [(key_dim + one, hidden), (hidden + one, value_dim)]
        case _:
            return [(key_dim + one, hidden), (key_dim + one, hidden), (hidden + one, value_dim)]


def read(form: Form, weights: Weights, x: Tensor) -> Tensor:
    """Give M(x): the function f that the architecture is, or x + LN(f(x)) where the form has a norm.

    ::

        vector     f(x) = w ⊙ x
        matrix     f(x) = x W
        mlp        f(x) = gelu(x W_1) W_2
        gated_mlp  f(x) = (silu(x W_1) ⊙ x W_2) W_3
    """
    f = _inside(form, weights, x)[-1]
    if form.scale is None or form.shift is None:
        return f
    return x + torch.addcmul(form.shift, functional.layer_norm(f, f.shape[-1:], eps=EPSILON), form.scale)


def gradient(form: Form, weights: Weights, x: Tensor, bias: Callable[[Tensor], Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Give the factors of the gradient of each weight, where ``bias`` gives the slope at the answer M(x)."""
    *inner, f = _inside(form, weights, x)
    if form.scale is None or form.shift is None:
        slope = bias(f)
    else:
        normal = functional.layer_norm(f, f.shape[-1:], eps=EPSILON)
        inverse = (f.var(-1, correction=0, keepdim=True) + EPSILON).rsqrt()
        slope = bias(x + torch.addcmul(form.shift, normal, form.scale)) * form.scale
        along = (slope * normal).mean(-1, keepdim=True)
        slope = torch.addcmul(slope - slope.mean(-1, keepdim=True), normal, along, value=-1) * inverse
    match form.architecture:
        case "vector" | "matrix":
            return [(inner[0], slope)]
        case "mlp":
            x, z, hidden = inner
            return [(x, torch.ops.aten.gelu_backward(_back(slope, weights[1], z), z)), (hidden, slope)]
        case _:
            x, z, value, hidden = inner
            back = _back(slope, weights[2], z)
            opened = z.sigmoid()
            silu_slope = opened * (1 + z * (1 - opened))
            return [(x, back * value * silu_slope), (x, back * functional.silu(z)), (hidden, slope)]


def _inside(form: Form, weights: Weights, x: Tensor) -> tuple[Tensor, ...]:
    """Give what each layer sees and what the last one says."""
    if form.architecture == "vector":
        return x, x * (weights[0].unsqueeze(-2) if weights[0].dim() < x.dim() else weights[0])
    x = _with_offset(form, x)
    if form.architecture == "matrix":
        return x, _times(x, weights[0])
    z = _times(x, weights[0])
    if form.architecture == "mlp":
        hidden = _with_offset(form, functional.gelu(z))
        return x, z, hidden, _times(hidden, weights[1])
    value = _times(x, weights[1])
    hidden = _with_offset(form, functional.silu(z) * value)
    return x, z, value, hidden, _times(hidden, weights[2])


def _with_offset(form: Form, x: Tensor) -> Tensor:
    return functional.pad(x, (0, 1), value=1.0) if form.offset else x


def _times(x: Tensor, weights: Tensor) -> Tensor:
    """X W, with weights of one moment or each token's own."""
    return x @ weights if weights.dim() == x.dim() else (x.unsqueeze(-2) @ weights).squeeze(-2)


def _back(slope: Tensor, weights: Tensor, z: Tensor) -> Tensor:
    """The slope at the hidden layer, its constant 1 left out."""
    return _times(slope, weights.mT)[..., : z.shape[-1]]
