"""The surprise in Triton: the loss's gradient for what the second layer answers a key, and the gradient of that.

A slope d = φ(r) of the residual r = M(k) - v goes back through LayerNorm, y = s ⊙ x̂ + b with x̂ = ρ (z - mean z):

    e = ρ Π u,   u = s ⊙ d,   Π u = u - mean(u) - x̂ mean(x̂ ⊙ u)                                  mean over channels

Learning what the memory is given differentiates e. With ē what comes back for it, and Π its own transpose:

    ū = ρ Π ē                          x̂ hears  -ρ ē mean(x̂ ⊙ u) - u mean(x̂ ⊙ ρ ē)  through Π
    d̄ = s ⊙ ū                          r̄ = φ'(r) d̄,  which is what M, and so y and k, hear; v hears -r̄
    x̂ hears  s ⊙ r̄  through y          ρ hears  Σ ē ⊙ e / ρ
    z̄ = ρ Π x̂-bar - ρ x̂ mean(ē ⊙ e)    since ∂ρ/∂z = -ρ² x̂ / D, and ∂x̂/∂z = ρ Π

Biases are those of `recurra.kernels.biases`, by the numbers of `fitting`.
"""

import triton
import triton.language as tl

from recurra.kernels import biases

DOT, L2, CUBE, STEEP, SMOOTH, HUBER, HUBER_NORM, HUBER_MIXTURE, ROBUST = map(tl.constexpr, range(9))
_EPSILON = tl.constexpr(biases.EPSILON)
_SHARPNESS = tl.constexpr(biases.SHARPNESS)


@triton.jit
def _power(x, exponent):
    """x^exponent for x ≥ 0, the exponent above 0 where x is 0."""
    return tl.where(x > 0, tl.exp2(exponent * tl.log2(tl.where(x > 0, x, 1.0))), 0.0)


@triton.jit
def _length(residual):
    return tl.sqrt(tl.sum(residual * residual, 1) + _EPSILON)[:, None]


@triton.jit
def _tanh(x):
    return 2.0 / (1.0 + tl.exp(-2.0 * x)) - 1.0


@triton.jit
def slope(residual, value, threshold, BIAS: tl.constexpr, POWER: tl.constexpr):
    """Give the loss's gradient φ(r) for the answer, rows of tokens; channels that are not hold 0."""
    if BIAS == DOT:
        return -value
    elif BIAS == L2:
        return 2.0 * residual
    elif BIAS == CUBE:
        return 3.0 * residual * tl.abs(residual)
    elif BIAS == STEEP:
        return residual * POWER * _power(tl.abs(residual), POWER - 2.0)
    elif BIAS == SMOOTH:
        return residual * POWER * _power(residual * residual + _EPSILON, POWER / 2.0 - 1.0)
    elif BIAS == HUBER:
        return tl.minimum(tl.maximum(residual, -threshold), threshold)
    elif BIAS == HUBER_NORM:
        return residual * tl.minimum(threshold / _length(residual), 1.0)
    elif BIAS == HUBER_MIXTURE:
        return tl.where(_length(residual) <= threshold, residual, threshold * _tanh(residual * _SHARPNESS))
    else:
        return residual * (1.0 + threshold / _length(residual))


