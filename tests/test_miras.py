"""Associative memories: presets are their papers' formulas, paths are one rule, and every rule keeps the laws."""

import random

import pytest
import torch
from torch.nn import functional

from recurra.errors import UserError
from recurra.kernels import biases
from recurra.memory import build, laws
from recurra.memory import state as states
from recurra.memory.blocks import Block
from recurra.memory.miras import CHOICES, OBJECTIONS, Associative, Rule
from recurra.memory.miras.architectures import Form, gradient, read, shapes
from recurra.memory.miras.retentions import mapped, soft_threshold
from recurra.memory.miras.rule import MOMENTS

BATCH, TIME, DIM, HEADS = 2, 13, 8, 2
HEAD = DIM // HEADS


def make(name, **options):
    """Give a memory in float64, its parameters away from where they start, and an input."""
    torch.manual_seed(0)
    memory = build(name, DIM, heads=HEADS, **options).double()
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return memory, torch.randn(BATCH, TIME, DIM, dtype=torch.float64)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-11)


def asked(memory, x, keys=HEADS, values=HEADS):
    """Give queries, keys and values (batch, time, heads, ...) out of the layer's projection and convolution."""
    mixed = memory.projection(x)
    if memory.convolution is not None:
        taps = memory.convolution.weight
        padded = functional.pad(mixed, (0, 0, len(taps) - 1, 0))
        windows = (tap * padded[:, len(taps) - 1 - lag :][:, :TIME] for lag, tap in enumerate(taps))
        mixed = functional.silu(sum(windows))
    q, k, v = mixed.split(memory.sizes, -1)
    q, k = q.unflatten(-1, (-1, HEAD)), k.unflatten(-1, (-1, HEAD))
    if memory.normalised:
        q, k = (part / part.square().sum(-1, keepdim=True).sqrt() for part in (q, k))
    else:
        q = q / HEAD**0.5
    return q, k, v.unflatten(-1, (-1, memory.value_dim))


def told(memory, x, o):
    """Give the layer's output for what its heads read (batch, time, heads, value_dim)."""
    normal = o / (o.square().mean(-1, keepdim=True) + 1e-6).sqrt() * memory.norm.weight
    gated = normal.flatten(-2) * functional.silu(memory.gate(x))
    return memory.output(gated)


# Memories linear in their weights -------------------------------------------------------------------------------------


@torch.no_grad()
def test_gla():
    """Yang et al. 2023, Equation 3 and Section 4.4: S = diag(α) S + k vᵀ, α = σ(x W + b)^(1/16)."""
    memory, x = make("gla")
    q, k, v = asked(memory, x)
    alpha = torch.sigmoid(memory.decay.rate(x)) ** (1 / 16)
    matrix = torch.zeros(BATCH, HEADS, HEAD, 2 * HEAD, dtype=torch.float64)
    reads = []
    for t in range(TIME):
        matrix = alpha[:, t].unsqueeze(-1) * matrix + k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2)
        reads.append(torch.einsum("bhk,bhkv->bhv", q[:, t], matrix))
    y, state = memory(x)
    close(y, told(memory, x, torch.stack(reads, 1)))
    close(state.written[0], matrix)


@torch.no_grad()
def test_mamba2():
    """Dao and Gu 2024: h = exp(-aΔ) h + Δ B xᵀ, y = Cᵀ h + D x, with B and C shared by the heads."""
    memory, x = make("mamba2")
    q, k, v = asked(memory, x)
    delta = functional.softplus(memory.decay.rate(x))[..., 0]
    alpha = torch.exp(-memory.decay.log_pace.exp()[:, 0] * delta)
    matrix = torch.zeros(BATCH, HEADS, HEAD, HEAD, dtype=torch.float64)
    reads = []
    for t in range(TIME):
        matrix = torch.einsum("bh,bhkv->bhkv", alpha[:, t], matrix)
        matrix = matrix + torch.einsum("bh,bk,bhv->bhkv", delta[:, t], k[:, t, 0], v[:, t])
        reads.append(torch.einsum("bk,bhkv->bhv", q[:, t, 0], matrix) + memory.skip * v[:, t])
    close(memory(x)[0], told(memory, x, torch.stack(reads, 1)))


