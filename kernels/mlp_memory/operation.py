"""The MLP memory: checks, what is common to all backends, and the choice of one."""

import torch
from torch import Tensor

from recurra.errors import UserError
from recurra.kernels import checks
from recurra.kernels.biases import Bias, l2
from recurra.kernels.mlp_memory import fitting
from recurra.kernels.mlp_memory.arguments import Arguments
from recurra.kernels.mlp_memory.chunked import chunked, one_by_one_compiled
from recurra.kernels.mlp_memory.reference import reference
from recurra.kernels.mlp_memory.state import MLPState, Weights

BACKENDS = ("reference", "chunked", "triton")
COMPILED = "compiled"  # the chunked form again: laws do not wait for a compiler


def mlp_memory(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    weights: Weights,
    rate: Tensor,
    log_decay: Tensor | None = None,
    log_momentum: Tensor | None = None,
    bias: Bias = l2,
    threshold: Tensor | None = None,
    norm: tuple[Tensor, Tensor] | None = None,
    residual: bool = True,
    epsilon: float = 1e-6,
    initial_state: MLPState | None = None,
    first: Tensor | None = None,
    present: Tensor | None = None,
    chunk: int = 64,
    backend: str | None = None,
) -> tuple[Tensor, MLPState]:
    """Teach a small network each key's value while reading, and ask it the queries, one token after another.

    The memory of each head is a network of two layers, M(x; W) = x + LN(GELU(x W_a) W_b). Each token moves its weights
    against the gradient of a loss ℓ, and is answered by the weights so moved:

        S ← η_t S - θ_t ∇ℓ(M(k_t; W'), v_t)
        W ← α_t W + S
        o_t = M(q_t; W)

    W' are the weights at the start of the token's chunk, so the chunk is part of the model; ``chunk=1`` is the online
    rule. With momentum η this is Titans' long-term memory (arXiv 2501.00663, Equations 13, 14 and 16), without it the
    memory of Miras' models (arXiv 2504.13173, Equation 28; Yaad's with ``bias=huber_mixture``) and of TTT-MLP (arXiv
    2407.04620). Chunks are counted from each stream's own first token, and anew from every ``first``.

    A rate and a decay are of the head, or of each channel: then they act on the rows of W_a and the columns of W_b,
    which stand for the channels of a token. Without LN nothing bounds what the memory answers, nor, then, its weights.
    Backward passes keep the weights and momentum of every chunk's start (the kernels those of about the root of their
    number, and write the chunks between once more): learn from long streams in pieces. A piece with which all streams
    begin, without flags, compiles whole (``torch.compile(fullgraph=True)``); elsewhere the layout of chunks hangs on
    what the state and the flags hold.

    Args:
        q: queries ``(batch, time, heads, key_dim)``.
        k: keys ``(batch, time, heads, key_dim)``.
        v: values ``(batch, time, heads, value_dim)``.
        weights: what a fresh memory begins with: W_a ``(heads, key_dim, hidden)`` and W_b ``(heads, hidden,
            value_dim)``; one more row, the last, is the layer's bias, and learns as the others do.
        rate: θ, the step ``(batch, time, heads)`` or, for each channel, ``(batch, time, heads, value_dim)``.
        log_decay: logarithm of α, finite and at most 0 (not checked), of either shape; None keeps all.
        log_momentum: logarithm of η, finite and at most 0 (not checked), ``(batch, time, heads)``; None is without.
        bias: ∇ℓ with respect to the answer; see `recurra.kernels.biases`.
        threshold: what the bias takes besides, of either shape.
        norm: LN's gain and shift ``(heads, value_dim)``; None leaves LN out.
        residual: add the memory's input to its answer; value_dim is key_dim then.
        epsilon: LN's, added to the variance.
        initial_state: what an earlier call returned; None is the beginning.
        first: ``(batch, time)`` bool: the memory is fresh before these tokens, whether they are present or not.
        present: ``(batch, time)`` bool: tokens where it is False neither write nor read, and their output is 0; what
            they hold, NaN included, does not matter.
        chunk: tokens whose gradients are taken at the same weights.
        backend: ``"reference"`` goes token by token, ``"chunked"`` is parallel within a chunk, and ``"triton"`` is the
            same in kernels for a GPU: heads of up to 128 channels, chunks of up to 64 tokens (of float32 heads of more
            than 64 channels 16, and of more than 32 with a decay of their own 32), the biases of
            `recurra.kernels.biases`; products are in bfloat16 where queries, keys and values are. None takes the last
            on a GPU for what it takes, else the first for a single token and the second for more. ``"compiled"`` is
            the chunked form with what a chunk does compiled by torch, in the first call, which takes a minute. All are
            differentiable in every floating-point argument; the kernels and what is compiled once, the others as
            often as torch is.

    Returns:
        Outputs ``(batch, time, heads, value_dim)`` in v's dtype, and the state after the last token. States are held
        and products computed in the widest dtype of the arguments and at least in float32, under autocast too.

    Raises:
        UserError: if a shape, a dtype, the chunk or the backend does not fit, or nothing can be compiled here.

    >>> import torch
    >>> key, value = torch.randn(2, 1, 1, 1, 8).unbind()
    >>> weights = torch.randn(1, 8, 32) / 3, torch.zeros(1, 32, 8)
    >>> options = {"weights": weights, "rate": torch.full((1, 1, 1), 0.01), "chunk": 1}
    >>> output, state = mlp_memory(key, key, value, **options)
    >>> again, state = mlp_memory(key, key, value, **options, initial_state=state)
    >>> bool((again - value).norm() < (output - value).norm())  # seen twice, remembered better
    True
    >>> state.weights[0].shape, state.position
    (torch.Size([1, 1, 8, 32]), tensor([2]))
    """
    _check(q, k, v, weights, rate, log_decay, log_momentum, threshold, norm, residual, initial_state, first, present)
    if chunk < 1:
        raise UserError(f"chunk must be at least 1, got {chunk}")
    carried = () if initial_state is None else (*initial_state.start, *initial_state.weights, *initial_state.momentum)
    floating = (q, k, v, *weights, rate, log_decay, log_momentum, threshold, *(norm or ()), *carried)
    dtype = checks.widest(*floating)
    narrow = q.dtype == k.dtype == v.dtype == torch.bfloat16
    time, keys = q.shape[1], weights[0].shape[-2]
    wide = log_decay is not None and log_decay.dim() == 4 and log_decay.shape[3] > 1
    unfit = fitting.unfit(bias, keys, v.shape[3], min(time, chunk), dtype, narrow=narrow, wide=wide)
    backend = checks.backend("mlp_memory", backend, (*BACKENDS, COMPILED), time=time, device=q.device, unfit=unfit)

    def prepare(x: Tensor) -> Tensor:
        """Give a token (batch, time, heads, 1 or dim); one of zeros neither decays nor writes."""
        x = (x if x.dim() == 4 else x.unsqueeze(-1)).to(dtype)
        return x if present is None else x.masked_fill(~present[..., None, None], 0.0)

    with torch.autocast(v.device.type, enabled=False):
        fresh = weights[0].to(dtype).unsqueeze(0), weights[1].to(dtype).unsqueeze(0)
        if initial_state is None:
            start = fresh[0].expand(len(q), -1, -1, -1), fresh[1].expand(len(q), -1, -1, -1)
            zeros = () if log_momentum is None else (torch.zeros_like(start[0]), torch.zeros_like(start[1]))
            state = MLPState(start, start, zeros, torch.zeros(len(q), dtype=torch.long, device=q.device))
        else:
            state = MLPState(
                (initial_state.start[0].to(dtype), initial_state.start[1].to(dtype)),
                (initial_state.weights[0].to(dtype), initial_state.weights[1].to(dtype)),
                tuple(s.to(dtype) for s in initial_state.momentum),
                initial_state.position,
            )
        if q.shape[1] == 0:
            return torch.empty_like(v), state
        given = Arguments(
            q=prepare(q),
            k=prepare(k),
            v=prepare(v),
            rate=prepare(rate),
            log_decay=prepare(rate.new_zeros(rate.shape[:3]) if log_decay is None else log_decay),
            log_momentum=None if log_momentum is None else prepare(log_momentum),
            threshold=None if threshold is None else prepare(threshold),
            weights=fresh,
            norm=None if norm is None else (norm[0].to(dtype), norm[1].to(dtype)),
            epsilon=epsilon,
            residual=residual,
            bias=bias,
        )
        begins = initial_state is None
        if backend == "reference":
            output, state = reference(given, state, first, present, chunk)
        elif backend == "triton":
            from recurra.kernels.mlp_memory.gpu import triton_chunks, triton_step  # the others do without triton

            learnt = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in floating)
            if time == 1 and present is None and not learnt:
                output, state = triton_step(given, state, first, chunk)
            else:
                output, state = triton_chunks(given, state, first, present, chunk, fresh=begins, narrow=narrow)
        else:
            through = one_by_one_compiled if backend == COMPILED else None
            output, state = chunked(given, state, first, present, chunk, fresh=begins, through=through)
    return output.to(v.dtype), state


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Weights,
    rate: Tensor,
    log_decay: Tensor | None,
    log_momentum: Tensor | None,
    threshold: Tensor | None,
    norm: tuple[Tensor, Tensor] | None,
    residual: bool,
    state: MLPState | None,
    first: Tensor | None,
    present: Tensor | None,
) -> None:
    checks.heads(q, v)
    batch, time, heads, key_dim = q.shape
    value_dim, hidden = v.shape[3], weights[0].shape[-1]
    if residual and key_dim != value_dim:
        raise UserError(f"a memory that adds its input needs values as wide as keys, got {value_dim} and {key_dim}")
    uppers: list[tuple[int, ...]] = [(heads, rows, hidden) for rows in (key_dim, key_dim + 1)]
    lowers: list[tuple[int, ...]] = [(heads, rows, value_dim) for rows in (hidden, hidden + 1)]
    tokens = (batch, time, heads)
    gates: list[tuple[int, ...]] = [tokens, (*tokens, 1)]
    if key_dim == value_dim and weights[0].shape[-2] == key_dim:  # a bias of the first layer is of no channel
        gates.append((*tokens, value_dim))
    expected: dict[str, tuple[Tensor | None, list[tuple[int, ...]]]] = {
        "k": (k, [(*tokens, key_dim)]),
        "weights[0]": (weights[0], uppers),
        "weights[1]": (weights[1], lowers),
        "rate": (rate, gates),
        "log_decay": (log_decay, gates),
        "log_momentum": (log_momentum, gates[:2]),
        "threshold": (threshold, [*gates[:2], (*tokens, value_dim)]),
    }
    if norm is not None:
        expected |= {f"norm[{index}]": (part, [(heads, value_dim)]) for index, part in enumerate(norm)}
    if state is not None:
        if len(state.momentum) != (0 if log_momentum is None else 2):
            raise UserError("initial_state holds a momentum if, and only if, log_momentum is given")
        for name, pair in (("start", state.start), ("weights", state.weights), ("momentum", state.momentum)):
            for index, part in enumerate(pair):
                expected[f"initial_state.{name}[{index}]"] = (part, [(batch, *weights[index].shape)])
    checks.shapes(expected)
    checks.floating(**{name: tensor for name, (tensor, _) in expected.items()})
    for name, flags in (("first", first), ("present", present)):
        if flags is not None and (flags.dtype != torch.bool or tuple(flags.shape) != (batch, time)):
            raise UserError(f"{name} must be bool of shape {(batch, time)}, got {flags.dtype} of {tuple(flags.shape)}")
