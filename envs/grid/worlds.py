"""Many grid worlds at once, with POGEMA's rules."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from recurra.envs.grid.board import Board
from recurra.envs.grid.given import checked, seeds
from recurra.envs.grid.maps import Map, plain, unplain
from recurra.envs.grid.movement import COLLISIONS, MOVES
from recurra.envs.grid.observing import OBSERVATIONS, Observer
from recurra.envs.grid.placing import Targets, numbers, place
from recurra.envs.grid.rewards import Moved, Reward, named_reward, needs_ways
from recurra.envs.grid.scores import Scores
from recurra.envs.grid.sources import source
from recurra.envs.grid.steps import Frame, TeamStep
from recurra.errors import UserError, nearest

ON_TARGET = {
    "finish": "an agent leaves when it reaches its goal",
    "nothing": "all have to stand on their goals at once",
    "restart": "an agent is sent to its next goal",
}
_TRIES = 10
_SOON = 12  # cells from its goal, from where on an agent is taken to need the next one
_ARRAYS = ("time", "limit", "key", "member", "present", "place", "goal", "start")
_SCORES = ("since", "reached")


class GridWorlds:
    r"""Teams on grids, many worlds stepped at once; rules, observations and metrics are POGEMA's (arXiv 2407.14931).

    Every world draws its map, starts and goals from a stream of its own: what happens in one does not depend on how
    many others there are, nor on what an agent's teammates did before.

    Actions: 0 stay, 1 up, 2 down, 3 left, 4 right. Observations, for a view of D = 2 radius + 1 cells:

    - ``"default"``: ``(worlds, agents, 3, D, D)`` float32: obstacles, agents (oneself in the middle), the goal, as a
      point on the border where it is further.
    - ``"POMAPF"``: a dict of ``obstacles`` and ``agents`` ``(worlds, agents, D, D)``, ``xy`` and ``target_xy``
      ``(worlds, agents, 2)`` int64, relative to the agent's start.
    - ``"MAPF"``: the same with ``global_obstacles`` ``(worlds, H, W)``, ``global_xy`` and ``global_target_xy``
      ``(worlds, agents, 2)``, which count from the corner of a rim of ``radius`` cells around the map; H and W have
      room for the largest map that a generator or a list gives, or a function of one's own has given so far.
    - ``"guided"``: ``(worlds, agents, 3, D, D)`` float32, as SRMT has it: obstacles as -1 and the shortest way to the
      goal as 1, as far as it is in view, other agents left aside; agents; the goals of others.

    >>> worlds = GridWorlds(worlds=2, maps="aA.\nbB.", collision_system="soft", radius=2)
    >>> obs, present = worlds.reset(seed=0)
    >>> obs.shape, present.tolist()
    ((2, 2, 3, 5, 5), [[True, True], [True, True]])
    >>> step = worlds.step(np.array([[0, 1], [4, 4]]))  # here b goes up, where a stays; there both go right
    >>> step.reward.tolist(), step.first.tolist()
    ([[0.0, 0.0], [1.0, 1.0]], [False, True])

    Args:
        worlds: how many.
        maps: a generator's name (see `recurra.envs.grid.GENERATORS`), a file of maps, a map's text, a `Map`, several
            `Map` that each episode draws one of, or a function that draws one: ``draw(rng, agents)``.
        options: of the generator: ``{"density": 0.3}``.
        agents: how many in a team, or a pair (low, high) that each episode's number is drawn from: of the larger number
            some are absent then. Maps that say where agents start bring as many as they have starts for, within these
            bounds. None: the most that a map has starts for, or 1.
        on_target: ``"finish"``, ``"nothing"`` or ``"restart"``: see `ON_TARGET`.
        collision_system: ``"priority"``, ``"block_both"`` or ``"soft"``: see `recurra.envs.grid.movement.COLLISIONS`.
        observation_type: ``"default"``, ``"POMAPF"``, ``"MAPF"`` or ``"guided"``.
        radius: how far an agent sees, at least 1.
        horizon: steps of an episode; None: the map's own, or 64.
        reward: a name of `recurra.envs.grid.rewards.REWARDS`, or a function of `recurra.envs.grid.rewards.Moved`.

    Attributes:
        num_worlds: how many worlds.
        num_agents: how many agents a world has at most.
        action_space: of one agent.

    Raises:
        UserError: if an option is none of these, or agents do not fit.
    """

    def __init__(
        self,
        *,
        worlds: int = 1,
        maps: Any = "random",
        options: Mapping[str, Any] | None = None,
        agents: int | Sequence[int] | None = None,
        on_target: str = "finish",
        collision_system: str = "priority",
        observation_type: str = "default",
        radius: int = 5,
        horizon: int | None = None,
        reward: str | Reward = "sparse",
    ) -> None:
        for name, given, known in (
            ("on_target", on_target, ON_TARGET),
            ("collision_system", collision_system, COLLISIONS),
            ("observation_type", observation_type, OBSERVATIONS),
        ):
            if given not in known:
                raise UserError(f"there is no {name} {given!r}; {nearest(str(given), known)}")
        _require_whole("worlds", worlds)
        _require_whole("radius", radius)
        self._given, self.options = maps, options or {}
        self._team = None if agents is None else _team(agents)
        self.num_worlds = int(worlds)
        self.num_agents = self._source.agents if self._team is None else self._team[1]
        self.on_target, self.collision_system, self.observation_type = on_target, collision_system, observation_type
        self.radius, self.horizon = int(radius), horizon
        self._reward = named_reward(reward)
        self._guides = needs_ways(self._reward)
        self.action_space = gymnasium.spaces.Discrete(len(MOVES))

        shape = (self.num_worlds, self.num_agents)
        self._rngs: list[np.random.Generator] = []
        self._maps = [Map(np.zeros((1, 1), dtype=bool))] * self.num_worlds
        # Where goals to come may be, in worlds whose goals are drawn.
        self._targets, self._draws = Targets(self.num_worlds), np.zeros(self.num_worlds, dtype=bool)
        # Steps of the episode, how many there are to be, and what goals to come are drawn from.
        self._time, self._limit = np.zeros((2, self.num_worlds), dtype=np.int64)
        self._key = np.zeros(self.num_worlds, dtype=np.uint64)
        # Who is part of an episode's team, and who of them is there.
        self._member, self._present = np.zeros((2, *shape), dtype=bool)
        # (row, column) on the map: where each agent is, goes, and came from.
        self._place, self._goal, self._start = np.zeros((3, *shape, 2), dtype=np.int64)
        self._scores = Scores(shape, on_target)
        self._ended: dict[int, Frame] = {}
        self._make(0, 0)
        self.reset()
        if observation_type == "MAPF":  # what is seen of maps has one shape from the beginning
            self._make(*map(max, self._source.room(), self._room()))
            self._lay(np.arange(self.num_worlds))

    def reset(self, seed: int | Sequence[int] | None = None) -> tuple[Any, NDArray[np.bool_]]:
        """Begin an episode in every world.

        Args:
            seed: of the worlds' streams, or one for each world; None goes on with those there are.

        Returns:
            Observations, and ``(worlds, agents)`` who is present: see `TeamStep`.

        Raises:
            UserError: if seeds are no whole numbers of at least 0, or not one for each world, or agents do not fit.
        """
        seed = seeds(seed, self.num_worlds)
        if isinstance(seed, list):
            self._rngs = [np.random.default_rng(own) for own in seed]
        elif seed is not None or not self._rngs:
            entropy = np.random.SeedSequence(seed).generate_state(4).tolist() if seed is None else [seed]
            self._rngs = [np.random.default_rng([*entropy, world]) for world in range(self.num_worlds)]
        self._ended = {}
        self._begin(np.arange(self.num_worlds))
        return self._observe(), self._present.copy()

    def step(self, actions: NDArray[Any]) -> TeamStep:
        """Act in every world.

        Args:
            actions: ``(worlds, agents)``, 0 to 4; those of absent agents are ignored.

        Raises:
            UserError: if actions are of another shape or none of these.
        """
        actions = checked(actions, self._present)
        acted = self._present.copy()
        at = self._cells()
        leads = self._observer.leads(at).reshape(acted.shape)
        moved = self._board.move(at, actions.reshape(-1), acted.reshape(-1), rule=self.collision_system)
        moved = moved.reshape(acted.shape)
        self._place += MOVES[actions * moved]
        self._time += 1

        reached = (self._place == self._goal).all(-1) & acted
        ended = reached
        if self.on_target == "nothing":
            ended = acted & (reached | ~self._member).all(1)[:, None]
        goal = ended.astype(np.float64)
        reward = self._reward(Moved(goal, moved & (actions == leads), actions == 0, acted))
        if self.on_target == "finish":
            self._board.leave(self._cells()[reached.reshape(-1)])
            self._present &= ~reached
        if self.on_target == "restart":
            ended = np.zeros_like(reached)
        truncated = self._time >= self._limit
        over = truncated | (ended | ~self._present).all(1)

        self._scores.count(reached, self._present, self._time, over)
        metrics, arrived = self._scores.told(over, self._member, self._time, self._limit)
        if self.on_target == "restart" and reached.any():
            self._send_on(*np.nonzero(reached))
        obs = final_obs = self._observe()
        self._ended = {}
        if over.any():
            board, ended_worlds = self._board, np.flatnonzero(over)
            self._ended = {world: self.frame(world) for world in ended_worlds.tolist()}
            self._begin(ended_worlds)
            # On a larger board the whole map is larger for all.
            same = self._board is board
            obs = _replaced(obs, ended_worlds, self._observe(ended_worlds)) if same else self._observe()
        reward = np.where(acted, reward, 0.0)
        return TeamStep(obs, reward, ended, truncated, final_obs, over, self._present.copy(), metrics, arrived)

    def _cells(self) -> NDArray[np.int64]:
        return self._board.cells(self._place).reshape(-1)

    # Episodes and goals

    def _begin(self, which: NDArray[np.int64]) -> None:
        """Begin an episode in some worlds."""
        self._present[which] = False
        for world in which.tolist():
            map = self._drawn(self._rngs[world])
            assert map.starts is not None
            assert map.goals is not None
            self._take(world, map)
            team = len(map.starts)
            self._member[world] = self._present[world] = np.arange(self.num_agents) < team
            self._place[world] = self._goal[world] = 0
            self._place[world, :team] = map.starts
            self._goal[world, :team] = [goals[0] for goals in map.goals]
            self._limit[world] = self.horizon or map.horizon or 64
            self._key[world] = self._rngs[world].integers(2**64, dtype=np.uint64)
        self._start[which] = self._place[which]
        self._time[which] = 0
        self._scores.begin(which)
        self._lay(which)

    def _drawn(self, rng: np.random.Generator) -> Map:
        """Draw a map with the starts and goals of a team."""
        for _ in range(_TRIES):
            team = self.num_agents if self._team is None else int(rng.integers(*self._team, endpoint=True))
            map = self._source.draw(rng, team)
            if map.starts is not None and map.goals is not None:
                if self._team is not None and len(map.starts) < self._team[0]:
                    raise UserError(
                        f"{map.name}: there are starts for {len(map.starts)} agents, not for {self._team[0]}"
                    )
                most = self.num_agents
                return replace(map, starts=map.starts[:most], goals=map.goals[:most])
            placed = place(map, team, rng)
            if placed is not None:
                starts, goals = (np.stack(np.divmod(cells, map.width), axis=1) for cells in placed)
                return replace(map, starts=starts, goals=tuple(goals[:, None]))
        raise UserError(f"{map.name}: {team} agents do not fit; have fewer, or a larger map with fewer obstacles")

    def _take(self, world: int, map: Map) -> None:
        """Let a map be a world's, and goals to come those that it gives, or drawn where it gives but one each."""
        self._maps[world] = map
        self._draws[world] = map.goals is not None and all(len(goals) == 1 for goals in map.goals)
        if self.on_target == "restart" and self._draws[world]:
            self._targets.put(world, map)

    def _lay(self, which: NDArray[np.int64]) -> None:
        """Lay some worlds' maps out, stand their agents on them, and find their ways."""
        if not all(self._board.holds(self._maps[world]) for world in which):
            sizes = [self._room()] + [(map.height, map.width) for map in self._maps]
            self._make(*(max(each) for each in zip(*sizes, strict=True)))
            which = np.arange(self.num_worlds)
        for world in which.tolist():
            self._board.put(world, self._maps[world])
        chosen = np.isin(np.arange(self.num_worlds), which)[:, None]
        standing = np.flatnonzero(self._present & chosen)
        self._board.stand(standing, self._cells()[standing])
        self._plan(np.flatnonzero(self._member & chosen))

    def _make(self, height: int, width: int) -> None:
        """Make room for maps of this size."""
        self._board = Board(self.num_worlds, height, width, self.radius)
        self._observer = Observer(self._board, self.observation_type, self.num_agents, guides=self._guides)

    def _room(self) -> tuple[int, int]:
        """Give the size of the largest map that there is room for."""
        return self._board.height - 2 * self.radius, self._board.width - 2 * self.radius

    def _plan(self, agents: NDArray[np.int64]) -> None:
        self._observer.plan(agents, self._goal)

    def _observe(self, which: NDArray[np.int64] | None = None) -> Any:
        """Show some worlds, or all, to their agents."""
        which = np.arange(self.num_worlds) if which is None else which
        return self._observer.observe(which, self._present, self._place, self._goal, self._start)

    def _send_on(self, world: NDArray[np.int64], agent: NDArray[np.int64]) -> None:
        """Give their next goals to agents that reached theirs."""
        self._goal[world, agent] = self._following(world, agent, self._scores.reached[world, agent], self._goal)
        soon = self._member & (np.abs(self._place - self._goal).sum(-1) <= _SOON)
        self._observer.go_on(world * self.num_agents + agent, self._goal, soon, self._after)

    def _after(self, agents: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give all goals, of agents those that they are sent to next: ``(worlds, agents, 2)``."""
        world, agent = np.divmod(agents, self.num_agents)
        goals = self._goal.copy()
        goals[world, agent] = self._following(world, agent, self._scores.reached[world, agent] + 1, goals)
        return goals

    def _following(
        self, world: NDArray[np.int64], agent: NDArray[np.int64], counts: NDArray[np.int64], now: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Give where agents are sent from their goals ``now``, ``(count, 2)``, the ``counts``-th of their episode."""
        draws, goals = self._draws[world], now[world, agent]
        if draws.any():
            of, who = world[draws], agent[draws]
            goals[draws] = self._targets.another(of, goals[draws], numbers(self._key[of], who, counts[draws]))
        for which in np.flatnonzero(~draws).tolist():
            given = self._maps[world[which]].goals
            assert given is not None
            own = given[agent[which]]
            goals[which] = own[counts[which] % len(own)]
        return goals

    # What others set, draw, save and restore

    @property
    def horizon(self) -> int | None:
        """Steps of an episode, or None: the map's own; what it is set to counts for episodes to come."""
        return self._horizon

    @horizon.setter
    def horizon(self, given: int | None) -> None:
        if given is not None:
            _require_whole("horizon", given)
        self._horizon = given

    @property
    def options(self) -> dict[str, Any]:
        """The generator's options; what they are set to counts for episodes to come."""
        return dict(self._options)

    @options.setter
    def options(self, given: Mapping[str, Any]) -> None:
        self._source = source(self._given, given)
        self._options = dict(given)

    def frame(self, world: int) -> Frame:
        """Show a world as the last step left it, before its next episode began."""
        if world in self._ended:
            return self._ended[world]
        arrays = (self._place, self._goal, self._present, self._member)
        return Frame(self._maps[world], *(each[world].copy() for each in arrays))

    @property
    def observation_space(self) -> gymnasium.Space:
        """Of one agent."""
        return self._observer.space()

    @property
    def maps(self) -> tuple[Map, ...]:
        """The worlds' maps, with the starts and first goals of their teams."""
        return tuple(self._maps)

    @property
    def places(self) -> NDArray[np.int64]:
        """Where agents are, ``(worlds, agents, 2)``: row and column on the map."""
        return self._place.copy()

    @property
    def goals(self) -> NDArray[np.int64]:
        """Where agents are to go, ``(worlds, agents, 2)``."""
        return self._goal.copy()

    def goals_to_come(self, count: int) -> NDArray[np.int64]:
        """Give where agents are sent, were they quick enough: ``(worlds, agents, count, 2)``, now first."""
        world, agent = np.nonzero(self._member)
        goals = np.repeat(self._goal[:, :, None], count, axis=2)
        for ahead in range(1, count):
            counts = self._scores.reached[world, agent] + ahead
            goals[world, agent, ahead] = self._following(world, agent, counts, goals[:, :, ahead - 1])
        return goals

    @property
    def limits(self) -> NDArray[np.int64]:
        """Steps of the worlds' episodes at most, ``(worlds,)``."""
        return self._limit.copy()

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which agents are there, ``(worlds, agents)``."""
        return self._present.copy()

    @property
    def members(self) -> NDArray[np.bool_]:
        """Which agents are part of the episode, ``(worlds, agents)``."""
        return self._member.copy()

    def state_dict(self) -> dict[str, Any]:
        """Give all that is needed to continue identically, in dicts, lists, numbers and strings."""
        return {
            "options": _plain(self._options),
            "horizon": self.horizon,
            "maps": [plain(map) for map in self._maps],
            "room": list(self._room()),
            "random": [rng.bit_generator.state for rng in self._rngs],
            **{name: getattr(self, f"_{name}").tolist() for name in _ARRAYS},
            **{name: getattr(self._scores, name).tolist() for name in _SCORES},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave.

        Raises:
            UserError: if it is the state of another number of worlds or agents.
        """
        shape = np.shape(state["present"])
        if shape != self._present.shape:
            told = " and ".join(f"{have} {name}" for have, name in zip(shape, ("worlds", "agents"), strict=True))
            raise UserError(f"the state is of {told}, here are {self.num_worlds} and {self.num_agents}")
        self.options, self.horizon = state["options"], state["horizon"]
        for name in _ARRAYS:
            setattr(self, f"_{name}", np.array(state[name], dtype=getattr(self, f"_{name}").dtype))
        for name in _SCORES:
            setattr(self._scores, name, np.array(state[name], dtype=np.int64))
        self._rngs = [np.random.default_rng() for _ in state["random"]]
        for rng, saved in zip(self._rngs, state["random"], strict=True):
            rng.bit_generator.state = saved
        for world, map in enumerate(state["maps"]):
            self._take(world, unplain(map))
        self._make(*state["room"])
        self._lay(np.arange(self.num_worlds))


def _require_whole(name: str, given: Any) -> None:
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 1:
        raise UserError(f"{name} must be a whole number of at least 1, got {given!r}")


def _team(agents: int | Sequence[int]) -> tuple[int, int]:
    pair = [agents, agents] if isinstance(agents, int | np.integer) else agents
    whole = isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(n, int | np.integer) for n in pair)
    if not whole or not 1 <= pair[0] <= pair[1]:
        raise UserError(f"agents must be a whole number of at least 1, or a pair (low, high), got {agents!r}")
    return int(pair[0]), int(pair[1])


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Give options as numbers and lists."""
    return {name: np.asarray(value).tolist() for name, value in options.items()}


def _replaced(obs: Any, which: NDArray[np.int64], fresh: Any) -> Any:
    """Give observations with those of some worlds replaced."""
    if isinstance(obs, dict):
        return {name: _replaced(values, which, fresh[name]) for name, values in obs.items()}
    obs = obs.copy()
    obs[which] = fresh
    return obs
