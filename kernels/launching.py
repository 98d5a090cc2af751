"""Where the Triton kernels can run. Nothing here imports triton, which the other backends do without."""

import importlib.util
import os

import torch

from recurra.errors import UserError

INSTALLED = importlib.util.find_spec("triton") is not None

# Triton reads the variable when it is imported, and for good: so do we, before that.
INTERPRETED = INSTALLED and os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "y", "on")


def available() -> bool:
    """Say whether this machine can run Triton kernels at all: on its GPU, or under Triton's interpreter."""
    return INTERPRETED or (INSTALLED and torch.cuda.is_available() and _capable(None))


def runs_on(device: torch.device) -> bool:
    """Say whether Triton kernels take tensors of a device; under the interpreter they take those of any."""
    return INTERPRETED or (INSTALLED and device.type == "cuda" and _capable(device.index))


def _capable(index: int | None) -> bool:
    """Say whether a GPU is of NVIDIA's Ampere or newer: earlier ones have too little shared memory for the kernels."""
    return torch.version.hip is None and torch.cuda.get_device_capability(index) >= (8, 0)


# What torch.compiler.assume_constant_result does; that imports torch's compiler, which takes a second and more.
_capable._dynamo_marked_constant = True  # type: ignore[attr-defined]


def require(operation: str, device: torch.device, unfit: str | None) -> None:
    """Refuse the backend "triton" where it cannot run.

    Args:
        operation: what was asked for it.
        device: of the tensors.
        unfit: what the kernels cannot take about the arguments; None if they can.

    Raises:
        UserError: that says what to do.
    """
    if not INSTALLED:
        raise UserError(f'{operation} has no backend "triton" here: pip install triton, or take backend=None')
    if not runs_on(device):
        raise UserError(
            f'{operation} runs its backend "triton" on NVIDIA GPUs from Ampere on, its tensors are on {device}: move '
            "them, take backend=None, or set TRITON_INTERPRET=1 before Python starts to interpret the kernels (slow)"
        )
    if unfit is not None:
        raise UserError(f'{operation}\'s backend "triton" takes {unfit}: take backend=None')
