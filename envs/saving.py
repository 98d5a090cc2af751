"""The state of single environments: those that offer theirs are saved, with what Gymnasium's wrappers count."""

from collections.abc import Mapping
from typing import Any

import gymnasium
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from recurra.errors import UserError


class Singles:
    """The environments of a `SyncVectorEnv`, saved one by one.

    An environment, or a wrapper of the user's own for all that it wraps, offers its state by two methods:
    ``state_dict()`` gives everything needed to continue identically, in dicts, lists, numbers and strings only;
    ``load_state_dict(state)`` takes it up, after a reset.
    """

    def __init__(self, env: SyncVectorEnv) -> None:
        self.envs = list(env.envs)

    @property
    def saves(self) -> bool:
        """Whether every environment offers its state."""
        return all(_layers(env) is not None for env in self.envs)

    def state_dict(self) -> dict[str, Any]:
        """Give every environment's state.

        Raises:
            UserError: if one of them holds anything but dicts, lists, numbers and strings.
        """
        return {"envs": [_state(env) for env in self.envs]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        for env, saved in zip(self.envs, state["envs"], strict=True):
            env.reset()  # Gymnasium's wrappers allow no step before one
            limits, offers = _required(env)
            for limit, steps in zip(limits, saved["elapsed"], strict=True):
                limit._elapsed_steps = steps
            offers.load_state_dict(saved["state"])


def _layers(env: Any) -> tuple[list[TimeLimit], Any] | None:
    """Find the outermost layer that offers its state, and the time limits around it; None if there is none."""
    limits = []
    while not (hasattr(type(env), "state_dict") and hasattr(type(env), "load_state_dict")):
        if isinstance(env, TimeLimit):
            limits.append(env)
        elif not isinstance(env, OrderEnforcing | PassiveEnvChecker):  # who knows what it keeps?
            return None
        env = env.env
    return limits, env


def _required(env: gymnasium.Env) -> tuple[list[TimeLimit], Any]:
    layers = _layers(env)
    if layers is None:
        raise UserError(f"{env} cannot be saved: it offers no state_dict and load_state_dict")
    return layers


def _state(env: gymnasium.Env) -> dict[str, Any]:
    limits, offers = _required(env)
    state = offers.state_dict()
    strange = _strange(state)
    if strange is not None:
        raise UserError(
            f"the state_dict of {type(offers).__name__} holds a {strange}: give dicts, lists, numbers and strings only"
        )
    return {"elapsed": [limit._elapsed_steps for limit in limits], "state": state}


def _strange(part: Any) -> str | None:
    """Name the type of the first thing that a checkpoint cannot hold, if there is one."""
    if isinstance(part, dict | list | tuple):
        inner = [*part, *part.values()] if isinstance(part, dict) else part
        return next(filter(None, map(_strange, inner)), None)
    return None if part is None or type(part) in (bool, int, float, str) else type(part).__name__
