"""The delta rule: checks, what is common to all backends, and the choice of one."""

import torch
from torch import Tensor

from recurra.errors import UserError
from recurra.kernels import checks, launching
from recurra.kernels.delta_rule.chunked import chunked
from recurra.kernels.delta_rule.reference import reference

BACKENDS = ("reference", "chunked", "triton")


def delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    log_decay: Tensor | None = None,
    beta: Tensor | None = None,
    scale: float = 1.0,
    initial_state: Tensor | None = None,
    first: Tensor | None = None,
    present: Tensor | None = None,
    chunk: int = 64,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Write values under keys into a matrix that decays, and read it with queries, one token after another.

    The memory S maps keys to values, Sᵀ k ≈ v. Each token first lets it decay, then writes, then reads:

        S ← diag(exp(log_decay_t)) S
        S ← S + β_t k_t (v_t - Sᵀ k_t)ᵀ      with beta: the delta rule
        S ← S + k_t v_tᵀ                     without: linear attention
        o_t = scale · Sᵀ q_t

    With beta alone this is DeltaNet (arXiv 2406.06484), with a decay of each head Gated DeltaNet
    (arXiv 2412.06464), with a decay of each channel Kimi Delta Attention (arXiv 2510.26692); without
    beta linear attention, RetNet's and Mamba-2's (a decay of each head) and Gated Linear Attention's (of each
    channel) recurrences. The delta rule keeps S bounded where β_t ‖k_t‖² ≤ 2: normalise the keys.

    Args:
        q: queries ``(batch, time, heads, key_dim)``.
        k: keys ``(batch, time, heads, key_dim)``.
        v: values ``(batch, time, heads, value_dim)``.
        log_decay: natural logarithm of what a token keeps of the memory, finite and at most 0 (not checked):
            ``(batch, time, heads)``, or for each key channel ``(batch, time, heads, key_dim)``. None keeps all.
        beta: step of the delta rule ``(batch, time, heads)``; None adds to the memory without correcting it.
        scale: factor of the outputs, commonly ``key_dim ** -0.5``.
        initial_state: ``(batch, heads, key_dim, value_dim)``; None is zeros.
        first: ``(batch, time)`` bool: S is 0 before these tokens, whether they are present or not.
        present: ``(batch, time)`` bool: tokens where it is False neither decay, write nor read, and their output
            is 0; what they hold, NaN included, does not matter.
        chunk: tokens that are read at once, at most (the Triton kernels read 16, 32 or 64): changes the speed, not
            the answer.
        backend: ``"reference"`` goes token by token, ``"chunked"`` is parallel within a chunk, ``"triton"`` runs
            kernels on a GPU, for keys of at most 128 channels and in float32 or less; None takes the last for CUDA
            tensors that it can take, else the first for a single token and the second for more. All are
            differentiable in every floating-point argument.

    Returns:
        Outputs ``(batch, time, heads, value_dim)`` in v's dtype, and the state after the last token. States are held
        and products computed in the widest dtype of the arguments and at least in float32, under autocast too; but
        the Triton kernels multiply bfloat16 queries, keys and values in bfloat16, and add up in float32.

    Raises:
        UserError: if a shape, a dtype, the chunk or the backend does not fit, or the backend cannot run here.

    >>> import torch
    >>> key = torch.tensor([1.0, 0.0]).expand(1, 2, 1, 2)
    >>> value = torch.tensor([[5.0], [7.0]]).reshape(1, 2, 1, 1)
    >>> output, state = delta_rule(key, key, value, beta=torch.ones(1, 2, 1))
    >>> output.flatten()  # the second value takes the place of the first
    tensor([5., 7.])
    >>> output, state = delta_rule(key, key, value)
    >>> output.flatten()  # without beta they add up
    tensor([ 5., 12.])
    >>> state.shape
    torch.Size([1, 1, 2, 1])
    """
    _check(q, k, v, log_decay, beta, initial_state, first, present)
    if chunk < 1:
        raise UserError(f"chunk must be at least 1, got {chunk}")
    dtype = checks.widest(q, k, v, log_decay, beta, initial_state)
    unfit = None
    if q.shape[3] > 128:
        unfit = f"keys of at most 128 channels, not of {q.shape[3]}"
    elif dtype == torch.float64 and not launching.INTERPRETED:
        unfit = "float32 and less on a GPU, not float64"
    backend = checks.backend("delta_rule", backend, BACKENDS, time=q.shape[1], device=q.device, unfit=unfit)
    if initial_state is None:
        state = v.new_zeros(v.shape[0], v.shape[2], k.shape[3], v.shape[3], dtype=dtype)
    else:
        state = initial_state.to(dtype)
    if q.shape[1] == 0:
        return torch.empty_like(v), state

    if backend == "triton":  # masks, casts and scales what it loads
        from recurra.kernels.delta_rule.gpu import delta_rule_forward  # imports triton: the others do without

        found: tuple[Tensor, Tensor] = delta_rule_forward(
            q, k, v, log_decay, beta, state, first, present, float(scale), chunk
        )
        return found

    def prepare(x: Tensor) -> Tensor:
        """A token of zeros neither decays, writes nor reads: the backends need not know which are absent."""
        x = x.to(dtype)
        return x if present is None else x.masked_fill(~present.reshape(*present.shape, *[1] * (x.dim() - 2)), 0.0)

    with torch.autocast(v.device.type, enabled=False):
        tokens = (
            prepare(q) * scale,
            prepare(k),
            prepare(v),
            None if log_decay is None else prepare(log_decay),
            None if beta is None else prepare(beta),
        )
        if backend == "reference":
            output, state = reference(*tokens, state, first)
        else:
            output, state = chunked(*tokens, state, first, chunk)
    return output.to(v.dtype), state


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
    checks.heads(q, v)
    batch, time, heads, key_dim = q.shape
    tokens = (batch, time, heads)
    expected: dict[str, tuple[Tensor | None, list[checks.Shape]]] = {
        "k": (k, [(*tokens, key_dim)]),
        "log_decay": (log_decay, [tokens, (*tokens, key_dim)]),
        "beta": (beta, [tokens]),
        "initial_state": (initial_state, [(batch, heads, key_dim, v.shape[3])]),
        "first": (first, [(batch, time)]),
        "present": (present, [(batch, time)]),
    }
    checks.shapes(expected)
    checks.flags(first=first, present=present)
    checks.floating(q=q, k=k, v=v, log_decay=log_decay, beta=beta, initial_state=initial_state)
