"""Teams on grids: POGEMA's rules (Skrynnik et al., arXiv 2407.14931), many worlds at once, without its package."""

from recurra.envs.grid.generators import GENERATORS, validation
from recurra.envs.grid.maps import Map, parse, read
from recurra.envs.grid.placing import pogema_instance
from recurra.envs.grid.rewards import REWARDS, Moved
from recurra.envs.grid.worlds import GridWorlds, TeamStep

__all__ = [
    "GENERATORS",
    "REWARDS",
    "GridWorlds",
    "Map",
    "Moved",
    "TeamStep",
    "parse",
    "pogema_instance",
    "read",
    "validation",
]
