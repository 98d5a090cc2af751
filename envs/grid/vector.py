"""Grid worlds as a Gymnasium vector environment: every agent of every world is an environment of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from recurra.envs.grid.picture import picture
from recurra.envs.grid.rewards import Reward
from recurra.envs.grid.worlds import GridWorlds
from recurra.envs.vector import SAME_STEP, finals
from recurra.errors import UserError


class GridVector(gymnasium.vector.VectorEnv):
    """Agents side by side, the teams of all worlds one after the other, for learners that know of no teams.

    Episodes are those of teams: who has reached its goal and left (``on_target="finish"``), or is not part of the
    episode, goes on with observations of zeros and rewards of 0 until the world's episode ends; ``info["present"]``
    says who is there. The last info of an episode holds ``is_success``, whether the agent arrived, and its team's
    figures (see `recurra.envs.grid.scores`).

    >>> import recurra.envs
    >>> agents = GridVector(num_envs=6, agents=3, maps="mazes", radius=2)
    >>> agents.reset(seed=0)[0].shape
    (6, 3, 5, 5)

    Args:
        num_envs: how many agents there are in all worlds together; a multiple of a world's.
        maps: this and all that follow as in `GridWorlds`.
        options: of the generator.
        agents: of a world; if a pair, as many as the larger number.
        on_target: finish, nothing or restart.
        collision_system: priority, block_both or soft.
        observation_type: default, POMAPF, MAPF or guided.
        radius: of what agents see.
        horizon: steps of an episode.
        reward: its name, or a function.
        render_mode: None or ``"ansi"``.

    Attributes:
        worlds: the `GridWorlds` themselves.

    Raises:
        UserError: if an option is none of those of `GridWorlds`, or ``num_envs`` is no multiple of a world's agents.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4, **SAME_STEP}  # noqa: RUF012 (as gymnasium declares it)
    # gymnasium before 1.0 looks for these two.
    is_vector_env = True
    viewer = None
    closed = False

    def __init__(
        self,
        *,
        num_envs: int = 1,
        maps: Any = "random",
        options: Mapping[str, Any] | None = None,
        agents: int | Sequence[int] | None = None,
        on_target: str = "finish",
        collision_system: str = "priority",
        observation_type: str = "default",
        radius: int = 5,
        horizon: int | None = None,
        reward: str | Reward = "sparse",
        render_mode: str | None = None,
    ) -> None:
        given: dict[str, Any] = {"maps": maps, "options": options, "agents": agents, "on_target": on_target}
        given |= {"collision_system": collision_system, "observation_type": observation_type, "radius": radius}
        given |= {"horizon": horizon, "reward": reward}
        team = GridWorlds(worlds=1, **given).num_agents
        if num_envs < 1 or num_envs % team:
            raise UserError(f"num_envs must be a multiple of {team}, the agents of a world, got {num_envs}")
        self.worlds = GridWorlds(worlds=num_envs // team, **given)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.single_observation_space = self.worlds.observation_space
        self.single_action_space = self.worlds.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every world; one seed for all, and no options."""
        obs, present = self.worlds.reset(seed=seed)
        return self._flat(obs), {"present": present.reshape(-1)}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Act by ``(num_envs,)`` actions; an ended world begins its next episode in the same step."""
        shape = (self.worlds.num_worlds, self.worlds.num_agents)
        acted = self.worlds.present
        step = self.worlds.step(np.asarray(actions).reshape(shape))
        going = acted & ~step.terminated
        terminated, truncated = step.first[:, None] & ~going, step.first[:, None] & going
        info: dict[str, Any] = {}
        if step.first.any():
            told = {name: np.repeat(values, shape[1]) for name, values in step.metrics.items()}
            info = finals(
                self._flat(step.final_obs),
                np.repeat(step.first, shape[1]),
                is_success=(step.arrived == 1).reshape(-1),
                **told,
            )
        info["present"] = step.present.reshape(-1)
        flags = (terminated.reshape(-1), truncated.reshape(-1))
        return self._flat(step.obs), step.reward.reshape(-1), *flags, info

    def _flat(self, obs: Any) -> Any:
        """Give each agent its own observation, worlds being no axis any more."""
        if isinstance(obs, dict):
            named = {name: values for name, values in obs.items() if name != "global_obstacles"}
            flat = {name: self._flat(values) for name, values in named.items()}
            if "global_obstacles" in obs:
                flat["global_obstacles"] = np.repeat(obs["global_obstacles"], self.worlds.num_agents, axis=0)
            return flat
        return obs.reshape(self.num_envs, *obs.shape[2:])

    @property
    def options(self) -> dict[str, Any]:
        """The generator's options; what they are set to counts for episodes to come."""
        return self.worlds.options

    @options.setter
    def options(self, given: Mapping[str, Any]) -> None:
        self.worlds.options = given

    @property
    def horizon(self) -> int | None:
        """Steps of an episode; what it is set to counts for episodes to come."""
        return self.worlds.horizon

    @horizon.setter
    def horizon(self, given: int | None) -> None:
        self.worlds.horizon = given

    def render(self) -> tuple[str, ...] | None:
        """Draw every world as text: see `recurra.envs.grid.picture`."""
        if self.render_mode != "ansi":
            return None
        return tuple(picture(self.worlds.frame(world)) for world in range(self.worlds.num_worlds))

    def state_dict(self) -> dict[str, Any]:
        """Give all that is needed to continue identically, in dicts, lists, numbers and strings."""
        return self.worlds.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave.

        Raises:
            UserError: if it is the state of another number of worlds or agents.
        """
        self.worlds.load_state_dict(state)
