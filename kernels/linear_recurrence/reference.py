"""The linear recurrence token by token: the specification, and the path that acts one token at a time."""

import torch
from torch import Tensor


def reference(x: Tensor, gate: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Read at least one token after another: h_t = g_t h_{t-1} + x_t; shapes ``(batch, time, dim)``."""
    outputs = []
    for x_t, gate_t in zip(x.unbind(1), gate.unbind(1), strict=True):
        state = torch.addcmul(x_t, gate_t, state)
        outputs.append(state)
    return torch.stack(outputs, 1), state