@torch.no_grad()
def test_longhorn_is_the_minimum():
    """Liu et al. 2024: S minimises ‖S - S'‖² + θ ‖Sᵀ k - v‖², found here as a system of equations."""
    memory, x = make("longhorn")
    q, k, v = asked(memory, x)
    theta = torch.sigmoid(memory.step_rate(x))[..., 0]
    reads = torch.zeros_like(v)
    for b in range(BATCH):
        for h in range(HEADS):
            matrix = torch.zeros(HEAD, HEAD, dtype=torch.float64)
            for t in range(TIME):
                key, weight = k[b, t, h], theta[b, t, h]
                system = torch.eye(HEAD, dtype=torch.float64) + weight * torch.outer(key, key)
                matrix = torch.linalg.solve(system, matrix + weight * torch.outer(key, v[b, t, h]))
                reads[b, t, h] = q[b, t, h] @ matrix
    close(memory(x)[0], told(memory, x, reads))


@torch.no_grad()
def test_longhorn_of_vectors_is_the_minimum_of_each_channel():
    memory, x = make("associative", architecture="vector", algorithm="implicit", retention="channel", chunk=1)
    q, k, v = asked(memory, x)
    theta, alpha = torch.sigmoid(memory.step_rate(x)), torch.sigmoid(memory.decay.rate(x))
    w, reads = torch.zeros(BATCH, HEADS, HEAD, dtype=torch.float64), []
    for t in range(TIME):  # 2 (w - αw') + 2 θ k (k w - v) = 0
        w = (alpha[:, t] * w + theta[:, t] * k[:, t] * v[:, t]) / (1 + theta[:, t] * k[:, t].square())
        reads.append(q[:, t] * w)
    close(memory(x)[0], told(memory, x, torch.stack(reads, 1)))


@torch.no_grad()
def test_delta_product():
    """Siems et al. 2025: two steps of the delta rule for each token, each with its key, value and β in (0, 2)."""
    memory, x = make("delta_product")
    q, k, v = asked(memory, x)
    beta = 2 * torch.sigmoid(memory.step_rate(x))[..., 0]
    matrix, reads = torch.zeros(BATCH, HEADS, HEAD, HEAD, dtype=torch.float64), []
    for t in range(TIME):
        for step in range(2):
            of_step = slice(step * HEADS, (step + 1) * HEADS)
            key, value, b = k[:, t, of_step], v[:, t, of_step], beta[:, t, of_step, None, None]
            reflection = torch.eye(HEAD, dtype=torch.float64) - b * key.unsqueeze(-1) * key.unsqueeze(-2)
            matrix = reflection @ matrix + b * key.unsqueeze(-1) * value.unsqueeze(-2)
        reads.append(torch.einsum("bhk,bhkv->bhv", q[:, t], matrix))
    close(memory(x)[0], told(memory, x, torch.stack(reads, 1)))


@torch.no_grad()
def test_mesa_net_is_ridge_regression_on_all_that_was_shown():
    """von Oswald et al. 2025: W minimises Σ weight_i ‖Wᵀ k_i - v_i‖² + tr(Wᵀ Λ W), older pairs weighing less."""
    memory, x = make("mesa_net")
    q, k, v = asked(memory, x)
    theta = torch.sigmoid(memory.step_rate(x))[..., 0]
    alpha = torch.sigmoid(memory.decay.rate(x))[..., 0]
    ridge = functional.softplus(memory.ridge) + 1e-6
    reads = torch.zeros_like(v)
    for b in range(BATCH):
        for h in range(HEADS):
            for t in range(TIME):
                weight = torch.stack([theta[b, i, h] * alpha[b, i + 1 : t + 1, h].prod() for i in range(t + 1)])
                keys, values = k[b, : t + 1, h], v[b, : t + 1, h]
                system = keys.T @ (weight[:, None] * keys) + torch.diag(ridge[h])
                reads[b, t, h] = q[b, t, h] @ torch.linalg.solve(system, keys.T @ (weight[:, None] * values))
    y, state = memory(x)
    close(y, told(memory, x, reads))
    assert [tuple(w.shape[1:]) for w in state.written] == [(HEADS, HEAD, HEAD)] * 2


# Memories whose gradients are taken at a chunk's start ----------------------------------------------------------------


def ask(weights, x, norm, offset):
    """M(x) = x + LN(f(x)), f a matrix or an MLP, from its definition."""
    one = x.new_ones(int(offset))
    f = torch.cat((x, one)) @ weights[0]
    if len(weights) > 1:
        f = torch.cat((functional.gelu(f), one)) @ weights[1]
    return x + functional.layer_norm(f, f.shape, *norm, eps=1e-6)


