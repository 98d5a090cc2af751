"""What can go wrong on the way: nothing is lost, a line says what happened, and no file that is read runs code."""

import errno
import json
import os
import pickle
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from recurra import agents
from recurra.agents import Reader
from recurra.envs.documents import expand
from recurra.envs.documents.babilong import Babilong
from recurra.errors import UserError
from recurra.memory import state as states
from recurra.recipes import cli, read, train

SMALL = {"steps": 4 * 64, "environments": 4, "ppo.rollout": 16, "ppo.sequence": 16, "dim": 8, "memory": "gru"}
SMALL |= {"threads": 1, "checkpoint_every": 1, "curriculum": None}
SMALL_READER = {"steps": 256, "dim": 8, "layers": 1, "memory": "gru", "reading.streams": 2, "reading.piece": 32}
SMALL_READER |= {"threads": 1, "held_out": []}


def options(settings: dict[str, Any]) -> list[str]:
    return [f"--{name}={'null' if value is None else value}" for name, value in settings.items()]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "agent" / "model.safetensors")


def same(a: Path, b: Path) -> bool:
    return all(torch.equal(value, weights(b)[name]) for name, value in weights(a).items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    return Path(train("tmaze", root=str(tmp_path_factory.mktemp("whole")), **SMALL)["run"])


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = str(tmp_path_factory.mktemp("readers"))
    return Path(train("byte-lm", root=root, **SMALL_READER)["run"])


# --- a disk that is full ---


def test_a_full_disk_keeps_the_last_checkpoint(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A process may write files of so many bytes and no more: the checkpoint does not fit."""
    command = [sys.executable, "-m", "recurra.recipes.cli", "train", "tmaze", "--root", str(tmp_path), *options(SMALL)]
    room = (whole / "last.ckpt").stat().st_size // 2

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True)
    run = tmp_path / "tmaze" / "0"
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"go on from update 0 with --resume {run}" in done.stderr
    assert not [path for path in run.rglob("*") if path.name.endswith(".new")]  # what was half written is gone
    train("tmaze", resume=str(run))
    assert same(run, whole)


@pytest.mark.parametrize("call", ["os.fsync", "os.replace", "pathlib.Path.write_bytes"])
@pytest.mark.parametrize("after", [1, 3])
def test_a_disk_that_fills_up_while_training(
    call: str, after: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, name = {"os": (os, call[3:]), "pathlib": (Path, "write_bytes")}[call.split(".")[0]]
    real, calls = getattr(home, name), []

    def fail(*given: Any, **more: Any) -> Any:
        calls.append(given)
        if len(calls) > after + 3:  # the run's own papers come first
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(home, name, fail)
        if call == "pathlib.Path.write_bytes":
            calls += [(), (), ()]
        with pytest.raises(UserError, match=r"No space left on device; go on from update \d with --resume"):
            train("tmaze", root=str(tmp_path), **SMALL)
    run = tmp_path / "tmaze" / "0"
    if (run / "agent" / "config.json").is_file():
        agents.load(run)  # the one before, whole
    train("tmaze", resume="auto", root=str(tmp_path))
    assert same(run, whole)


# --- losses that are no numbers ---

ENVIRONMENT = """
import math
import gymnasium
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv

class Breaking(CartPoleEnv):
    steps = 0

    def step(self, action):
        Breaking.steps += 1
        obs, reward, *rest = super().step(action)
        broken = Breaking.steps > 200
        return np.full_like(obs, {obs}) if broken else obs, {reward} if broken else reward, *rest

gymnasium.register("{name}-v0", entry_point=Breaking, max_episode_steps=100)
"""


@pytest.mark.parametrize(
    ("name", "obs", "reward"),
    [("NoReward", "0", "math.nan"), ("Endless", "0", "math.inf"), ("Blind", "math.nan", "1.0")],
)
def test_a_diverged_run_keeps_its_last_sound_checkpoint(
    name: str, obs: str, reward: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{name.lower()}_env.py").write_text(ENVIRONMENT.format(name=name, obs=obs, reward=reward))
    monkeypatch.syspath_prepend(tmp_path)
    settings = {**SMALL, "steps": 8 * 64, "env.id": f"{name.lower()}_env:{name}-v0"}
    with pytest.raises(
        UserError, match=r"training diverged at update .*; .* keeps update [23]; begin anew with a lower"
    ):
        train("gym", root=str(tmp_path), **settings)
    run = tmp_path / "gym" / "0"
    assert all(value.isfinite().all() for value in weights(run).values())
    checkpoint = torch.load(run / "last.ckpt", weights_only=True)
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())
    sys.modules[f"{name.lower()}_env"].Breaking.steps = -10_000  # mended
    assert train("gym", resume=str(run))["steps"] == 8 * 64


def test_a_reader_that_diverges(tmp_path: Path) -> None:
    settings = {**SMALL_READER, "reading.learning_rate": 1e30, "reading.warm_up": 0, "steps": 64 * 8}
    with pytest.raises(
        UserError, match=r"diverged at update .: its (bits per byte|gradient norm|weight .*) is not finite"
    ):
        train("byte-lm", root=str(tmp_path), **settings)


# --- Ctrl-C ---


def interrupted(command: list[str], ready: Callable[[], bool]) -> tuple[int, str]:
    """Send Ctrl-C once the command is ready; give its status and what it said last."""
    process = subprocess.Popen(
        [sys.executable, "-m", "recurra.recipes.cli", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # the tests may run where it is ignored
    )
    while not ready():
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert "Traceback" not in said
    return process.returncode, said.splitlines()[-1]


def test_ctrl_c_while_a_reader_trains(tmp_path: Path, reader: Path) -> None:
    settings = options({**SMALL_READER, "steps": 10_000_000})
    run = tmp_path / "byte-lm" / "0"
    status, said = interrupted(["train", "byte-lm", "--root", str(tmp_path), *settings], (run / "metrics.csv").is_file)
    assert (status, said) == (130, f"recurra: stopped; go on with --resume {run}")
    assert isinstance(agents.load(run), Reader)
    saved = torch.load(run / "last.ckpt", weights_only=True)
    assert saved["reading"]["done"] == (run / "metrics.csv").read_text().count("\n") - 1


def test_ctrl_c_while_reading_keeps_the_state(tmp_path: Path, reader: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "a book").write_text("It was the best of times, it was the worst of times. " * 10_000)
    (tmp_path / "another").write_text("Call me Ishmael. " * 9)
    out, books = tmp_path / "its state", [str(tmp_path / name) for name in ("a book", "another")]
    command = ["read", *books, "--reader", str(reader), "--state-out", str(out), "--piece", "2000"]
    status, said = interrupted(command, out.is_file)
    assert status == 130
    state = states.load(out, like=agents.load(reader).initial_state(1))
    assert 0 < int(state.read) < 530_000
    stopped, then = said.split("; go on with recurra ")
    assert stopped == f"recurra: stopped after {int(state.read):,} bytes of {books[0]}"
    capsys.readouterr()
    assert cli.main([*shlex.split(then), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["documents"]
    assert [row["bytes"] for row in found] == [530_000, 153]
    whole = read(books, reader=str(reader))["documents"]
    assert [row["bits_per_byte"] for row in found] == pytest.approx([row["bits_per_byte"] for row in whole], rel=1e-3)


def test_killed_while_it_reads_and_gone_on_with(tmp_path: Path) -> None:
    book, out = tmp_path / "book", tmp_path / "state"
    made = Babilong("qa1", expand("text:test"), length=300_000, seed=5).document(0)
    book.write_bytes(b"".join(made.pieces()))
    asked, reader = [question.text for question in made.questions], "babilong-qa1"
    command = [sys.executable, "-m", "recurra.recipes.cli", "read", str(book), "--reader", reader, "--piece", "4000"]
    process = subprocess.Popen([*command, "--state-out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not out.is_file():
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.kill()
    process.communicate()
    agent, (source,) = agents.load(reader), expand(str(book))
    state = states.load(out, like=agent.initial_state(1))
    assert 0 < int(state.read) < 300_000
    same = next(one for one in agent.stream(source.pieces(4000)) if one.read == state.read)
    assert all(torch.equal(tensor, dict(states.fields(same))[name]) for name, tensor in states.fields(state))
    (told,) = read(str(book), reader=reader, questions=asked, state_in=str(out), resume=True)["documents"]
    (whole,) = read(str(book), reader=reader, questions=asked)["documents"]
    assert told == whole


def test_ctrl_c_while_evaluating(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_env.py").write_text(
        "import gymnasium, pathlib, time\nfrom gymnasium.envs.classic_control import CartPoleEnv\n\n"
        "class Slow(CartPoleEnv):\n    def step(self, action):\n        pathlib.Path('begun').touch()\n"
        "        time.sleep(0.01)\n        return super().step(action)\n\n"
        "gymnasium.register('Slow-v0', entry_point=Slow)\n"
    )
    monkeypatch.chdir(tmp_path)
    run = train("gym", root="runs", **{**SMALL, "environments": 4})["run"]
    command = ["eval", run, "--env", "{id: 'slow_env:Slow-v0'}", "--episodes", "10000", "--json"]
    assert interrupted(command, Path("begun").is_file) == (130, "recurra: stopped")


# --- folders that cannot be written to ---


def test_folders_that_cannot_be_written_to(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", Path("/proc/none")):
        assert cli.main(["train", "tmaze", "--root", str(root), *options(SMALL)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"recurra: error: {root}")
        assert said.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "tmaze" / "0"))
    (run / "result.json").unlink()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    run.chmod(0o500)
    try:
        with pytest.raises((UserError, OSError)):
            train("tmaze", resume=str(run))
    finally:
        run.chmod(0o700)
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


# --- files that carry code ---


class Harmful:
    def __reduce__(self) -> Any:
        return os.mkdir, ("harm",)


HARM = {"agent": Harmful(), "state_dict": Harmful(), "x": Harmful()}


@pytest.mark.parametrize("write", [torch.save, lambda harm, path: path.write_bytes(pickle.dumps(harm))])
def test_checkpoints_agents_and_states_run_no_code(
    write: Callable[[Any, Path], Any],
    whole: Path,
    reader: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path(shutil.copytree(whole, tmp_path / "tmaze" / "0"))
    (run / "result.json").unlink()
    Path("book").write_text("a book")
    write(HARM, run / "last.ckpt")
    write(HARM, run / "agent" / "model.safetensors")
    write(HARM, Path("state"))
    for command in (
        ["eval", str(run / "last.ckpt")],
        ["eval", str(run)],
        ["train", "tmaze", "--resume", str(run)],
        ["read", "book", "--reader", str(reader), "--state-in", "state"],
    ):
        assert cli.main(command) == 2
        said = capsys.readouterr().err
        assert "damaged" in said
        assert said.count("\n") == 1
        assert not Path("harm").exists()


@pytest.mark.parametrize(
    "line",
    [
        "memory_options: {x: !!python/object/apply:os.mkdir [harm]}",
        "memory_options: {x: {class_path: os.mkdir, init_args: {path: harm}}}",
        "memory_options: {class_path: os.mkdir, init_args: {path: harm}}",
        "memory_options.x: [{class_path: os.mkdir, init_args: {path: harm}}]",
        "memory_options.x.class_path: os.mkdir\nmemory_options.x.init_args.path: harm",
        "memory_options: {x: '{class_path: os.mkdir, init_args: {path: harm}}'}",
    ],
)
def test_recipes_run_no_code(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(f"method: ppo\nenv: {{id: CartPole-v1}}\nsteps: 64\n{line}\n")
    assert cli.main(["train", "recipe.yaml"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert os.listdir() == ["recipe.yaml"]


def test_options_in_a_file_run_no_code(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("options.yaml").write_text("env: {corridor: {class_path: os.mkdir, init_args: {path: harm}}}\n")
    assert cli.main(["eval", str(whole), "--config", "options.yaml"]) == 2
    assert os.listdir() == ["options.yaml"]


def test_an_agent_s_config_names_memories_only(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(shutil.copytree(whole / "agent", "agent"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "memory": "os:mkdir"}))
    with pytest.raises(UserError, match="no subclass"):
        agents.load(folder)
