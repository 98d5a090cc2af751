"""Operations on plain tensors: no modules and no parameters."""

from recurra.kernels.delta_rule import delta_rule

__all__ = ["delta_rule"]
