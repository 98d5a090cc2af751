"""Two processes that train together do what one does: the same figures, the same weights."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

HALVES = """
import sys
import lightning, torch
from recurra.memory import state as states
from recurra.recipes.settings import ActingRecipe, PPOOptions
from recurra.recipes.training import build

devices, weights, team = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "team"
options = PPOOptions(rollout=16, sequence=8, epochs=1, minibatches=1)
env = {"id": "recurra/Bottleneck-v0", "horizon": 9} if team else {"id": "recurra/TMaze-v0", "corridor": 3}
memory = "srmt" if team else "gru"
module = build(ActingRecipe(steps=128, env=env, environments=8, memory=memory, dim=16, ppo=options, team=team))
rollout = module.collector.collect(module.agent, steps=16, sequence=8)  # the same in every process
shape = rollout.present.shape
more = torch.linspace(0.2, 1.0, 8).reshape(8, *[1] * (len(shape) - 1))  # to learn from in the second half
present = torch.rand(shape) < more
first = rollout.first if team else rollout.first | ~present
rollout = rollout._replace(present=present, first=first)

def collect(*_, **__):
    share = 8 // module.trainer.world_size
    return states.select(rollout, slice(module.global_rank * share, (module.global_rank + 1) * share))

module.collector.collect = collect
trainer = lightning.Trainer(
    accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", max_epochs=1, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
)
trainer.fit(module)
if trainer.is_global_zero:
    gradients = {name: parameter.grad for name, parameter in module.agent.named_parameters()}
    torch.save({"gradients": gradients, "metrics": module.metrics}, weights)
"""

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


@pytest.mark.parametrize("who", ["alone", "team"])
def test_gradients_of_two_processes_are_those_of_one_on_the_same_rollout(who: str, tmp_path: Path) -> None:
    program = tmp_path / "halves.py"
    program.write_text(HALVES)
    found = []
    for devices in (1, 2):
        command = [sys.executable, str(program), str(devices), str(tmp_path / str(devices)), who]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        found.append(torch.load(tmp_path / str(devices), weights_only=True))
    alone, together = found
    for name, gradient in alone["gradients"].items():
        assert gradient.any(), name
        torch.testing.assert_close(together["gradients"][name], gradient, rtol=1e-4, atol=1e-7)
    for name in ("policy_loss", "value_loss", "entropy", "gradient_norm"):
        assert together["metrics"][name] == pytest.approx(alone["metrics"][name], rel=1e-4, abs=1e-7)


def test_agents_that_act_are_trained_by_two_processes_and_resumed(tmp_path: Path) -> None:
    arguments = ["train", "tmaze", "--devices", "2", "--steps", "8192", "--environments", "16", "--dim", "16"]
    arguments += ["--ppo.rollout", "32", "--ppo.sequence", "32", "--checkpoint_every", "2"]
    rows, weights = trained(arguments, tmp_path / "unbroken")
    assert [int(row["steps"]) for row in rows] == list(range(512, 8193, 512))

    folder = tmp_path / "killed"
    folder.mkdir()
    command = [sys.executable, "-m", "recurra.recipes.cli", *arguments]
    process = subprocess.Popen(command, cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL)
    checkpoint = folder / "runs" / "tmaze" / "0" / "last.ckpt"
    while process.poll() is None and not checkpoint.exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert run([*arguments[:2], "--resume", "auto"], folder).returncode == 0
    resumed = load_file(checkpoint.parent / "agent" / "model.safetensors")
    assert all(torch.equal(resumed[name], weight) for name, weight in weights.items())


def test_streams_that_cannot_be_shared_out_are_refused(tmp_path: Path) -> None:
    done = run(["train", "byte-lm", "--devices", "3"], tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == "recurra: error: 16 streams cannot be shared out to 3 devices"
