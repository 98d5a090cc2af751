"""A two-layer MLP that learns at test time."""

from recurra.kernels.mlp_memory.operation import BACKENDS, COMPILED, mlp_memory
from recurra.kernels.mlp_memory.state import MLPState

__all__ = ["BACKENDS", "COMPILED", "MLPState", "mlp_memory"]
