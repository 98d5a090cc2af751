"""Agents on the hub: two files go there and come back, and every mistake is one line."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from recurra import agents
from recurra.agents import ActorCritic, Reader, hub
from recurra.errors import UserError


class Shelf:
    """A hub in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, token: str | None = None) -> "Shelf":
        self.token = token
        return self

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> str:
        Path(self.folder, name).mkdir(parents=True, exist_ok=exist_ok)
        self.private = private
        return f"https://hub/{name}"

    def upload_folder(self, *, repo_id: str, folder_path: str, allow_patterns: list[str], commit_message: str) -> None:
        for name in allow_patterns:
            shutil.copy(Path(folder_path, name), Path(self.folder, repo_id, name))

    def snapshot_download(self, name: str, *, allow_patterns: list[str]) -> str:
        if not Path(self.folder, name).is_dir():
            raise OSError(f"404: {name}\nand more that nobody reads")
        fetched = Path(self.folder, "cache", name)
        fetched.mkdir(parents=True)
        for file in allow_patterns:
            if Path(self.folder, name, file).exists():
                shutil.copy(Path(self.folder, name, file), fetched / file)
        return str(fetched)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    shelf = Shelf(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", shelf)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", shelf.snapshot_download)
    monkeypatch.chdir(tmp_path)
    return shelf


def make(kind: str) -> ActorCritic | Reader:
    if kind == "reader":
        return Reader(memory="gru", dim=8)
    return ActorCritic(spaces.Discrete(3), spaces.Discrete(2), memory="gru", dim=8, normalize_observations=True)


@pytest.mark.parametrize("kind", ["actor", "reader"])
def test_what_is_pushed_is_loaded(kind: str, shelf: Shelf) -> None:
    agent = make(kind)
    assert agent.push_to_hub("someone/agent", private=True, token="secret") == "https://hub/someone/agent"
    assert (shelf.token, shelf.private) == ("secret", True)
    (shelf.folder / "someone/agent/pytorch_model.bin").write_bytes(b"a pickle, which nobody may open")
    loaded = agents.load("someone/agent")
    assert sorted(path.name for path in (shelf.folder / "cache/someone/agent").iterdir()) == hub.FILES
    assert loaded.config == agent.config
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in agent.state_dict().items())


def test_folders_come_before_the_hub(shelf: Shelf, tmp_path: Path) -> None:
    agent = make("actor")
    assert isinstance(agent, ActorCritic)
    agents.save(agent, tmp_path / "someone" / "agent")
    loaded = agents.load("someone/agent")
    assert isinstance(loaded, ActorCritic)
    np.testing.assert_array_equal(loaded.act([0, 1, 2])[0], agent.act([0, 1, 2])[0])
    for path in ("someone/other", tmp_path / "nobody" / "agent", "a/b/c", "nowhere"):
        with pytest.raises(FileNotFoundError, match="no such agent or run folder"):
            agents.load(path)


def test_what_the_hub_does_not_have_or_take(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(function: Any, *arguments: Any) -> str:
        with pytest.raises(UserError) as caught:
            function(*arguments)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert refused(agents.load, "nobody/agent") == (
        "nobody/agent: no such folder, and the hub gives none: 404: nobody/agent"
    )
    monkeypatch.setattr(shelf, "upload_folder", lambda **_: 1 / 0)
    assert "the hub does not take it: division by zero" in refused(make("reader").push_to_hub, "someone/agent")
    (shelf.folder / "someone/empty").mkdir(parents=True)
    assert "holds no agent" in refused(agents.load, "someone/empty")
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    assert "pip install 'recurra[hub]'" in refused(agents.load, "nobody/agent")
    assert "pip install 'recurra[hub]'" in refused(make("reader").push_to_hub, "someone/agent")
