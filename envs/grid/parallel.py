"""One grid world as PettingZoo has environments of several agents."""

import importlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import gymnasium
import numpy as np

from recurra.envs.grid.picture import picture
from recurra.envs.grid.worlds import GridWorlds
from recurra.errors import UserError, nearest

_Parent: Any = object
with suppress(ModuleNotFoundError):  # its interface is all that is needed
    _Parent = importlib.import_module("pettingzoo").ParallelEnv


class GridParallel(_Parent):
    r"""A PettingZoo ``ParallelEnv`` of one of `GridWorlds`; where PettingZoo is not installed, one in all but its type.

    Agents are ``agent_0``, ``agent_1`` and so on. Who reaches its goal and leaves is no longer among ``agents``. The
    infos of an episode's last step hold the team's figures, ``metrics``.

    >>> env = GridParallel(maps="aA.\nb.B")
    >>> observations, infos = env.reset(seed=0)
    >>> env.step({"agent_0": 4, "agent_1": 0})[2], env.agents
    ({'agent_0': True, 'agent_1': False}, ['agent_1'])

    Args:
        render_mode: None or ``"ansi"``.
        options: those of `GridWorlds`, but ``worlds``.

    Attributes:
        possible_agents: names of all.
        agents: of those who are there.

    Raises:
        UserError: if an option is none of those.
    """

    metadata = {"name": "recurra_grid", "render_modes": ["ansi"], "is_parallelizable": True}  # noqa: RUF012

    def __init__(self, *, render_mode: str | None = None, **options: Any) -> None:
        if "worlds" in options:
            raise UserError("a ParallelEnv is one world: leave worlds out, or take GridWorlds or GridVector")
        self.worlds = GridWorlds(**options)
        self.render_mode = render_mode
        self.possible_agents = [f"agent_{number}" for number in range(self.worlds.num_agents)]
        self.agents: list[str] = []
        self._action_space = self.worlds.action_space
        self._observation_space = self.worlds.observation_space

    def observation_space(self, agent: str) -> gymnasium.Space:
        """Give the space of an agent's observations, the same for all."""
        return self._observation_space

    def action_space(self, agent: str) -> gymnasium.Space:
        """Give the space of an agent's actions."""
        return self._action_space

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Begin an episode: observations and infos of all who are there; no options."""
        obs, present = self.worlds.reset(seed=seed)
        self.agents = [name for name, there in zip(self.possible_agents, present[0], strict=True) if there]
        return {name: self._own(obs, name) for name in self.agents}, {name: {} for name in self.agents}

    def step(
        self, actions: Mapping[str, int]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Act.

        Args:
            actions: by agent; who is not named stays.

        Raises:
            UserError: if the episode is over or has not begun, or an agent or action does not exist.
        """
        if not self.agents:
            raise UserError("the episode is over: call reset() before step()")
        for name in actions:
            if name not in self.possible_agents:
                raise UserError(f"there is no agent {name!r}; {nearest(name, self.possible_agents)}")
        team = np.array([[actions.get(name, 0) for name in self.possible_agents]])
        step = self.worlds.step(team)
        acted, over = self.agents, bool(step.first[0])
        ended = {name: bool(step.terminated[0, self._number(name)]) for name in acted}
        cut = {name: over and not ended[name] for name in acted}
        told = {"metrics": {name: float(values[0]) for name, values in step.metrics.items()}} if over else {}
        self.agents = [name for name in acted if not (ended[name] or cut[name])]
        return (
            {name: self._own(step.final_obs, name) for name in acted},
            {name: float(step.reward[0, self._number(name)]) for name in acted},
            ended,
            cut,
            {name: dict(told) for name in acted},
        )

    def _number(self, name: str) -> int:
        return int(name.removeprefix("agent_"))

    def _own(self, obs: Any, name: str) -> Any:
        """Give an agent its own observation."""
        if isinstance(obs, dict):
            own = {part: values[0, self._number(name)] for part, values in obs.items() if part != "global_obstacles"}
            return own | ({"global_obstacles": obs["global_obstacles"][0]} if "global_obstacles" in obs else {})
        return obs[0, self._number(name)]

    def render(self) -> str | None:
        """Draw the world as text in render mode ``"ansi"``."""
        return picture(self.worlds.frame(0)) if self.render_mode == "ansi" else None

    def close(self) -> None:
        """Nothing is held open."""

    def state_dict(self) -> dict[str, Any]:
        """Give all that is needed to continue identically, in dicts, lists, numbers and strings."""
        return {"worlds": self.worlds.state_dict(), "agents": list(self.agents)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave.

        Raises:
            UserError: if it is the state of another number of agents.
        """
        self.worlds.load_state_dict(state["worlds"])
        self.agents = list(state["agents"])
