"""SRMT: each agent's memory is a vector, and all agents look at all of them."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.errors import UserError
from recurra.memory import state as states
from recurra.memory.base import Memory, hide
from recurra.memory.checks import check_expansion, check_heads

MEMORIES = ("shared", "own", "none")


class SRMTState(NamedTuple):
    """What SRMT keeps, of each agent.

    Attributes:
        memory: ``(batch, agents, dim)``, its memory; 0 before it has written one.
        written: ``(batch, agents)`` bool, whether it has.
        history: ``(batch, agents, window, dim)``, its last inputs, oldest first; 0 before the first.
    """

    memory: Tensor
    written: Tensor
    history: Tensor


class SRMT(Memory):
    """Shared recurrent memory transformer (Sagirova et al. 2025, arXiv 2501.13200).

    At a time step agent i reads its memory, its last inputs and the present one, and then the memories M of all
    present agents, its own among them, which have neither order nor name::

        X = [m_i ; h_{t-w} … h_{t-1} ; h_t]
        X ← X + SelfAttention(LN(X) + position)
        X ← X + CrossAttention(LN(X), M)
        X ← X + MLP(LN(X))

    The last token's output is the answer; of the first one's a linear layer, the memory head, makes the next m_i. An
    agent's first memory is made of its first answer instead, and before that it has none to show. Weights are the same
    for all agents, of which there may be any number.

    By default gradients flow through the memories over time. What the released code does otherwise is on demand; with
    ``causal``, ``detached`` and ``kept`` memories do what they did in its training.

    Args:
        dim: width of inputs and outputs.
        heads: of attention.
        window: past inputs that an agent sees.
        layers: blocks like the above, one after another; the paper has one.
        expansion: width of the MLP's hidden layer over ``dim``.
        memory: ``shared``; ``own``, without the look at others' (the ablation RMT); ``none``, the window alone
            (Attention).
        causal: self-attention looks back only, and so the memory, which stands first, at itself alone: after an agent's
            first input its memory changes by others' memories alone.
        blind: the memory does not look at the window, but all else attends in full: what ``causal`` does to the memory
            without what it does to the rest of a deeper network.
        detached: no gradient reaches what writes memories. Breaks the law of gradients.
        kept: memories and windows go on where an episode begins. Breaks the law of ``first``.

    Raises:
        UserError: if an option has no such value.

    >>> y, state = SRMT(8, heads=2, window=4)(torch.ones(2, 3, 5, 8))  # two teams of three agents
    >>> y.shape, state.memory.shape, state.history.shape
    (torch.Size([2, 3, 5, 8]), torch.Size([2, 3, 8]), torch.Size([2, 3, 4, 8]))
    """

    team = True

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 4,
        window: int = 8,
        layers: int = 1,
        expansion: float = 4.0,
        memory: str = "shared",
        causal: bool = False,
        blind: bool = False,
        detached: bool = False,
        kept: bool = False,
    ) -> None:
        super().__init__()
        check_heads("srmt", dim, heads)
        check_expansion(expansion)
        if window < 0 or layers < 1:
            raise UserError(f"srmt has a window of 0 or more and a layer at least, got {window} and {layers}")
        if memory not in MEMORIES:
            raise UserError(f"srmt's memory is one of {', '.join(MEMORIES)}, got {memory!r}")
        self.dim, self.window, self.kind = dim, window, memory
        self.detached, self.kept = detached, kept
        self.position = nn.Parameter(0.02 * torch.randn(window + 1 + (memory != "none"), dim))
        self.blocks: list[SharingBlock] = nn.ModuleList(  # type: ignore[assignment]
            SharingBlock(dim, heads=heads, expansion=expansion, shares=memory == "shared") for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.head = None if memory == "none" else nn.Linear(dim, dim, bias=False)
        tokens = len(self.position)
        seen = torch.ones(tokens, tokens, dtype=torch.bool)
        if causal:
            seen = seen.tril()
        if blind and memory != "none":
            seen[0, 1:] = False
        self.seen: Tensor
        self.register_buffer("seen", seen, persistent=False)

    def initial_state(
        self,
        batch: int,
        *,
        agents: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> SRMTState:
        """Give zeros, which nobody has written."""
        place = self.placement(device, dtype)
        return SRMTState(
            torch.zeros(batch, agents, self.dim if self.head is not None else 0, **place),
            torch.zeros(batch, agents, dtype=torch.bool, device=place["device"]),
            torch.zeros(batch, agents, self.window, self.dim, **place),
        )

    def forward(
        self,
        x: Tensor,
        state: SRMTState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, SRMTState]:
        """Read a piece: see `Memory.forward`."""
        x, state = self.begin(x, state, first, present)
        fresh = self.initial_state(1, agents=x.shape[1], device=x.device, dtype=state.history.dtype)
        here = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device) if present is None else present
        outputs = [x[..., :0, :]]
        for t in range(x.shape[-2]):
            if first is not None and not self.kept:
                state = states.reset(state, first[:, t], fresh)
            y, state = self._token(x[..., t, :], state, here[..., t])
            outputs.append(y.unsqueeze(-2))
        return hide(torch.cat(outputs, -2), present), state

    def heed(self, x: Tensor, state: SRMTState, *, present: Tensor | None = None) -> Tensor | None:
        """Give what the answer's token attends to among the team's memories: see `Memory.heed`."""
        if self.kind != "shared":
            return None
        memory, written, _ = state
        here = torch.ones_like(written) if present is None else present
        tokens, told = self._tokens(hide(x, present), state), []
        for block in self.blocks:
            told.append(block.heed(tokens, self.position, self.seen, memory, here & written))
            tokens = block(tokens, tokens, self.position, self.seen, memory, here & written)
        return torch.stack(told).mean(0).masked_fill(~here.unsqueeze(-1), 0.0)

    def _tokens(self, x: Tensor, state: SRMTState) -> Tensor:
        """Give what each agent reads, ``(batch, agents, tokens, dim)``: memory, last inputs, and the present one."""
        own = [] if self.head is None else [state.memory.unsqueeze(-2)]
        return torch.cat([*own, state.history, x.to(state.history.dtype).unsqueeze(-2)], -2)

    def _token(self, x: Tensor, state: SRMTState, here: Tensor) -> tuple[Tensor, SRMTState]:
        """Let those agents that are here read one token each, ``(batch, agents, dim)``."""
        memory, written, history = state
        x = x.to(history.dtype)
        tokens = self._tokens(x, state)
        shown = here & written
        for block in self.blocks[:-1]:
            tokens = block(tokens, tokens, self.position, self.seen, memory, shown)
        ends = [-1] if self.head is None else [0, -1]
        asking = tokens[..., ends, :]
        tokens = self.blocks[-1](asking, tokens, self.position, self.seen[ends], memory, shown, at=ends)
        tokens = self.norm(tokens)
        y = tokens[..., -1, :]

        def put(old: Tensor, new: Tensor) -> Tensor:
            return torch.where(here.reshape(*here.shape, *[1] * (old.dim() - 2)), new.to(old.dtype), old)

        if self.head is not None:
            after = self.head(torch.where(written.unsqueeze(-1), tokens[..., 0, :], y))
            memory = put(memory, after.detach() if self.detached else after)
        past = torch.cat((history, x.unsqueeze(-2)), -2)[..., 1:, :]
        return y, SRMTState(memory, written | here, put(history, past))


class SharingBlock(nn.Module):
    """A transformer's block whose tokens attend to each other, and then to what a team shares."""

    def __init__(self, dim: int, *, heads: int, expansion: float, shares: bool) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(dim)
        self.self_attention = Attention(dim, heads=heads)
        self.cross_norm = nn.LayerNorm(dim) if shares else None
        self.cross_attention = Attention(dim, heads=heads) if shares else None
        self.mlp_norm = nn.LayerNorm(dim)
        hidden = max(1, round(expansion * dim))
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(
        self,
        asking: Tensor,
        tokens: Tensor,
        position: Tensor,
        seen: Tensor,
        shared: Tensor,
        shown: Tensor,
        *,
        at: list[int] | None = None,
    ) -> Tensor:
        """Give what becomes of those tokens that are asked for.

        Args:
            asking: ``(batch, agents, asking, dim)``, the tokens at the places ``at``.
            tokens: ``(batch, agents, tokens, dim)``.
            position: ``(tokens, dim)``, added to what attends.
            seen: ``(asking, tokens)`` bool, who attends to whom.
            shared: ``(batch, agents, dim)``, one vector of each agent.
            shown: ``(batch, agents)`` bool, which of them there are.
            at: places of ``asking``; None is all of them.
        """
        x = self._among(asking, tokens, position, seen, at)
        if self.cross_norm is not None and self.cross_attention is not None:
            x = x + _from_team(self.cross_attention, self.cross_norm(x), shared, shown)
        return x + self.mlp(self.mlp_norm(x))

    def heed(self, tokens: Tensor, position: Tensor, seen: Tensor, shared: Tensor, shown: Tensor) -> Tensor:
        """Give the last token's weights for what is shared, ``(batch, agents, agents)``, the mean over heads."""
        assert self.cross_norm is not None
        assert self.cross_attention is not None
        x = self.cross_norm(self._among(tokens, tokens, position, seen, None))[..., -1, :]
        weights = self.cross_attention.weights(x, shared.to(x.dtype), shown.unsqueeze(1))
        return (weights * shown[:, None, None]).mean(1)

    def _among(self, asking: Tensor, tokens: Tensor, position: Tensor, seen: Tensor, at: list[int] | None) -> Tensor:
        """Let tokens attend to each other."""
        normal = self.self_norm(tokens) + position
        return asking + self.self_attention(normal if at is None else normal[..., at, :], normal, seen)


