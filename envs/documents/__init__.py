"""Text as a stream: bundled works, any file as pieces of bytes, and rows of documents side by side for training."""

from recurra.envs.documents import texts
from recurra.envs.documents.batches import Batches, Piece
from recurra.envs.documents.sources import Source, expand

__all__ = ["Batches", "Piece", "Source", "expand", "texts"]