def taught(memory, x, rule, weights_of=lambda z: z, start=lambda w: w, **rates):
    """Read token by token: ``rule(z, slopes, rates)`` writes, slopes being autograd's at the chunk's start.

    ``weights_of`` maps what is written to weights, ``start`` a parameter to what is written at first.
    Gives what the heads read.
    """
    q, k, v = (part.detach() for part in asked(memory, x))
    chunk, offset = memory.rule.chunk, memory.rule.offset
    reads = torch.zeros_like(v)
    for b in range(BATCH):
        for h in range(HEADS):
            norm = [part[h].detach() for part in memory.inner_norm]
            z = [start(weight[h].detach()) for weight in memory.weights]
            carried = {}
            for t in range(TIME):
                here = {name: rate[b, t, h].detach() for name, rate in rates.items()}
                if t % chunk == 0:
                    opening = [w.detach().requires_grad_() for w in weights_of(z)]
                answer = ask(opening, k[b, t, h], norm, offset)
                loss = loss_of(memory.rule, answer - v[b, t, h], here.get("threshold"))
                z = rule(z, torch.autograd.grad(loss, opening), here, carried)
                reads[b, t, h] = ask(weights_of(z), q[b, t, h], norm, offset)
    return reads


def loss_of(rule, r, threshold):
    if rule.bias == "l2":
        return r.square().sum()
    if rule.bias == "lp":
        return r.abs().pow(rule.p).sum()
    norm = (r.square().sum() + 1e-6).sqrt()
    if norm <= threshold:
        return r.square().sum() / 2
    if rule.bias == "huber_norm":
        return (threshold * norm).sum()
    return (threshold * torch.log(torch.cosh(10 * r)) / 10).sum()  # ‖r‖₁ with its sign smoothed


def sides(rate):
    """A channel's rate acts on the rows of the first layer and the columns of the second."""
    return rate.unsqueeze(1), rate.unsqueeze(0)


@pytest.mark.parametrize("chunk", [1, 5])
@pytest.mark.parametrize("name", ["ttt_linear", "ttt_mlp"])
def test_ttt(name, chunk):
    """Sun et al. 2024, Equations 4 and 5: W_t = W_{t-1} - η ∇ℓ(W'), f(x) = x + LN(f_res(x))."""
    memory, x = make(name, chunk=chunk)
    step = memory.largest * torch.sigmoid(memory.step_rate(x))

    def rule(z, slopes, here, carried):
        return [w - here["step"] * g for w, g in zip(z, slopes, strict=True)]

    close(memory(x)[0], told(memory, x, taught(memory, x, rule, step=step)))


@pytest.mark.parametrize("chunk", [1, 5])
def test_titans(chunk):
    """Behrouz et al. 2025, Equations 13 and 14: S = η S - θ ∇ℓ, M = (1 - α) M + S."""
    memory, x = make("titans", chunk=chunk)
    rates = {
        "step": memory.largest * torch.sigmoid(memory.step_rate(x)),
        "momentum": torch.sigmoid(memory.momentum_rate.rate(x)),
        "forget": 1 - torch.sigmoid(memory.decay.rate(x)),
    }

    def rule(z, slopes, here, carried):
        surprise = carried.get("surprise", [torch.zeros_like(w) for w in z])
        surprise = [here["momentum"] * s - here["step"] * g for s, g in zip(surprise, slopes, strict=True)]
        carried["surprise"] = surprise
        return [(1 - here["forget"]) * w + s for w, s in zip(z, surprise, strict=True)]

    close(memory(x)[0], told(memory, x, taught(memory, x, rule, **rates)))


def channel_rates(memory, x):
    rates = {
        "step": memory.largest * torch.sigmoid(memory.step_rate(x)),
        "keep": torch.sigmoid(memory.decay.rate(x)),
    }
    if memory.threshold_rate is not None:
        rates["threshold"] = functional.softplus(memory.threshold_rate(x))
    return rates


def decay_and_step(z, slopes, here, carried):
    return [
        keep * w - step * g
        for w, g, keep, step in zip(z, slopes, sides(here["keep"]), sides(here["step"]), strict=True)
    ]


