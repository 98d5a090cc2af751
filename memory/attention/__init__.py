"""Attention: what it looks back on is in the state."""

from recurra.memory.attention.context import MemoryAsContext, MemoryAsContextState
from recurra.memory.attention.full import Attention, AttentionState
from recurra.memory.attention.samba import Samba, SambaState
from recurra.memory.attention.titans import TitansState, WithAttention
from recurra.memory.attention.window import SlidingWindow, SlidingWindowState

__all__ = [
    "Attention",
    "AttentionState",
    "MemoryAsContext",
    "MemoryAsContextState",
    "Samba",
    "SambaState",
    "SlidingWindow",
    "SlidingWindowState",
    "TitansState",
    "WithAttention",
]
