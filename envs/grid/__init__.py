"""Teams on grids: POGEMA's rules (Skrynnik et al., arXiv 2407.14931), many worlds at once, without its package.

============================ ==========================================================================
`GridWorlds`                 teams, many worlds at once: what all others stand on
`GridVector`                 every agent an environment of a Gymnasium vector environment
`GridParallel`               one world, as PettingZoo has environments of several agents
`PogemaWorlds`               the package's own environments, met as `GridWorlds` are
`Recording`                  an episode as an SVG animation
``recurra/Grid-v0``          a `GridVector` of random maps
``recurra/Bottleneck-v0``    a `GridVector` of SRMT's task: two agents, two rooms, one corridor between them
============================ ==========================================================================
"""

import gymnasium

from recurra.envs.grid.adapter import PogemaWorlds
from recurra.envs.grid.animation import Recording
from recurra.envs.grid.generators import GENERATORS, validation
from recurra.envs.grid.maps import Map, parse, read
from recurra.envs.grid.parallel import GridParallel
from recurra.envs.grid.placing import pogema_instance
from recurra.envs.grid.rewards import REWARDS, Moved
from recurra.envs.grid.steps import TeamStep
from recurra.envs.grid.vector import GridVector
from recurra.envs.grid.worlds import GridWorlds

__all__ = [
    "GENERATORS",
    "REWARDS",
    "GridParallel",
    "GridVector",
    "GridWorlds",
    "Map",
    "Moved",
    "PogemaWorlds",
    "Recording",
    "TeamStep",
    "parse",
    "pogema_instance",
    "read",
    "validation",
]

_PRESETS: dict[str, dict[str, object]] = {
    "recurra/Grid-v0": {},
    "recurra/Bottleneck-v0": {
        "maps": "bottleneck",
        "collision_system": "block_both",
        "observation_type": "guided",
        "radius": 2,
    },
}

for _id, _preset in _PRESETS.items():
    gymnasium.register(
        id=_id, entry_point=None, vector_entry_point="recurra.envs.grid.vector:GridVector", kwargs=_preset
    )
