"""Devices and precisions by the names that options give them."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from recurra.errors import UserError


def device(name: str) -> torch.device:
    """Find the device that an option names: cpu, cuda, or auto for a GPU where there is one.

    Raises:
        UserError: if it is none of these, or there is no GPU.
    """
    if name not in ("cpu", "cuda", "auto"):
        raise UserError(f"device must be cpu, cuda or auto, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: this torch sees no GPU; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def precision(name: str, where: torch.device) -> AbstractContextManager[Any]:
    """Give the context to compute in: 32-true or bf16-mixed.

    Raises:
        UserError: if it is neither.
    """
    if name not in ("32-true", "bf16-mixed"):
        raise UserError(f"precision must be 32-true or bf16-mixed, got {name!r}")
    return nullcontext() if name == "32-true" else torch.autocast(where.type, torch.bfloat16)
