"""Peers that live in a Python of their own: their scripts lie here, and tell what they measured as JSON."""

import json
import subprocess
from pathlib import Path
from typing import Any

from recurra.errors import UserError


def script(python: str, name: str, options: dict[str, Any], *, peer: str, needs: str) -> dict[str, Any]:
    """Run a peer's script.

    Args:
        python: the Python that has the peer.
        name: of the script, in this folder.
        options: what it is told.
        peer: what it is called in errors.
        needs: what that Python has to have.

    Returns:
        What it measured.

    Raises:
        UserError: if that Python cannot run it.
    """
    path = Path(__file__).with_name(name)
    try:
        done = subprocess.run([python, path, json.dumps(options)], capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError(f"{python} cannot be run: {error.strerror}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"{peer} does not run in {python}: {last}; it needs {needs}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told
