"""The arguments of the operation as its backends take them: checked, of one dtype, absent tokens 0."""

from typing import NamedTuple

from torch import Tensor

from recurra.kernels.biases import Bias
from recurra.kernels.mlp_memory.state import Weights


class Arguments(NamedTuple):
    """Tokens are ``(batch, time, heads, ...)``, gates with a last axis of 1 or of the channels.

    Attributes:
        q: queries.
        k: keys.
        v: values.
        rate: θ, 0 for absent tokens.
        log_decay: logarithm of α, 0 for absent tokens.
        log_momentum: logarithm of η, 0 for absent tokens.
        threshold: what the bias takes besides.
        weights: of a fresh memory, with an axis of 1 for the batch.
        norm: gain and shift of LayerNorm, ``(heads, value_dim)``.
        epsilon: LayerNorm's.
        residual: whether the memory adds its input.
        bias: the gradient of the loss.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    rate: Tensor
    log_decay: Tensor
    log_momentum: Tensor | None
    threshold: Tensor | None
    weights: Weights
    norm: tuple[Tensor, Tensor] | None
    epsilon: float
    residual: bool
    bias: Bias
