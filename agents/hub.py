"""Agents on the Hugging Face hub: their two files, ``config.json`` and ``model.safetensors``, and nothing else."""

import os
import re
import tempfile
from importlib.util import find_spec
from pathlib import Path

from recurra.errors import UserError, first_line

FILES = ["config.json", "model.safetensors"]


def is_name(path: str | os.PathLike[str]) -> bool:
    """Whether a path can only be meant as ``user/name`` on the hub: neither it nor its parent is there.

    >>> is_name("someone/tmaze-gru"), is_name("/someone/tmaze-gru"), is_name("runs/tmaze/0")
    (True, False, False)
    """
    path = os.fspath(path)
    named = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", path)
    return bool(named) and not Path(path).exists() and not Path(path).parent.exists()


def download(name: str) -> Path:
    """Fetch an agent's files, or find them where they were fetched to before; give their folder.

    Raises:
        UserError: if huggingface_hub is missing, or the hub does not give the files.
    """
    if find_spec("huggingface_hub") is None:
        raise UserError(f"{name}: no such folder; to look for it on the hub: pip install 'recurra[hub]'")
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=FILES))
    except Exception as error:  # the library's, its transport's or the system's
        raise UserError(f"{name}: no such folder, and the hub gives none: {first_line(error)}") from error


class OnHub:
    """What can be put on the hub."""

    def push_to_hub(self, name: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload the agent as ``user/name``, from where `recurra.agents.load` loads it; give its address.

        Args:
            name: the repository, made where it is missing.
            private: whether a new repository is to be seen by its owner only.
            token: of the hub; None takes the one that ``hf auth login`` has kept.

        Raises:
            UserError: if huggingface_hub is missing, or the hub refuses.
        """
        if find_spec("huggingface_hub") is None:
            raise UserError("to push to the hub: pip install 'recurra[hub]'")
        import huggingface_hub

        from recurra.agents.saving import save  # which imports every kind of agent

        api = huggingface_hub.HfApi(token=token)
        with tempfile.TemporaryDirectory() as folder:
            save(self, folder)  # type: ignore[arg-type]
            try:
                address = api.create_repo(name, private=private, exist_ok=True)
                api.upload_folder(repo_id=name, folder_path=folder, allow_patterns=FILES, commit_message="An agent")
            except Exception as error:  # see `download`
                raise UserError(f"{name}: the hub does not take it: {first_line(error)}") from error
        return str(address)
