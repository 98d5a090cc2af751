"""An associative memory learnt at test time, composed of Miras' four choices."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recurra.errors import UserError
from recurra.memory import gates
from recurra.memory.base import Memory, hide
from recurra.memory.blocks import ShortConvolution, ShortConvolutionState
from recurra.memory.checks import check_counts, check_heads
from recurra.memory.miras import retentions
from recurra.memory.miras.architectures import Form, read, shapes
from recurra.memory.miras.biases import WITH_THRESHOLD, bias_named
from recurra.memory.miras.learner import Learner, drawn
from recurra.memory.miras.learning import step
from recurra.memory.miras.paths import BACKENDS, PATHS, Flow
from recurra.memory.miras.rates import Decay, Rate
from recurra.memory.miras.rule import Rule
from recurra.memory.miras.state import AssociativeState, Learning
from recurra.memory.miras.tokens import Tokens, spread
from recurra.memory.positions import positions


class Associative(Memory):
    """A memory that learns, while it reads, to give each key's value (Miras, Behrouz et al. 2025, arXiv 2504.13173).

    Each head is a small function M of its own weights. A token shows it a key and a value, it takes a step down the
    slope of the attentional bias, lets go of some of what it knew, and is asked with a query::

        W_t = retain(W_{t-1}) - η_t ∇ℓ(M(k_t; W'), v_t)        o_t = M(q_t; W_t)

    where W' are the weights at the start of the chunk. The chunk is part of the model: larger ones are faster, and
    learn from staler gradients; ``chunk=1`` is the online rule. Around it are a layer's usual parts: projections,
    short convolution, SiLU, normalised queries and keys; a norm of each head's answer, a gate, an output projection.

    Args:
        dim: width of inputs and outputs.
        heads: number of memories, each of ``dim / heads``.
        architecture: what a memory is, see `recurra.memory.miras.CHOICES` for this and the next three.
        bias: what it minimises.
        retention: what becomes of what was there.
        algorithm: how it learns.
        chunk: tokens whose gradients are taken at the same weights.
        steps: writes of each token, each with a key and a value of its own (DeltaProduct).
        p: exponent of the bias lp.
        q: exponent of the retention lq.
        mirror: see `recurra.memory.miras.retentions.mapped`.
        mass: likewise.
        mapped: where the retention maps what is written to weights: the tokens of a chunk that read weights so mapped,
            ``every`` one, the ``last`` one (Moneta's chunked form), or the first and the last, the ``ends``
            (Memora's lag token); others read what plain steps make of the weights at the chunk's start.
        decay_first: take the gradient where the memory has already decayed (Gated DeltaNet), not before (Titans).
        norm: M(k) = k + LN(f(k)) instead of f(k); None is so for MLPs.
        offset: f has offsets, which are learnt at test time as its weights are.
        learnt_start: the weights at the beginning are parameters; otherwise they are 0. None is so for MLPs, with a
            norm and where the retention maps zeros to what it would have to forget.
        expansion: width of an MLP's hidden layer over that of a head.
        value_factor: width of the values over that of the keys.
        step: the largest η; None is 1; for a memory linear in its weights 1 / (2 chunk), so that a chunk of one pair
            over and over does not overshoot; for one with a norm and for an MLP 0.1, as TTT has it for MLPs.
        by_token: rates depend on the token; otherwise they are learnt constants.
        channelwise: a step, a threshold and a decay for each channel; the decay is so anyway with retention ``channel``
            and never with ``scalar`` and ``l2``, the threshold never where a norm is compared with it.
        rank: of the projections to rates of channels.
        closing: gates that close exactly, see `recurra.memory.gates.gate`.
        pace: the decay's form, ``sigmoid`` or ``softplus``: see `recurra.memory.miras.rates.Decay`.
        root: likewise.
        stepping: steps are ``gated``, as each token says; ``whole``, always the largest; or ``tied``: the decay's Δ, of
            pace ``softplus`` (Mamba-2).
        convolution: width of the short convolution; 0 leaves it out.
        activation: SiLU after it.
        normalised: queries and keys of length 1; otherwise reads are divided by the root of the key's width.
        shared_keys: all heads have the same keys and queries (Mamba-2).
        skip: add the value, times a learnt number for each head, to what is read (Mamba-2's D).
        gate: gate the outputs, by SiLU of a projection.
        backend: of the operation that the rule's path is, where it is one: see `recurra.kernels`.

    Attributes:
        rule: the choices.
        path: what computes them.

    Raises:
        UserError: if a choice is unknown, or a combination has no meaning: the message says why.

    >>> memory = Associative(16, heads=2, architecture="mlp", bias="huber_norm", retention="scalar", chunk=4)
    >>> y, state = memory(torch.ones(2, 5, 16))
    >>> y.shape, [tuple(weights.shape) for weights in state.written], memory.path
    (torch.Size([2, 5, 16]), [(2, 2, 8, 32), (2, 2, 32, 8)], 'mlp_memory')
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 4,
        architecture: str = "matrix",
        bias: str = "l2",
        retention: str = "none",
        algorithm: str = "gradient",
        chunk: int = 16,
        steps: int = 1,
        p: float = 3.0,
        q: float = 4.0,
        mirror: bool = False,
        mass: float = 1.0,
        mapped: str = "every",
        decay_first: bool = False,
        norm: bool | None = None,
        offset: bool = False,
        learnt_start: bool | None = None,
        expansion: int = 4,
        value_factor: int = 1,
        step: float | None = None,
        by_token: bool = True,
        channelwise: bool = False,
        rank: int = 32,
        closing: bool = False,
        pace: str = "sigmoid",
        root: float = 1.0,
        stepping: str = "gated",
        convolution: int = 4,
        activation: bool = True,
        normalised: bool = True,
        shared_keys: bool = False,
        skip: bool = False,
        gate: bool = True,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        deep = architecture.endswith("mlp")
        norm = deep if norm is None else norm
        if learnt_start is None:
            learnt_start = deep or norm or retention in (*retentions.MAPPED, "elastic_net")
        self.rule = rule = Rule(
            architecture=architecture,
            bias=bias,
            retention=retention,
            algorithm=algorithm,
            chunk=chunk,
            steps=steps,
            p=p,
            q=q,
            mirror=mirror,
            mass=mass,
            mapped=mapped,
            decay_first=decay_first,
            norm=norm,
            offset=offset,
            learnt_start=learnt_start,
            channelwise=channelwise,
        )
        _check(rule, dim, heads, expansion=expansion, value_factor=value_factor, rank=rank, step=step)
        _check_rates(rule, pace=pace, root=root, stepping=stepping, closing=closing)
        self.path, self.input_limit = rule.path, rule.input_limit
        self.backends = BACKENDS.get(self.path, ())
        self.dim, self.heads, self.closing, self.stepping, self.backend = dim, heads, closing, stepping, backend
        self.normalised = normalised
        self.key_dim = key_dim = dim // heads
        self.value_dim = value_dim = key_dim * value_factor
        key_heads = 1 if shared_keys else heads
        self.sizes = [key_heads * key_dim, steps * key_heads * key_dim, steps * heads * value_dim]
        self.projection = nn.Linear(dim, sum(self.sizes), bias=False)  # queries, keys, values
        self.convolution = ShortConvolution(sum(self.sizes), width=convolution) if convolution else None
        self.activation = activation

        channels = key_dim if channelwise else 1
        rates: dict[str, Any] = {"rank": rank, "by_token": by_token}
        self.largest = rule.largest_step if step is None else step
        self.step_rate = Rate(dim, (steps * heads, channels), start=0.0, **rates) if stepping == "gated" else None
        self.decay: Decay | None = None
        if retention != "none":
            wide = key_dim if retention == "channel" or (channelwise and retention not in ("scalar", "l2")) else 1
            pace = "sigmoid" if closing else pace
            start = 7.0 if root == 1 else 0.0  # keeps 0.999: from 0.98, titans and yaad learn recall far slower
            self.decay = Decay(dim, (heads, wide), pace=pace, root=root, closing=closing, start=start, **rates)
        self.momentum_rate: Decay | None = None
        if algorithm == "momentum":
            self.momentum_rate = Decay(dim, (heads, 1), pace="sigmoid", root=1.0, closing=closing, start=2.0, **rates)
        thresholds = value_dim if channelwise and bias == "huber" else 1
        self.threshold_rate = Rate(dim, (heads, thresholds), start=0.5, **rates) if bias in WITH_THRESHOLD else None
        self.cut: nn.Parameter | None = None
        if retention.startswith("elastic_net"):
            self.cut = nn.Parameter(torch.full((heads, 1) if architecture == "vector" else (heads, 1, 1), -5.0))
        self.ridge = nn.Parameter(torch.zeros(heads, key_dim)) if algorithm == "closed" else None
        self.inner_norm = nn.ParameterList(
            [torch.ones(heads, value_dim), torch.zeros(heads, value_dim)] if norm else []
        )
        self._shapes = shapes(Form(architecture, offset), key_dim, value_dim, expansion)
        self.weights = nn.ParameterList(
            nn.Parameter(drawn(rule, (heads, *shape))) for shape in self._shapes if learnt_start
        )
        if algorithm == "closed":  # the sum of keys beside that of pairs
            self._shapes.append((key_dim, key_dim))

        self.skip = nn.Parameter(torch.ones(heads, 1)) if skip else None
        self.norm = nn.RMSNorm(value_dim, eps=1e-6)
        self.gate = nn.Linear(dim, heads * value_dim, bias=False) if gate else None
        self.output = nn.Linear(heads * value_dim, dim, bias=False)

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> AssociativeState:
        """Give the learnt weights, or zeros."""
        place = self.placement(device, dtype)
        if self.convolution is None:
            convolution = ShortConvolutionState(torch.zeros(batch, 0, sum(self.sizes), **place))
        else:
            convolution = self.convolution.initial_state(batch, **place)
        position = torch.zeros(batch, dtype=torch.long, device=place["device"])
        return AssociativeState(*self.learner(convolution.tail).start(batch), position, convolution)

    def forward(
        self,
        x: Tensor,
        state: AssociativeState | None = None,
        *,
        first: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, AssociativeState]:
        """Read a piece: see `Memory.forward`."""
        x, state = self.begin(x, state, first, present)
        mixed, convolution = self.projection(x), state.convolution
        if self.convolution is not None:
            mixed, convolution = self.convolution(mixed, convolution, first=first, present=present)
        elif self.activation:
            mixed = functional.silu(mixed)
        _, position = positions(state.position, (len(x), x.shape[1]), first, present)
        steps = self.rule.steps
        if steps > 1:  # the first write of a token begins its episode
            first = None if first is None else functional.pad(first.unsqueeze(-1), (0, steps - 1)).flatten(1)
            flow = Flow(state.position * steps, first, None if present is None else present.repeat_interleave(steps, 1))
        else:
            flow = Flow(state.position, first, present)
        with torch.autocast(x.device.type, enabled=False):
            learner, tokens = self.learner(state.written[0]), self.tokens(x, mixed, state.written[0].dtype)
            o, learning = PATHS[self.path](learner, tokens, Learning(*state[:4]), flow)
        y = self.finished(x, tokens, o)
        return hide(y, present), AssociativeState(*learning, position, convolution)

    def step(
        self, x: Tensor, state: AssociativeState | None = None, *, first: Tensor | None = None
    ) -> tuple[Tensor, AssociativeState]:
        """Read one token of each stream: see `Memory.step`."""
        state = self.begin_step(x, state, first)
        mixed, convolution = self.projection(x), state.convolution
        if self.convolution is not None:
            mixed, convolution = self.convolution.step(mixed, convolution)
        elif self.activation:
            mixed = functional.silu(mixed)
        x = x.unsqueeze(1)
        with torch.autocast(x.device.type, enabled=False):
            learner, tokens = self.learner(state.written[0]), self.tokens(x, mixed.unsqueeze(1), state.written[0].dtype)
            learning, position = Learning(*state[:4]), state.position * self.rule.steps
            in_kernel = self.backend == "triton" or (self.backend is None and x.is_cuda)
            if self.path == "generic" or (self.path == "mlp_memory" and not in_kernel):
                o, learning = step(learner, tokens, position, learning)
            else:
                o, learning = PATHS[self.path](learner, tokens, learning, Flow(position))
        y = self.finished(x, tokens, o).squeeze(1)
        return y, AssociativeState(*learning, state.position + 1, convolution)

    def answer(self, q: Tensor, state: AssociativeState, opens: Tensor) -> Tensor:
        """Ask the memory, as it was at the start of the chunk that its streams stand in, without writing to it.

        Args:
            q: queries ``(batch, time, heads, key_dim)``.
            state: of the streams.
            opens: ``(batch,)`` bool: the chunk is to begin with the next token, and not begun.

        Returns:
            Answers ``(batch, time, heads, value_dim)``.

        Raises:
            UserError: if the memory keeps no such weights: chunk 1, and rules that no chunk changes.
        """
        if not state.opening:
            raise UserError("only a memory whose gradients are of its chunk's start can be asked as it was there")
        learner = self.learner(q)
        now = learner.weights(state.written)
        rows = opens.reshape(-1, *[1] * (now[0].dim() - 1))
        weights = tuple(torch.where(rows, new, old) for new, old in zip(now, state.opening, strict=True))
        return read(learner.form, weights, q.transpose(1, 2)).transpose(1, 2)

    def tokens(self, x: Tensor, mixed: Tensor, dtype: torch.dtype) -> Tokens:
        """Give what each token tells the rule; with several steps a token the writes are one after another in time."""
        rule, heads = self.rule, self.heads
        x = x.to(self.norm.weight.dtype)
        q, k, v = mixed.to(dtype).split(self.sizes, dim=-1)
        q, k, v = (
            q.unflatten(-1, (-1, self.key_dim)),
            k.unflatten(-1, (-1, self.key_dim)),
            v.unflatten(-1, (-1, self.value_dim)),
        )
        if self.normalised:
            q, k = functional.normalize(torch.cat((q, k), 2), dim=-1).split((q.shape[2], k.shape[2]), 2)
        else:
            q = q * self.key_dim**-0.5
        log_decay, delta = (None, None) if self.decay is None else self.decay(x)
        log_decay = None if log_decay is None else log_decay.to(dtype)
        if self.step_rate is not None:
            step = self.largest * gates.write_gate(self.step_rate(x).to(dtype), closing=self.closing)
        elif delta is not None:
            step = delta.to(dtype)
        else:
            step = v.new_full((*v.shape[:2], rule.steps * heads, 1), self.largest)
        log_momentum = None if self.momentum_rate is None else self.momentum_rate(x)[0].to(dtype)
        threshold = None if self.threshold_rate is None else functional.softplus(self.threshold_rate(x).to(dtype))
        if q.shape[2] < heads:
            q, k = q.expand(-1, -1, heads, -1), k.repeat_interleave(heads, 2)
        tokens = Tokens(q, k, v, step, log_decay, log_momentum, threshold)
        if rule.steps > 1:
            tokens = spread(tokens, rule.steps)
        if rule.retention == "l2" and tokens.log_decay is not None:
            tokens = tokens._replace(step=tokens.step * tokens.log_decay.exp())
        return tokens

    def finished(self, x: Tensor, tokens: Tokens, o: Tensor) -> Tensor:
        """Give the layer's outputs, of what its heads read."""
        steps = self.rule.steps
        if steps > 1:  # what is read after a token's last write
            o = o[:, steps - 1 :: steps]
        if self.skip is not None:
            o = o + self.skip * tokens.v[:, steps - 1 :: steps]
        y = self.norm(o.to(self.norm.weight.dtype)).flatten(-2)
        if self.gate is not None:
            y = y * functional.silu(self.gate(x))
        return self.output(y)

    def learner(self, like: Tensor) -> Learner:
        """Give the rule with its parameters, of the dtype and on the device of a tensor."""
        if self.rule.learnt_start:
            fresh = tuple(weights.to(like) for weights in self.weights)
        else:
            fresh = tuple(like.new_zeros(self.heads, *shape) for shape in self._shapes)
        norm = [parameter.to(like).unsqueeze(1) for parameter in self.inner_norm]
        return Learner(
            rule=self.rule,
            path=self.path,
            form=Form(self.rule.architecture, self.rule.offset, *norm),
            bias=bias_named(self.rule.bias, self.rule.p),
            fresh=fresh,
            cut=None if self.cut is None else retentions.positive(self.cut.to(like)),
            ridge=None if self.ridge is None else self.ridge.to(like),
            backend=self.backend,
        )


def _check(
    rule: Rule, dim: int, heads: int, *, expansion: int, value_factor: int, rank: int, step: float | None
) -> None:
    check_heads("an associative memory", dim, heads)
    check_counts(expansion=expansion, value_factor=value_factor, rank=rank)
    if step is not None and step <= 0:
        raise UserError(f"the largest step must be above 0, got {step}")
    if value_factor > 1 and (rule.norm or rule.architecture != "matrix"):
        raise UserError("values are as wide as keys but for a matrix without norm: value_factor 1")


def _check_rates(rule: Rule, *, pace: str, root: float, stepping: str, closing: bool) -> None:
    if pace not in ("sigmoid", "softplus"):
        raise UserError(f"pace is sigmoid or softplus, got {pace!r}")
    if stepping not in ("gated", "whole", "tied"):
        raise UserError(f"stepping is gated, whole or tied, got {stepping!r}")
    if root <= 0:
        raise UserError(f"root must be above 0, got {root}")
    if stepping == "tied" and (pace != "softplus" or closing or rule.retention != "scalar" or rule.steps > 1):
        raise UserError("tied steps are those of a scalar decay of pace softplus that does not close, one a token")
