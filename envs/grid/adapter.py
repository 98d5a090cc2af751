"""The package `pogema` itself, 1.4 or 2.0, met as `GridWorlds` are: what acts in one acts in the other."""

import copy
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from recurra.envs.grid.board import Board
from recurra.envs.grid.given import checked, seeds
from recurra.envs.grid.maps import Map
from recurra.envs.grid.movement import MOVES
from recurra.envs.grid.observing import OBSERVATIONS, Observer
from recurra.envs.grid.scores import Scores
from recurra.envs.grid.steps import Frame, TeamStep
from recurra.envs.grid.worlds import GridWorlds
from recurra.errors import UserError, nearest


class PogemaWorlds:
    """Environments of the package, stepped one after the other, with the interface of `GridWorlds`.

    The moves, goals and rewards are the package's, and the observations, but those it does not have (``"guided"``).
    What is put right: seeds of `reset` are followed; lists of places that a configuration names are the same at every
    reset; who has finished is absent from then on.

    Args:
        environments: ``pogema_v0(config)`` each, of equal rules and numbers of agents; maps may differ.
        observation_type: None for that of the configuration, or ``"guided"``.

    Attributes:
        environments: those given.
        num_worlds: how many.
        num_agents: of each.
        action_space: of one agent.

    Raises:
        UserError: if there are none, they are no environments of the package, their rules differ, or there is no such
            observation.
    """

    def __init__(self, environments: Sequence[Any], *, observation_type: str | None = None) -> None:
        self.environments = tuple(environments)
        if not self.environments:
            raise UserError("give at least one environment: PogemaWorlds([pogema_v0(config)])")
        for environment in self.environments:
            if not hasattr(getattr(environment, "unwrapped", None), "grid_config"):
                raise UserError(f"{environment!r} is no environment of pogema: give pogema_v0(config)")
        self._configs = [environment.unwrapped.grid_config for environment in self.environments]
        rules = [
            (config.num_agents, config.obs_radius, config.on_target, config.observation_type)
            for config in self._configs
        ]
        if len(set(rules)) > 1:
            raise UserError("environments must have equal numbers of agents, radius, on_target and observation_type")
        self.num_agents, self.radius, self.on_target, own = rules[0]
        self.observation_type = observation_type or own
        if self.observation_type not in (own, "guided"):
            known = nearest(self.observation_type, (own, "guided"))
            raise UserError(f"the environments do not show {self.observation_type!r}; {known}")
        self.num_worlds = len(self.environments)
        self.action_space = gymnasium.spaces.Discrete(len(MOVES))
        # What the package shuffles in its place, as it was given.
        self._listed = [
            {name: copy.deepcopy(getattr(config, name)) for name in ("possible_agents_xy", "possible_targets_xy")}
            for config in self._configs
        ]
        shape = (self.num_worlds, self.num_agents)
        self._seed = np.zeros(self.num_worlds, dtype=np.int64)
        self._time, self._limit = np.zeros((2, self.num_worlds), dtype=np.int64)
        self._limit[:] = [config.max_episode_steps for config in self._configs]
        self._present, self._place, self._goal, self._start = np.ones(shape, dtype=bool), *np.zeros((3, *shape, 2), int)
        self._scores = Scores(shape, self.on_target)
        self._maps: list[Map] = []
        self._ended: dict[int, Frame] = {}
        self._shown: list[Any] = [None] * self.num_worlds
        self.reset()

    @classmethod
    def make(cls, *, worlds: int = 1, observation_type: str = "default", **config: Any) -> "PogemaWorlds":
        """Make the environments, too.

        Args:
            worlds: how many.
            observation_type: default, POMAPF, MAPF or guided.
            config: fields of the package's ``GridConfig``.

        Raises:
            UserError: if the package is not installed, or refuses the configuration.
        """
        if observation_type not in OBSERVATIONS:
            known = nearest(observation_type, OBSERVATIONS)
            raise UserError(f"there is no observation_type {observation_type!r}; {known}")
        return cls(_made([config] * worlds, observation_type), observation_type=observation_type)

    @classmethod
    def like(cls, worlds: GridWorlds) -> "PogemaWorlds":
        """Make the environments in which the episodes that grid worlds are in are played from their beginning.

        Maps, starts, goals and those to come are the same; rewards are the package's. Every reset begins these episodes
        again, whatever its seed.

        Args:
            worlds: of equal numbers of agents.

        Raises:
            UserError: if the package is not installed, or the numbers of agents differ.
        """
        sizes = sorted(set(worlds.members.sum(1).tolist()))
        if len(sizes) > 1:
            raise UserError(f"pogema has teams of one size: give agents as one number, not {sizes[0]} to {sizes[-1]}")
        lifelong = worlds.on_target == "restart"
        to_come = worlds.goals_to_come(int(worlds.limits.max()) + 1 if lifelong else 1)
        configs = []
        for map, limit, goals in zip(worlds.maps, worlds.limits.tolist(), to_come, strict=True):
            assert map.starts is not None
            own = goals[: len(map.starts)].tolist()
            configs.append(
                {
                    "map": map.obstacles.astype(int).tolist(),
                    "agents_xy": map.starts.tolist(),
                    "targets_xy": own if lifelong else [each[0] for each in own],
                    "num_agents": len(map.starts),
                    "obs_radius": worlds.radius,
                    "max_episode_steps": limit,
                    "on_target": worlds.on_target,
                    "collision_system": worlds.collision_system,
                }
            )
        return cls(_made(configs, worlds.observation_type), observation_type=worlds.observation_type)

    def reset(self, seed: int | Sequence[int] | None = None) -> tuple[Any, NDArray[np.bool_]]:
        """Begin an episode in every world.

        Args:
            seed: of the first world's first episode, by which the package draws its map, starts and goals; the others
                count on from there. Or one for each world, from which each counts on in steps of one. None draws one.

        Returns:
            Observations, and ``(worlds, agents)`` who is present: see `TeamStep`.

        Raises:
            UserError: if seeds are no whole numbers of at least 0, or not one for each world, or agents do not fit.
        """
        seed = seeds(seed, self.num_worlds)
        if isinstance(seed, list):
            self._seed, self._stride = np.array(seed), 1
        else:
            first = int(np.random.default_rng().integers(2**30)) if seed is None else seed
            self._seed, self._stride = first + np.arange(self.num_worlds), self.num_worlds
        self._maps = []
        for world in range(self.num_worlds):
            self._begin(world)
        self._ended = {}
        self._lay()
        return self._observe(), self._present.copy()

    def _begin(self, world: int) -> None:
        environment, config = self.environments[world], self._configs[world]
        for name, listed in self._listed[world].items():
            setattr(config, name, copy.deepcopy(listed))
        config.seed = int(self._seed[world])  # 1.4 follows no other
        try:
            self._shown[world], _ = environment.reset()
        except (OverflowError, ValueError, IndexError) as error:
            raise UserError(f"pogema cannot begin with seed {config.seed}: {' '.join(str(error).split())}") from error
        self._seed[world] += self._stride
        grid = environment.unwrapped.grid
        map = Map(grid.get_obstacles(ignore_borders=True).astype(bool), name=f"pogema-{config.seed}")
        self._maps[world : world + 1] = [map]
        self._time[world] = 0
        self._scores.begin(np.array([world]))
        self._follow(world)
        self._start[world] = self._place[world]

    def _follow(self, world: int) -> None:
        """Look where agents are, and where they are to go."""
        grid = self.environments[world].unwrapped.grid
        self._place[world] = np.array(grid.positions_xy) - self.radius
        self._goal[world] = np.array(grid.finishes_xy) - self.radius
        self._present[world] = [grid.is_active[agent] for agent in range(self.num_agents)]

    def _lay(self) -> None:
        """Lay the maps out anew for what the package does not show."""
        if self.observation_type == "guided":
            height, width = self._extent()
            self._board = Board(self.num_worlds, height, width, self.radius)
            self._observer = Observer(self._board, "guided", self.num_agents)
            for world, map in enumerate(self._maps):
                self._board.put(world, map)
            self._planned = self._goal.copy()
            self._observer.plan(np.arange(self._present.size), self._goal)

    def step(self, actions: NDArray[Any]) -> TeamStep:
        """Act in every world by ``(worlds, agents)`` actions, 0 to 4; those of absent agents are ignored.

        Raises:
            UserError: if actions are of another shape or none of these.
        """
        actions = checked(actions, self._present)
        acted = self._present.copy()
        reward, ended = np.zeros(acted.shape), np.zeros_like(acted)
        over, truncated = np.zeros((2, self.num_worlds), dtype=bool)
        reached = np.zeros_like(acted)
        for world, environment in enumerate(self.environments):
            # A list of the package's own: under soft collisions it writes into it.
            obs, rewards, terminated, cut, _ = environment.step(actions[world].tolist())
            self._shown[world], reward[world], ended[world] = obs, rewards, terminated
            over[world], truncated[world] = all(terminated) or all(cut), all(cut)
            reached[world] = environment.unwrapped.was_on_goal
            self._follow(world)
        ended &= acted
        self._time += 1
        self._scores.count(reached, self._present, self._time, over)
        everyone = np.ones_like(acted)
        metrics, arrived = self._scores.told(over, everyone, self._time, self._limit)
        obs = final_obs = self._observe()
        self._ended = {}
        if over.any():
            self._ended = {world: self.frame(world) for world in np.flatnonzero(over).tolist()}
            for world in np.flatnonzero(over).tolist():
                self._begin(world)
            self._lay()
            obs = self._observe()
        return TeamStep(
            obs,
            np.where(acted, reward, 0.0),
            ended,
            truncated,
            final_obs,
            over,
            self._present.copy(),
            metrics,
            arrived,
        )

    def _observe(self) -> Any:
        """Give the package's observations as arrays, zeros for absent agents."""
        if self.observation_type == "guided":
            return self._guided()
        shown = self._shown
        if self.observation_type == "default":
            squares = np.array(shown, dtype=np.float32)
            squares[~self._present] = 0
            return squares
        obs: dict[str, NDArray[Any]] = {}
        for name in shown[0][0]:
            if name == "global_obstacles":
                height, width = (max(each) for each in zip(*(of[0][name].shape for of in shown), strict=True))
                obs[name] = np.zeros((self.num_worlds, height, width), dtype=np.float32)
                for world, of_agents in enumerate(shown):
                    rows, columns = of_agents[0][name].shape
                    obs[name][world, :rows, :columns] = of_agents[0][name]
            else:
                obs[name] = np.array([[own[name] for own in of_agents] for of_agents in shown])
                obs[name][~self._present] = 0
        return obs

    def _guided(self) -> Any:
        for world, map in enumerate(self._maps):
            self._board.put(world, map)
        cells = self._board.cells(self._place).reshape(-1)
        standing = np.flatnonzero(self._present)
        self._board.stand(standing, cells[standing])
        changed = (self._goal != self._planned).any(-1)
        self._observer.plan(np.flatnonzero(changed), self._goal)
        self._planned = self._goal.copy()
        return self._observer.observe(np.arange(self.num_worlds), self._present, self._place, self._goal, self._start)

    def _extent(self) -> tuple[int, int]:
        return max(map.height for map in self._maps), max(map.width for map in self._maps)

    @property
    def observation_space(self) -> gymnasium.Space:
        """Of one agent."""
        height, width = self._extent()
        return Observer(Board(1, height, width, self.radius), self.observation_type, 1).space()

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which agents are there, ``(worlds, agents)``."""
        return self._present.copy()

    @property
    def maps(self) -> tuple[Map, ...]:
        """The worlds' maps."""
        return tuple(self._maps)

    def frame(self, world: int) -> Frame:
        """Show a world as the last step left it, before its next episode began."""
        if world in self._ended:
            return self._ended[world]
        everyone = np.ones(self.num_agents, dtype=bool)
        places, goals, present = (each[world].copy() for each in (self._place, self._goal, self._present))
        return Frame(self._maps[world], places, goals, present, everyone)


def package() -> Any:
    """Give the package `pogema`.

    Raises:
        UserError: if it is not installed.
    """
    try:
        import pogema
    except ModuleNotFoundError as error:
        raise UserError("pogema is not installed: pip install 'recurra[pogema]'") from error
    return pogema


def _made(configs: Sequence[dict[str, Any]], observation_type: str) -> list[Any]:
    pogema, own = package(), "POMAPF" if observation_type == "guided" else observation_type
    try:
        return [pogema.pogema_v0(pogema.GridConfig(**config, observation_type=own)) for config in configs]
    except (ValueError, TypeError, KeyError, IndexError, AssertionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"pogema refuses the configuration: {' '.join(str(error).split())}") from error
