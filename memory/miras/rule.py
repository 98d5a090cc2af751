"""The four choices together: which combinations mean something, and which path computes them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from recurra.errors import UserError, nearest
from recurra.memory.checks import check_counts
from recurra.memory.miras.biases import BIASES, WITH_THRESHOLD
from recurra.memory.miras.retentions import MAPPED, RETENTIONS

ARCHITECTURES = {
    "vector": "f(k) = w ⊙ k",
    "matrix": "f(k) = k W",
    "mlp": "f(k) = gelu(k W_1) W_2",
    "gated_mlp": "f(k) = (silu(k W_1) ⊙ k W_2) W_3",
}
"""The architectures by name: M(k) = f(k), or k + LN(f(k)) with ``norm``."""

ALGORITHMS = {
    "gradient": "a step down the slope",
    "momentum": "a step along slopes that fade (Titans)",
    "implicit": "the exact minimum of bias and distance to the memory before (Longhorn)",
    "closed": "the exact minimum over all that was shown (Mesa)",
}
"""The learning algorithms by name; several steps a token are the option ``steps``."""

CHOICES = {"architecture": ARCHITECTURES, "bias": BIASES, "retention": RETENTIONS, "algorithm": ALGORITHMS}
"""Miras' four choices."""

MOMENTS = ("every", "last", "ends")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What an associative memory is and how it learns; the options are those of `recurra.memory.miras.Associative`.

    >>> Rule(architecture="matrix", bias="l2", algorithm="closed", chunk=1).path
    'closed form'

    Raises:
        UserError: if a choice is unknown, or the combination has no meaning.
    """

    architecture: str = "matrix"
    bias: str = "l2"
    retention: str = "none"
    algorithm: str = "gradient"
    chunk: int = 16
    steps: int = 1
    p: float = 3.0
    q: float = 4.0
    mirror: bool = False
    mass: float = 1.0
    mapped: str = "every"
    decay_first: bool = False
    norm: bool = False
    offset: bool = False
    learnt_start: bool = False
    channelwise: bool = False

    def __post_init__(self) -> None:
        for choice, known in CHOICES.items():
            value = getattr(self, choice)
            if value not in known:
                raise UserError(f"there is no {choice} {value!r}; {nearest(value, known)}")
        if self.mapped not in MOMENTS:
            raise UserError(f"mapped is one of {', '.join(MOMENTS)}, got {self.mapped!r}")
        check_counts(chunk=self.chunk, steps=self.steps)
        for objection in OBJECTIONS:
            if objection.holds(self):
                raise UserError(f"{self.summary}: {objection.reason}")

    @property
    def summary(self) -> str:
        """Name the four choices."""
        return f"{self.architecture}, {self.bias}, {self.retention}, {self.algorithm}"

    @property
    def linear(self) -> bool:
        """Whether the memory's answers are linear in its weights."""
        return self.architecture in ("vector", "matrix") and not self.norm and not self.offset

    @property
    def input_limit(self) -> float | None:
        """Give the largest input that the rule stays finite for, where a larger one makes it diverge as published."""
        bare_mlp = self.architecture.endswith("mlp") and not self.norm
        steep = self.bias == "lp" and self.p > 2 and not self.norm  # slopes that outgrow the residual
        if bare_mlp or steep:
            return 1.0
        # Steps as long as a threshold, which the token says: a layer of an MLP steepens the slope of the other.
        return 100.0 if self.architecture.endswith("mlp") and self.bias in WITH_THRESHOLD else None

    @property
    def largest_step(self) -> float:
        """Give the largest η, where none is asked for."""
        if self.architecture.endswith("mlp") or self.norm:
            return 0.1
        if self.linear and self.bias != "dot" and self.algorithm in ("gradient", "momentum"):
            return 0.5 / self.chunk
        return 1.0

    @property
    def path(self) -> str:
        """Name what computes the rule: an operation of `recurra.kernels`, the closed form, or the generic path."""
        if self.algorithm == "closed":
            return "closed form"
        if (
            self.architecture == "mlp"
            and self.retention in ("none", "scalar", "channel", "l2")
            and not self.decay_first
        ):
            return "mlp_memory"
        plain = self.linear and not self.learnt_start and self.retention in ("none", "scalar", "channel")
        if not plain or self.algorithm == "momentum":
            return "generic"
        # The gradient of the dot product does not look at the memory: no chunk and no order of decay changes it.
        hebbian = self.bias == "dot" and self.algorithm == "gradient"
        fresh = self.bias == "l2" and self.chunk == 1 and not self.channelwise
        if self.architecture == "vector":
            return "linear_recurrence" if self.steps == 1 and (hebbian or self.algorithm == "implicit") else "generic"
        before = self.retention == "none" or self.decay_first or self.algorithm == "implicit"
        return "delta_rule" if hebbian or (fresh and before) else "generic"


