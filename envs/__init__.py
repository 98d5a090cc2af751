"""What streams: environments that need memory, and the one form in which agents meet any vector environment."""

from recurra.envs.cartpole import CartPoleHidden, CartPoleHiddenVector
from recurra.envs.grid import GridVector, GridWorlds
from recurra.envs.making import make_streams, make_teams
from recurra.envs.teams import Teams, TeamTransition
from recurra.envs.tmaze import Forecast, TMaze, TMazeVector
from recurra.envs.vector import Streams, Transition

__all__ = [
    "CartPoleHidden",
    "CartPoleHiddenVector",
    "Forecast",
    "GridVector",
    "GridWorlds",
    "Streams",
    "TMaze",
    "TMazeVector",
    "TeamTransition",
    "Teams",
    "Transition",
    "make_streams",
    "make_teams",
]
