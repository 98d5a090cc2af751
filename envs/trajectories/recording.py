"""Episodes as they happen, in any environment and by any policy, into a folder of trajectories."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space

from recurra.envs.trajectories.writer import Writer
from recurra.envs.vector import SAME_STEP, Streams
from recurra.errors import UserError, nearest

#: What chooses actions of observations and of where they begin an episode.
Policy = Callable[[Any, Any], Any]


class Recorded(NamedTuple):
    """What was recorded.

    Attributes:
        episodes: how many.
        steps: how many they have.
        mean_return: of these episodes.
        success_rate: the share of successes where the environment tells them, else None.
    """

    episodes: int
    steps: int
    mean_return: float
    success_rate: float | None


def record(
    env: gymnasium.Env | VectorEnv | Streams,
    policy: Policy | str | Any,
    writer: Writer,
    *,
    episodes: int | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> Recorded:
    """Act in an environment and write down what happens.

    Args:
        env: an environment, a vector environment with any way of autoreset, or streams.
        policy: ``policy(observation, first)``, which gives the actions; observations and ``first``, True where an
            episode begins, have a first axis for the streams, but of a single environment. Or ``"random"``; or an
            agent, by its ``act(obs, state, first)``, which is told rewards, too, if it takes them.
        writer: of the environment's spaces, and its number of streams (None for a single environment).
        episodes: how many, as near as can be equally many of each stream, so that short ones are not favoured.
        steps: how many in all instead; what is then open is cut, and counts as truncated.
        seed: of the environment, and of random actions.

    Raises:
        UserError: if not one of episodes and steps is given, or the writer is for another number of streams.
    """
    if (episodes is None) == (steps is None) or (episodes or steps or 0) < 1:
        raise UserError("say how much to record: either episodes or steps, at least 1")
    streams, single = _streams(env)
    if writer.streams != (None if single else streams.num):
        raise UserError(f"a writer for streams={None if single else streams.num} is needed, not {writer.streams}")
    act = _acting(policy, streams, single, seed)
    quota = np.full(streams.num, np.iinfo(np.int64).max)
    if episodes is not None:
        quota[:] = episodes // streams.num
        quota[: episodes % streams.num] += 1
    before = writer.episodes, writer.steps
    totals, returns, successes, taken = np.zeros(streams.num), [], [], 0
    obs, first = streams.reset(seed=seed)
    reward, present = np.zeros(streams.num), streams.present & (quota > 0)
    while quota.any() and (steps is None or taken < steps):
        actions = act(obs, first, reward)
        step = streams.step(actions)
        reward = step.reward
        given = (obs, actions, reward, step.final_obs)
        seen, done, earned, final = map(_one, given) if single else given
        flags = {"terminated": step.terminated, "truncated": step.truncated, "present": present}
        writer.add(seen, done, earned, final=final, **flags)
        taken += int(present.sum())
        totals += np.where(present, reward, 0.0)
        over = step.over & present
        returns += totals[over].tolist()
        successes += step.success[over & ~np.isnan(step.success)].tolist()
        totals[over] = 0
        quota[over] -= 1
        obs, first, present = step.obs, step.first, step.present & (quota > 0)
    if steps is not None:
        writer.cut(_one(obs) if single else obs)
        returns += totals[present & ~first].tolist()
    writer.sync()
    return Recorded(
        writer.episodes - before[0],
        writer.steps - before[1],
        float(np.mean(returns)),
        float(np.mean(successes)) if successes else None,
    )


def _streams(env: gymnasium.Env | VectorEnv | Streams) -> tuple[Streams, bool]:
    """Give streams, and whether they are of a single environment."""
    if isinstance(env, Streams):
        return env, False
    if isinstance(env, VectorEnv):
        return Streams(env), False
    return Streams(SyncVectorEnv([lambda: env], **SAME_STEP)), True


def _one(batch: Any) -> Any:
    """Take the only row of a batch."""
    if isinstance(batch, dict):
        return {name: _one(part) for name, part in batch.items()}
    return tuple(map(_one, batch)) if isinstance(batch, tuple) else batch[0]


def _acting(policy: Any, streams: Streams, single: bool, seed: int) -> Callable[[Any, Any, Any], Any]:
    """Give what chooses actions of observations, first and rewards."""
    if isinstance(policy, str):
        if policy != "random":
            raise UserError(f"there is no policy {policy!r}; {nearest(policy, ['random'])}")
        space = batch_space(streams.action_space, streams.num)
        space.seed(seed)
        return lambda obs, first, reward: space.sample()
    if not hasattr(policy, "act"):
        if single:
            return lambda obs, first, reward: np.asarray(policy(_one(obs), bool(first[0])))[None]
        return lambda obs, first, reward: policy(obs, first)
    told = "reward" in inspect.signature(policy.act).parameters
    state: Any = None

    def act(obs: Any, first: Any, reward: Any) -> Any:
        nonlocal state
        actions, state = policy.act(obs, state, first, **({"reward": reward} if told else {}))
        return actions

    return act