def _from_team(attention: "Attention", x: Tensor, shared: Tensor, shown: Tensor) -> Tensor:
    """Let all tokens of a team, ``(batch, agents, tokens, dim)``, attend to what it shares: nothing where that is."""
    y = attention(x.flatten(1, 2), shared.to(x.dtype), shown.unsqueeze(1)).view_as(x)
    return y.masked_fill(~shown.any(1)[:, None, None, None], 0.0)


class Attention(nn.Module):
    """Softmax attention with several heads."""

    def __init__(self, dim: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.pair = nn.Linear(dim, 2 * dim, bias=False)  # keys, values
        self.output = nn.Linear(dim, dim)

    def forward(self, asking: Tensor, tokens: Tensor, seen: Tensor) -> Tensor:
        """Let ``asking (…, asking, dim)`` attend to ``tokens (…, tokens, dim)``, where ``seen (…, asking, tokens)``."""
        keys, values = self.pair(tokens).chunk(2, -1)
        weights = self._weights(asking, keys, seen)
        return self.output((weights @ self._by_head(values)).transpose(-3, -2).flatten(-2))

    def weights(self, asking: Tensor, tokens: Tensor, seen: Tensor) -> Tensor:
        """Give how strongly each attends to each, ``(…, heads, asking, tokens)``; even where nobody is seen."""
        return self._weights(asking, self.pair(tokens).chunk(2, -1)[0], seen)

    def _weights(self, asking: Tensor, keys: Tensor, seen: Tensor) -> Tensor:
        q, k = self._by_head(self.query(asking)), self._by_head(keys)
        scores = (q @ k.mT) * q.shape[-1] ** -0.5
        # Finite, so that who sees nobody gives no NaN, nor has one for a gradient.
        scores = scores.masked_fill(~seen.unsqueeze(-3), torch.finfo(scores.dtype).min)
        return functional.softmax(scores, -1)

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)
