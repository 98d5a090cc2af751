"""Memory modules: a function from a piece of a stream and a state to outputs and the next state."""

from recurra.memory import laws, state
from recurra.memory.base import Memory
from recurra.memory.catalogue import MemoryInfo, build, describe, names
from recurra.memory.network import Network, stack

__all__ = ["Memory", "MemoryInfo", "Network", "build", "describe", "laws", "names", "stack", "state"]
