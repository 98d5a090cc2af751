"""Trained agents by where they lie: a run folder, a checkpoint, or an agent's own folder."""

import warnings
from pathlib import Path
from typing import Any

import torch
import yaml

from recurra import agents
from recurra.agents import ActorCritic, Reader, saving
from recurra.errors import UserError


def actor(run: str) -> tuple[ActorCritic, dict[str, Any]]:
    """Load an agent that acts, and what it was trained in: the ``env`` of its recipe, empty if that is not known.

    Raises:
        UserError: if there is another kind of agent, or none, or a damaged one.
        FileNotFoundError: if there is no such file or folder.
    """
    agent, folder = _load(run)
    if not isinstance(agent, ActorCritic):
        raise UserError(f"{run} is a reader and acts in no environment: recurra read DOCUMENT --reader {run}")
    config = next((path for path in (folder / "config.yaml", folder.parent / "config.yaml") if path.is_file()), None)
    if config is None:  # an agent's folder outside any run's
        return agent, {}
    try:
        return agent, dict(yaml.safe_load(config.read_text())["env"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{config} is damaged: it names no env") from error


def reader(run: str) -> Reader:
    """Load a reader; see `actor` for what is raised."""
    agent, _ = _load(run)
    if not isinstance(agent, Reader):
        raise UserError(f"{run} is an agent that acts and reads no documents: recurra eval {run}")
    return agent


def checkpoint(path: Path) -> dict[str, Any]:
    """Read a run's checkpoint; no code in it is executed.

    Raises:
        UserError: if it is damaged, or no checkpoint of ours.
        FileNotFoundError: if there is no such file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of files that are not its own: they are told below
            found = torch.load(path, map_location="cpu", weights_only=True)
        complete = {"agent", "state_dict"} <= found.keys()
    except Exception as error:  # torch raises many kinds for a file that is not one of its own
        raise UserError(f"{path} is damaged or no checkpoint of recurra") from error
    if not complete:
        raise UserError(f"{path} is damaged or no checkpoint of recurra")
    return found


def _load(run: str) -> tuple[saving.Agent, Path]:
    path = Path(run)
    if path.suffix != ".ckpt":
        return agents.load(path), path
    found = checkpoint(path)
    weights = {name.removeprefix("agent."): value for name, value in found["state_dict"].items()}
    return saving.restore(found["agent"], weights, source=run), path.parent
