"""Probes: streams of tokens that ask for one ability of a memory each."""

from recurra.envs.probes.recall import Episodes, Recall

__all__ = ["Episodes", "Recall"]
