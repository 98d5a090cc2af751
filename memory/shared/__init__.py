"""Memory that a team shares: x is ``(batch, agents, time, dim)``, and agents may come and go."""

from recurra.memory.shared.alone import Alone
from recurra.memory.shared.pooled import POOLED, Pooled
from recurra.memory.shared.srmt import SRMT, SRMTState

__all__ = ["POOLED", "SRMT", "Alone", "Pooled", "SRMTState"]
