"""The linear recurrence of gated and diagonal state-space memories."""

from recurra.kernels.linear_recurrence.operation import BACKENDS, linear_recurrence

__all__ = ["BACKENDS", "linear_recurrence"]