@pytest.mark.parametrize("bias", ["huber_norm", "huber_mixture"])
@pytest.mark.parametrize("chunk", [1, 5])
def test_yaad(chunk, bias):
    """Behrouz et al. 2025, Equation 26: W = α W - η ∇ℓ2 where ‖r‖ <= δ, else α W - η δ ∇ of the norm, or of ℓ1."""
    memory, x = make("yaad", chunk=chunk, bias=bias)
    rates = channel_rates(memory, x)
    reads = taught(memory, x, decay_and_step, **rates)
    close(memory(x)[0], told(memory, x, reads))


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("chunk", [1, 5])
def test_moneta(chunk, mirror):
    """Behrouz et al. 2025, Equations 24 and 25: A = α A - η ∇ℓ_3, W = A / ‖A‖_4²; or the mirror map that it cites."""
    memory, x = make("moneta", chunk=chunk, mirror=mirror)

    def weights_of(z):
        norms = (a.abs().pow(4).sum() ** 0.25 for a in z)
        return [(a.pow(3) if mirror else a) / norm**2 for a, norm in zip(z, norms, strict=True)]

    y = told(memory, x, taught(memory, x, decay_and_step, weights_of, **channel_rates(memory, x)))
    torch.testing.assert_close(memory(x)[0], y, rtol=1e-3, atol=1e-4)  # the map is smoothed by 1e-6
    assert memory.rule.p == 3
    assert memory.rule.q == 4


@pytest.mark.parametrize("chunk", [1, 5])
def test_memora(chunk):
    """Behrouz et al. 2025, Equation 27: W = Softmax(α log W - η ∇ℓ), over the inputs of each unit."""
    memory, x = make("memora", chunk=chunk)

    def rule(z, slopes, here, carried):
        return [power.softmax(0) for power in decay_and_step([w.log() for w in z], slopes, here, carried)]

    reads = taught(memory, x, rule, start=lambda z: z.softmax(0), **channel_rates(memory, x))
    close(memory(x)[0], told(memory, x, reads))


def test_a_map_at_the_ends_of_a_chunk_agrees_there_and_not_between():
    """Moneta's and Memora's chunked forms: the same is written, tokens inside a chunk read otherwise."""
    for name in ("moneta", "memora"):
        outputs = {}
        for moment in MOMENTS:
            memory, x = make(name, chunk=4, mapped=moment)
            outputs[moment], state = memory(x)
            every, _ = make(name, chunk=4)
            close(state.written, every(x)[1].written)
        last, first = torch.arange(TIME) % 4 == 3, torch.arange(TIME) % 4 == 0
        same = {
            moment: torch.isclose(outputs[moment], outputs["every"], rtol=1e-9).all(-1).all(0) for moment in MOMENTS
        }
        assert same["last"].tolist() == last.tolist()
        assert same["ends"].tolist() == (last | first).tolist()


# One rule, several paths ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"bias": "dot", "retention": "channel", "chunk": 1},
        {"bias": "dot", "retention": "scalar", "chunk": 4, "closing": True},
        {"bias": "l2", "retention": "channel", "decay_first": True, "chunk": 1},
        {"bias": "l2", "steps": 3, "chunk": 1},
        {"architecture": "vector", "bias": "dot", "retention": "channel", "chunk": 3, "channelwise": True},
        {"architecture": "mlp", "retention": "scalar", "algorithm": "momentum", "chunk": 4},
        {"architecture": "mlp", "bias": "huber_norm", "retention": "channel", "chunk": 5, "channelwise": True},
        {"architecture": "mlp", "bias": "kl", "retention": "l2", "chunk": 1, "steps": 2, "norm": False},
        {"architecture": "mlp", "bias": "dot", "offset": True, "chunk": 16, "closing": True},
    ],
    ids=str,
)
def test_a_faster_path_is_the_generic_one(options):
    memory, x = make("associative", **options)
    first, present = torch.rand(BATCH, TIME) < 0.2, torch.rand(BATCH, TIME) < 0.8
    assert memory.path != "generic"
    y, state = memory(x, first=first, present=present)
    slopes = torch.autograd.grad(y.square().sum(), list(memory.parameters()))
    memory.path = "generic"
    other, after = memory(x, first=first, present=present)
    close(y, other)
    close((state.written, state.momentum, state.position), (after.written, after.momentum, after.position))
    close(slopes, torch.autograd.grad(other.square().sum(), list(memory.parameters())))


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("architecture", CHOICES["architecture"])
def test_an_architectures_gradient_is_autograds(architecture, norm, offset):
    if architecture == "vector" and offset:
        pytest.skip("a vector has no offset")
    torch.manual_seed(0)
    parts = torch.randn(2, HEADS, 1, HEAD, dtype=torch.float64) if norm else (None, None)
    form = Form(architecture, offset, *parts)
    weights = [
        torch.randn(1, HEADS, *shape, dtype=torch.float64).requires_grad_() for shape in shapes(form, HEAD, HEAD, 3)
    ]
    x, slope = torch.randn(2, 1, HEADS, 1, HEAD, dtype=torch.float64)
    expected = torch.autograd.grad((read(form, tuple(weights), x) * slope).sum(), weights)
    factors = gradient(form, tuple(weights), x, lambda answer: slope)
    for (left, right), wanted in zip(factors, expected, strict=True):
        found = left * right if architecture == "vector" else left.mT @ right
        close(found.reshape(wanted.shape).detach(), wanted)


