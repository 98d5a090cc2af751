"""Agents on disk: a folder with ``config.json`` and ``model.safetensors``, read without executing anything in it.

A memory of the user's own is named in ``config.json`` by its dotted path, and imported from where Python finds modules.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from recurra.agents import hub, shipped
from recurra.agents.actor_critic import ActorCritic
from recurra.agents.pretrained import PretrainedReader
from recurra.agents.rate import RATE
from recurra.agents.reader import Reader
from recurra.errors import UserError, nearest
from recurra.files import whole

Agent = ActorCritic | RATE | Reader

_KINDS: dict[str, type[Agent]] = {kind.__name__: kind for kind in (ActorCritic, RATE, Reader, PretrainedReader)}


def save(agent: Agent, folder: str | os.PathLike[str]) -> None:
    """Write an agent to a folder, made where it is missing; each file is there whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Clones: the file takes no tensors that share their memory, as an embedding and a head may.
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in agent.state_dict().items()}
    config = {"kind": type(agent).__name__, **agent.config}
    with whole(folder / "model.safetensors") as scratch:
        scratch.write_bytes(to_bytes(weights))
    with whole(folder / "config.json") as scratch:
        scratch.write_text(json.dumps(config, indent=2, allow_nan=False) + "\n")


def load(path: str | os.PathLike[str]) -> Agent:
    """Load an agent: one that `save` wrote, that a run trained, that comes with the package, or from the hub.

    Args:
        path: the agent's or the run's folder, a name out of `recurra.agents.shipped.names`, or ``user/name`` on the
            Hugging Face hub.

    Raises:
        FileNotFoundError: if there is no such folder.
        UserError: if the folder holds no agent, or a damaged one, or the hub has none of that name.

    >>> load("babilong-qa1").config["memory"]
    'delta_net'
    """
    path = hub.download(os.fspath(path)) if hub.is_name(path) else shipped.find(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such agent or run folder, and of shipped ones: {nearest(str(path), shipped.names())}"
        )
    folder = path / "agent" if (path / "agent").is_dir() else path
    files = [folder / "config.json", folder / "model.safetensors"]
    if not all(file.is_file() for file in files):
        raise UserError(f"{path} holds no agent: expected config.json and model.safetensors in it or in its agent/")
    try:
        config = json.loads(files[0].read_text())
        weights = load_file(files[1])
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise UserError(f"the agent in {folder} is damaged: {error}") from error
    return restore(config, weights, source=str(folder))


def restore(config: dict[str, Any], weights: dict[str, torch.Tensor], *, source: str) -> Agent:
    """Build an agent from its config and weights; ``source`` names where they came from in errors.

    Raises:
        UserError: if the config describes no agent, or the weights are those of another.
    """
    kind = config.get("kind") if isinstance(config, dict) else None
    if not isinstance(kind, str):
        raise UserError(f"the agent in {source} does not fit its config: the config names no kind of agent")
    if kind not in _KINDS:
        raise UserError(f"{source} holds an agent of unknown kind {kind!r}; {nearest(kind, _KINDS)}")
    try:
        agent = _KINDS[kind].from_config({name: value for name, value in config.items() if name != "kind"})
        agent.to(weights[next(name for name, _ in agent.named_parameters())].dtype).load_state_dict(weights)
    except UserError:
        raise
    except KeyError as error:
        raise UserError(f"the agent in {source} does not fit its config: {error} is missing") from error
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
        raise UserError(f"the agent in {source} does not fit its config: {reason}") from error
    return agent.eval()
