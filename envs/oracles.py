"""Policies that win, for the environments that have one."""

from typing import Any

from gymnasium.vector import SyncVectorEnv

from recurra.envs.seeking import Seeker, plays
from recurra.envs.tmaze import Oracle, TMazeVector
from recurra.envs.vector import Streams
from recurra.errors import UserError


def oracle(streams: Streams, name: str) -> Any:
    """Give the policy that wins in these streams: of T-Mazes, and of MiniGrid's tasks of memory.

    Args:
        streams: where it is to act; it follows the episodes from their next beginnings on.
        name: the environment's, for the message.

    Raises:
        UserError: if there is none.
    """
    if isinstance(streams.env, TMazeVector):
        return Oracle()
    if isinstance(streams.env, SyncVectorEnv) and all(map(plays, streams.env.envs)):
        return Seeker(streams.env.envs)
    known = "only T-Mazes have, and MiniGrid's tasks of memory"
    raise UserError(f"{name} has no oracle, which {known}: name a trained agent with --policy RUN")
