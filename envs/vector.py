"""Any vector environment as streams: the one file that knows of autoreset.

Gymnasium has three ways to begin the next episode. Up to 0.29 it begins in the step that ended the last one, the
terminal observation being in ``info["final_observation"]``; 1.x calls this SAME_STEP, with ``info["final_obs"]``; its
default, NEXT_STEP, shows the terminal observation and begins in the step after, whose action is ignored. One rule reads
them all: a stream that ended has begun anew if its final observation is in the info, and is waiting otherwise.
"""

from collections.abc import Mapping
from itertools import compress
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import iterate
from numpy.typing import NDArray

from recurra.envs.saving import Singles
from recurra.errors import UserError, nearest

_MODES = getattr(gymnasium.vector, "AutoresetMode", None)
_BEFORE_1 = issubclass(VectorEnv, gymnasium.Env)

SAME_STEP: dict[str, Any] = {"autoreset_mode": _MODES.SAME_STEP} if _MODES else {}
"""Asks for, or declares, same-step autoreset: a vector environment's option and a metadata entry; empty before 1.1."""


def finals(observations: Any, ended: NDArray[np.bool_], **reports: NDArray[Any]) -> dict[str, Any]:
    """Give the info of a same-step autoreset in the layout of the installed Gymnasium.

    Args:
        observations: ``(num, ...)``, or dicts and tuples of such, what truly followed the actions; read where
            ``ended``.
        ended: ``(num,)``, the streams whose episode ended in this step.
        reports: ``(num,)`` each, what the last info of an episode holds.
    """
    if _BEFORE_1:
        last = np.full(len(ended), None)
        for row in np.flatnonzero(ended):
            last[row] = {name: values[row] for name, values in reports.items()}
        return {
            "final_observation": observations,
            "_final_observation": ended,
            "final_info": last,
            "_final_info": ended,
        }
    told = {key: value for name, values in reports.items() for key, value in ((name, values), (f"_{name}", ended))}
    return {"final_obs": observations, "_final_obs": ended, "final_info": told, "_final_info": ended}


class Transition(NamedTuple):
    """What one step of all streams gives: arrays, or dicts of arrays where observations are dicts, first axis num.

    A transition is to be learnt from where the ``present`` that came with the observation acted upon was True.

    Attributes:
        obs: what to act upon next.
        reward: ``(num,)`` float64.
        terminated: ``(num,)`` bool: the episode ended, and nothing follows.
        truncated: ``(num,)`` bool: the episode was cut, and ``final_obs`` still has a value.
        final_obs: the observation that truly followed the action: the terminal one where the episode ended, else
            ``obs``.
        first: ``(num,)`` bool, True where ``obs`` starts a new episode.
        present: ``(num,)`` bool, False where ``obs`` is not to be acted upon: a terminal observation that the
            environment shows in its own step. The action given for it is ignored; what comes next is the first
            observation of a new episode, with reward 0.
        success: ``(num,)`` float64: what the environment reported as ``is_success`` or ``success`` where an episode
            ended, NaN elsewhere.
    """

    obs: Any
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    final_obs: Any
    first: NDArray[np.bool_]
    present: NDArray[np.bool_]
    success: NDArray[np.float64]

    @property
    def over(self) -> NDArray[np.bool_]:
        """``(num,)``, the streams whose episode ended."""
        return self.terminated | self.truncated


