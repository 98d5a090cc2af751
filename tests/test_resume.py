"""A run that is killed goes on exactly where it was: the same weights, the same figures."""

import csv
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from recurra.errors import UserError
from recurra.recipes import train
from recurra.recipes.callbacks import TIME_COLUMNS
from recurra.recipes.runs import Run

RECIPES = {
    "tmaze": {"steps": 3000, "environments": 8, "dim": 16, "memory_options": {"heads": 2}, "curriculum.window": 16},
    "gym": {"steps": 3000, "environments": 4, "dim": 16, "memory": "gru"},
    "byte-lm": {"steps": 20_000, "dim": 16, "layers": 1, "reading.streams": 4, "reading.piece": 64, "held_out": []},
}
COMMON = {"checkpoint_every": 2, "threads": 1}


def options(name: str) -> dict:
    small = {"ppo.rollout": 32, "ppo.sequence": 16} if name != "byte-lm" else {}
    return {**RECIPES[name], **small, **COMMON}


def command(name: str, root: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "recurra.recipes.cli", "train", name, "--root", str(root), *arguments]


def settings_of(name: str) -> list[str]:
    return [
        f"--{option}={yaml.safe_dump(value, default_flow_style=True).split(chr(10))[0]}"
        for option, value in options(name).items()
    ]


def figures(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return [{name: cell for name, cell in row.items() if name not in TIME_COLUMNS} for row in csv.DictReader(file)]


def same(a: Path, b: Path) -> None:
    weights, others = (load_file(run / "agent" / "model.safetensors") for run in (a, b))
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert figures(a) == figures(b)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each recipe, trained without a break."""
    root = tmp_path_factory.mktemp("whole")
    return {name: Path(train(name, root=str(root), **options(name))["run"]) for name in RECIPES}


@pytest.mark.parametrize("name", RECIPES)
def test_killed_and_resumed_is_the_same_run(name: str, whole: dict[str, Path], tmp_path: Path) -> None:
    rng = random.Random(name)
    arguments = settings_of(name)
    rows = len(figures(whole[name]))
    run = tmp_path / name / "0"
    for stop in sorted(rng.sample(range(1, rows), 2)):  # killed when so many rows are written
        process = subprocess.Popen(
            command(name, tmp_path, *arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None:
            if (run / "metrics.csv").is_file() and (run / "metrics.csv").read_text().count("\n") > stop:
                time.sleep(rng.random() * 0.02)
                process.send_signal(signal.SIGKILL)
            time.sleep(0.001)
        arguments = ["--resume", "auto"]
    with (run / "metrics.csv").open("a") as file:
        file.write("97,half a ro")  # as a kill in the middle of a line leaves it
    if not Run(run).finished:
        assert train(name, resume="auto", root=str(tmp_path))["run"] == str(run)
    same(run, whole[name])
    assert [path.name for path in run.parent.iterdir()] == ["0"]


def test_killed_before_the_first_checkpoint(whole: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "tmaze" / "0"
    run.mkdir(parents=True)
    shutil.copy(whole["tmaze"] / "config.yaml", run)
    (run / "metrics.csv").write_text("update,steps\n1,256\n")
    train("tmaze", resume=str(run), root=str(tmp_path))
    same(run, whole["tmaze"])


def test_one_seed_one_run(whole: dict[str, Path], tmp_path: Path) -> None:
    again = train("tmaze", root=str(tmp_path), **options("tmaze"))["run"]
    same(Path(again), whole["tmaze"])
    other = Path(train("tmaze", root=str(tmp_path), seed=1, **options("tmaze"))["run"])
    assert other.name == "1"
    assert figures(other) != figures(whole["tmaze"])


def test_checkpoints_hold_plain_data(whole: dict[str, Path]) -> None:
    for run in whole.values():
        checkpoint = torch.load(run / "last.ckpt", weights_only=True)
        assert checkpoint["agent"]["kind"] in ("ActorCritic", "Reader")


def test_ctrl_c_saves_and_the_run_goes_on(whole: dict[str, Path], tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("tmaze", tmp_path, *settings_of("tmaze")), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    run = tmp_path / "tmaze" / "0"
    while not (run / "metrics.csv").is_file() or (run / "metrics.csv").read_text().count("\n") < 4:
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in said
    assert "Traceback" not in said
    train("tmaze", resume=str(run), root=str(tmp_path))
    same(run, whole["tmaze"])


def test_what_cannot_be_resumed(whole: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is finished"):
        train("tmaze", resume=str(whole["tmaze"]))
    with pytest.raises(UserError, match="no run folder"):
        train("tmaze", resume=str(tmp_path))
    run = tmp_path / "tmaze" / "0"
    run.mkdir(parents=True)
    shutil.copy(whole["tmaze"] / "config.yaml", run)
    with pytest.raises(UserError, match="keeps its settings"):
        train("tmaze", resume=str(run), seed=3)
    other = Run(run)
    assert other.lock()
    held = subprocess.run(command("tmaze", tmp_path, "--resume", str(run)), capture_output=True, text=True)
    assert held.returncode == 2
    assert "another process" in held.stderr
    other.unlock()


def test_auto_begins_a_new_run_where_none_is_unfinished(tmp_path: Path) -> None:
    first = train("tmaze", resume="auto", root=str(tmp_path), **options("tmaze"))["run"]
    assert Path(first) == tmp_path / "tmaze" / "0"
    second = train("tmaze", resume="auto", root=str(tmp_path), **options("tmaze"))["run"]
    assert Path(second) == tmp_path / "tmaze" / "1"


def test_a_resumed_run_takes_the_recorded_threads(whole: dict[str, Path]) -> None:
    assert yaml.safe_load((whole["tmaze"] / "config.yaml").read_text())["threads"] == 1
