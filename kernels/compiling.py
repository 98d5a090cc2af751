"""Whether anything can be compiled."""

import functools

import torch

from recurra.errors import UserError


@functools.cache  # of a failure nothing is kept
def require() -> None:
    """Make sure that torch can compile.

    Raises:
        UserError: if there is no C++ compiler, say.
    """
    try:
        torch.compile(torch.sin, dynamic=False)(torch.zeros(2))
    except Exception as error:  # whatever torch makes of it
        raise UserError(
            "compiling needs a working C++ compiler, such as g++ (CXX names another), and Python's headers; "
            "install them, or do without compiling"
        ) from error
