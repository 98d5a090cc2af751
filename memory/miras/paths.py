"""What computes a rule: an operation of `recurra.kernels` where one does, the closed form, or the generic path."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recurra.kernels import chunks, delta_rule, linear_recurrence, mlp_memory
from recurra.kernels.delta_rule import BACKENDS as DELTA_RULE_BACKENDS
from recurra.kernels.linear_recurrence import BACKENDS as LINEAR_RECURRENCE_BACKENDS
from recurra.kernels.mlp_memory import BACKENDS as MLP_MEMORY_BACKENDS
from recurra.kernels.mlp_memory import MLPState
from recurra.memory.miras import learning, retentions
from recurra.memory.miras.architectures import EPSILON
from recurra.memory.miras.learner import Learner
from recurra.memory.miras.state import Learning
from recurra.memory.miras.tokens import Tokens


class Flow(NamedTuple):
    """Where tokens stand in their streams: ``position (batch,)`` writes before the piece, and the flags of each."""

    position: Tensor
    first: Tensor | None = None
    present: Tensor | None = None

    @property
    def flags(self) -> dict[str, Any]:
        """What every operation takes."""
        return {"first": self.first, "present": self.present}


def matrix(learner: Learner, tokens: Tokens, state: Learning, flow: Flow) -> tuple[Tensor, Learning]:
    """A matrix, of which each token's gradient looks at the weights it finds, or at none: the delta rule."""
    k, beta = tokens.k, None
    if learner.rule.bias == "dot":
        k = tokens.step * k
    else:
        beta = _correction(learner, tokens).squeeze(-1)
    o, written = delta_rule(
        tokens.q,
        k,
        tokens.v,
        log_decay=_of_heads(tokens.log_decay),
        beta=beta,
        initial_state=state.written[0],
        backend=learner.backend,
        **flow.flags,
    )
    return o, state._replace(written=(written,))


def vector(learner: Learner, tokens: Tokens, state: Learning, flow: Flow) -> tuple[Tensor, Learning]:
    """A vector likewise: each channel is a linear recurrence."""
    heads, log_decay = tokens.v.shape[2], tokens.log_decay
    log_decay = torch.zeros_like(tokens.v) if log_decay is None else log_decay.expand_as(tokens.v)
    if learner.rule.bias == "dot":
        added = tokens.step * tokens.k * tokens.v
    else:  # w = (α w + θ k v) / (1 + θ k²)
        log_decay = log_decay - torch.log1p(tokens.step * tokens.k.square())
        added = _correction(learner, tokens) * tokens.k * tokens.v
    w, last = linear_recurrence(
        added.flatten(-2),
        log_decay.flatten(-2),
        initial_state=state.written[0].flatten(1),
        backend=learner.backend,
        **flow.flags,
    )
    return tokens.q * w.unflatten(-1, (heads, -1)), state._replace(written=(last.unflatten(-1, (heads, -1)),))


def mlp(learner: Learner, tokens: Tokens, state: Learning, flow: Flow) -> tuple[Tensor, Learning]:
    """An MLP whose weights decay."""
    scale, shift = learner.form.scale, learner.form.shift
    o, after = mlp_memory(
        tokens.q,
        tokens.k,
        tokens.v,
        weights=learner.fresh,
        rate=tokens.step,
        log_decay=tokens.log_decay,
        log_momentum=tokens.log_momentum,
        bias=learner.bias,
        threshold=tokens.threshold,
        norm=None if scale is None or shift is None else (scale.squeeze(1), shift.squeeze(1)),
        residual=learner.rule.norm,
        epsilon=EPSILON,
        initial_state=MLPState(state.opening, state.written, state.momentum, flow.position),
        chunk=learner.rule.chunk,
        backend=learner.backend,
        **flow.flags,
    )
    return o, Learning(after.start, after.weights, after.momentum, ())


def closed_form(learner: Learner, tokens: Tokens, state: Learning, flow: Flow) -> tuple[Tensor, Learning]:
    """Mesa (von Oswald et al. 2025, arXiv 2506.05233): o = Gᵀ (H + Λ)^{-1} q, with sums G of k vᵀ and H of k kᵀ."""
    assert learner.ridge is not None
    values, keys = state.written
    weighted = tokens.step * tokens.k
    log_decay = _of_heads(tokens.log_decay)
    pairs = weighted.unsqueeze(-1) * tokens.k.unsqueeze(-2)
    pace = torch.zeros_like(weighted[..., 0]) if log_decay is None else log_decay
    seen, last = linear_recurrence(
        pairs.flatten(2), pace[..., None, None].expand_as(pairs).flatten(2), initial_state=keys.flatten(1), **flow.flags
    )
    whole = seen.unflatten(-1, pairs.shape[2:]) + torch.diag_embed(retentions.positive(learner.ridge))
    sought = torch.linalg.solve(whole, tokens.q)
    o, values = delta_rule(sought, weighted, tokens.v, log_decay=log_decay, initial_state=values, **flow.flags)
    return o, state._replace(written=(values, last.view_as(keys)))


def generic(learner: Learner, tokens: Tokens, state: Learning, flow: Flow) -> tuple[Tensor, Learning]:
    """Any rule: see `recurra.memory.miras.learning`."""
    layout = chunks.grid(flow.position, flow.first, flow.present, tokens.q.shape[1], learner.rule.chunk)
    return learning.learn(learner, tokens, layout, state)


PATHS: dict[str, Callable[[Learner, Tokens, Learning, Flow], tuple[Tensor, Learning]]] = {
    "delta_rule": matrix,
    "linear_recurrence": vector,
    "mlp_memory": mlp,
    "closed form": closed_form,
    "generic": generic,
}
"""The paths by the names that `Rule.path` gives them."""

BACKENDS = {
    "delta_rule": DELTA_RULE_BACKENDS,
    "linear_recurrence": LINEAR_RECURRENCE_BACKENDS,
    "mlp_memory": MLP_MEMORY_BACKENDS,
}
"""Backends of the paths that have a choice."""


def _correction(learner: Learner, tokens: Tokens) -> Tensor:
    """How much of the error a step down the slope of ‖r‖² takes away, along the key."""
    if learner.rule.algorithm == "implicit":
        across = tokens.k if learner.rule.architecture == "vector" else tokens.k.norm(dim=-1, keepdim=True)
        return tokens.step / (1 + tokens.step * across.square())
    return 2 * tokens.step


def _of_heads(log_decay: Tensor | None) -> Tensor | None:
    """Give a decay as the kernel takes it: one of a head without an axis of channels."""
    return log_decay if log_decay is None or log_decay.shape[-1] > 1 else log_decay.squeeze(-1)
