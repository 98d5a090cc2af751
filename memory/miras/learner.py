"""A rule with the parameters that it needs beside what the tokens say."""

from typing import NamedTuple

import torch
from torch import Tensor

from recurra.kernels.biases import Bias
from recurra.memory.miras import retentions
from recurra.memory.miras.architectures import Form
from recurra.memory.miras.rule import Rule
from recurra.memory.miras.state import Learning, Weights


class Learner(NamedTuple):
    """A rule with its parameters, in the dtype of the state.

    Attributes:
        rule: the four choices.
        path: what computes them, see `recurra.memory.miras.paths`.
        form: the architecture with its norm.
        bias: the slope of the attentional bias.
        fresh: what is written at the beginning, ``(heads, …)`` of each layer.
        cut: γ of a soft threshold, ``(heads, 1, 1)`` (a vector's: ``(heads, 1)``).
        ridge: Λ of the closed form, ``(heads, key_dim)``.
        backend: of the operation that the path is, where it is one.
    """

    rule: Rule
    path: str
    form: Form
    bias: Bias
    fresh: Weights
    cut: Tensor | None = None
    ridge: Tensor | None = None
    backend: str | None = None

    def weights(self, written: Weights) -> Weights:
        """Give the weights that what is written stands for."""
        rule = self.rule
        return tuple(
            retentions.mapped(rule.retention, z, q=rule.q, mirror=rule.mirror, mass=rule.mass, threshold=self.cut)
            for z in written
        )

    def start(self, batch: int) -> Learning:
        """Give the state at the beginning of ``batch`` streams."""
        written = tuple(z.expand(batch, *z.shape) for z in self.fresh)
        if self.path not in ("generic", "mlp_memory"):
            return Learning((), written, (), ())
        written = tuple(retentions.settled(self.rule.retention, z) for z in written)
        zeros = tuple(torch.zeros_like(z) for z in written) if self.rule.algorithm == "momentum" else ()
        if self.path == "mlp_memory":
            return Learning(written, written, zeros, ())
        weights = self.weights(written)
        shown = self.rule.chunk > 1 and self.rule.mapped != "every"
        return Learning(weights if self.rule.chunk > 1 else (), written, zeros, weights if shown else ())


def drawn(rule: Rule, shape: tuple[int, ...]) -> Tensor:
    """Draw weights to begin with: answers of the size of the keys, where no map changes it."""
    normal = torch.randn(shape)
    if rule.retention in ("kl", "logit") or normal.dim() == 2:
        return normal
    return normal / shape[-2] ** 0.5
