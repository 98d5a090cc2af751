"""The recurrence of the GRU."""

from recurra.kernels.gru.operation import gru

__all__ = ["gru"]
