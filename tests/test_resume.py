"""A run that is killed goes on exactly where it was: the same weights, the same figures."""

import csv
import json
import multiprocessing
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
from recurra.recipes.runs import Run

TIME_COLUMNS = ("seconds", "steps_per_second")  # of metrics.csv: a repeated run does not repeat them
RECIPES = {
    "tmaze": {"steps": 3000, "environments": 8, "dim": 16, "memory_options": {"heads": 2}, "curriculum.window": 16},
    "gym": {"steps": 3000, "environments": 4, "dim": 16, "memory": "gru"},
    "bottleneck": {
        "steps": 3000,
        "environments": 8,
        "dim": 16,
        "env.options.corridor": [1, 3],
        "curriculum.start": 1,
        "curriculum.success": 0,
        "curriculum.window": 2,
        "env.horizon": 20,
    },
    "byte-lm": {"steps": 20_000, "dim": 16, "layers": 1, "reading.streams": 4, "reading.piece": 64, "held_out": []},
    "recall": {"steps": 4000, "dim": 16, "layers": 1, "reading.streams": 4, "env.pairs": [2, 8]},
    # Through all stages and into the streams, whose documents end and begin on the way.
    "babilong": {
        "steps": 40 * 128,
        "dim": 16,
        "layers": 1,
        "memory_options": {"heads": 2, "closing": True},
        "env.documents": ["text:shakespeare/phoenix_and_the_turtle"],
        "env.vocabulary": 300,
        "env.tasks": ["qa1", "qa2"],
        "reading.streams": 2,
        "reading.tokens": 128,
        "reading.piece": 64,
        "reading.segment": 32,
        "reading.segments": [1, 2],
        "reading.promote_at": 0,
        "reading.window": 2,
        "reading.document": 3,
        "evaluation.episodes": 2,
        "evaluation.length": "200",
    },
}
OFFLINE = {
    "episodes": 40,
    "dim": 16,
    "env.corridor": [1, 10],
    "reading.streams": 4,
    "evaluation.every": 0,
    "stop": None,
}
RECIPES["rate-tmaze"] = OFFLINE | {  # through all lengths
    "steps": 20 * 4 * 11,
    "layers": 1,
    "memory_options": {"segment": 12, "slots": 2, "heads": 2},
    "reading.steps": 11,
    "reading.shortest": 2,
    "reading.promote_at": 0,
    "reading.window": 2,
}
RECIPES["cql"] = OFFLINE | {  # with a memory that is carried from piece to piece, and actions
    "steps": 20 * 4 * 3,
    "actions": True,
    "reading.steps": 3,
    "reading.begin": "onward",
    "reading.shortest": 0,
}
RECIPES["tmaze"] |= {"previous_action": True, "previous_reward": True, "normalize_observations": True}
COMMON = {"checkpoint_every": 2, "threads": 1}

# A server that has imported everything and computed nothing: its processes begin at once.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["recurra.recipes.training", "pytest"])


def options(name: str) -> dict:
    small = {"ppo.rollout": 32, "ppo.sequence": 16} if name in ("tmaze", "gym", "bottleneck") else {}
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
    rows = len(figures(whole[name]))
    run = tmp_path / name / "0"
    wanted = options(name)
    for stop in sorted(rng.sample(range(1, rows), 4)):  # killed when so many rows are written
        process = PROCESSES.Process(target=train, args=(name,), kwargs={"root": str(tmp_path), **wanted})
        process.start()
        while process.is_alive():
            if (run / "metrics.csv").is_file() and (run / "metrics.csv").read_text().count("\n") > stop:
                time.sleep(rng.random() * 0.02)
                process.kill()
                process.join()
            time.sleep(0.001)
        assert process.exitcode in (0, -signal.SIGKILL)
        wanted = {"resume": "auto"}
        if Run(run).finished:
            break
    with (run / "metrics.csv").open("a") as file:
        file.write("97,half a ro")  # as a kill in the middle of a line leaves it
    if not Run(run).finished:
        assert train(name, resume="auto", root=str(tmp_path))["run"] == str(run)
    same(run, whole[name])
    assert [path.name for path in run.parent.iterdir()] == ["0"]


@pytest.mark.slow
def test_twenty_kills_change_nothing(tmp_path: Path) -> None:
    """Killed 20 times, anywhere: while it starts, learns, measures, or writes."""
    wanted = {**options("tmaze"), "steps": 260 * 64, "environments": 2, "checkpoint_every": 3}
    wanted |= {"evaluation.every": 7, "evaluation.episodes": 16}
    alone = Path(train("tmaze", root=str(tmp_path / "alone"), **wanted)["run"])
    rng, run, kills = random.Random(20), tmp_path / "tmaze" / "0", 0

    def written() -> int:
        return (run / "metrics.csv").read_text().count("\n") if (run / "metrics.csv").is_file() else 0

    while kills < 20:
        given = wanted if kills == 0 else {"resume": "auto"}
        process = PROCESSES.Process(target=train, args=("tmaze",), kwargs={"root": str(tmp_path), **given})
        process.start()
        if kills % 4 == 3:
            time.sleep(rng.uniform(0, 0.5))
        else:
            goal = written() + rng.randint(4, 12)
            while process.is_alive() and written() < goal:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.02))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        kills += 1
    result = train("tmaze", resume="auto", root=str(tmp_path))
    assert result["run"] == str(run)
    same(run, alone)
    best, others = (load_file(folder / "best" / "model.safetensors") for folder in (run, alone))
    assert all(torch.equal(best[name], others[name]) for name in best)
    assert {**result["best"], "folder": ""} == {**json.loads((alone / "result.json").read_text())["best"], "folder": ""}
    assert not list(run.rglob("*.new"))


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
        assert checkpoint["agent"]["kind"] in ("ActorCritic", "RATE", "Reader")


