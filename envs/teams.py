"""Teams as streams that never end: what `recurra.envs.vector` is to agents that act alone."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

from recurra.envs.grid import GridWorlds, PogemaWorlds
from recurra.errors import UserError, nearest


class TeamTransition(NamedTuple):
    """What one step of all teams gives: a `recurra.envs.Transition` with an axis of agents.

    Attributes:
        obs: ``(num, agents, ...)`` what to act upon next; zeros for those who are not there.
        reward: ``(num, agents)`` float64.
        terminated: ``(num, agents)`` bool: the agent's own end.
        truncated: ``(num, agents)`` bool: the episode was cut before the agent's end, and ``final_obs`` has a value.
        final_obs: what truly followed the actions.
        first: ``(num,)`` bool, True where ``obs`` starts a new episode.
        present: ``(num, agents)`` bool, which agents are to act upon ``obs``.
        success: ``(num,)`` float64, of episodes that ended, 1 where all agents arrived (CSR), else NaN.
        metrics: all figures of episodes that ended, ``(num,)`` each, else NaN: see `recurra.envs.grid.scores`.
    """

    obs: Any
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    final_obs: Any
    first: NDArray[np.bool_]
    present: NDArray[np.bool_]
    success: NDArray[np.float64]
    metrics: dict[str, NDArray[np.float64]]

    @property
    def over(self) -> NDArray[np.bool_]:
        """``(num,)``, the teams whose episode ended."""
        return self.first


class Teams:
    """Grid worlds as streams of teams.

    >>> from recurra.envs.grid import GridWorlds
    >>> teams = Teams(GridWorlds(worlds=3, maps="bottleneck"))
    >>> obs, first = teams.reset(seed=0)
    >>> teams.shape, first.shape, teams.step(np.zeros((3, 2), int)).present.shape
    ((3, 2), (3,), (3, 2))

    Args:
        env: the worlds, or the package's, which can neither be set nor saved.

    Attributes:
        env: the worlds.
        num: how many teams there are.
        shape: ``(num, agents)``.
        present: ``(num, agents)`` bool, who is to act upon what was observed last.
        observation_space: of one agent.
        action_space: of one agent.
        saves: whether the worlds can be saved.
    """

    def __init__(self, env: GridWorlds | PogemaWorlds) -> None:
        self.env: Any = env
        self.saves = isinstance(env, GridWorlds)
        self.num = env.num_worlds
        self.shape: tuple[int, ...] = (env.num_worlds, env.num_agents)
        self.present = env.present
        self.observation_space: gymnasium.Space = env.observation_space
        self.action_space: gymnasium.Space = env.action_space

    def reset(self, seed: int | Sequence[int] | None = None) -> tuple[Any, NDArray[np.bool_]]:
        """Begin an episode in every world: the first observations, and ``first``, which is True for all.

        Args:
            seed: of all worlds, or one for each; None goes on.
        """
        obs, self.present = self.env.reset(seed=seed)
        return _each(obs, self.present), np.ones(self.num, dtype=bool)

    def step(self, actions: NDArray[Any]) -> TeamTransition:
        """Act in every world by ``(num, agents)`` actions."""
        acted = self.present
        step = self.env.step(actions)
        self.present = step.present
        return TeamTransition(
            obs=_each(step.obs, step.present),
            reward=step.reward,
            terminated=step.terminated,
            truncated=step.first[:, None] & acted & ~step.terminated,
            final_obs=_each(step.final_obs, acted),
            first=step.first,
            present=step.present,
            success=step.metrics.get("CSR", np.full(self.num, np.nan)),
            metrics=step.metrics,
        )

    def set(self, name: str, value: Any) -> None:
        """Set an option of the map's generator for episodes to come, or an attribute of the worlds.

        Raises:
            UserError: if there is neither.
        """
        if name == "horizon":
            self.env.horizon = value
        elif name in self.env.options:
            self.env.options = {**self.env.options, name: value}
        else:
            raise UserError(f"the worlds have no option {name!r}: {nearest(name, [*self.env.options, 'horizon'])}")

    def state_dict(self) -> dict[str, Any]:
        """Give all that is needed to continue identically, in dicts, lists, numbers and strings."""
        return self.env.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave.

        Raises:
            UserError: if the state is of another number of worlds or agents.
        """
        self.env.load_state_dict(state)
        self.present = self.env.present

    def close(self) -> None:
        """Do nothing: worlds hold nothing open."""


def _each(obs: Any, present: NDArray[np.bool_]) -> Any:
    """Give each agent its own observation: of the type ``MAPF`` a team has one map of the whole world."""
    if not isinstance(obs, dict) or "global_obstacles" not in obs:
        return obs
    return {**obs, "global_obstacles": obs["global_obstacles"][:, None] * present[..., None, None]}
