"""Gated and state-space recurrences."""

from recurra.memory.recurrent.gated import GRU, LSTM, GRUState, LSTMState
from recurra.memory.recurrent.minimal import MinGRU, MinimalState, MinLSTM

__all__ = ["GRU", "LSTM", "GRUState", "LSTMState", "MinGRU", "MinLSTM", "MinimalState"]
