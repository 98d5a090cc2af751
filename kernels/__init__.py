"""Operations on plain tensors: no modules and no parameters."""

from recurra.kernels.delta_rule import delta_rule
from recurra.kernels.gru import gru
from recurra.kernels.linear_recurrence import linear_recurrence
from recurra.kernels.mlp_memory import mlp_memory
from recurra.kernels.pooled_delta_rule import pooled_delta_rule

__all__ = ["delta_rule", "gru", "linear_recurrence", "mlp_memory", "pooled_delta_rule"]