# Facts about the gates ------------------------------------------------------------------------------------------------


def of(retention, z, **options):
    return mapped(retention, z, **({"q": 4.0, "mirror": False, "mass": 1.0, "threshold": None} | options))


@pytest.mark.parametrize("q", [1.5, 2.0, 3.0, 4.0])
def test_the_mirror_map_of_lq_is_a_gradient_and_the_printed_one_scales_otherwise(q):
    z = torch.randn(5, 6, dtype=torch.float64).requires_grad_()
    norm = z.abs().pow(q).sum() ** (1 / q)
    (slope,) = torch.autograd.grad(norm.square() / 2, z)
    torch.testing.assert_close(of("lq", z, q=q, mirror=True), slope, rtol=1e-2, atol=1e-2)
    printed = [of("lq", scale * z, q=q).norm() for scale in (1.0, 3.0)]
    torch.testing.assert_close(
        printed[1] / printed[0], torch.tensor(3.0 ** (3 - q), dtype=torch.float64), rtol=1e-4, atol=0
    )


def test_weights_on_a_simplex_sum_to_their_mass_and_logits_stay_inside():
    z = 30 * torch.randn(4, 5, 6)
    weights = of("kl", z, mass=2.5)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-2), torch.full((4, 6), 2.5))
    assert of("logit", z).aminmax() == (of("logit", z).min(), of("logit", z).max())
    assert 0 <= of("logit", z).min() <= of("logit", z).max() <= 1


def test_a_soft_threshold_shrinks_what_is_large_by_about_the_threshold_and_what_is_small_to_nothing():
    z = torch.tensor([-100.0, -5.0, 1e-3, 5.0, 100.0])
    shrunk = soft_threshold(z, torch.tensor(1.0))
    assert (shrunk.abs() < z.abs()).all()
    assert shrunk[2] < 1e-5
    torch.testing.assert_close(
        shrunk[[0, 4]], torch.tensor([-100.0, 100.0]) * (1 - 2 / torch.pi / 100), rtol=1e-4, atol=0
    )


def test_gates_that_are_shut_and_open_change_nothing_ever():
    """A closed step writes nothing, an open decay keeps all: bit for bit, over any length."""
    memory, x = make("titans", chunk=4, closing=True)
    _, before = memory(x)
    with torch.no_grad():
        for rate, value in ((memory.step_rate, -50.0), (memory.decay.rate, 50.0), (memory.momentum_rate.rate, -50.0)):
            rate.rise.weight.zero_()
            rate.start.fill_(value)
    _, after = memory(10 * x.repeat(1, 20, 1), states.detach(before))
    assert all(torch.equal(old, new) for old, new in zip(before.written, after.written, strict=True))


# What has a meaning ---------------------------------------------------------------------------------------------------

REFUSED = [
    {"bias": "lp", "p": 0.5},
    {"retention": "lq", "q": 1.0},
    {"retention": "kl", "mass": 0.0},
    {"algorithm": "closed", "bias": "lp", "chunk": 1},
    {"algorithm": "closed", "retention": "channel", "chunk": 1},
    {"algorithm": "closed", "learnt_start": True, "chunk": 1},
    {"algorithm": "implicit", "architecture": "mlp", "chunk": 1},
    {"algorithm": "implicit", "channelwise": True, "chunk": 1},
    {"algorithm": "implicit", "chunk": 2},
    {"steps": 2, "chunk": 4},
    {"architecture": "vector", "retention": "kl"},
    {"architecture": "vector", "offset": True},
    {"offset": True, "channelwise": True},
    {"decay_first": True, "retention": "kl"},
    {"retention": "scalar", "mapped": "last"},
    {"architecture": "mlp", "learnt_start": False},
]


