"""What is deployed: agents that act step by step, carrying their own state, with no recipe needed."""

from recurra.agents.actor_critic import ActingState, ActorCritic, Output
from recurra.agents.pretrained import PretrainedReader
from recurra.agents.reader import Reader, ReaderState
from recurra.agents.saving import load, save

__all__ = ["ActingState", "ActorCritic", "Output", "PretrainedReader", "Reader", "ReaderState", "load", "save"]
