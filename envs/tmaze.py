"""The passive T-Maze: a cue at the start, a long corridor, and a choice at its end that only memory gets right.

As in Ni, Ma, Eysenbach and Bacon, "When Do Transformers Shine in RL? Decoupling Memory from Credit Assignment", 2023
(arXiv 2307.03864), where it is the passive T-Maze of Bakker (2001) with a penalty that makes walking on easy to learn:

                      (L, 1)
    (0, 0) · · · · ·  (L, 0)
                      (L, -1)

The agent starts at (0, 0), where it is shown once in which arm the goal is, and has L + 1 steps: as many as it takes to
walk to the junction and into an arm. Memory length is L, credit assignment length 1.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from recurra.envs.vector import SAME_STEP, finals
from recurra.errors import UserError

MOVES = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
"""What the actions 0 right, 1 up, 2 left and 3 down add to (x, y)."""

_STEPS = [tuple(move) for move in MOVES.tolist()]


class TMaze(gymnasium.Env[NDArray[np.float32], Any]):
    """One passive T-Maze; ``gymnasium.make("recurra.envs:recurra/TMaze-v0", corridor=100)``.

    - Actions: 0 right, 1 up, 2 left, 3 down. A move into a wall leaves the agent where it is.
    - Observations, ``(2,)`` float32: ``[0, cue]`` at the start of an episode, the cue being 1 (up) or -1 (down);
      ``[0, 0]`` on every later visit to the start and all along the corridor, where position does not show;
      ``[1, y]`` at the junction and in the arms.
    - Rewards: in the last step 1 for being in the arm of the cue and 0 otherwise; in every other step -1 / L where
      the agent has moved right less often than it could have (x < t after t steps), and 0 otherwise.
    - An episode is L + 1 steps long and then terminated: the horizon is part of the task. Its last info holds
      ``is_success``, a bool.

    Remembering the cue returns 1, always walking right 0.

    >>> env = TMaze(corridor=2)
    >>> env.reset(seed=0)[0]
    array([0., 1.], dtype=float32)
    >>> [env.step(action)[1] for action in (0, 0, 1)]
    [0.0, 0.0, 1.0]

    Args:
        corridor: the corridor's length L >= 1, or a pair (low, high) between which, both included, each episode's is
            drawn. The attribute may be set at any time and counts from the next reset on.
        render_mode: None or ``"ansi"``.

    Raises:
        UserError: if the corridor is neither.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012 (as gymnasium declares it)

    def __init__(self, *, corridor: int | Sequence[int] = 10, render_mode: str | None = None) -> None:
        self.corridor = corridor
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(4)
        self._x, self._y, self._goal = 0, 0, 0
        self._length, self._time = 0, 1  # an episode that is over

    @property
    def corridor(self) -> int | tuple[int, int]:
        """Length of the coming episodes' corridors, or the pair (low, high) that it is drawn from."""
        return self._corridor

    @corridor.setter
    def corridor(self, value: int | Sequence[int]) -> None:
        self._corridor = _checked(value)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode; there are no options."""
        super().reset(seed=seed)
        low, high = _bounds(self._corridor)
        self._length = int(self.np_random.integers(low, high, endpoint=True))
        self._goal = 2 * int(self.np_random.integers(2)) - 1
        self._x, self._y, self._time = 0, 0, 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Move.

        Raises:
            UserError: if the episode is over or has not begun.
        """
        if self._time > self._length:
            raise UserError("the episode is over: call reset() before step()")
        self._time += 1
        right, up = _STEPS[action]
        x, y = self._x + right, self._y + up
        if (y == 0 and 0 <= x <= self._length) or (x == self._length and abs(y) == 1):
            self._x, self._y = x, y
        if self._time <= self._length:
            return self._observe(), -1 / self._length if self._x < self._time else 0.0, False, False, {}
        success = self._y == self._goal
        return self._observe(), float(success), True, False, {"is_success": success}

    def _observe(self) -> NDArray[np.float32]:
        return np.array([self._x == self._length, self._y if self._time else self._goal], dtype=np.float32)

    def render(self) -> str | None:
        """Draw the maze as text in render mode ``"ansi"``: ``@`` is the agent, ``o`` an arm, ``+`` the junction."""
        if self.render_mode != "ansi":
            return None
        return _picture(self._x, self._y, self._length, 0 if self._time else self._goal)


