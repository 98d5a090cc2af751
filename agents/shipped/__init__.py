"""Agents that come with the package, trained by its recipes: a folder each, laid out as a run's, with a card."""

import os
from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Name the shipped agents.

    >>> "babilong-qa1" in names()
    True
    """
    return sorted(path.parent.name for path in FOLDER.glob("*/config.yaml"))


def find(name: str | os.PathLike[str]) -> Path:
    """Give the folder of the agent that ships under a name; anything else is a path as it is.

    What is there under the working directory goes first.
    """
    path = Path(name)
    return FOLDER / path if not path.exists() and os.fspath(name) in names() else path
