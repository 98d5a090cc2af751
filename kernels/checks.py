"""What operations check of their arguments, and how they choose a dtype and a backend."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from recurra.errors import UserError, nearest
from recurra.kernels import launching

Shape = tuple[int, ...]


def shapes(expected: Mapping[str, tuple[Tensor | None, Sequence[Shape]]]) -> None:
    """Check that each argument that is given has one of the shapes that it may have.

    Raises:
        UserError: if one has not.
    """
    for name, (tensor, allowed) in expected.items():
        if tensor is not None and tuple(tensor.shape) not in allowed:
            wanted = " or ".join(str(shape) for shape in allowed)
            raise UserError(f"{name} must be of shape {wanted}, got {tuple(tensor.shape)}")


def flags(**given: Tensor | None) -> None:
    """Check that flags that are given are bool.

    Raises:
        UserError: if one is not.
    """
    for name, tensor in given.items():
        if tensor is not None and tensor.dtype != torch.bool:
            raise UserError(f"{name} must be bool, got {tensor.dtype}")


def floating(**given: Tensor | None) -> None:
    """Check that numbers that are given are floating point.

    Raises:
        UserError: if one is not.
    """
    for name, tensor in given.items():
        if tensor is not None and not tensor.is_floating_point():
            raise UserError(f"{name} must be floating point, got {tensor.dtype}")


def heads(q: Tensor, v: Tensor) -> None:
    """Check that queries and values are ``(batch, time, heads, ...)`` alike.

    Raises:
        UserError: if they are not.
    """
    if q.dim() != 4:
        raise UserError(f"q must be (batch, time, heads, key_dim), got {tuple(q.shape)}")
    if v.dim() != 4 or v.shape[:3] != q.shape[:3]:
        raise UserError(f"v must be of shape ({', '.join(map(str, q.shape[:3]))}, value_dim), got {tuple(v.shape)}")


def widest(*given: Tensor | None) -> torch.dtype:
    """Give the dtype to compute in: the widest of the arguments', at least float32."""
    dtype = torch.float32
    for tensor in given:
        if tensor is not None:
            dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def backend(
    operation: str,
    name: str | None,
    known: Sequence[str],
    *,
    time: int,
    device: torch.device,
    unfit: str | None = None,
) -> str:
    """Choose a backend: the one that is named, else the Triton kernels for what is on a GPU and they can take.

    Elsewhere the choice falls on token by token for a single token, and on chunks for more.

    Args:
        operation: the name of the operation that chooses.
        name: what was asked for; None leaves the choice.
        known: the operation's backends.
        time: tokens to read.
        device: of the tensors.
        unfit: what the Triton kernels take, where they do not take these arguments.

    Raises:
        UserError: if the operation has none of the name, or it cannot run here.
    """
    if name is None:
        if "triton" in known and device.type == "cuda" and launching.runs_on(device) and unfit is None:
            return "triton"
        return "reference" if time == 1 else "chunked"
    if name not in known:
        raise UserError(f"{operation} has no backend {name!r}: {nearest(name, known)}")
    if name == "triton":
        launching.require(operation, device, unfit)
    return name
