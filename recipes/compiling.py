"""What is computed over and over with the same shapes, compiled by torch."""

from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give the function compiled: the same but for rounding, a minute later, and then in fewer and larger operations.

    What cannot be compiled (a network over sequences of all lengths) runs as it is, between what can.
    """
    torch._dynamo.config.allow_rnn = True  # a step of torch's own networks; longer pieces are left to them
    # A copy of its code: torch keeps a few variants of each code, and leaves what comes later (the next agent of a
    # process) uncompiled.
    assert isinstance(function, FunctionType)
    own = FunctionType(function.__code__.replace(), function.__globals__, function.__name__, function.__defaults__)
    own.__kwdefaults__ = function.__kwdefaults__
    return torch.compile(own, dynamic=False)
