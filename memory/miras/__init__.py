"""Associative memories learnt at test time (Miras, arXiv 2504.13173)."""

from recurra.memory.miras.delta_net import DeltaNet, DeltaNetState
from recurra.memory.miras.linear_attention import LinearAttention, LinearAttentionState
from recurra.memory.miras.retention import Retention, RetentionState

__all__ = [
    "DeltaNet",
    "DeltaNetState",
    "LinearAttention",
    "LinearAttentionState",
    "Retention",
    "RetentionState",
]
