"""What is deployed: agents that act step by step, carrying their own state, with no recipe needed."""

from recurra.agents.acting import Acting, ActingState
from recurra.agents.actor_critic import ActorCritic, Output
from recurra.agents.pretrained import PretrainedReader
from recurra.agents.rate import RATE, RATEState
from recurra.agents.reader import Reader, ReaderState
from recurra.agents.saving import load, save

__all__ = [
    "RATE",
    "Acting",
    "ActingState",
    "ActorCritic",
    "Output",
    "PretrainedReader",
    "RATEState",
    "Reader",
    "ReaderState",
    "load",
    "save",
]
