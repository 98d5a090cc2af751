"""The README's Python runs as it stands, in the order in which it stands, where a run has been trained."""

import re
from pathlib import Path
from typing import Any

import pytest

from recurra import memory
from recurra.recipes import settings, train

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train("tmaze", steps=2_000, environments=8, dim=16, threads=1)
    train("byte-lm", steps=2_000, dim=16, layers=1, threads=1, held_out=[])
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 4  # one for each kind of user, and one for teams
    for block in blocks:
        names: dict[str, Any] = {}
        exec(compile(block, "README.md", "exec"), names)


def test_readme_lists_what_there_is() -> None:
    table = README[README.index("| memory |") : README.index("| room |")]
    assert re.findall(r"`(\w+)`", table) == memory.names()
    commands = re.findall(r"recurra train ([\w-]+)", README)
    assert set(commands) <= set(settings.shipped())
