"""Trained agents by where they lie: a run folder, a checkpoint, an agent's own folder, or with the package."""

import warnings
from pathlib import Path
from typing import Any

import torch
import yaml

from recurra import agents
from recurra.agents import Acting, Reader, saving, shipped
from recurra.errors import UserError


def actor(run: str) -> tuple[Acting, dict[str, Any]]:
    """Load an agent that acts, and what it was trained in: the ``env`` of its recipe, empty if that is not known.

    Raises:
        UserError: if there is another kind of agent, or none, or a damaged one.
        FileNotFoundError: if there is no such file or folder.
    """
    agent, folder = _load(run)
    if not isinstance(agent, Acting):
        raise UserError(f"{run} is a reader and acts in no environment: recurra read DOCUMENT --reader {run}")
    return agent, _env(folder)


def reader(run: str) -> Reader:
    """Load a reader; see `actor` for what is raised."""
    return _reader(run)[0]


def recaller(run: str) -> tuple[Reader, dict[str, Any]]:
    """Load a reader of recall's episodes, and the ``env`` of its recipe; see `actor` for what is raised."""
    agent, folder = _reader(run)
    if method(run) != "recall":
        raise UserError(f"{run} was not trained to recall: recurra read DOCUMENT --reader {run}")
    return agent, _env(folder)


def answerer(run: str) -> tuple[Reader, dict[str, Any]]:
    """Load a reader that answers questions, and the ``env`` of its recipe; see `actor` for what is raised."""
    agent, folder = _reader(run)
    if not agent.config["answers"]:
        raise UserError(f"{run} was not trained to answer questions: recurra read DOCUMENT --reader {run}")
    return agent, _env(folder)


def method(run: str) -> str | None:
    """Say by which method a run was trained, as far as can be seen without loading it."""
    path = shipped.find(run)
    config = _config(path.parent if path.suffix == ".ckpt" else path)
    return None if config is None else _settings(config).get("method")


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
    path = shipped.find(run)
    if path.suffix != ".ckpt":
        return agents.load(run), path
    found = checkpoint(path)
    mine = (item for item in found["state_dict"].items() if item[0].startswith("agent."))
    weights = {name.removeprefix("agent."): value for name, value in mine}
    return saving.restore(found["agent"], weights, source=run), path.parent


def _reader(run: str) -> tuple[Reader, Path]:
    agent, folder = _load(run)
    if not isinstance(agent, Reader):
        raise UserError(f"{run} is an agent that acts and reads no documents: recurra eval {run}")
    return agent, folder


def _env(folder: Path) -> dict[str, Any]:
    config = _config(folder)
    if config is None:  # an agent's folder outside any run's
        return {}
    env = _settings(config).get("env")
    if not isinstance(env, dict):
        raise UserError(f"{config} is damaged: it names no env")
    return env


def _config(folder: Path) -> Path | None:
    return next((path for path in (folder / "config.yaml", folder.parent / "config.yaml") if path.is_file()), None)


def _settings(config: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(config.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{config} is damaged: it is no YAML") from error
    return found if isinstance(found, dict) else {}