class Streams:
    """A vector environment as streams that never end, whatever its way of beginning the next episode.

    Arrays that it gives are its caller's own: no later step writes into them.

    >>> from recurra.envs import TMazeVector
    >>> streams = Streams(TMazeVector(num_envs=2, corridor=1))
    >>> obs, first = streams.reset(seed=0)
    >>> _ = streams.step(np.array([0, 0]))
    >>> streams.step(np.array([1, 3])).first
    array([ True,  True])

    Args:
        env: a Gymnasium vector environment: synchronous, asynchronous or batched, of any release from 0.28.1 on.

    Attributes:
        env: the environment itself.
        num: how many streams there are.
        shape: ``(num,)``, that of what each stream has one of.
        observation_space: of a single stream.
        action_space: of a single stream.
        saves: whether the environment can be saved, and so `state_dict` be called: it offers a state_dict and a
            load_state_dict, or all environments of a `SyncVectorEnv` with same-step autoreset do (see
            `recurra.envs.saving`).

    Raises:
        UserError: if the environment leaves resets to its caller (autoreset DISABLED).
    """

    def __init__(self, env: VectorEnv) -> None:
        mode = (getattr(env, "metadata", None) or {}).get("autoreset_mode")
        self._mode = getattr(mode, "value", mode)
        if self._mode == "Disabled":
            raise UserError("streams need an environment that resets itself: choose autoreset SAME_STEP or NEXT_STEP")
        self.env = env
        self.num: int = env.num_envs
        self.shape: tuple[int, ...] = (self.num,)
        self.observation_space: gymnasium.Space = env.single_observation_space
        self.action_space: gymnasium.Space = env.single_action_space
        # In a step of its own, autoreset is a state of the vector environment too.
        same_step = _BEFORE_1 or self._mode == "SameStep"
        self._saved: Any = Singles(env) if isinstance(env, SyncVectorEnv) and same_step else env
        offers = hasattr(self._saved, "state_dict") and hasattr(self._saved, "load_state_dict")
        self.saves: bool = offers and getattr(self._saved, "saves", True)
        self._waiting = np.zeros(self.num, dtype=bool)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which streams are to be acted in."""
        return ~self._waiting

    def reset(self, seed: int | None = None) -> tuple[Any, NDArray[np.bool_]]:
        """Begin every stream: the first observations, and ``first``, which is True for all."""
        obs, _ = self.env.reset(seed=seed)
        self._waiting = np.zeros(self.num, dtype=bool)
        return _copy(self.observation_space, obs), np.ones(self.num, dtype=bool)

    def step(self, actions: NDArray[Any]) -> Transition:
        """Act in every stream.

        Args:
            actions: ``(num, ...)``, each an element of ``action_space``; that of an absent stream is ignored.

        Raises:
            UserError: if the environment declares SAME_STEP and keeps a final observation to itself.
        """
        obs, reward, terminated, truncated, info = self.env.step(actions)
        terminated, truncated = np.array(terminated, dtype=bool), np.array(truncated, dtype=bool)
        ended = terminated | truncated
        final_obs = _copy(self.observation_space, obs)
        renewed, success = np.zeros(self.num, dtype=bool), np.full(self.num, np.nan)
        if ended.any():
            key = "final_obs" if "final_obs" in info else "final_observation"
            renewed = ended & info.get(f"_{key}", key in info)
            if renewed.any():
                _place(self.observation_space, final_obs, renewed, self._chosen(info[key], renewed))
            success = _success(info.get("final_info", info), ended)
        waiting = ended & ~renewed
        if self._mode == "SameStep" and waiting.any():
            raise UserError("the environment declares autoreset SAME_STEP, but gives no final_obs when an episode ends")
        first = self._waiting | renewed
        self._waiting = waiting
        return Transition(
            obs=_copy(self.observation_space, obs),
            reward=np.array(reward, dtype=np.float64),
            terminated=terminated,
            truncated=truncated,
            final_obs=final_obs,
            first=first,
            present=~waiting,
            success=success,
        )

    def _chosen(self, last: Any, rows: NDArray[np.bool_]) -> Any:
        """Take some of the final observations, which come one by one or, from a batched environment, as a batch."""
        if not isinstance(last, np.ndarray):
            return list(compress(iterate(self.env.observation_space, last), rows))
        return list(last[rows]) if last.dtype.hasobject else last[rows]

    def set(self, name: str, value: Any) -> None:
        """Set an attribute of every environment beneath all wrappers, or of the batched one.

        Raises:
            UserError: if the environment has no such attribute, or it cannot be reached.
        """
        env = self.env.unwrapped
        if isinstance(env, AsyncVectorEnv):
            self._set_remotely(env, name, value)
            return
        owners = [single.unwrapped for single in env.envs] if isinstance(env, SyncVectorEnv) else [env]
        for owner in owners:
            _require(owner, name)
        for owner in owners:
            setattr(owner, name, value)

    def _set_remotely(self, env: AsyncVectorEnv, name: str, value: Any) -> None:
        # A worker dies of an error, so it is tried first on an environment of this side.
        sample = env.env_fns[0]()
        try:
            _require(sample.unwrapped, name)
            setattr(sample.unwrapped, name, value)
            if _BEFORE_1 and sample is not sample.unwrapped:
                raise UserError(
                    f"{name!r} is out of reach: AsyncVectorEnv sets nothing inside wrappers before gymnasium 1.0; "
                    "use SyncVectorEnv"
                )
        finally:
            sample.close()
        env.set_attr(name, [value] * self.num)  # a bare list or tuple would be dealt out, an element to each

    def state_dict(self) -> dict[str, Any]:
        """Give everything needed to continue identically, in dicts, lists, numbers and strings only.

        Raises:
            UserError: if the environment cannot be saved.
        """
        return {"env": self._saving().state_dict(), "waiting": self._waiting.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave: the next call is a `step`, not a `reset`.

        Raises:
            UserError: if the environment cannot be saved, or the state is of another number of streams.
        """
        if len(state["waiting"]) != self.num:
            raise UserError(f"the state is of {len(state['waiting'])} streams, there are {self.num} here")
        self._saving().load_state_dict(state["env"])
        self._waiting = np.array(state["waiting"], dtype=bool)

    def _saving(self) -> Any:
        if not self.saves:
            raise UserError(f"{self.env} cannot be saved: it offers no state_dict and load_state_dict")
        return self._saved

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def _copy(space: gymnasium.Space, batch: Any) -> Any:
    """Copy a batch of observations; what Gymnasium batches as a tuple of things (texts) becomes an object array."""
    if isinstance(space, gymnasium.spaces.Dict):
        return {name: _copy(part, batch[name]) for name, part in space.spaces.items()}
    if isinstance(space, gymnasium.spaces.Tuple):
        return tuple(_copy(part, values) for part, values in zip(space.spaces, batch, strict=True))
    return batch.copy() if isinstance(batch, np.ndarray) else _objects(batch)