class Forecast(NamedTuple):
    """What mazes will show while their agents keep walking.

    Attributes:
        actions: ``(num_envs,)``, the action taken over and over.
        observations: ``(num_envs, K, 2)`` float32, what the next K = max(counts) steps give, 0 beyond a maze's count.
        counts: ``(num_envs,)``, for how many steps this is known.
    """

    actions: NDArray[np.int64]
    observations: NDArray[np.float32]
    counts: NDArray[np.int64]


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
        render_mode: None or ``"ansi"``.

    Raises:
        UserError: if the corridor is neither a length nor a pair of lengths, or there is no maze.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4, **SAME_STEP}  # noqa: RUF012 (as gymnasium declares it)
    # gymnasium before 1.0 looks for these two.
    is_vector_env = True
    viewer = None
    closed = False

    def __init__(
        self, *, num_envs: int = 1, corridor: int | Sequence[int] = 10, render_mode: str | None = None
    ) -> None:
        if num_envs < 1:
            raise UserError(f"num_envs must be at least 1, got {num_envs}")
        single = TMaze(corridor=corridor)
        self.num_envs = num_envs
        self.corridor = corridor
        self.render_mode = render_mode
        self.single_observation_space = single.observation_space
        self.single_action_space = single.action_space
        self.observation_space = batch_space(single.observation_space, num_envs)
        self.action_space = batch_space(single.action_space, num_envs)
        self._x, self._time, self._length, self._goal = np.zeros((4, num_envs), dtype=np.int64)
        self._begin(np.ones(num_envs, dtype=bool))

    @property
    def corridor(self) -> int | tuple[int, int]:
        """Length of the coming episodes' corridors, or the pair (low, high) that it is drawn from."""
        return self._corridor

    @corridor.setter
    def corridor(self, value: int | Sequence[int]) -> None:
        self._corridor = _checked(value)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode in every maze: observations ``(num_envs, 2)``; one seed for all, and no options."""
        if seed is not None:
            self._np_random, self._np_random_seed = seeding.np_random(seed)
        self._begin(np.ones(self.num_envs, dtype=bool))
        return self._observe(), {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Move in every maze by actions ``(num_envs,)``."""
        right, up = MOVES[actions].T
        # Whoever stands at the junction has one step left, so an arm is entered in the last step or never.
        y = np.where(self._x == self._length, up, 0)
        self._x = np.clip(self._x + right, 0, self._length)
        self._time += 1
        ended = self._time > self._length
        success = ended & (y == self._goal)
        reward = np.where(ended, success, np.where(self._x < self._time, -1 / self._length, 0.0))
        observations = self._observe()
        info = {}
        if ended.any():
            last = observations.copy()
            last[:, 1] = y
            info = finals(last, ended, is_success=success)
            self._begin(ended)
            observations = self._observe()
        return observations, reward, ended, np.zeros(self.num_envs, dtype=bool), info

    def _begin(self, mazes: NDArray[np.bool_]) -> None:
        count = int(mazes.sum())
        low, high = _bounds(self._corridor)
        self._length[mazes] = self.np_random.integers(low, high, count, endpoint=True)
        self._goal[mazes] = 2 * self.np_random.integers(2, size=count) - 1
        self._x[mazes] = 0
        self._time[mazes] = 0

    def _observe(self) -> NDArray[np.float32]:
        observations = np.empty((self.num_envs, 2), dtype=np.float32)
        observations[:, 0] = self._x == self._length
        observations[:, 1] = np.where(self._time == 0, self._goal, 0)
        return observations

    def forecast(self, limit: int) -> Forecast:
        """Tell what the next steps will show while every agent walks right.

        Args:
            limit: for how many steps at most. A forecast stops before the last step of an episode, whose action is
                the choice: at the junction its count is 0.

        Raises:
            UserError: if the limit is negative.
        """
        if limit < 0:
            raise UserError(f"the limit of a forecast must not be negative, got {limit}")
        counts = np.minimum(self._length - self._time, limit)
        ahead = np.arange(1, counts.max() + 1)
        observations = np.zeros((self.num_envs, len(ahead), 2), dtype=np.float32)
        # Within the count only the junction shows; an agent that lags does not get there.
        observations[:, :, 0] = (self._x[:, None] + ahead == self._length[:, None]) & (ahead <= counts[:, None])
        return Forecast(np.zeros(self.num_envs, dtype=np.int64), observations, counts)

    def advance(self, counts: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Walk right ``counts (num_envs,)`` steps at once: the last observation of each and the sum of its rewards.

        Raises:
            UserError: if a count is negative or reaches an episode's last step.
        """
        counts = np.asarray(counts)
        if (counts < 0).any() or (counts > self._length - self._time).any():
            raise UserError("counts must be between 0 and those of a forecast made now")
        # Who lags keeps lagging, who does not never will.
        reward = np.where(self._x < self._time, -counts / self._length, 0.0)
        self._x += counts
        self._time += counts
        return self._observe(), reward

    def render(self) -> tuple[str, ...] | None:
        """Draw every maze as text, as `TMaze` does."""
        if self.render_mode != "ansi":
            return None
        cues = np.where(self._time == 0, self._goal, 0)
        return tuple(
            _picture(int(x), 0, int(length), int(cue))
            for x, length, cue in zip(self._x, self._length, cues, strict=True)
        )

    def state_dict(self) -> dict[str, Any]:
        """Give all that is needed to continue identically, in dicts, lists, numbers and strings."""
        return {
            "corridor": list(self._corridor) if isinstance(self._corridor, tuple) else self._corridor,
            "random": self.np_random.bit_generator.state,
            "x": self._x.tolist(),
            "time": self._time.tolist(),
            "length": self._length.tolist(),
            "goal": self._goal.tolist(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave.

        Raises:
            UserError: if it is the state of another number of mazes.
        """
        if len(state["x"]) != self.num_envs:
            raise UserError(f"the state is of {len(state['x'])} mazes, there are {self.num_envs} here")
        self.corridor = state["corridor"]
        self.np_random.bit_generator.state = state["random"]
        self._x, self._time, self._length, self._goal = (
            np.array(state[name], dtype=np.int64) for name in ("x", "time", "length", "goal")
        )


def _checked(corridor: Any) -> int | tuple[int, int]:
    pair = isinstance(corridor, Sequence) and len(corridor) == 2
    low, high = corridor if pair else (corridor, corridor)
    if not (_whole(low) and _whole(high) and 1 <= low <= high):
        raise UserError(f"corridor must be an int >= 1 or a pair (low, high) with 1 <= low <= high, got {corridor!r}")
    return (int(low), int(high)) if pair else int(low)


def _whole(number: Any) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def _bounds(corridor: int | tuple[int, int]) -> tuple[int, int]:
    return corridor if isinstance(corridor, tuple) else (corridor, corridor)


def _picture(x: int, y: int, length: int, cue: int) -> str:
    """Draw a maze in three lines; of a long corridor only the ends and the agent's surroundings."""
    near = 8
    cells = sorted(
        {cell for here in (0, x, length) for cell in range(max(0, here - near), min(length, here + near) + 1)}
    )
    corridor, before = "", -1
    for cell in cells:
        if cell > before + 1:
            corridor += f" ({cell - before - 1} more) "
        corridor += "@" if (cell, 0) == (x, y) else "+" if cell == length else "."
        before = cell
    margin = " " * (len(corridor) - 1)
    up, down = ("@" if y == arm else "o" for arm in (1, -1))
    told = {1: "  the cue: up", -1: "  the cue: down", 0: ""}[cue]
    return f"{margin}{up}\n{corridor}{told}\n{margin}{down}\n"


gymnasium.register(
    id="recurra/TMaze-v0",
    entry_point="recurra.envs.tmaze:TMaze",
    vector_entry_point="recurra.envs.tmaze:TMazeVector",
)
