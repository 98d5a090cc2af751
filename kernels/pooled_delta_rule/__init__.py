"""The delta rule of a memory that many write to at once."""

from recurra.kernels.pooled_delta_rule.operation import BACKENDS, pooled_delta_rule

__all__ = ["BACKENDS", "pooled_delta_rule"]
