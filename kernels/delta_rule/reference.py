"""The delta rule token by token: the specification, and the path that acts one token at a time."""

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
    """Read at least one token after another; shapes are those of `recurra.kernels.delta_rule`.

    Gated DeltaNet (arXiv 2412.06464), transposed so that keys are rows, with the decay α = exp(log_decay):

        S ← diag(α_t) S
        S ← S + β_t k_t (v_t - Sᵀ k_t)ᵀ      (without β: S ← S + k_t v_tᵀ)
        o_t = Sᵀ q_t
    """
    decay = None if log_decay is None else _per_key(log_decay).exp()
    outputs = []
    for t in range(q.shape[1]):
        if first is not None:
            state = torch.where(first[:, t, None, None, None], 0.0, state)
        if decay is not None:
            state = decay[:, t].unsqueeze(-1) * state
        write = v[:, t]
        if beta is not None:
            write = beta[:, t].unsqueeze(-1) * (write - _read(state, k[:, t]))
        state = torch.addcmul(state, k[:, t].unsqueeze(-1), write.unsqueeze(-2))  # S + k wᵀ in one pass
        outputs.append(_read(state, q[:, t]))
    return torch.stack(outputs, 1), state


def _per_key(log_decay: Tensor) -> Tensor:
    """Give a decay of a whole head an axis of keys to broadcast along."""
    return log_decay if log_decay.dim() == 4 else log_decay.unsqueeze(-1)


def _read(state: Tensor, key: Tensor) -> Tensor:
    """Sᵀ k: what ``state (batch, heads, key_dim, value_dim)`` holds under ``key (batch, heads, key_dim)``."""
    return (key.unsqueeze(-2) @ state).squeeze(-2)
