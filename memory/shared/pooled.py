"""One associative memory that a whole team writes to and reads."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from recurra.errors import UserError, nearest
from recurra.kernels import chunks
from recurra.kernels.pooled_delta_rule import BACKENDS, pooled_delta_rule
from recurra.memory.base import Memory, hide
from recurra.memory.miras import PRESETS, Associative, AssociativeState
from recurra.memory.miras.learner import Learner
from recurra.memory.miras.state import Learning
from recurra.memory.miras.tokens import Tokens
from recurra.memory.options import made
from recurra.memory.positions import positions
from recurra.memory.shared.alone import apart, together
from recurra.memory.shared.learning import learn

_DELTA: dict[str, Any] = {"chunk": 1, "gate": False}

POOLED: dict[str, dict[str, Any]] = {
    "associative": {},
    "delta_net": _DELTA,
    "gated_delta_net": {
        **_DELTA,
        "retention": "scalar",
        "decay_first": True,
        "pace": "softplus",
        "gate": True,
        "value_factor": 2,
    },
    **{name: preset.options for name, preset in PRESETS.items()},
}
"""The memories that `Pooled` takes by name, as options of `recurra.memory.miras.Associative`."""


class Pooled(Memory):
    """Agents that learn one associative memory together: each writes to it, each reads it.

    At a time step every present agent a of n reads the memory as it was before the step; then all write at once::

        o_a = M(q_a; W_{t-1})        W_t = retain(W_{t-1}) - (1/n) Σ_a η_a ∇ℓ(M(k_a; W'), v_a)

    with W' the weights at the start of the chunk of time steps (its decayed self for the delta rules). What is kept is
    the geometric mean of what the agents ask to keep. Steps are divided by the number of present agents: otherwise as
    many on one key overshoot, and the memory diverges. Short convolutions are each agent's own; projections are the
    same for all, so any number of agents may come and go. A step costs as much for each further agent.

    Miras (Behrouz et al. 2025, arXiv 2504.13173) has the rules, SRMT (Sagirova et al. 2025, arXiv 2501.13200) the idea
    of memories that a team pools.

    Args:
        dim: width of inputs and outputs.
        memory: the memory's name, one of `POOLED`.
        **options: its options, those of `recurra.memory.miras.Associative`.

    Attributes:
        path: what computes it: ``pooled_delta_rule``, or ``generic``.

    Raises:
        UserError: if the memory has no such name or option, or its rule has no step that agents could divide: the
            closed form, an implicit step other than that of a matrix with a decay of the head, several steps a token.

    >>> y, state = Pooled(8, memory="gated_delta_net", heads=2)(torch.ones(2, 3, 5, 8))  # two teams of three agents
    >>> y.shape, state.written[0].shape
    (torch.Size([2, 3, 5, 8]), torch.Size([2, 2, 4, 8]))
    """

    team = True

    def __init__(self, dim: int, *, memory: str = "yaad", **options: Any) -> None:
        super().__init__()
        if memory not in POOLED:
            raise UserError(f"no memory named {memory!r} can be pooled; {nearest(memory, POOLED)}")
        self.memory = made(f"pooled {memory}", Associative, dim, {**POOLED[memory], **options})
        rule = self.memory.rule
        by_head = rule.retention in ("none", "scalar")
        self.path = "pooled_delta_rule" if self.memory.path == "delta_rule" and by_head else "generic"
        implicit = rule.algorithm == "implicit" and self.path == "generic"
        if rule.algorithm == "closed" or implicit or rule.steps > 1:
            step = rule.summary + (f", {rule.steps} a token" if rule.steps > 1 else "")
            raise UserError(f"{memory} cannot be pooled: agents cannot take a share each of its step ({step})")
        self.dim, self.input_limit = dim, self.memory.input_limit
        self.backends = BACKENDS if self.path == "pooled_delta_rule" else ()
        if not self.backends:
            self.memory.backends = ()

    def initial_state(
        self,
        batch: int,
        *,
        agents: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> AssociativeState:
        """Give the learnt weights, or zeros: of the team; and of each agent silence before its first token."""
        shared = self.memory.initial_state(batch, device=device, dtype=dtype)
        own = self.memory.initial_state(batch * agents, device=device, dtype=dtype).convolution
        learning = self._learner(shared.convolution.tail).start(batch)
        return AssociativeState(*learning, shared.position, apart(own, batch))

    def forward(
        self,
        x: Tensor,
        state: AssociativeState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, AssociativeState]:
        """Read a piece: see `Memory.forward`."""
        x, state = self.begin(x, state, first, present)
        batch, agents, time, _ = x.shape
        dtype = state.written[0].dtype
        mixed, convolution = self._mixed(x, state.convolution, first, present)
        if present is None:
            share, here = x.new_full((batch, agents, time), 1 / agents, dtype=dtype), None
        else:
            share, here = present / present.sum(1, keepdim=True).clamp(min=1).to(dtype), present.any(1)
        _, position = positions(state.position, (batch, time), first, here)
        with torch.autocast(x.device.type, enabled=False):
            each = self.memory.tokens(x.flatten(0, 1), mixed, dtype)
            if self.memory.rule.algorithm == "implicit":  # as long as this step down the slope of ‖r‖²
                each = each._replace(step=each.step / (1 + each.step * each.k.square().sum(-1, keepdim=True)) / 2)
            learner, tokens, learning = self._learner(state.written[0]), _shared(each, share), Learning(*state[:4])
            if self.path == "pooled_delta_rule":
                o, learning = self._corrected(learner, tokens, learning, first, present)
            else:
                layout = chunks.grid(state.position, first, here, time, learner.rule.chunk)
                o, learning = learn(learner, tokens, layout, learning)
                o = o.transpose(1, 2)
        y = self.memory.finished(x.flatten(0, 1), each, o.flatten(0, 1)).unflatten(0, (batch, agents))
        return hide(y, present), AssociativeState(*learning, position, apart(convolution, batch))

    def _mixed(self, x: Tensor, before: Any, first: Tensor | None, present: Tensor | None) -> tuple[Tensor, Any]:
        """Give queries, keys and values, still as one, of agents as so many streams; each agent's own convolution."""
        mixed, before = self.memory.projection(x.flatten(0, 1)), together(before)
        if self.memory.convolution is None:
            return functional.silu(mixed) if self.memory.activation else mixed, before
        if first is not None:
            first = first.repeat_interleave(x.shape[1], 0)
        return self.memory.convolution(
            mixed, before, first=first, present=None if present is None else present.flatten(0, 1)
        )

    def _corrected(
        self, learner: Learner, tokens: Tokens, state: Learning, first: Tensor | None, present: Tensor | None
    ) -> tuple[Tensor, Learning]:
        """Do what `recurra.memory.miras.paths.matrix` does, with tokens of all agents."""
        q, k, v, step = (x.transpose(1, 2) for x in tokens[:4])
        beta = None
        if learner.rule.bias == "dot":
            k = step * k
        else:
            beta = 2 * step.squeeze(-1)
        o, written = pooled_delta_rule(
            q,
            k,
            v,
            log_decay=None if tokens.log_decay is None else tokens.log_decay.squeeze(-1),
            beta=beta,
            initial_state=state.written[0],
            first=first,
            present=present,
            backend=learner.backend,
        )
        return o, state._replace(written=(written,))

    def _learner(self, like: Tensor) -> Learner:
        return self.memory.learner(like)._replace(path=self.path if self.path == "generic" else "delta_rule")


def _shared(tokens: Tokens, share: Tensor) -> Tokens:
    """Give each agent its share of the team's step, and the team one decay.

    Args:
        tokens: ``(batch * agents, time, heads, …)``.
        share: ``(batch, agents, time)``, one over the number of present agents; 0 for others.

    Returns:
        Decays ``(batch, time, heads, …)``, and all else ``(batch, time, agents, heads, …)``.
    """
    each = [None if x is None else x.unflatten(0, share.shape[:2]).transpose(1, 2) for x in tokens]
    q, k, v, step, log_decay, log_momentum, threshold = each
    part = share.transpose(1, 2)[..., None, None]
    assert q is not None
    assert k is not None
    assert v is not None
    assert step is not None
    log_decay, log_momentum = (None if x is None else (part * x).sum(2) for x in (log_decay, log_momentum))
    return Tokens(q, k, v, part * step, log_decay, log_momentum, threshold)
