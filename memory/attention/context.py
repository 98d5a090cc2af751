"""Titans' memory as context (MAC): attention sees what the memory recalls beside the tokens themselves."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.errors import UserError
from recurra.kernels.chunks import gather, grid, scatter
from recurra.memory import state as states
from recurra.memory.base import Memory, hide
from recurra.memory.checks import check_heads
from recurra.memory.miras import PRESETS, Associative
from recurra.memory.options import made
from recurra.memory.rotary import turned


class MemoryAsContextState(NamedTuple):
    """What a memory as context keeps.

    ``memory``: the state of the memory; ``keys`` and ``values (batch, segment, 2 * dim)``: of the tokens of the open
    segment, by place, each beside what the memory recalled for it; ``position (batch,)`` int64: the tokens of the
    episode so far.
    """

    memory: Any
    keys: Tensor
    values: Tensor
    position: Tensor


class MemoryAsContext(Memory):
    """Titans' memory as a context (Behrouz et al. 2025, arXiv 2501.00663, Equations 21 to 25), causal in a segment.

    Streams are read in segments, counted from each episode's first token. With M' the memory at the segment's start::

        h_t = M'(x_t W_Q)
        y_t = Attn over the persistent memory, h_1 … h_t and x_1 … x_t of the segment
        M_t = M_{t-1} taught y_t        o_t = W_O SiLU(norm(y_t) ⊙ norm(M_t(y_t)))

    The paper reads a whole segment at once, with M taught all of it; here token t is answered by what tokens up to t
    have taught, so that nothing looks ahead and every token is answered when it comes.

    Args:
        dim: width of inputs and outputs.
        heads: of the memory and of attention.
        segment: tokens that attention looks back on, at most; also the memory's chunk.
        persistent: learnt keys and values that every token sees besides.
        memory: options of the memory, an `Associative`, on top of those of the preset ``titans``.

    Raises:
        UserError: if heads do not divide half of ``dim``, ``segment`` is less than 2 or ``persistent`` less than 0, the
            memory keeps no weights of its chunk's start, or as `Associative` does.

    >>> y, state = MemoryAsContext(16, heads=2, segment=4)(torch.ones(2, 5, 16))
    >>> y.shape, state.keys.shape, state.position
    (torch.Size([2, 5, 16]), torch.Size([2, 4, 32]), tensor([5, 5]))
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 4,
        segment: int = 16,
        persistent: int = 4,
        memory: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_heads("attention", dim, heads, pairs=True)
        if segment < 2 or persistent < 0:
            raise UserError(f"a segment is at least 2 tokens, and none or some persistent: got {segment}, {persistent}")
        self.dim, self.heads, self.segment = dim, heads, segment
        options = {**PRESETS["titans"].options, "heads": heads, **(memory or {}), "chunk": segment}
        self.memory = made("titans", Associative, dim, options)
        if not self.memory.initial_state(1).opening:
            raise UserError(f"the memory {self.memory.rule.summary} keeps no weights of its chunk's start to be asked")
        self.question = nn.Linear(dim, dim, bias=False)
        self.projection = nn.Linear(dim, 3 * dim, bias=False)  # queries, keys, values
        self.persistent = nn.Parameter(torch.randn(2, heads, persistent, dim // heads)) if persistent else None
        self.attended = nn.Linear(dim, dim, bias=False)
        self.norms = nn.ModuleList(nn.RMSNorm(dim, eps=1e-6) for _ in range(2))
        self.output = nn.Linear(dim, dim, bias=False)

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> MemoryAsContextState:
        """Give the memory's beginning and an empty segment."""
        place = self.placement(device, dtype)
        empty = torch.zeros(batch, self.segment, 2 * self.dim, **place)
        position = torch.zeros(batch, dtype=torch.long, device=place["device"])
        return MemoryAsContextState(self.memory.initial_state(batch, **place), empty, empty.clone(), position)

    def forward(
        self,
        x: Tensor,
        state: MemoryAsContextState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, MemoryAsContextState]:
        """Read a piece: see `Memory.forward`."""
        x, state = self.begin(x, state, first, present)
        time = x.shape[1]
        layout = grid(state.position, first, present, time, self.segment)
        laid = gather(x, layout)
        fresh = self.initial_state(1, device=x.device, dtype=state.keys.dtype)
        used = (layout.present.any(1)).tolist()
        outputs = []
        for slot, row in enumerate(used):
            places = [place for place, here in enumerate(row) if here] or [0]
            state = states.reset(state, layout.resets[slot], fresh)
            y, state = self._segment(
                laid[slot][:, places], torch.tensor(places, device=x.device), layout.present[slot][:, places],
                layout.opens[slot], state,
            )  # fmt: skip
            outputs.append(y.new_zeros(*laid[slot].shape).index_copy(1, torch.tensor(places, device=x.device), y))
        state = state._replace(position=layout.position)
        if not outputs:
            return torch.zeros_like(x), state
        return hide(scatter(torch.stack(outputs), layout, time), present), state

    def _segment(
        self, x: Tensor, places: Tensor, present: Tensor, opens: Tensor, state: MemoryAsContextState
    ) -> tuple[Tensor, MemoryAsContextState]:
        """Read some tokens of one segment, at their places in it."""
        dtype = state.keys.dtype
        asked = functional.normalize(self.question(x).to(dtype).unflatten(-1, (self.heads, -1)), dim=-1)
        with torch.autocast(x.device.type, enabled=False):
            recalled = self.memory.answer(asked, state.memory, opens).flatten(-2)
        q, k, v = self.projection(x).to(dtype).chunk(3, dim=-1)
        _, k_recalled, v_recalled = self.projection(recalled.to(x.dtype)).to(dtype).chunk(3, dim=-1)
        keys, values = (
            old.index_copy(1, places, torch.where(present.unsqueeze(-1), torch.cat(new, -1), old[:, places]))
            for old, new in ((state.keys, (k, k_recalled)), (state.values, (v, v_recalled)))
        )
        with torch.autocast(x.device.type, enabled=False):
            near = self._attend(q, keys, values, places)
        y = self.attended(near.to(x.dtype))
        far, memory = self.memory(y, state.memory, present=present)
        output = self.output(functional.silu(self.norms[0](y) * self.norms[1](far)))
        return output, state._replace(memory=memory, keys=keys, values=values)

    def _attend(self, q: Tensor, keys: Tensor, values: Tensor, places: Tensor) -> Tensor:
        """Attend to the segment up to each token, to what was recalled for it, and to what persists."""
        at = torch.arange(self.segment, device=q.device)

        def heads(x: Tensor) -> Tensor:
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        asking = heads(q)
        turned_q = turned(asking, places)
        later = at > places.unsqueeze(1)
        scores = [
            (turned_q @ turned(heads(part), at).mT).masked_fill(later, -torch.inf) for part in keys.chunk(2, dim=-1)
        ]
        held = [heads(part) for part in values.chunk(2, dim=-1)]
        if self.persistent is not None:
            always, told = self.persistent.to(q.dtype).expand(len(q), -1, -1, -1, -1).unbind(1)
            scores.append(asking @ always.mT)
            held.append(told)
        weights = (torch.cat(scores, -1) * asking.shape[-1] ** -0.5).softmax(-1)
        return (weights @ torch.cat(held, -2)).transpose(1, 2).flatten(-2)
