"""A team learns one memory: any rule of Miras, with the weights of every time step written out.

As `recurra.memory.miras.learning`, but that a place of a chunk holds a token of each agent. Within a chunk all
gradients, of all agents, are taken at the weights of its start, at once; what they write is added up step by step, and
what stood before each step is read by all agents at once.
"""

import torch
from torch import Tensor

from recurra.kernels.chunks import Grid, gather, scatter
from recurra.memory import state as states
from recurra.memory.miras.architectures import read
from recurra.memory.miras.learner import Learner
from recurra.memory.miras.learning import Writes, by_chunk, closed, rows, slopes, written
from recurra.memory.miras.state import Learning, Weights
from recurra.memory.miras.tokens import Tokens


def learn(learner: Learner, tokens: Tokens, layout: Grid, state: Learning) -> tuple[Tensor, Learning]:
    """Read a piece that is laid out in chunks of time steps.

    Args:
        learner: the rule.
        tokens: decays ``(batch, time, heads, …)``, and all else ``(batch, time, agents, heads, …)``.
        layout: of the time steps.
        state: what the piece continues from.

    Returns:
        Outputs ``(batch, time, agents, heads, value_dim)``, and what is carried on.
    """
    (_, time, agents, heads, value_dim), chunk = tokens.v.shape, learner.rule.chunk
    # (slots, batch, heads, chunk, agents, …), decays without the axis of agents
    laid = [None if x is None else gather(x, layout).movedim(x.dim() - 1, 2) for x in tokens]
    outputs = tokens.v.new_zeros(*layout.tokens.shape[:2], heads, chunk, agents, value_dim)
    outputs, state = by_chunk(learner, laid, layout, state, _chunk, outputs)
    return scatter(outputs.movedim(2, 4), layout, time), state


def _chunk(
    learner: Learner, here: Tokens, places: list[int], present: Tensor, state: Learning, opening: Weights
) -> tuple[Tensor, Learning]:
    """Let agents read at some places of a chunk, and write."""
    rule, agents = learner.rule, here.v.shape[3]
    each = Tokens(*(x if x is None or x.dim() == 4 else x.flatten(2, 3) for x in here))  # type: ignore[arg-type]
    told = slopes(learner, opening, each)
    pairs = [[side.unflatten(2, (-1, agents)) for side in pair] for pair in told.pairs]
    everywhere = present.all(0).tolist()
    seen: list[Weights] = []
    for index, place in enumerate(places):
        before = state
        seen.append(state.shown or state.written)
        now = [(left[:, :, index], right[:, :, index]) for left, right in pairs]
        keep, carry = (None if x is None else x[:, :, index : index + 1] for x in told[1:])
        state = written(learner, state, Writes(now, keep, carry))
        state = closed(learner, state, place == 0, place == rule.chunk - 1)
        if not everywhere[index]:
            state = states.transform(lambda new, old, i=index: rows(present[:, i], new, old), state, before)
    stacked: Weights = tuple(torch.stack(layers, 2) for layers in zip(*seen, strict=True))
    if not state.shown:
        cut = None if learner.cut is None else learner.cut.unsqueeze(1)
        stacked = learner._replace(cut=cut).weights(stacked)
    form = learner.form
    if form.scale is not None and form.shift is not None:  # weights have an axis of time before that of agents
        form = form._replace(scale=form.scale.unsqueeze(1), shift=form.shift.unsqueeze(1))
    return read(form, stacked, here.q), state
