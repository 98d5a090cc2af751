"""Associative memories learnt at test time (Miras, arXiv 2504.13173)."""

from recurra.memory.miras.delta_net import DeltaNet, DeltaNetState

__all__ = ["DeltaNet", "DeltaNetState"]
