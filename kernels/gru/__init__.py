"""The recurrence of the GRU over packed sequences."""

from recurra.kernels.gru.operation import gru

__all__ = ["gru"]
