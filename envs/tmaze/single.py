"""One T-Maze."""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from recurra.envs.tmaze.noise import KEYS, noise
from recurra.envs.tmaze.options import Drawn, Lengths, Weight, bounds
from recurra.envs.tmaze.picture import picture
from recurra.errors import UserError

_STEPS = [(1, 0), (0, 1), (-1, 0), (0, -1)]


class TMaze(gymnasium.Env[NDArray[np.float32], Any]):
    """A T-Maze, or several in a chain; ``gymnasium.make("recurra.envs:recurra/TMaze-v0", corridor=100)``.

    ::

                              (L, 1)
        (-O, 0) · (0, 0) · ·  (L, 0)
                              (L, -1)

    The agent starts at (0, 0), and has L + 1 + 2 O steps: as many as it takes to go back to the oracle at (-O, 0),
    where it is shown in which arm the goal is, to walk to the junction and into an arm. Without an oracle (O = 0, the
    passive maze) the cue shows at the start: the credit for a right turn is due one step before, what was to be
    remembered is L steps old. With O = 1 the maze is the paper's active one.

    In a chain, being in the arm of the cue when these steps are over leads to (0, 0) of the next corridor, which has a
    length, a cue and steps of its own: what was remembered is to be overwritten.

    - Actions: 0 right, 1 up, 2 left, 3 down. A move into a wall leaves the agent where it is.
    - Observations, ``(2,)`` float32: ``[0, cue]`` on the first visit to the oracle, the cue being 1 (up) or -1 (down);
      ``[0, 0]`` on every later visit and all along the corridor, where position does not show; ``[1, y]`` at the
      junction and in the arms.
      With ``noise``, ``(4,)``: ``[y, cue, junction, noise]``, of which the cue and the junction (now the arms are not
      of it) show as before, and the noise is -1, 0 or 1 at random in every step.
    - Rewards: in a corridor's last step 1 for being in the arm of the cue and 0 otherwise; in every other step
      -``penalty`` / L where the agent lags (x < t - 2 O after t steps in this corridor), and 0 otherwise.
    - An episode is terminated by a corridor's end outside the arm of the cue, or the last corridor's: the horizon is
      part of the task. Its last info holds ``is_success``, whether all turns were right, and ``turns``, how many were.

    Remembering every cue returns the number of junctions; always walking right returns 0.

    >>> env = TMaze(corridor=2)
    >>> env.reset(seed=0)[0]
    array([0., 1.], dtype=float32)
    >>> [env.step(action)[1] for action in (0, 0, 1)]
    [0.0, 0.0, 1.0]

    Args:
        corridor: the corridor's length L >= 1, or a pair (low, high) between which, both included, each corridor's is
            drawn.
        oracle: how many cells behind the start the cue is, O >= 0, or a pair that each corridor's is drawn from.
        junctions: how many corridors in a chain, or a pair that each episode's number is drawn from; None for a chain
            that only a missed turn ends, which may be never.
        bonus: a reward for going back to the cue, on top of the others: help for training, where guessing is what is
            learnt first and going back is then hardly tried. The task has none.
        penalty: how much lagging costs in all, at most.
        noise: observe as RATE's maze does (Cherepanov et al. 2023, arXiv 2306.09459). Its episodes of T observations
            are those of a corridor of T - 2 with a penalty of 0.
        render_mode: None or ``"ansi"``.

    All but the last two are attributes too; what they are set to counts for corridors, episodes and steps to come.

    Raises:
        UserError: if an option is none of these.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012 (as gymnasium declares it)
    corridor = Drawn(least=1)
    oracle = Drawn(least=0)
    junctions = Drawn(least=1, optional=True)
    bonus = Weight()
    penalty = Weight()

    def __init__(
        self,
        *,
        corridor: Lengths = 10,
        oracle: Lengths = 0,
        junctions: Lengths | None = 1,
        bonus: float = 0.0,
        penalty: float = 1.0,
        noise: bool = False,
        render_mode: str | None = None,
    ) -> None:
        self.corridor, self.oracle, self.junctions, self.bonus = corridor, oracle, junctions, bonus
        self.penalty, self.noise = penalty, noise
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (4 if noise else 2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(4)
        self._turns, self._most = 0, 1
        self._x, self._y, self._goal, self._key = 0, 0, 0, 0
        self._length, self._oracle, self._time, self._told = 1, 0, 2, -1  # an episode that is over

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode; there are no options."""
        super().reset(seed=seed)
        self._enter()
        self._turns, self._most = 0, -1 if self.junctions is None else self._draw(self.junctions)  # -1: never reached
        return self._observe(), {}

    def step(self, action: int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Move.

        Raises:
            UserError: if the episode is over or has not begun.
        """
        if self._time > self._last:
            raise UserError("the episode is over: call reset() before step()")
        self._time += 1
        right, up = _STEPS[action]
        x, y = self._x + right, self._y + up
        if (y == 0 and -self._oracle <= x <= self._length) or (x == self._length and abs(y) == 1):
            self._x, self._y = x, y
        reward = 0.0
        if self._told < 0 and self._x == -self._oracle:
            self._told, reward = self._time, self.bonus
        if self._time <= self._last:
            lags = self._x < self._time - 2 * self._oracle
            return self._observe(), reward - self.penalty / self._length if lags else reward, False, False, {}
        success = self._y == self._goal
        reward += success
        self._turns += success
        if success and self._turns != self._most:
            self._enter()
            return self._observe(), reward, False, False, {}
        return self._observe(), reward, True, False, {"is_success": success, "turns": self._turns}

    @property
    def place(self) -> tuple[int, int]:
        """Where the agent is, (x, y): what observations do not tell."""
        return self._x, self._y

    @property
    def _last(self) -> int:
        """The step of the choice, counted from 0."""
        return self._length + 2 * self._oracle

    def _enter(self) -> None:
        self._length = self._draw(self.corridor)
        self._goal = 2 * int(self.np_random.integers(2)) - 1
        self._oracle = self._draw(self.oracle)
        self._x, self._y, self._time = 0, 0, 0
        self._told = -1 if self._oracle else 0
        if self.noise:
            self._key = int(self.np_random.integers(KEYS))

    def _draw(self, lengths: Lengths) -> int:
        return int(self.np_random.integers(*bounds(lengths), endpoint=True))

    @property
    def _cue(self) -> int:
        return self._goal if self._time == self._told else 0

    def _observe(self) -> NDArray[np.float32]:
        junction = self._x == self._length
        if self.noise:
            seen = self._y, self._cue, junction and not self._y, noise(self._key, self._time)
            return np.array(seen, dtype=np.float32)
        return np.array([junction, self._y if junction else self._cue], dtype=np.float32)

    def render(self) -> str | None:
        """Draw the maze as text in render mode ``"ansi"``: see `recurra.envs.tmaze.picture`."""
        if self.render_mode != "ansi":
            return None
        return picture(self._x, self._y, length=self._length, oracle=self._oracle, cue=self._cue)
