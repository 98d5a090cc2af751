"""The examples in docstrings give what they say, module by module, each imported by its name."""

import doctest
import importlib
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]


def modules():
    """List the listed packages' modules: the repository root holds folders that are no part of `recurra` too."""
    for package in PACKAGES:
        yield package
        for file in sorted(ROOT.joinpath(*package.split(".")[1:]).glob("*.py")):
            if not file.stem.startswith("__"):
                yield f"{package}.{file.stem}"


@pytest.mark.parametrize("name", list(modules()))
def test_examples_of(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "kernels" in name and ("gpu" in name or name.endswith("tiles")):  # nothing else needs triton
        pytest.importorskip("triton")
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0
