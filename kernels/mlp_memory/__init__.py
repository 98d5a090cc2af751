"""A two-layer MLP that learns at test time."""

from recurra.kernels.mlp_memory.operation import BACKENDS, mlp_memory
from recurra.kernels.mlp_memory.state import MLPState

__all__ = ["BACKENDS", "MLPState", "mlp_memory"]