@triton.jit
def slope_backward(d_slope, residual, threshold, BIAS: tl.constexpr, POWER: tl.constexpr):
    """Give the gradients of the residual, and of the threshold channel by channel; DOT is of neither."""
    d_threshold = tl.zeros_like(residual)
    if BIAS == L2:
        d_residual = 2.0 * d_slope
    elif BIAS == CUBE:
        d_residual = 6.0 * tl.abs(residual) * d_slope
    elif BIAS == STEEP:
        d_residual = d_slope * (POWER * (POWER - 1.0)) * _power(tl.abs(residual), POWER - 2.0)
    elif BIAS == SMOOTH:
        square = residual * residual + _EPSILON
        rising = square + residual * residual * (POWER - 2.0)
        d_residual = d_slope * POWER * _power(square, POWER / 2.0 - 2.0) * rising
    elif BIAS == HUBER:
        d_residual = tl.where(tl.abs(residual) <= threshold, d_slope, 0.0)
        d_threshold = tl.where(residual > threshold, d_slope, 0.0) - tl.where(residual < -threshold, d_slope, 0.0)
    elif BIAS == HUBER_MIXTURE:
        bent, small = _tanh(residual * _SHARPNESS), _length(residual) <= threshold
        d_residual = d_slope * tl.where(small, 1.0, threshold * _SHARPNESS * (1.0 - bent * bent))
        d_threshold = tl.where(small, 0.0, d_slope * bent)
    elif BIAS == DOT:
        d_residual = tl.zeros_like(residual)
    else:  # through r / ‖r‖, where HUBER_NORM cuts and everywhere for ROBUST
        length = _length(residual)
        factor = 1.0 + threshold / length
        d_threshold = d_slope * residual / length
        if BIAS == HUBER_NORM:
            factor = tl.minimum(threshold / length, 1.0)
            d_threshold = tl.where(threshold <= length, d_threshold, 0.0)
        along = tl.sum(d_threshold * threshold, 1)[:, None] / (length * length)
        d_residual = d_slope * factor - residual * along
    return d_residual, d_threshold


@triton.jit
def _mean(x, VALUES: tl.constexpr):
    return tl.sum(x, 1)[:, None] / VALUES


@triton.jit
def _project(x, standard, inside, VALUES: tl.constexpr):
    """Π x: what LayerNorm lets through of a gradient, but for ρ."""
    return tl.where(inside, x - _mean(x, VALUES) - standard * _mean(x * standard, VALUES), 0.0)


@triton.jit
def standardise(before, inside, VALUES: tl.constexpr, EPSILON: tl.constexpr):
    """Give x̂ and ρ."""
    centred = tl.where(inside, before - _mean(before, VALUES), 0.0)
    inverse = 1.0 / tl.sqrt(_mean(centred * centred, VALUES) + EPSILON)
    return centred * inverse, inverse


@triton.jit
def surprise(
    before, key, value, threshold, gain, shift, inside, VALUES: tl.constexpr, NORM: tl.constexpr,
    RESIDUAL: tl.constexpr, EPSILON: tl.constexpr, BIAS: tl.constexpr, POWER: tl.constexpr,
):  # fmt: skip
    """Give e for z, ``before``."""
    answer = before
    if NORM:
        standard, inverse = standardise(before, inside, VALUES, EPSILON)
        answer = gain * standard + shift
    if RESIDUAL:
        answer += key
    d_answer = slope(answer - value, value, threshold, BIAS, POWER)
    if NORM:
        d_answer = inverse * _project(gain * d_answer, standard, inside, VALUES)
    return d_answer


@triton.jit
def surprise_backward(
    d_surprise, before, key, value, threshold, gain, shift, inside, VALUES: tl.constexpr, NORM: tl.constexpr,
    RESIDUAL: tl.constexpr, EPSILON: tl.constexpr, BIAS: tl.constexpr, POWER: tl.constexpr,
):  # fmt: skip
    """Give the gradients of z, of the residual r, of v, of the threshold, and what gain and shift hear from tokens."""
    answer = before
    if NORM:
        standard, inverse = standardise(before, inside, VALUES, EPSILON)
        answer = gain * standard + shift
    if RESIDUAL:
        answer += key
    residual = answer - value
    d_slope = d_surprise
    if NORM:
        scaled = inverse * d_surprise
        d_u = _project(scaled, standard, inside, VALUES)
        d_slope = gain * d_u
    d_residual, d_threshold = slope_backward(d_slope, residual, threshold, BIAS, POWER)
    d_value = -d_residual
    if BIAS == DOT:
        d_value = -d_slope
    d_before, d_gain = d_residual, tl.zeros_like(d_residual)
    if NORM:
        d_answer = slope(residual, value, threshold, BIAS, POWER)
        u = gain * d_answer
        gone = inverse * _project(u, standard, inside, VALUES)
        d_standard = gain * d_residual - scaled * _mean(standard * u, VALUES) - u * _mean(standard * scaled, VALUES)
        d_before = inverse * (
            _project(d_standard, standard, inside, VALUES) - standard * _mean(d_surprise * gone, VALUES)
        )
        d_gain = d_u * d_answer + d_residual * standard
    return d_before, d_residual, d_value, d_threshold, d_gain
