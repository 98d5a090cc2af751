"""Two processes that train together do what one does: the same figures, the same weights."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

READING = ["train", "byte-lm", "--steps", "24000", "--dim", "16", "--layers", "1", "--threads", "1"]
READING += ["--held_out", "[]", "--reading.piece", "64"]


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does: the processes that it starts run it again."""
    command = [sys.executable, "-m", "recurra.recipes.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def trained(arguments: list[str], folder: Path) -> tuple[list[dict[str, str]], dict[str, torch.Tensor]]:
    """Train, and give the rows of metrics.csv and the weights."""
    folder.mkdir()
    done = run([*arguments, "--json"], folder)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)  # one process speaks, the other is silent
    made = folder / result["run"]
    assert len(list(made.parent.iterdir())) == 1  # and has made no run of its own
    with (made / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file)), load_file(made / "agent" / "model.safetensors")


def test_readers_trained_by_two_processes_are_those_of_one(tmp_path: Path) -> None:
    (rows, weights), (rows_of_two, weights_of_two) = (
        trained([*READING, "--devices", str(devices)], tmp_path / str(devices)) for devices in (1, 2)
    )
    assert len(rows) == len(rows_of_two) == 24
    for row, other in zip(rows, rows_of_two, strict=True):
        for name in ("steps", "bits_per_byte", "gradient_norm", "learning_rate"):
            assert float(row[name]) == pytest.approx(float(other[name]), rel=1e-4)
    for name, weight in weights.items():
        torch.testing.assert_close(weights_of_two[name], weight, rtol=1e-3, atol=1e-4)


def test_streams_that_cannot_be_shared_out_are_refused(tmp_path: Path) -> None:
    done = run(["train", "byte-lm", "--devices", "3"], tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == "recurra: error: 16 streams cannot be shared out to 3 devices"
