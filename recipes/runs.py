"""Run folders: ``runs/RECIPE/N/``, all that a training run leaves behind.

======================  ==============================================================================
``config.yaml``         every setting, itself a recipe
``versions.json``       of Python, the packages and the machine
``data/``               the trajectories that were recorded to learn from, where none were named
``metrics.csv``         a row for each update
``tensorboard/``        the same figures, where TensorBoard is installed
``last.ckpt``           what ``--resume`` continues from: tensors and plain containers only
``agent/``              the trained agent: config.json and model.safetensors
``best/``               the agent of the update that was best, where that is measured
``videos/``             a moving picture for each evaluation, where asked for
``result.json``         written last: a run that has it is finished
``.lock``               held by the process that is training
======================  ==============================================================================
"""

import fcntl
import json
import os
import platform
import shutil
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from recurra.errors import UserError
from recurra.files import whole
from recurra.recipes.settings import Recipe


class Run:
    """One run's folder, and the paths in it."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.config = self.folder / "config.yaml"
        self.versions = self.folder / "versions.json"
        self.metrics = self.folder / "metrics.csv"
        self.checkpoint = self.folder / "last.ckpt"
        self.agent = self.folder / "agent"
        self.best = self.folder / "best"
        self.result = self.folder / "result.json"
        self.made: list[Path] = []  #: the folders above it that `create` made, innermost first
        self.new = False  #: whether `create` made it
        self._lock: IO[str] | None = None

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.result.is_file()

    def lock(self) -> bool:
        """Take the folder for this process, until it ends; False if another process has it."""
        file = (self.folder / ".lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._lock = file
        return True

    def unlock(self) -> None:
        """Give the folder back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def discard(self) -> None:
        """Take away what `create` made, unless an agent was written to it: a run that was reopened stays."""
        if not self.new or any(path.exists() for path in (self.checkpoint, self.agent, self.best)):
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # other runs are there
            for folder in self.made:
                folder.rmdir()

    def write_config(self, recipe: Recipe) -> None:
        """Write all settings."""
        with whole(self.config) as scratch:
            recipe.write(scratch)

    def write_versions(self) -> None:
        """Note what the run was made with."""
        packages = ("recurra", "torch", "lightning", "gymnasium", "numpy", "safetensors")
        versions = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
        versions |= {package: metadata.version(package) for package in packages}
        _write(self.versions, json.dumps({**versions, "command": sys.argv}, indent=2) + "\n")

    def write_result(self, result: dict[str, Any]) -> None:
        """Mark the run as finished."""
        _write(self.result, json.dumps(result, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    with whole(path) as scratch:
        scratch.write_text(text)


def create(root: str | os.PathLike[str], name: str) -> Run:
    """Make the next folder ``root/name/N`` and take it."""
    parent = Path(root, name)
    missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    number = max((int(path.name) for path in parent.iterdir() if path.name.isdigit()), default=-1) + 1
    while True:
        try:
            (parent / str(number)).mkdir(parents=True)  # a run that was discarded may have taken its parent along
        except FileExistsError:  # another run was faster
            number += 1
            continue
        run = Run(parent / str(number))
        run.new, run.made = True, missing
        run.lock()
        return run


def unfinished(root: str | os.PathLike[str], name: str) -> Run | None:
    """Find and take the newest run of a recipe that neither finished nor is being run."""
    parent = Path(root, name)
    numbers = [int(path.name) for path in parent.iterdir() if path.name.isdigit()] if parent.is_dir() else []
    for number in sorted(numbers, reverse=True):
        try:
            return reopen(parent / str(number))
        except UserError:
            continue
    return None


def reopen(folder: str | os.PathLike[str]) -> Run:
    """Take a given run's folder to go on with it.

    Raises:
        UserError: if it is no run's folder, or the run is finished, or another process has it.
    """
    run = Run(folder)
    if not run.config.is_file():
        raise UserError(f"{folder} is no run folder: it has no config.yaml")
    if not run.lock():
        raise UserError(f"{folder} is being run by another process")
    if run.finished:
        run.unlock()
        raise UserError(f"{folder} is finished: there is nothing to resume")
    return run