def test_ctrl_c_saves_and_the_run_goes_on(whole: dict[str, Path], tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("tmaze", tmp_path, *settings_of("tmaze")), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    run = tmp_path / "tmaze" / "0"
    while not (run / "metrics.csv").is_file() or (run / "metrics.csv").read_text().count("\n") < 2:
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
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


COUNTING = """
import torch
from recurra.memory.recurrent import GRU

class Counting(GRU):
    def forward(self, *given, **options):
        with open({file!r}, "a") as file:
            print(torch.get_num_threads(), file=file)
        {then}
        return super().forward(*given, **options)
"""


def test_a_resumed_run_computes_with_the_threads_it_began_with(tmp_path: Path, monkeypatch) -> None:
    told, before = tmp_path / "threads", torch.get_num_threads()
    (tmp_path / "counting.py").write_text(COUNTING.format(file=str(told), then="pass"))
    monkeypatch.syspath_prepend(tmp_path)
    small = {"steps": 256, "environments": 8, "dim": 8, "ppo.rollout": 32, "ppo.sequence": 32, "ppo.epochs": 1}
    small |= {"memory": "counting:Counting", "threads": before + 1}
    run = Path(train("tmaze", root=str(tmp_path), **small)["run"])
    (run / "result.json").unlink()
    (run / "last.ckpt").unlink()
    train("tmaze", resume=str(run))
    assert set(told.read_text().split()) == {str(before + 1)}
    assert torch.get_num_threads() == before


def test_an_error_while_training_leaves_signals_and_folder_free(tmp_path: Path, monkeypatch) -> None:
    code = COUNTING.format(file=str(tmp_path / "threads"), then="raise RuntimeError('out of luck')")
    (tmp_path / "failing.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    options_ = {name: value for name, value in options("tmaze").items() if not name.startswith("memory")}
    with pytest.raises(RuntimeError, match="out of luck"):
        train("tmaze", root=str(tmp_path), memory="failing:Counting", **options_)
    assert signal.getsignal(signal.SIGINT) is before
    assert Run(tmp_path / "tmaze" / "0").lock()


def unfinish(run: Path, tmp_path: Path) -> Path:
    """Copy a run that was killed after its last checkpoint, before it could say that it was finished."""
    copy = Path(shutil.copytree(run, tmp_path / "tmaze" / "0"))
    (copy / "result.json").unlink()
    return copy


def test_killed_after_the_last_checkpoint(whole: dict[str, Path], tmp_path: Path) -> None:
    run = unfinish(whole["tmaze"], tmp_path)
    (run / ".last.ckpt.new").write_bytes(b"half a checkpoint")
    start = time.perf_counter()
    result = train("tmaze", resume="auto", root=str(tmp_path))
    spent = time.perf_counter() - start
    first = json.loads((whole["tmaze"] / "result.json").read_text())
    assert {**result, "run": ""}.keys() == first.keys()
    assert all(result[name] == first[name] for name in ("metrics", "steps"))
    before = torch.load(whole["tmaze"] / "last.ckpt", weights_only=True)["metrics"]["seconds"]
    assert 0 < before <= result["seconds"] + 0.001  # which is rounded
    assert result["seconds"] - before <= spent + 0.001
    same(run, whole["tmaze"])


def test_the_same_command_resumes_and_another_is_refused(whole: dict[str, Path], tmp_path: Path) -> None:
    run = unfinish(whole["tmaze"], tmp_path)
    with pytest.raises(UserError, match=f"{run} keeps its settings when resumed: leave out --memory=gru"):
        train("tmaze", resume="auto", root=str(tmp_path), memory="gru")
    assert train("tmaze", resume="auto", root=str(tmp_path), **options("tmaze"))["run"] == str(run)


def test_a_damaged_checkpoint_is_told(whole: dict[str, Path], tmp_path: Path) -> None:
    run = unfinish(whole["tmaze"], tmp_path)
    (run / "last.ckpt").write_bytes(b"PK and then nothing")
    with pytest.raises(UserError, match=r"last\.ckpt is damaged"):
        train("tmaze", resume=str(run))


def test_a_run_in_use_is_left_alone(whole: dict[str, Path], tmp_path: Path) -> None:
    run = unfinish(whole["tmaze"], tmp_path)
    holder = Run(run)
    assert holder.lock()
    assert train("tmaze", resume="auto", root=str(tmp_path), **options("tmaze"))["run"] != str(run)
    holder.unlock()
    assert train("tmaze", resume="auto", root=str(tmp_path))["run"] == str(run)


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("tmaze", tmp_path, *settings_of("tmaze"), "--ppo.epochs", "1000000"),  # an update without end
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "tmaze" / "0" / "metrics.csv").is_file():
        assert process.poll() is None
        time.sleep(0.01)
    for _ in range(2):
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1].startswith("recurra: stopped at once; go on from before with --resume ")
