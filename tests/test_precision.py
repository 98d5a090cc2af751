"""--precision bf16-mixed trains, measures, resumes and reads, from end to end."""

from pathlib import Path
from typing import Any

import pytest
import torch

from recurra import agents
from recurra.errors import UserError
from recurra.recipes import evaluate, read, train
from recurra.recipes.goals import Best

HALF: dict[str, Any] = {"precision": "bf16-mixed", "threads": 1, "memory": "gru"}
MAZE = {"steps": 24 * 512, "environments": 16, "ppo.rollout": 32, "ppo.sequence": 32, "dim": 16, "env.corridor": [1, 3]}
MAZE |= {"curriculum": None, "evaluation.every": 6, "evaluation.episodes": 32}


def weights(run: str) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in agents.load(run).named_parameters()}


def test_an_agent_learns_in_half_precision(tmp_path: Path) -> None:
    result = train("tmaze", root=str(tmp_path), **MAZE, **HALF)
    assert result["metrics"]["mean_return"] > -0.4  # what moving at random brings is below
    assert result["best"]["figure"] == pytest.approx(result["metrics"]["eval_mean_return"], abs=0.5)
    learnt = weights(result["run"])
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in learnt.values())
    begun = weights(
        train("tmaze", root=str(tmp_path), **{**MAZE, "steps": 512, "ppo.learning_rate": 1e-30}, **HALF)["run"]
    )
    moved = [name for name, value in learnt.items() if not torch.allclose(value, begun[name], atol=1e-6)]
    assert moved == list(learnt)  # a gradient came to every weight
    full = weights(train("tmaze", root=str(tmp_path), **{**MAZE, **HALF, "precision": "32-true"})["run"])
    assert any(not torch.equal(value, full[name]) for name, value in learnt.items())
    assert evaluate(result["run"], episodes=8, precision="bf16-mixed")["episodes"] == 8


def test_half_precision_resumes_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {**MAZE, **HALF, "steps": 4 * 512, "checkpoint_every": 2}
    whole = train("tmaze", root=str(tmp_path / "whole"), **small)["run"]
    with monkeypatch.context() as patch:
        patch.setattr(Best, "on_train_batch_end", cut)
        with pytest.raises(UserError, match="from update 2"):
            train("tmaze", root=str(tmp_path / "cut"), **small)
    again = train("tmaze", resume="auto", root=str(tmp_path / "cut"))["run"]
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(whole).items())


def cut(callback: Best, trainer: Any, module: Any, *unused: Any) -> None:
    if module.done == 3:
        raise OSError("the power is cut")


def test_a_reader_learns_in_half_precision(tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text("the rain in spain stays mainly in the plain. " * 300)
    small = {"steps": 40_000, "layers": 1, "dim": 16, "reading.streams": 4, "reading.piece": 32, "reading.warm_up": 10}
    texts = {"documents": [str(book)], "held_out": [str(book)], "evaluation.every": 100}
    result = train("byte-lm", root=str(tmp_path), **small, **texts, **HALF)
    assert result["metrics"]["held_out_bits_per_byte"] < 1.0
    (row,) = read(str(book), reader=result["run"], precision="bf16-mixed")["documents"]
    assert row["bits_per_byte"] == pytest.approx(result["metrics"]["held_out_bits_per_byte"], abs=0.05)
