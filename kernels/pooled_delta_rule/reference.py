"""The pooled delta rule token by token: the specification, and the path that acts one token at a time."""

import torch
from torch import Tensor


def reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None,
    beta: Tensor | None,
    state: Tensor,
    first: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Read at least one token after another, in time linear in agents.

    Tokens are ``(batch, heads, time, agents, …)``, the decay ``(batch, heads, time)``:

        O_t = Q_t S
        S ← α_t S
        S ← S + K_tᵀ β_t (V_t - K_t S)      (without β: S ← S + K_tᵀ V_t)
    """
    decay = None if log_decay is None else log_decay.exp()
    outputs = []
    for t in range(q.shape[2]):
        if first is not None:
            state = torch.where(first[:, t, None, None, None], 0.0, state)
        key, write = k[:, :, t], v[:, :, t]
        outputs.append(q[:, :, t] @ state)
        if decay is not None:
            state = decay[:, :, t, None, None] * state
        if beta is not None:
            write = beta[:, :, t, :, None] * (write - key @ state)
        state = state + key.mT @ write
    return torch.stack(outputs, 2), state
