"""The norm of blocks and networks."""

from torch import Tensor, nn

from recurra.kernels.rms_norm import rms_norm


class RMSNorm(nn.RMSNorm):
    """torch's own, by `recurra.kernels.rms_norm`: its parameters and its numbers, in half the time where it learns.

    >>> RMSNorm(8)
    RMSNorm((8,), eps=1e-06, elementwise_affine=True)
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Norm the last axis of ``(..., dim)``."""
        return rms_norm(x, self.weight, eps=1e-6)