@pytest.mark.parametrize(("options", "objection"), list(zip(REFUSED, OBJECTIONS, strict=True)))
def test_what_has_no_meaning_is_refused_with_the_reason(options, objection):
    with pytest.raises(UserError) as caught:
        Associative(8, **options)
    assert str(caught.value).endswith(objection.reason)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "matrx"}, "there is no architecture 'matrx'; did you mean 'matrix'"),
        ({"bias": "l3"}, "there is no bias 'l3'"),
        ({"mapped": "never"}, "mapped is one of every, last, ends"),
        ({"chunk": 0}, "chunk must be at least 1, got 0"),
        ({"heads": 3}, "heads that divide its dim: 3 does not divide 8"),
        ({"norm": True, "value_factor": 2}, "values are as wide as keys"),
        ({"expansion": 0}, "expansion must be at least 1, got 0"),
        ({"step": 0.0}, "largest step must be above 0"),
        ({"pace": "slow"}, "pace is sigmoid or softplus"),
        ({"stepping": "tied"}, "tied steps are those of a scalar decay"),
        ({"stepping": "long"}, "stepping is gated, whole or tied"),
    ],
)
def test_an_option_that_does_not_fit_is_said_in_one_line(options, message):
    with pytest.raises(UserError, match=message):
        Associative(8, **options)


def combination(seed):
    """Draw one of the rules that have a meaning, behind a block's norm."""
    drawn = random.Random(seed)
    algorithm = drawn.choice(list(CHOICES["algorithm"]))
    exact = {"bias": "l2", "chunk": 1, "mapped": "every", "norm": False}  # or these would hardly ever be drawn
    while True:
        options = {choice: drawn.choice(list(known)) for choice, known in CHOICES.items()}
        options |= {
            "chunk": drawn.choice([1, 3, 16]),
            "steps": drawn.choice([1, 1, 2]),
            "p": drawn.choice([1.0, 1.5, 2.0, 3.0]),
            "q": drawn.choice([1.5, 3.0, 4.0]),
            "mapped": drawn.choice(MOMENTS),
            "norm": drawn.choice([None, True, False]),
            "convolution": drawn.choice([0, 3]),
            "heads": drawn.choice([1, 2]),
        }
        options |= {
            option: drawn.random() < 0.4
            for option in ("mirror", "decay_first", "offset", "channelwise", "closing", "by_token")
        }
        options |= {"algorithm": algorithm} | (exact if algorithm in ("implicit", "closed") else {})
        torch.manual_seed(seed)
        try:
            return options, Block(Associative(8, expansion=2, rank=2, **options), expansion=0)
        except UserError:
            continue


@pytest.mark.parametrize("seed", [*range(20), *(pytest.param(n, marks=pytest.mark.slow) for n in range(20, 200))])
def test_a_combination_obeys_the_laws(seed):
    """A slope that jumps may take the other side in float32: ten times the usual allowance for the mixture."""
    options, block = combination(seed)
    figures = laws.measure(block, cases=1, seed=seed, time=12)
    allowed = laws.BOUNDS | ({"numbers": 1e-3} if options["bias"] == "huber_mixture" else {})
    assert {law: figure for law, figure in figures.items() if figure > allowed[law]} == {}


@pytest.mark.parametrize("options", [{"bias": "lp"}, {"architecture": "mlp", "norm": False}], ids=str)
def test_a_rule_that_diverges_says_from_which_inputs_on(options):
    torch.manual_seed(0)
    memory = Associative(8, heads=2, chunk=4, **options)
    assert memory.input_limit == 1.0
    assert laws.measure(memory, laws=["numbers"], cases=1, time=20)["numbers"] < 1e-4
    memory.input_limit = None
    assert laws.measure(memory, laws=["numbers"], cases=1, time=20)["numbers"] > 1e-4
    assert Associative(8, heads=2, **options | {"norm": True}).input_limit is None


def test_a_rule_says_which_path_it_takes():
    paths = {
        "delta_rule": Rule(bias="dot", retention="channel"),
        "linear_recurrence": Rule(architecture="vector", algorithm="implicit", chunk=1),
        "mlp_memory": Rule(architecture="mlp", algorithm="momentum", learnt_start=True),
        "closed form": Rule(algorithm="closed", chunk=1),
        "generic": Rule(chunk=16),
    }
    assert {path: rule.path for path, rule in paths.items()} == {path: path for path in paths}


def test_an_unsmoothed_sign_is_what_the_mixture_tends_to():
    r = torch.tensor([[3.0, -2.0, 1.0]])
    torch.testing.assert_close(biases.huber_mixture(r, torch.zeros(1, 3), torch.tensor(0.5)), 0.5 * r.sign())
