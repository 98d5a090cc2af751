"""Associative memories learnt at test time (Miras, arXiv 2504.13173)."""

from recurra.memory.miras.associative import Associative
from recurra.memory.miras.delta_net import DeltaNet, DeltaNetState
from recurra.memory.miras.linear_attention import LinearAttention, LinearAttentionState
from recurra.memory.miras.presets import PRESETS, Preset
from recurra.memory.miras.retention import Retention, RetentionState
from recurra.memory.miras.rule import CHOICES, OBJECTIONS, Rule
from recurra.memory.miras.state import AssociativeState

__all__ = [
    "CHOICES",
    "OBJECTIONS",
    "PRESETS",
    "Associative",
    "AssociativeState",
    "DeltaNet",
    "DeltaNetState",
    "LinearAttention",
    "LinearAttentionState",
    "Preset",
    "Retention",
    "RetentionState",
    "Rule",
]