def _place(space: gymnasium.Space, batch: Any, mask: NDArray[np.bool_], rows: Any) -> None:
    """Write single observations, one for each True of the mask, over those of a batch."""
    if isinstance(space, gymnasium.spaces.Dict):
        for name, part in space.spaces.items():
            _place(part, batch[name], mask, [row[name] for row in rows])
    elif isinstance(space, gymnasium.spaces.Tuple):
        for index, part in enumerate(space.spaces):
            _place(part, batch[index], mask, [row[index] for row in rows])
    else:
        batch[mask] = _objects(rows) if batch.dtype.hasobject else rows


def _objects(items: Any) -> NDArray[np.object_]:
    return np.fromiter(items, dtype=object, count=len(items))


def _success(info: Any, ended: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Read what ended episodes report, from a dict of arrays or (up to Gymnasium 0.29) an array of dicts."""
    success = np.full(len(ended), np.nan)
    for name in ("success", "is_success"):
        if isinstance(info, dict):
            told = ended & info.get(f"_{name}", name in info)
            if told.any():
                success[told] = np.asarray(info[name])[told].astype(float)
        else:
            for row in np.flatnonzero(ended):
                success[row] = info[row].get(name, success[row])
    return success


def _require(env: Any, name: str) -> None:
    if not hasattr(env, name):
        known = {attribute for attribute in vars(env) if not attribute.startswith("_")}
        known |= {key for key, value in vars(type(env)).items() if isinstance(value, property)}
        raise UserError(f"{type(env).__name__} has no attribute {name!r}: {nearest(name, known)}")
