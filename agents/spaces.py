"""Observations of any Gymnasium space as tensors; what is known of spaces themselves is in `recurra.spaces`."""

from typing import Any

import numpy as np
import torch
from gymnasium import Space
from torch import Tensor

from recurra.errors import UserError
from recurra.spaces import check, codes, from_json, is_image, leaves, split, to_json

__all__ = ["check", "codes", "from_json", "is_image", "leaves", "tensors", "to_json"]

# What torch computes with of numpy's unsigned and floating types.
_COMPUTED = (np.uint8, np.float16, np.float32, np.float64)


def tensors(space: Space, value: Any, device: torch.device | str | None = None) -> tuple[Tensor, ...]:
    """Take an element of a space, or a batch of them, apart: its leaves, in the order of `leaves`.

    >>> from gymnasium import spaces
    >>> tensors(spaces.Dict(a=spaces.Discrete(2), b=spaces.Tuple([spaces.Discrete(3)])), {"a": 1, "b": (2,)})
    (tensor(1), tensor(2))

    Raises:
        UserError: if the value is not of the form of the space.
    """
    try:
        return tuple(_tensor(leaf, device) for leaf in split(space, value))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"observations are to be of {space}, and what was given is not: {said}") from error


def _tensor(leaf: Any, device: torch.device | str | None) -> Tensor:
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "uf" and leaf.dtype not in _COMPUTED:
        leaf = leaf.astype(np.float64)
    return torch.as_tensor(leaf, device=device)
