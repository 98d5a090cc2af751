"""The delta rule chunk by chunk: parallel within a chunk, plain differentiable torch.

This is the WY form of DeltaNet (arXiv 2406.06484, Appendix B) with the decays of Gated DeltaNet (arXiv 2412.06464).
What does not depend on the state is found for all chunks at once, and what is read likewise in the end; only what each
chunk finds new, and writes, goes from chunk to chunk.

Decays are sums of logarithms from one token to another, never differences of sums from the chunk's start: so nothing
overflows, no gradient is NaN, and a strong decay early in the chunk costs the later tokens no digits.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def chunked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None,
    beta: Tensor | None,
    state: Tensor,
    first: Tensor | None,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """Read at least one token in chunks of at most ``chunk``; shapes are those of `recurra.kernels.delta_rule`.

    Within a chunk of C tokens, with L_ij the decay after token j up to token i, E_i that from the chunk's entry up to
    token i (both 0 where an episode begins in between), and ⊙ the product along key channels:

        A_ij = β_i k_iᵀ (L_ij ⊙ k_j)  for i > j            (I + A) [U, W] = β [V, E ⊙ K]
        B_ij = q_iᵀ (L_ij ⊙ k_j)      for i ≥ j            N = U - W S
        O = B N + (E ⊙ Q) S
        S ← E_C ⊙ S + (L_C ⊙ K)ᵀ N

    N is what is new to the memory. Without β the tokens write all, N = V. Where nobody learns, no token writes and
    nothing decays, O = Q S is all there is to do: so it is for most of a document that gates are shut to.
    """
    if log_decay is None and first is None and _idle(beta):
        return (q.transpose(1, 2) @ state).transpose(1, 2), state
    batch, time, heads, value_dim = v.shape
    by_channel = log_decay is not None and log_decay.dim() == 4
    count = -(-time // chunk)
    chunk = -(-time // count)  # chunks of equal length: a piece of 65 tokens does not pay for 128

    def split(x: Tensor) -> Tensor:
        """Lay (batch, time, heads, dim) out as (chunks, batch, heads, chunk, dim), filled up with absent tokens."""
        x = F.pad(x, (0, 0, 0, 0, 0, count * chunk - time))
        return x.unflatten(1, (count, chunk)).permute(1, 0, 3, 2, 4).contiguous()

    q, k, v = split(q), split(k), split(v)
    if log_decay is None:
        log_decay = q.new_zeros(1, 1, 1, chunk, 1)
    else:
        log_decay = split(log_decay if by_channel else log_decay.unsqueeze(-1))
    entering, leaving = log_decay.cumsum(-2), _rest(log_decay)
    apart = torch.ones(chunk, chunk, dtype=torch.bool, device=q.device).triu(1)
    if first is not None:
        episode = split(first[..., None, None]).cumsum(-2)
        apart = apart | (episode != episode.mT)
        entering = entering.masked_fill(episode > 0, -torch.inf)
        leaving = leaving.masked_fill(episode < episode[..., -1:, :], -torch.inf)
    entering, leaving_k = entering.exp(), leaving.exp() * k
    within = None if by_channel else _within(log_decay, apart)

    def match(rows: Tensor) -> Tensor:
        """rows_iᵀ (L_ij ⊙ k_j): (…, chunk, chunk)."""
        if within is None:
            return _match(rows, k, log_decay).masked_fill(apart, 0.0)
        return (rows @ k.mT) * within

    states, writes = [state.flatten(0, 1)], v.flatten(1, 2)
    kept = entering[..., -1:, :].mT.expand(*k.shape[:3], -1, 1).flatten(1, 2).unbind()
    if beta is None:
        told = (leaving_k.mT @ v).flatten(1, 2)
        for c_kept, c_told in zip(kept, told.unbind(), strict=True):
            states.append(torch.addcmul(c_told, c_kept, states[-1]))
    else:
        beta = split(beta.unsqueeze(-1))
        beta_k = beta * k
        targets = torch.cat([beta * v, entering * beta_k], -1)
        solved = torch.linalg.solve_triangular(match(beta_k), targets, upper=False, unitriangular=True)
        known, against = solved.flatten(1, 2).split([value_dim, k.shape[-1]], -1)
        found = []
        for c_kept, c_known, c_against, c_k in zip(
            kept, known.unbind(), against.unbind(), leaving_k.mT.flatten(1, 2).unbind(), strict=True
        ):
            found.append(torch.baddbmm(c_known, c_against, states[-1], alpha=-1))
            states.append(torch.baddbmm(c_kept * states[-1], c_k, found[-1]))
        writes = torch.stack(found)
    entered, writes = (x.unflatten(1, (batch, heads)) for x in (torch.stack(states[:-1]), writes))
    output = match(q) @ writes + (entering * q) @ entered
    output = output.permute(1, 0, 3, 2, 4).flatten(1, 2)[:, :time]
    return output, states[-1].unflatten(0, (batch, heads))


def _idle(beta: Tensor | None) -> bool:
    """Say whether no token writes; of a graph that is compiled or differentiated, it is not asked."""
    if beta is None or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    return not beta.any()


def _rest(log_decay: Tensor) -> Tensor:
    """Sum the decays after each token: (…, chunk, dim)."""
    return F.pad(log_decay[..., 1:, :], (0, 0, 0, 1)).flip(-2).cumsum(-2).flip(-2)


def _within(log_decay: Tensor, apart: Tensor) -> Tensor:
    """L of a decay (…, chunk, 1) that all channels share: (…, chunk, chunk), 0 where tokens are apart."""
    chunk = log_decay.shape[-2]
    not_after = torch.ones(chunk, chunk, dtype=torch.bool, device=log_decay.device).triu()
    return log_decay.masked_fill(not_after, 0.0).cumsum(-2).masked_fill(apart, -torch.inf).exp()


def _match(rows: Tensor, k: Tensor, log_decay: Tensor) -> Tensor:
    """rows_iᵀ (L_ij ⊙ k_j) for i ≥ j, each channel with its own decay (…, chunk, key_dim): (…, chunk, chunk).

    What the later half of a chunk sees of the earlier passes the middle, where L_ij falls into a factor of i and one
    of j, both at most 1: a product of matrices, without the chunk² × key_dim numbers of L.
    """
    chunk = k.shape[-2]
    if chunk == 1:
        return (rows * k).sum(-1, keepdim=True)
    if chunk % 2:
        rows, k, log_decay = (F.pad(x, (0, 0, 0, 1)) for x in (rows, k, log_decay))
        return _match(rows, k, log_decay)[..., :chunk, :chunk]
    rows, k, log_decay = (x.unflatten(-2, (2, chunk // 2)) for x in (rows, k, log_decay))
    early, late = _match(rows, k, log_decay).unbind(-3)
    seen_rows = rows[..., 1, :, :] * log_decay[..., 1, :, :].cumsum(-2).exp()
    left_k = k[..., 0, :, :] * _rest(log_decay[..., 0, :, :]).exp()
    return torch.cat([F.pad(early, (0, chunk // 2)), torch.cat([seen_rows @ left_k.mT, late], -1)], -2)
