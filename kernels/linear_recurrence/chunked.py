"""The linear recurrence in parallel: all chunks at once, and their ends by the same again.

Each token is the map h ↦ g h + x, and maps compose. Going through a chunk token by token, in all chunks at the same
time, gives the map from its start to each of its tokens; composing those of the whole chunks is the same problem, a
chunk's length shorter. Gates are multiplied and never divided by, so that 0 and 1 are gates like any other.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def chunked(x: Tensor, gate: Tensor, state: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Read at least one token; shapes ``(batch, time, dim)``."""
    h = _Scan.apply(x, gate, state, chunk)
    return h, h[:, -1]


class _Scan(torch.autograd.Function):
    """h_t = g_t h_{t-1} + x_t, and its backward, the same recurrence from the end.

    With a the gradient of h, what comes by later tokens included: a_t = dL/dy_t + g_{t+1} a_{t+1}. Then
    dL/dx_t = a_t and dL/dg_t = a_t h_{t-1}. By hand, because autograd would keep and walk every step of `_scan`; the
    backward pass is again differentiable.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor, state: Tensor, chunk: int) -> Tensor:
        h = _scan(x, gate, state, chunk)
        ctx.save_for_backward(gate, state, h)
        ctx.chunk = chunk
        return h

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        gate, state, h = ctx.saved_tensors
        following = functional.pad(gate[:, 1:], (0, 0, 0, 1))
        a = _Scan.apply(slope.flip(1), following.flip(1), torch.zeros_like(state), ctx.chunk).flip(1)
        before = torch.cat((state.unsqueeze(1), h[:, :-1]), 1)
        return a, a * before, gate[:, 0] * a[:, 0], None


def _scan(x: Tensor, gate: Tensor, state: Tensor, chunk: int) -> Tensor:
    batch, time, dim = x.shape
    count = -(-time // chunk)
    # Filled up with tokens that change nothing: (batch, chunks, chunk, dim), token by token.
    x_at = functional.pad(x, (0, 0, 0, count * chunk - time)).view(batch, count, chunk, dim).unbind(2)
    gate_at = functional.pad(gate, (0, 0, 0, count * chunk - time), value=1.0).view(batch, count, chunk, dim).unbind(2)
    moved, kept = [x_at[0]], [gate_at[0]]
    for x_t, gate_t in zip(x_at[1:], gate_at[1:], strict=True):
        moved.append(torch.addcmul(x_t, gate_t, moved[-1]))
        kept.append(gate_t * kept[-1])
    if count == 1:
        starts = state.unsqueeze(1)
    else:
        ends = _scan(moved[-1][:, :-1], kept[-1][:, :-1], state, chunk)
        starts = torch.cat((state.unsqueeze(1), ends), 1)
    h = torch.addcmul(torch.stack(moved, 2), torch.stack(kept, 2), starts.unsqueeze(2))
    return h.view(batch, count * chunk, dim)[:, :time]
