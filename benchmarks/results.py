"""Results in a file: the rows, and what they were measured with."""

import json
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from recurra import __version__
from recurra.errors import UserError

#: Whose speed the figures are of; those that are not installed are left out.
PACKAGES = ("torch", "triton", "numpy", "gymnasium", "lightning", "fla-core", "titans-pytorch", "sb3-contrib", "pogema")


def free(path: str | Path) -> Path:
    """Give the path of results that are yet to be measured.

    Raises:
        UserError: if there is a file already, or no folder for one.
    """
    path = Path(path)
    if path.exists():
        raise UserError(f"{path} is there already: results are not overwritten, name another file")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent} is no folder: make it first")
    return path


def write(path: Path, result: dict[str, Any], *, command: list[str]) -> None:
    """Write what was measured, with the command, date, versions and commit."""
    about = {"command": command, "date": f"{datetime.now(UTC):%Y-%m-%d}", "commit": _commit(), "versions": _versions()}
    path.write_text(json.dumps({**about, **result}, indent=1) + "\n")


def _versions() -> dict[str, str]:
    versions = {"recurra": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _commit() -> str | None:
    """Name the checkout's commit, if the package is used from one; ``+`` where files differ from it."""
    command = ["git", "-C", str(Path(__file__).parents[1]), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
