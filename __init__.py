"""recurra: recurrent memory for streams, for agents that remember and readers of very long documents."""

__version__ = "0.1.0"
