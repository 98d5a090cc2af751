"""The peer of ``recurra bench grid``: the package pogema, run as a script by a Python that has it, 1.4 or 2.0."""

import json
import sys
import time
from typing import Any


def main(options: dict[str, Any]) -> dict[str, float]:
    """Step environments in turn, at random, and give what was measured.

    Args:
        options: ``worlds``, ``agents``, ``size``, ``density``, ``radius``, ``horizon``, ``on_target``,
            ``collision_system``, ``observation_type``, ``seed``.

    Returns:
        CPU seconds of an episode of all worlds: ``resets`` and ``steps``.
    """
    import numpy as np
    from pogema import GridConfig, pogema_v0

    worlds, agents, horizon = options["worlds"], options["agents"], options["horizon"]
    environments = [
        pogema_v0(
            GridConfig(
                num_agents=agents,
                size=options["size"],
                density=options["density"],
                obs_radius=options["radius"],
                max_episode_steps=horizon,
                on_target=options["on_target"],
                collision_system=options["collision_system"],
                observation_type=options["observation_type"],
                seed=options["seed"] * worlds + world,
            )
        )
        for world in range(worlds)
    ]
    actions = np.random.default_rng(options["seed"]).integers(5, size=(horizon, worlds, agents)).tolist()
    start = time.process_time()
    for environment in environments:
        environment.reset()
    begun = time.process_time()
    for of_worlds in actions:
        for environment, of_agents in zip(environments, of_worlds, strict=True):
            environment.step(of_agents)
    return {"resets": begun - start, "steps": time.process_time() - begun}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
