"""Gated and state-space recurrences."""

from recurra.memory.recurrent.gated import GRU, LSTM, GRUState, LSTMState

__all__ = ["GRU", "LSTM", "GRUState", "LSTMState"]
