"""Compiled, an agent acts and learns as it does otherwise."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from recurra.kernels import launching
from recurra.memory import build as build_memory
from recurra.recipes.compiling import compiled
from recurra.recipes.ppo import PPO
from recurra.recipes.settings import ActingRecipe, PPOOptions
from recurra.recipes.training import build


def learner(memory: str, *, compile: bool) -> PPO:
    options = PPOOptions(rollout=16, sequence=16, epochs=2, minibatches=1)
    env = {"id": "recurra/TMaze-v0", "corridor": [1, 4]}
    settings: dict[str, Any] = {"environments": 4, "memory": memory, "dim": 8, "ppo": options, "compile": compile}
    module = cast(PPO, build(ActingRecipe(steps=1000, env=env, **settings)))
    optimizer = module.configure_optimizers()
    module.optimizers = lambda *_, **__: optimizer  # type: ignore[method-assign, assignment]
    module.manual_backward = lambda loss, **_: loss.backward()  # type: ignore[method-assign]
    return module


@pytest.mark.parametrize("memory", ["min_gru", pytest.param("gru", marks=pytest.mark.slow)])
def test_it_computes_the_same(memory: str) -> None:
    plain, quick = learner(memory, compile=False), learner(memory, compile=True)
    figures = []
    for module in (plain, quick):
        torch.manual_seed(3)
        rollout = module.collector.collect(module.agent, steps=16, sequence=16)
        figures.append((rollout, module._learn(rollout)))
    (one, said), (two, also_said) = figures
    assert torch.equal(one.actions, two.actions)
    torch.testing.assert_close(one.log_probs, two.log_probs)
    torch.testing.assert_close(one.values, two.values)
    assert said == pytest.approx(also_said, rel=1e-3, abs=1e-5)
    weights = plain.state_dict()
    assert list(weights) == list(quick.state_dict())  # a checkpoint does not know of it
    for name, weight in quick.state_dict().items():
        torch.testing.assert_close(weight, weights[name], rtol=1e-3, atol=1e-4, msg=name)


def test_as_many_are_compiled_as_there_are_agents_in_a_process() -> None:
    def add(x: torch.Tensor, *, number: int = 0) -> torch.Tensor:
        return x + number

    counters = torch._dynamo.utils.counters["stats"]
    before = counters["unique_graphs"]
    many = torch._dynamo.config.recompile_limit + 2
    for number in range(many):
        assert compiled(add)(torch.zeros(1), number=number) == number
    assert counters["unique_graphs"] - before == many


def test_torchs_compiler_is_imported_by_those_who_compile_alone() -> None:
    code = "import sys, recurra.memory, recurra.agents; print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_networks_over_pieces_of_any_length_are_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._dynamo.config, "allow_rnn", True)
    memory, counters = build_memory("lstm", 4), torch._dynamo.utils.counters["stats"]
    quick, x, first = (
        torch.compile(memory, backend="eager", dynamic=False),
        torch.randn(2, 6, 4),
        torch.rand(2, 6) < 0.5,
    )
    torch.testing.assert_close(quick(x, first=first)[0], memory(x, first=first)[0])
    graphs = counters["unique_graphs"]
    quick(x, first=~first)  # episodes of other lengths
    assert counters["unique_graphs"] == graphs


def test_what_a_gpu_can_do_is_a_constant_to_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def capability(index: int | None) -> tuple[int, int]:
        torch._dynamo.graph_break()
        return (9, 0)

    monkeypatch.setattr(torch.cuda, "get_device_capability", capability)

    @torch.compile(backend="eager", fullgraph=True)
    def told(x: torch.Tensor) -> torch.Tensor:
        return x + launching._capable(0)

    assert told(torch.zeros(())) == 1.0


def test_a_missing_compiler_is_told_before_anything_is_made(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recurra.recipes.cli", "train", "tmaze", "--compile", "true"]
    environment = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [*command, "--root", str(tmp_path / "runs")], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("recurra: error: compiling needs a working C++ compiler")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
