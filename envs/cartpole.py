"""Balancing a pole whose velocities are hidden: what moves how fast is to be remembered.

Gymnasium's CartPole-v1 (Barto, Sutton and Anderson 1983) with the cart's velocity and the pole's angular velocity left
out of the observation, as in the position-only pole of POPGym (Morad et al. 2023, arXiv 2303.01859).
"""

import math
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.utils import seeding
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from recurra.envs.vector import SAME_STEP, finals
from recurra.errors import UserError

SEEN = [0, 2]
"""Which of the state (place, velocity, angle, angular velocity) is observed."""

GRAVITY, FORCE, SECONDS = 9.8, 10.0, 0.02
CART, POLE, HALF_LENGTH = 1.0, 0.1, 0.5
FAR, TILTED = 2.4, math.radians(12)
"""In metres, kilograms, seconds, newtons and radians: what the pole is like, and how far is too far."""


class CartPoleHidden(CartPoleEnv):
    """CartPole without velocities; ``gymnasium.make("recurra.envs:recurra/CartPoleHidden-v0")``, 500 steps long.

    - Actions: 0 pushes the cart to the left, 1 to the right.
    - Observations, ``(2,)`` float32: the cart's place in metres and the pole's angle in radians.
    - Rewards: 1 for every step. An episode is terminated when the cart is beyond 2.4 metres or the pole beyond 12
      degrees, and truncated after 500 steps.

    >>> env = CartPoleHidden()
    >>> env.reset(seed=0)[0].shape
    (2,)

    Args:
        render_mode: None, ``"human"`` or ``"rgb_array"``, which need the package pygame.
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        whole = self.observation_space
        assert isinstance(whole, gymnasium.spaces.Box)
        self.observation_space = gymnasium.spaces.Box(whole.low[SEEN], whole.high[SEEN], dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode; gymnasium's options ``low`` and ``high`` bound the state that it begins in."""
        state, info = super().reset(seed=seed, options=options)
        return state[SEEN], info

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Push."""
        state, reward, terminated, truncated, info = super().step(action)
        return state[SEEN], float(reward), bool(terminated), truncated, info


class CartPoleHiddenVector(gymnasium.vector.VectorEnv):
    """Many poles (see `CartPoleHidden`) at once; an ended one begins its next episode in the same step.

    >>> poles = CartPoleHiddenVector(num_envs=3)
    >>> poles.reset(seed=0)[0].shape
    (3, 2)

    Args:
        num_envs: how many poles.
        max_episode_steps: after how many steps an episode is truncated.

    Raises:
        UserError: if either is less than 1.
    """

    metadata = {"render_modes": [], **SAME_STEP}  # noqa: RUF012 (as gymnasium declares it)
    # gymnasium before 1.0 looks for these two.
    is_vector_env = True
    viewer = None
    closed = False
    render_mode = None

    def __init__(self, *, num_envs: int = 1, max_episode_steps: int = 500) -> None:
        for name, number in (("num_envs", num_envs), ("max_episode_steps", max_episode_steps)):
            if number < 1:
                raise UserError(f"{name} must be at least 1, got {number}")
        single = CartPoleHidden()
        self.num_envs, self.max_episode_steps = num_envs, max_episode_steps
        self.single_observation_space = single.observation_space
        self.single_action_space = single.action_space
        self.observation_space = batch_space(single.observation_space, num_envs)
        self.action_space = batch_space(single.action_space, num_envs)
        self._state = np.zeros((4, num_envs))
        self._steps = np.zeros(num_envs, dtype=np.int64)
        self.reset()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode for every pole: observations ``(num_envs, 2)``; one seed for all, and no options."""
        if seed is not None:
            self._np_random, self._np_random_seed = seeding.np_random(seed)
        self._begin(np.ones(self.num_envs, dtype=bool))
        return self._observe(), {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Push every cart by actions ``(num_envs,)``."""
        velocity, angle, turning = self._state[1:]
        sine, cosine = np.sin(angle), np.cos(angle)
        # Florian 2007, "Correct equations for the dynamics of the cart-pole system", without friction; Euler's steps.
        push = (np.where(actions == 1, FORCE, -FORCE) + POLE * HALF_LENGTH * turning**2 * sine) / (CART + POLE)
        turn = (GRAVITY * sine - cosine * push) / (HALF_LENGTH * (4 / 3 - POLE * cosine**2 / (CART + POLE)))
        pull = push - POLE * HALF_LENGTH * turn * cosine / (CART + POLE)
        self._state += SECONDS * np.stack((velocity, pull, turning, turn))
        self._steps += 1
        terminated = (np.abs(self._state[0]) > FAR) | (np.abs(self._state[2]) > TILTED)
        truncated = self._steps >= self.max_episode_steps
        observations, ended, info = self._observe(), terminated | truncated, {}
        if ended.any():
            info = finals(observations, ended)
            self._begin(ended)
            observations = self._observe()
        return observations, np.ones(self.num_envs), terminated, truncated, info

    def _begin(self, poles: NDArray[np.bool_]) -> None:
        self._state[:, poles] = self.np_random.uniform(-0.05, 0.05, (4, poles.sum()))
        self._steps[poles] = 0

    def _observe(self) -> NDArray[np.float32]:
        return self._state[SEEN].T.astype(np.float32)

    def state_dict(self) -> dict[str, Any]:
        """Give all that is needed to continue identically, in dicts, lists, numbers and strings."""
        return {
            "random": self.np_random.bit_generator.state,
            "state": self._state.T.tolist(),
            "steps": self._steps.tolist(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave.

        Raises:
            UserError: if it is the state of another number of poles.
        """
        if len(state["steps"]) != self.num_envs:
            raise UserError(f"the state is of {len(state['steps'])} poles, there are {self.num_envs} here")
        self.np_random.bit_generator.state = state["random"]
        self._state = np.array(state["state"]).T
        self._steps = np.array(state["steps"], dtype=np.int64)


gymnasium.register(
    id="recurra/CartPoleHidden-v0",
    entry_point="recurra.envs.cartpole:CartPoleHidden",
    vector_entry_point="recurra.envs.cartpole:CartPoleHiddenVector",
    max_episode_steps=500,
)
