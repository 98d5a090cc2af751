"""Memory handed from segment to segment of a transformer: RMT and its kin."""

from recurra.memory.segment.armt import ARMT
from recurra.memory.segment.elmur import ELMUR
from recurra.memory.segment.parts import SegmentState
from recurra.memory.segment.rmt import RMT
from recurra.memory.segment.transformer_xl import TransformerXL
from recurra.memory.segment.wrap import LanguageModel, wrap

__all__ = ["ARMT", "ELMUR", "RMT", "LanguageModel", "SegmentState", "TransformerXL", "wrap"]
