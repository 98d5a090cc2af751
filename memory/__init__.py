"""Memory modules: a function from a piece of a stream and a state to outputs and the next state."""

from recurra.memory.base import Memory

__all__ = ["Memory"]
