"""The delta rule, with or without decay, and linear attention."""

from recurra.kernels.delta_rule.operation import BACKENDS, delta_rule

__all__ = ["BACKENDS", "delta_rule"]
