"""Text as a stream: bundled works, any file in pieces, rows of documents to learn from, facts hidden in prose."""

from recurra.envs.documents import babilong, texts
from recurra.envs.documents.batches import Batches, Piece
from recurra.envs.documents.sources import Source, expand

__all__ = ["Batches", "Piece", "Source", "babilong", "expand", "texts"]
