"""One episode, recorded: what was seen, what it looked like, and how strongly memory was written."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from recurra.agents import Acting, ActingState, RATEState
from recurra.envs import TMaze
from recurra.envs.making import make_single
from recurra.memory.blocks import ShortConvolutionState


class Recording(NamedTuple):
    """An episode of T steps, or its first T.

    Attributes:
        observations: T, those that were acted upon.
        actions: T.
        rewards: ``(T,)``, what each action brought.
        strengths: ``(T, layers)``, how strongly each observation was written: see `write_strength`.
        places: T, in a T-Maze: where along its corridor the agent was, counted from the start; else none.
        pictures: T + 1 drawings of the environment in text, before the first action and after each; or none.
        captions: as many lines on what was done.
    """

    observations: list[Any]
    actions: list[Any]
    rewards: NDArray[np.float64]
    strengths: NDArray[np.float64]
    places: list[int]
    pictures: list[str]
    captions: list[str]


@torch.no_grad()
def record(agent: Acting, options: dict[str, Any], *, seed: int, sample: bool = False, most: int = 500) -> Recording:
    """Play an episode.

    Args:
        agent: who acts.
        options: the environment's, its id among them.
        seed: of the episode.
        sample: draw actions instead of taking the likeliest.
        most: after how many steps to stop.
    """
    env = make_single(**options)
    draws = "ansi" in env.metadata.get("render_modes", ())
    env.close()
    env = make_single(**options, render_mode="ansi" if draws else None)
    obs, _ = env.reset(seed=seed)
    state = agent.initial_state(1)
    observations, actions, places = [], [], []
    rewards: list[float] = []
    strengths: list[list[float]] = []
    pictures, captions = [str(env.render())] if draws else [], ["step 0"]
    over = False
    while not over and len(rewards) < most:
        before = state
        action, state = agent.act(obs, before, not rewards, rewards[-1] if rewards else None, greedy=not sample)
        layers = zip(*(_network(one).layers for one in (before, state)), strict=True)
        strengths.append([write_strength(*pair) for pair in layers])
        observations.append(obs)
        if isinstance(env.unwrapped, TMaze):
            places.append(env.unwrapped.place[0])
        obs, reward, terminated, truncated, info = env.step(action)
        over = terminated or truncated
        actions.append(action)
        rewards.append(float(reward))
        said = f"step {len(rewards)}, action {action}, return {sum(rewards):.3f}"
        if "is_success" in info:
            said += ", success" if info["is_success"] else ", failure"
        captions.append(said)
        if draws:
            pictures.append(str(env.render()))
    env.close()
    return Recording(observations, actions, np.array(rewards), np.array(strengths), places, pictures, captions)


def _network(state: Any) -> Any:
    """Give the network's state out of an agent's."""
    while isinstance(state, ActingState | RATEState):
        state = state.memory
    return state


def write_strength(before: Any, after: Any) -> float:
    """Say how strongly a step wrote to a memory of any kind: how far its state moved, over how large it is.

    Norms are over all floating tensors of the state, but for the windows of short convolutions, which change with
    every token; how large is the larger of before and after. So 0 is no write, 1 the first into an empty state or the
    erasing of all there was, and 2 the most: a state turned into its opposite.

    >>> from recurra.memory import build
    >>> memory = build("linear_attention", 8, heads=2)
    >>> empty = memory.initial_state(1)
    >>> write_strength(empty, empty), write_strength(empty, memory(torch.ones(1, 1, 8), empty)[1])
    (0.0, 1.0)

    Args:
        before: a memory's state of one stream.
        after: the same, one step on.
    """
    moved = old_size = new_size = 0.0
    for old, new in zip(_written(before), _written(after), strict=True):
        # What grows, or has shrunk, is as if it had been empty where it is not.
        most = [max(pair) for pair in zip(old.shape, new.shape, strict=True)]
        moved += (_filled(new, most) - _filled(old, most)).square().sum().item()
        old_size += old.square().sum().item()
        new_size += new.square().sum().item()
    return math.sqrt(moved / max(old_size, new_size)) if moved else 0.0


def _filled(tensor: Tensor, shape: list[int]) -> Tensor:
    """Fill up with zeros behind what there is."""
    sizes = [size for pair in zip(shape, tensor.shape, strict=True) for size in (pair[0] - pair[1], 0)]
    return functional.pad(tensor, sizes[::-1])


def _written(state: Any) -> list[Tensor]:
    if isinstance(state, ShortConvolutionState):
        return []
    if isinstance(state, Tensor):
        return [state.double()] if state.is_floating_point() else []
    return [tensor for part in state for tensor in _written(part)]
