"""Third choice, the retention gate: what becomes of what is there when something is written.

All gates let what is written decay, Z_t = α_t Z_{t-1} - η_t ∇ℓ; what a token reads are the weights W = map(Z). The map
is the identity for decay alone. For the other gates (Miras, arXiv 2504.13173, Section 5.2) Z is what their rule adds
gradients to, which makes them one sum within a chunk.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-6

RETENTIONS = {
    "none": "keeps all",
    "scalar": "a decay of each head",
    "channel": "a decay of each channel",
    "l2": "a decay of each head, which also shortens the step (local and global l2)",
    "lq": "decay, and weights divided by their q-norm (Moneta)",
    "kl": "decay of the weights' logarithms, weights on a simplex (Memora)",
    "logit": "decay of the weights' logits, weights in (0, 1) (Bregman)",
    "elastic_net": "decay, and a soft threshold of the weights, at the end of each chunk",
    "elastic_net_sum": "decay, and a soft threshold of the sum of all gradients",
}
"""The retention gates by name."""

MAPPED = ("lq", "kl", "logit", "elastic_net_sum")
"""Those whose weights are not what is written, but a map of it."""


def mapped(retention: str, z: Tensor, *, q: float, mirror: bool, mass: float, threshold: Tensor | None) -> Tensor:
    """Give the weights that what is written stands for: z ``(…, in, out)``, or a vector's ``(…, dim)``.

    ::

        lq                W = Z / ‖Z‖_q^(q-2)                       as printed (Equation 24)
        lq, mirror        W = sign(Z) |Z|^(q-1) / ‖Z‖_q^(q-2)       the gradient of ½ ‖Z‖_q²
        kl                W = c softmax(Z)                          over the inputs of each unit (Equations 21, 26)
        logit             W = σ(Z)
        elastic_net_sum   W = S_γ(Z)                                (Equation 23)

    Args:
        retention: one of `MAPPED`; of another the weights are what is written.
        z: what is written.
        q: exponent of lq.
        mirror: take lq's map from the theory that it cites.
        mass: c, the sum of the weights into each unit.
        threshold: γ, which broadcasts with z.
    """
    axes = (-2, -1)
    match retention:
        case "lq":
            top = z.abs().amax(axes, keepdim=True).detach().clamp(min=EPSILON)  # small entries' powers would vanish
            size = top * ((z / top).abs().pow(q).sum(axes, keepdim=True) + 1e-12).pow(1 / q)
            below = size.square().add(EPSILON).pow((q - 2) / 2)
            return (z * (z.abs() + EPSILON).pow(q - 2) if mirror else z) / below
        case "kl":
            return mass * z.softmax(-2)
        case "logit":
            return z.sigmoid()
        case "elastic_net_sum":
            assert threshold is not None
            return soft_threshold(z, threshold)
        case _:
            return z


def settled(retention: str, z: Tensor) -> Tensor:
    """Give what is written as what its own weights would be written as: logarithms of weights that sum to 1.

    What a softmax takes out must not come back when channels of it decay by rates of their own, nor grow without end.
    """
    return z.log_softmax(-2) if retention == "kl" else z


def soft_threshold(z: Tensor, threshold: Tensor) -> Tensor:
    """sign(z) max(0, |z| - γ), smoothed as the paper does: z arctan(|z| / γ) / (π/2) (Equation 22).

    >>> soft_threshold(torch.tensor([-9.0, 0.1]), torch.tensor(0.1))
    tensor([-8.9363,  0.0500])
    """
    return z * torch.atan(z.abs() / threshold) / (math.pi / 2)


def positive(parameter: Tensor) -> Tensor:
    """Give the threshold of a parameter."""
    return functional.softplus(parameter) + EPSILON
