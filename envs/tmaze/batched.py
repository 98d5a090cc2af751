"""Many T-Mazes at once."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from recurra.envs.tmaze.noise import KEYS, noise
from recurra.envs.tmaze.options import Drawn, Lengths, Weight, bounds
from recurra.envs.tmaze.picture import picture
from recurra.envs.tmaze.single import TMaze
from recurra.envs.vector import SAME_STEP, finals
from recurra.errors import UserError

_RIGHT, _UP = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)]).T
_OPTIONS = ("corridor", "oracle", "junctions", "bonus", "penalty")
_PLACES = ("x", "y", "time", "length", "behind", "goal", "told", "turns", "most", "key")


class Forecast(NamedTuple):
    """What mazes will show while their agents keep walking.

    Attributes:
        actions: ``(num_envs,)``, the action taken over and over.
        observations: ``(num_envs, K, 2)`` float32, with noise 4, what the next K = max(counts) steps give, 0 beyond a
            maze's count.
        counts: ``(num_envs,)``, for how many steps this is known.
        rewards: ``(num_envs,)``, what each of these steps earns.
    """

    actions: NDArray[np.int64]
    observations: NDArray[np.float32]
    counts: NDArray[np.int64]
    rewards: NDArray[np.float64]


class TMazeVector(gymnasium.vector.VectorEnv):
    """Many mazes (see `TMaze`) stepped at once; an ended one begins its next episode in the same step.

    `forecast` and `advance` skip through corridors: all that an agent sees there is known beforehand, so a model can
    read it in one piece and, should it really walk on, the mazes jump there at no cost.

    >>> mazes = TMazeVector(num_envs=3, corridor=(5, 1000))
    >>> mazes.reset(seed=0)[0].shape
    (3, 2)
    >>> ahead = mazes.forecast(limit=4)
    >>> ahead.observations.shape, ahead.counts
    ((3, 4, 2), array([4, 4, 4]))
    >>> mazes.advance(ahead.counts)[1]
    array([0., 0., 0.])

    Args:
        num_envs: how many mazes.
        corridor: as in `TMaze`; each maze draws its own.
        oracle: the same.
        junctions: the same.
        bonus: the same.
        penalty: the same.
        noise: the same; a forecast knows it.
        render_mode: None or ``"ansi"``.

    Raises:
        UserError: if an option is none of those of `TMaze`, or there is no maze.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4, **SAME_STEP}  # noqa: RUF012 (as gymnasium declares it)
    # gymnasium before 1.0 looks for these two.
    is_vector_env = True
    viewer = None
    closed = False

    corridor = Drawn(least=1)
    oracle = Drawn(least=0)
    junctions = Drawn(least=1, optional=True)
    bonus = Weight()
    penalty = Weight()

    def __init__(
        self,
        *,
        num_envs: int = 1,
        corridor: Lengths = 10,
        oracle: Lengths = 0,
        junctions: Lengths | None = 1,
        bonus: float = 0.0,
        penalty: float = 1.0,
        noise: bool = False,
        render_mode: str | None = None,
    ) -> None:
        if num_envs < 1:
            raise UserError(f"num_envs must be at least 1, got {num_envs}")
        single = TMaze(noise=noise)
        self.num_envs = num_envs
        self.corridor, self.oracle, self.junctions, self.bonus = corridor, oracle, junctions, bonus
        self.penalty, self.noise = penalty, noise
        self.render_mode = render_mode
        self.single_observation_space = single.observation_space
        self.single_action_space = single.action_space
        self.observation_space = batch_space(single.observation_space, num_envs)
        self.action_space = batch_space(single.action_space, num_envs)
        # Where each agent is, in which step of its corridor, what the corridor is like, when the cue was told (-1: not
        # yet), how many turns were right, and how many there are to be.
        self._x, self._y, self._time, self._length, self._behind, self._goal = np.zeros((6, num_envs), dtype=np.int64)
        self._told, self._turns, self._most, self._key = np.zeros((4, num_envs), dtype=np.int64)
        self.reset()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode in every maze: observations ``(num_envs, 2 or 4)``; one seed for all, and no options."""
        if seed is not None:
            self._np_random, self._np_random_seed = seeding.np_random(seed)
        everywhere = np.arange(self.num_envs)
        self._enter(everywhere)
        self._begin(everywhere)
        return self._observe(), {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Move in every maze by actions ``(num_envs,)``."""
        # Only at the junction is there a way up and down, and from an arm only the way back. (Products with truths take
        # a third of the time of np.where.)
        right = _RIGHT[actions] * (self._y == 0)
        self._y = np.minimum(np.maximum(self._y + _UP[actions], -1), 1) * (self._x == self._length)
        self._x = np.minimum(np.maximum(self._x + right, -self._behind), self._length)
        self._time += 1
        reads = (self._told < 0) & (self._x == -self._behind)
        np.copyto(self._told, self._time, where=reads)
        observations = self._observe()
        due = self._time - 2 * self._behind  # where an agent is that does not lag
        over = due > self._length
        success = over & (self._y == self._goal)
        lags = (self._x < due) & ~over
        reward = success - self.penalty * lags / self._length + self.bonus * reads
        ended, info = np.zeros(self.num_envs, dtype=bool), {}
        if over.any():
            self._turns += success
            ended = over & ~(success & (self._turns != self._most))
            if ended.any():
                info = finals(observations, ended, is_success=success, turns=self._turns.copy())
            self._enter(over.nonzero()[0])
            self._begin(ended.nonzero()[0])
            observations = self._observe()
        return observations, reward, ended, np.zeros(self.num_envs, dtype=bool), info

    def _enter(self, mazes: NDArray[np.int64]) -> None:
        """Put agents at the start of a new corridor."""
        self._length[mazes] = self._draw(self.corridor, mazes)
        self._goal[mazes] = 2 * self.np_random.integers(2, size=len(mazes)) - 1
        self._behind[mazes] = self._draw(self.oracle, mazes)
        self._told[mazes] = -1 * (self._behind[mazes] > 0)
        self._x[mazes] = self._y[mazes] = self._time[mazes] = 0
        if self.noise:
            self._key[mazes] = self.np_random.integers(KEYS, size=len(mazes))

    def _begin(self, mazes: NDArray[np.int64]) -> None:
        """Make the corridor that agents stand in the first of an episode."""
        self._turns[mazes] = 0
        self._most[mazes] = -1 if self.junctions is None else self._draw(self.junctions, mazes)  # -1: never reached

    def _draw(self, lengths: Lengths, mazes: NDArray[np.int64]) -> NDArray[np.int64] | int:
        low, high = bounds(lengths)
        return low if low == high else self.np_random.integers(low, high, size=len(mazes), endpoint=True)

    @property
    def _cues(self) -> NDArray[np.int64]:
        return self._goal * (self._time == self._told)

    def _observe(self) -> NDArray[np.float32]:
        if self.noise:
            junction = (self._x == self._length) & (self._y == 0)
            seen = self._y, self._cues, junction, noise(self._key, self._time)
            return np.stack(seen, axis=1).astype(np.float32)
        observations = np.empty((self.num_envs, 2), dtype=np.float32)
        observations[:, 0] = self._x == self._length
        observations[:, 1] = self._y + self._cues  # never both
        return observations

    def forecast(self, limit: int) -> Forecast:
        """Tell what the next steps will show while every agent walks right.

        Args:
            limit: for how many steps at most. A forecast stops before the last step of a corridor, whose action is
                the choice: there its count is 0.

        Raises:
            UserError: if the limit is negative.
        """
        if limit < 0:
            raise UserError(f"the limit of a forecast must not be negative, got {limit}")
        counts = np.minimum(self._length + 2 * self._behind - self._time, limit)
        ahead = np.arange(1, counts.max() + 1)
        known = ahead <= counts[:, None]
        # Nothing but the junction and its arms shows on the way; an agent that lags does not get there.
        junction = self._x[:, None] + ahead >= self._length[:, None]
        arm = self._y[:, None]
        seen: tuple[Any, ...] = (junction, arm)
        if self.noise:
            seen = (arm, 0, junction & (arm == 0), noise(self._key[:, None], self._time[:, None] + ahead))
        observations = np.zeros((self.num_envs, len(ahead), len(seen)), dtype=np.float32)
        for place, part in enumerate(seen):
            observations[:, :, place] = part * known
        return Forecast(np.zeros(self.num_envs, dtype=np.int64), observations, counts, self._walking())

    def _walking(self) -> NDArray[np.float64]:
        """Give what a step to the right earns: who lags keeps lagging, who does not never will."""
        return np.where(self._x < self._time - 2 * self._behind, -self.penalty / self._length, 0.0)

    def advance(self, counts: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Walk right ``counts (num_envs,)`` steps at once: the last observation of each and the sum of its rewards.

        Raises:
            UserError: if a count is negative or reaches a corridor's last step.
        """
        counts = np.asarray(counts)
        if (counts < 0).any() or (counts > self._length + 2 * self._behind - self._time).any():
            raise UserError("counts must be between 0 and those of a forecast made now")
        reward = self._walking() * counts
        self._x = np.minimum(self._x + counts, self._length)
        self._time += counts
        return self._observe(), reward

    def render(self) -> tuple[str, ...] | None:
        """Draw every maze as text, as `TMaze` does."""
        if self.render_mode != "ansi":
            return None
        return tuple(
            picture(x, y, length=length, oracle=oracle, cue=cue)
            for x, y, length, oracle, cue in np.stack(
                (self._x, self._y, self._length, self._behind, self._cues), axis=1
            ).tolist()
        )

    def state_dict(self) -> dict[str, Any]:
        """Give all that is needed to continue identically, in dicts, lists, numbers and strings."""
        options = {name: getattr(self, name) for name in _OPTIONS}
        return {
            **{name: list(value) if isinstance(value, tuple) else value for name, value in options.items()},
            "random": self.np_random.bit_generator.state,
            **{name: getattr(self, f"_{name}").tolist() for name in _PLACES},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave.

        Raises:
            UserError: if it is the state of another number of mazes.
        """
        if len(state["x"]) != self.num_envs:
            raise UserError(f"the state is of {len(state['x'])} mazes, there are {self.num_envs} here")
        state = {"penalty": 1.0, "key": [0] * self.num_envs, **state}  # what was saved before there were these
        for name in _OPTIONS:
            setattr(self, name, state[name])
        self.np_random.bit_generator.state = state["random"]
        for name in _PLACES:
            setattr(self, f"_{name}", np.array(state[name], dtype=np.int64))
