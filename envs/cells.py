"""MiniGrid's views: what their space calls a picture is three codes for each cell."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, MultiDiscrete

#: How many kinds of things, colours and states a cell may have: of ``minigrid.core.constants``, and four directions.
CODES = (11, 6, 4)


class Cells(gymnasium.ObservationWrapper):
    """Says of MiniGrid's ``image``, ``(rows, columns, 3)`` bytes, what is in it: a number of a kind, a colour, a state.

    What is observed stays as it is, but an agent sees which things there are instead of a nearly black picture. Other
    parts stay, too; where there is no such part nothing changes.

    Args:
        env: an environment of MiniGrid's or BabyAI's.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        space: Any = env.observation_space
        image = space.spaces.get("image") if isinstance(space, Dict) else None
        if isinstance(image, Box) and len(image.shape) == 3 and image.shape[2] == len(CODES):
            counts = np.broadcast_to(np.array(CODES), image.shape)
            cells = MultiDiscrete(counts, dtype=np.uint8)
            parts = [(name, cells if name == "image" else part) for name, part in space.spaces.items()]
            self.observation_space = Dict(parts)

    def observation(self, observation: Any) -> Any:
        """Give what there is to see."""
        return observation
