"""Minari data sets (Farama Foundation) to and from trajectories, where the package is: the extra ``minari``."""

import inspect
import os
from collections.abc import Iterator
from typing import Any

from recurra.envs.trajectories.episode import Episode
from recurra.envs.trajectories.store import Store
from recurra.envs.trajectories.writer import Writer
from recurra.errors import UserError, first_line


def episodes(dataset: Any) -> Iterator[Episode]:
    """Read the episodes of a data set one by one; one without an end counts as truncated.

    Args:
        dataset: a ``minari.MinariDataset``, or the id of one that lies on this machine.

    Raises:
        UserError: if minari is not installed, or has no such data set.
    """
    dataset = _dataset(dataset)
    for episode in dataset.iterate_episodes():
        terminated = bool(episode.terminations[-1])
        truncated = bool(episode.truncations[-1]) or not terminated
        yield Episode(episode.observations, episode.actions, episode.rewards, terminated, truncated)


def read(dataset: Any, path: str | os.PathLike[str]) -> Store:
    """Write a data set's episodes to a folder, after those that are there, and open it.

    Args:
        dataset: as in `episodes`.
        path: as in `Writer`.

    Raises:
        UserError: as in `episodes`, or as `Writer` does.
    """
    dataset = _dataset(dataset)
    with Writer(path, observation_space=dataset.observation_space, action_space=dataset.action_space) as writer:
        for episode in episodes(dataset):
            writer.add_episode(episode)
    return Store(path)


def write(store: Store, id: str, **about: Any) -> Any:
    """Make a data set of a store's episodes, bit for bit, where minari keeps its own; give it.

    Args:
        store: the episodes.
        id: the data set's: ``namespace/name-v0``.
        about: what ``minari.create_dataset_from_buffers`` takes besides: author, description, env and so on.

    Raises:
        UserError: if minari is not installed, or takes none of that.
    """
    minari = _minari()
    create = minari.create_dataset_from_buffers
    if "jpeg_encoding" in inspect.signature(create).parameters:  # pictures as they are, unless it is asked for
        about.setdefault("jpeg_encoding", False)
    buffer = [_buffer(minari, episode) for episode in store]
    try:
        return create(id, buffer, observation_space=store.observation_space, action_space=store.action_space, **about)
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"{id} cannot be made of {store.path}: {first_line(error)}") from error


def _buffer(minari: Any, episode: Episode) -> Any:
    flags = [[False] * (episode.length - 1) + [last] for last in (episode.terminated, episode.truncated)]
    return minari.data_collector.EpisodeBuffer(
        observations=episode.observations,
        actions=episode.actions,
        rewards=episode.rewards,
        terminations=flags[0],
        truncations=flags[1],
    )


def _minari() -> Any:
    try:
        import minari
    except ModuleNotFoundError as error:
        raise UserError("Minari data sets need the package minari: pip install 'recurra[minari]'") from error
    return minari


def _dataset(dataset: Any) -> Any:
    if not isinstance(dataset, str):
        return dataset
    minari = _minari()
    try:
        return minari.load_dataset(dataset)
    except (FileNotFoundError, ValueError, ImportError) as error:
        said = first_line(error)
        raise UserError(f"{dataset}: {said}; minari download {dataset} fetches published ones") from error
