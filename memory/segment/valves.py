"""Memory retention valves: what stands between what a segment writes and what is kept (RATE, arXiv 2306.09459)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.errors import UserError, nearest


class CrossAttention(nn.Module):
    """What is kept asks what was written: M_{n+1} = W_M MultiHead(Q = M_n, K = V = relu(M̃_{n+1})), no residual.

    Args:
        dim: width of memory tokens.
        heads: of the attention.
        swapped: let what was written ask what is kept: Q = relu(M̃_{n+1}), K = V = M_n.

    Raises:
        UserError: if heads do not divide ``dim``.
    """

    width = 1

    def __init__(self, dim: int, *, heads: int, swapped: bool = False) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise UserError(f"a valve's heads must divide its dim: {heads} does not divide {dim}")
        self.heads, self.swapped = heads, swapped
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)  # W_M

    def forward(self, kept: Tensor, written: Tensor) -> Tensor:
        """Give what is kept now, all ``(batch, slots, dim)``."""
        written = functional.relu(written)
        asking, asked = (written, kept) if self.swapped else (kept, written)
        heads = (self.query(asking), *self.key_value(asked).chunk(2, -1))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in heads)
        return self.output(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Gate(nn.Module):
    """The gate of GTrXL (Parisotto et al. 2019, arXiv 1910.06764, Section 3.2), each memory token by itself.

    ::

        r, z = σ(W_r M̃ + U_r M), σ(W_z M̃ + U_z M - b)      b = 2 in the beginning: little is replaced
        M ← (1 - z) M + z tanh(W_g M̃ + U_g (r M))
    """

    width = 1

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.of_written = nn.Linear(dim, 3 * dim, bias=False)  # W_r, W_z, W_g
        self.of_kept = nn.Linear(dim, 2 * dim, bias=False)  # U_r, U_z
        self.of_reset = nn.Linear(dim, dim, bias=False)  # U_g
        self.bias = nn.Parameter(torch.full((dim,), 2.0))

    def forward(self, kept: Tensor, written: Tensor) -> Tensor:
        """Give what is kept now, all ``(batch, slots, dim)``."""
        (reset, replace, new), (old_reset, old_replace) = (
            self.of_written(written).chunk(3, -1),
            self.of_kept(kept).chunk(2, -1),
        )
        r, z = torch.sigmoid(reset + old_reset), torch.sigmoid(replace + old_replace - self.bias)
        return (1 - z) * kept + z * torch.tanh(new + self.of_reset(r * kept))


class Cell(nn.Module):
    """A GRU or LSTM cell for each memory token: it reads what was written, its hidden state is what is kept.

    Args:
        dim: width of memory tokens.
        long: an LSTM: what is kept is ``2 * dim`` wide, its cells behind its hidden states.
    """

    def __init__(self, dim: int, *, long: bool = False) -> None:
        super().__init__()
        self.width = 2 if long else 1
        self.cell: nn.LSTMCell | nn.GRUCell = nn.LSTMCell(dim, dim) if long else nn.GRUCell(dim, dim)

    def forward(self, kept: Tensor, written: Tensor) -> Tensor:
        """Give what is kept now ``(batch, slots, width * dim)``, of ``written (batch, slots, dim)``."""
        state, told = kept.flatten(0, 1), written.flatten(0, 1)
        if isinstance(self.cell, nn.LSTMCell):
            after = torch.cat(self.cell(told, tuple(state.chunk(2, -1))), -1)
        else:
            after = self.cell(told, state)
        return after.view(kept.shape)


class Open(nn.Module):
    """No valve: what was written is kept, as in RMT."""

    width = 1

    def forward(self, kept: Tensor, written: Tensor) -> Tensor:
        """Give what was written."""
        return written


VALVES = ("none", "ca2", "ca1", "gate", "gru", "lstm")


def valve(name: str, dim: int, *, heads: int) -> CrossAttention | Gate | Cell | Open:
    """Build a valve: ``kept, written -> kept``; of its attribute ``width`` times ``dim`` is what it keeps.

    The paper defines CA-2 by the formula of `CrossAttention`. Of CA-1, which it says little of, ours asks the other
    way round.

    Raises:
        UserError: if there is none of that name, or as `CrossAttention` does.
    """
    if name not in VALVES:
        raise UserError(f"there is no valve {name!r}; {nearest(name, VALVES)}")
    if name in ("ca1", "ca2"):
        return CrossAttention(dim, heads=heads, swapped=name == "ca1")
    if name in ("gru", "lstm"):
        return Cell(dim, long=name == "lstm")
    return Gate(dim) if name == "gate" else Open()
