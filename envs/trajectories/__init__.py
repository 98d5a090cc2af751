"""Recorded streams on disk: episodes of any length, written safely, read as views of the files.

A folder holds ``store.json``, the two spaces in JSON; flat binary files of rows, little-endian, in the dtype of their
space: ``observations-N.bin`` for the Nth leaf of the observation space (Dict and Tuple taken apart in their order),
``actions.bin`` and, float64, ``rewards.bin``; ``index.bin``, a record of 28 bytes for each episode: how many steps lie
before it and how many it has (int64 both), 1 if terminated plus 2 if truncated (uint32), the CRC-32 of the CRC-32s of
its rows in each file (observations, actions, rewards), and the CRC-32 of the record itself; and ``synced.json``, how
many episodes were known to be on the disk when that was last made sure. Of observations an episode has a row more than
steps, so that episode N begins in row ``offset + N`` of their files, and in row ``offset`` of the others. Rows are
written before their record: what is behind the last whole episode is left out when the folder is read, and cut off by
the next writer. Nothing of it runs code.
"""

from recurra.envs.trajectories.episode import Episode
from recurra.envs.trajectories.pieces import Piece, Pieces, pieces
from recurra.envs.trajectories.recording import Recorded, record
from recurra.envs.trajectories.store import Store
from recurra.envs.trajectories.writer import Writer

__all__ = ["Episode", "Piece", "Pieces", "Recorded", "Store", "Writer", "pieces", "record"]