class Objection(NamedTuple):
    """Why some rules have no meaning, and which."""

    reason: str
    holds: Callable[[Rule], bool]


_DECAYS = ("none", "scalar", "channel")

OBJECTIONS = (
    Objection("lp is convex for p of at least 1", lambda rule: rule.p < 1),
    Objection("lq has a dual for q above 1", lambda rule: rule.q <= 1),
    Objection("weights on a simplex have a positive mass", lambda rule: rule.mass <= 0),
    Objection(
        "a closed form exists only for a matrix without norm or offset, and the bias l2",
        lambda rule: (
            rule.algorithm == "closed" and not (rule.architecture == "matrix" and rule.linear and rule.bias == "l2")
        ),
    ),
    Objection(
        "the closed form weighs each pair as a whole: retention none or scalar, and not channelwise",
        lambda rule: rule.algorithm == "closed" and (rule.retention not in ("none", "scalar") or rule.channelwise),
    ),
    Objection(
        "the closed form begins with nothing shown: no learnt_start",
        lambda rule: rule.algorithm == "closed" and rule.learnt_start,
    ),
    Objection(
        "the implicit step is known only for a vector or matrix without norm or offset, and the bias l2",
        lambda rule: rule.algorithm == "implicit" and not (rule.linear and rule.bias == "l2"),
    ),
    Objection(
        "the implicit step goes from a memory as it is or decayed, from zeros: retention none, scalar or channel, and"
        " neither learnt_start nor channelwise for a matrix",
        lambda rule: (
            rule.algorithm == "implicit"
            and (
                rule.retention not in _DECAYS
                or rule.learnt_start
                or (rule.channelwise and rule.architecture == "matrix")
            )
        ),
    ),
    Objection(
        "implicit and closed take no gradient that a chunk could share: chunk 1",
        lambda rule: rule.algorithm in ("implicit", "closed") and rule.chunk != 1,
    ),
    Objection(
        "several steps a token need a gradient at each: chunk 1, and neither the closed form nor an implicit vector",
        lambda rule: (
            rule.steps > 1
            and (
                rule.chunk != 1
                or rule.algorithm == "closed"
                or (rule.algorithm, rule.architecture) == ("implicit", "vector")
            )
        ),
    ),
    Objection(
        "a vector has one weight for each unit: a norm or simplex of it leaves nothing to learn",
        lambda rule: rule.architecture == "vector" and rule.retention in ("lq", "kl"),
    ),
    Objection("a vector has no row for an offset", lambda rule: rule.architecture == "vector" and rule.offset),
    Objection(
        "the offset's row belongs to no channel that could have a rate: neither retention channel nor channelwise",
        lambda rule: rule.offset and (rule.retention == "channel" or rule.channelwise),
    ),
    Objection(
        "only a decay can come before the gradient: retention none, scalar or channel with decay_first",
        lambda rule: rule.decay_first and rule.retention not in _DECAYS,
    ),
    Objection(
        f"mapped is of retentions that map what is written: {', '.join(MAPPED)}",
        lambda rule: rule.mapped != "every" and rule.retention not in MAPPED,
    ),
    Objection(
        "an MLP of zeros has no gradient: learnt_start",
        lambda rule: rule.architecture.endswith("mlp") and not rule.learnt_start,
    ),
)
"""What `Rule` refuses: every other combination works, on one path or another."""
