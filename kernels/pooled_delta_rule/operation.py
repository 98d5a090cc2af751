"""The pooled delta rule: checks, what is common to all backends, and the choice of one."""

import torch
from torch import Tensor

from recurra.errors import UserError
from recurra.kernels import checks
from recurra.kernels.pooled_delta_rule.chunked import chunked
from recurra.kernels.pooled_delta_rule.reference import reference

BACKENDS = ("reference", "chunked")


def pooled_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    log_decay: Tensor | None = None,
    beta: Tensor | None = None,
    initial_state: Tensor | None = None,
    first: Tensor | None = None,
    present: Tensor | None = None,
    chunk: int = 64,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Let agents write to one matrix that decays, all at once, and read what was there before.

    At a time step every agent a reads first; then the memory decays, and all of them correct what it says then:

        o_a = Sᵀ q_a
        S ← exp(log_decay_t) S
        S ← S + Σ_a β_a k_a (v_a - Sᵀ k_a)ᵀ      with beta
        S ← S + Σ_a k_a v_aᵀ                     without

    For one agent what is written is `recurra.kernels.delta_rule`'s (Gated DeltaNet, arXiv 2412.06464). S stays bounded
    where Σ_a β_a ‖k_a‖² ≤ 2: normalise keys, and divide β by the number of writers, whose sum overshoots otherwise.
    The cost is linear in agents.

    Args:
        q: queries ``(batch, agents, time, heads, key_dim)``.
        k: keys ``(batch, agents, time, heads, key_dim)``.
        v: values ``(batch, agents, time, heads, value_dim)``.
        log_decay: natural logarithm of what a time step keeps of the memory ``(batch, time, heads)``, finite and at
            most 0 (not checked). None keeps all. It holds at steps without a writer, too: give 0 there.
        beta: step of the delta rule ``(batch, agents, time, heads)``; None adds to the memory without correcting it.
        initial_state: ``(batch, heads, key_dim, value_dim)``; None is zeros.
        first: ``(batch, time)`` bool: S is 0 before these time steps.
        present: ``(batch, agents, time)`` bool: where it is False an agent neither writes nor reads, and its output is
            0; what it holds, NaN included, does not matter.
        chunk: tokens of all agents that the chunked backend reads at once, at most, but for the tokens of one time
            step, which it always does: changes the speed, not the answer.
        backend: ``"reference"`` goes step by step, ``"chunked"`` is parallel within a chunk; None takes the first for a
            single step and for teams of which two steps are no chunk, else the second. Both are differentiable in every
            floating-point argument.

    Returns:
        Outputs ``(batch, agents, time, heads, value_dim)`` in v's dtype, and the state after the last step. States are
        held and products computed in the widest dtype of the arguments and at least in float32, under autocast too.

    Raises:
        UserError: if a shape, a dtype, the chunk or the backend does not fit.

    >>> import torch
    >>> key = torch.tensor([1.0, 0.0]).expand(1, 2, 2, 1, 2)  # two agents, two time steps
    >>> value = torch.tensor([[5.0, 7.0], [9.0, 7.0]]).reshape(1, 2, 2, 1, 1)
    >>> output, state = pooled_delta_rule(key, key, value, beta=torch.full((1, 2, 2, 1), 0.5))
    >>> output.flatten(1).tolist(), state[0, 0, 0].tolist()  # what the step before has left: both agents' mean
    ([[0.0, 7.0, 0.0, 7.0]], [7.0])
    """
    _check(q, k, v, log_decay, beta, initial_state, first, present)
    if chunk < 1:
        raise UserError(f"chunk must be at least 1, got {chunk}")
    batch, agents, time, heads, key_dim = q.shape
    whole = time if 2 * agents <= chunk else 1
    backend = checks.backend("pooled_delta_rule", backend, BACKENDS, time=whole, device=v.device)

    dtype = checks.widest(q, k, v, log_decay, beta, initial_state)
    if initial_state is None:
        state = v.new_zeros(batch, heads, key_dim, v.shape[-1], dtype=dtype)
    else:
        state = initial_state.to(dtype)
    if time == 0 or agents == 0:
        return torch.zeros_like(v), state

    def prepare(x: Tensor) -> Tensor:
        """Give (batch, heads, time, agents, …); a token of zeros neither writes nor reads."""
        if present is not None:
            x = x.masked_fill(~present.reshape(*present.shape, *[1] * (x.dim() - 3)), 0.0)
        return x.to(dtype).transpose(1, 3)

    with torch.autocast(v.device.type, enabled=False):
        tokens = (
            prepare(q),
            prepare(k),
            prepare(v),
            None if log_decay is None else log_decay.to(dtype).mT,
            None if beta is None else prepare(beta),
        )
        if backend == "reference":
            output, state = reference(*tokens, state, first)
        else:
            output, state = chunked(*tokens, state, first, chunk)
    return output.transpose(1, 3).to(v.dtype), state


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None,
    beta: Tensor | None,
    initial_state: Tensor | None,
    first: Tensor | None,
    present: Tensor | None,
) -> None:
    if q.dim() != 5:
        raise UserError(f"q must be (batch, agents, time, heads, key_dim), got {tuple(q.shape)}")
    if v.dim() != 5 or v.shape[:4] != q.shape[:4]:
        raise UserError(f"v must be of shape ({', '.join(map(str, q.shape[:4]))}, value_dim), got {tuple(v.shape)}")
    batch, agents, time, heads, key_dim = q.shape
    expected: dict[str, tuple[Tensor | None, list[checks.Shape]]] = {
        "k": (k, [(batch, agents, time, heads, key_dim)]),
        "log_decay": (log_decay, [(batch, time, heads)]),
        "beta": (beta, [(batch, agents, time, heads)]),
        "initial_state": (initial_state, [(batch, heads, key_dim, v.shape[4])]),
        "first": (first, [(batch, time)]),
        "present": (present, [(batch, agents, time)]),
    }
    checks.shapes(expected)
    checks.flags(first=first, present=present)
    checks.floating(q=q, k=k, v=v, log_decay=log_decay, beta=beta, initial_state=initial_state)
