"""The pooled delta rule chunk by chunk: the WY form of `recurra.kernels.delta_rule`, with blocks for tokens.

All writers of a time step look at the state before it. So what a write corrects are the writes of earlier steps alone,
and the matrix to solve is lower triangular by blocks: between writers of one step it is 0, which takes nothing from
its being unit lower triangular by tokens.
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
    """Read at least one time step, as many at once as have ``chunk`` tokens; shapes are those of `reference`.

    Within a chunk, with i and j tokens, s(i) the time step of one, L_ij the decay after step s(j) up to and including
    s(i), R_ij that up to but not including s(i), and E and R_i likewise from the chunk's entry (all 0 where an
    episode begins in between):

        A_ij = β_i k_iᵀ k_j L_ij  for s(i) > s(j)            (I + A) [U, W] = β [V, E ⊙ K]
        B_ij = q_iᵀ k_j R_ij      for s(i) > s(j)            N = U - W S
        O = B N + (R ⊙ Q) S
        S ← E_C S + (L_C ⊙ K)ᵀ N

    N is what is new to the memory. Without β the tokens write all, N = V.
    """
    batch, heads, time, agents, value_dim = v.shape
    steps = max(1, chunk // agents)
    count = -(-time // steps)
    steps = -(-time // count)

    def split(x: Tensor) -> Tensor:
        """Lay (batch, heads, time, …) out as (chunks, batch, heads, steps, …), filled up with absent steps."""
        x = F.pad(x, (*[0, 0] * (x.dim() - 3), 0, count * steps - time))
        return x.unflatten(2, (count, steps)).movedim(2, 0)

    def tokens(x: Tensor) -> Tensor:
        """Lay (batch, heads, time, agents, dim) out as (chunks, batch, heads, steps * agents, dim)."""
        return split(x).flatten(3, 4).contiguous()

    def spread(x: Tensor) -> Tensor:
        """Give each token what its time step has: (…, steps) to (…, steps * agents, 1)."""
        return x.repeat_interleave(agents, -1).unsqueeze(-1)

    q, k, v = tokens(q), tokens(k), tokens(v)
    pace = q.new_zeros(1, 1, 1, steps) if log_decay is None else split(log_decay)
    # Sums of logarithms from one step to another, never differences: see `recurra.kernels.delta_rule`.
    rows = pace.unsqueeze(-1).expand(*pace.shape, steps)
    not_after = torch.ones(steps, steps, dtype=torch.bool, device=q.device).triu()
    through = rows.masked_fill(not_after, 0.0).cumsum(-2)
    before = F.pad(through[..., :-1, :], (0, 0, 1, 0))
    entering = pace.cumsum(-1)
    entering_read = F.pad(entering[..., :-1], (1, 0))
    leaving = F.pad(pace[..., 1:], (0, 1)).flip(-1).cumsum(-1).flip(-1)
    apart = not_after
    if first is not None:
        episode = split(first[:, None]).cumsum(-1)
        apart = apart | (episode.unsqueeze(-1) != episode.unsqueeze(-2))
        entering, entering_read = (x.masked_fill(episode > 0, -torch.inf) for x in (entering, entering_read))
        leaving = leaving.masked_fill(episode < episode[..., -1:], -torch.inf)
    entering, entering_read, leaving = entering.exp(), entering_read.exp(), leaving.exp()
    leaving_k = spread(leaving) * k

    def match(rows: Tensor, log_kept: Tensor) -> Tensor:
        """rows_iᵀ k_j, times what is kept between their steps: (…, steps * agents, steps * agents)."""
        kept = log_kept.masked_fill(apart, -torch.inf).exp()
        pairs = (rows @ k.mT).unflatten(-1, (steps, agents)).unflatten(-3, (steps, agents))
        return (pairs * kept[..., :, None, :, None]).flatten(-2).flatten(-3, -2)

    states, writes = [state], v
    kept = entering[..., -1, None, None].expand(count, batch, heads, 1, 1).unbind()
    if beta is None:
        for c_kept, c_told in zip(kept, (leaving_k.mT @ v).unbind(), strict=True):
            states.append(c_kept * states[-1] + c_told)
    else:
        strength = tokens(beta.unsqueeze(-1))
        beta_k = strength * k
        targets = torch.cat([strength * v, spread(entering) * beta_k], -1)
        if steps > 1:
            targets = torch.linalg.solve_triangular(match(beta_k, through), targets, upper=False, unitriangular=True)
        known, against = targets.split([value_dim, k.shape[-1]], -1)
        found = []
        for c_kept, c_known, c_against, c_k in zip(
            kept, known.unbind(), against.unbind(), leaving_k.mT.unbind(), strict=True
        ):
            found.append(c_known - c_against @ states[-1])
            states.append(c_kept * states[-1] + c_k @ found[-1])
        writes = torch.stack(found)
    output = (spread(entering_read) * q) @ torch.stack(states[:-1])
    if steps > 1:
        output = output + match(q, before) @ writes
    output = output.unflatten(3, (steps, agents)).movedim(0, 2).flatten(2, 3)[:, :, :time]
    return output, states[-1]
