"""Measuring while training goes on changes nothing; the best agent is kept; training ends where it was told to."""

import csv
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from recurra import agents
from recurra.envs import make_streams
from recurra.errors import UserError
from recurra.recipes import evaluate, read, train
from recurra.recipes.callbacks import Checkpoints
from recurra.recipes.evaluation import play
from recurra.recipes.goals import Stop
from recurra.recipes.settings import StopOptions

TIME_COLUMNS = ("seconds", "steps_per_second")  # of metrics.csv: a repeated run does not repeat them
SMALL: dict[str, Any] = {"dim": 8, "threads": 1, "checkpoint_every": 1, "memory": "gru"}
MAZE = {"steps": 8 * 64, "environments": 4, "ppo.rollout": 16, "ppo.sequence": 16, "env.corridor": [1, 3], **SMALL}
MAZE |= {"curriculum.start": 1, "curriculum.window": 8, "curriculum.success": 0.3}
READER = {"steps": 8 * 64, "layers": 1, "reading.streams": 2, "reading.piece": 32, "reading.warm_up": 0, **SMALL}
PLAYING = {"evaluation.every": 2, "evaluation.episodes": 6}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    folder = tmp_path_factory.mktemp("texts")
    (folder / "learnt").write_text("the rain in spain stays mainly in the plain. " * 30)
    (folder / "held_out").write_text("the plain in spain is mainly in the rain. " * 5)
    return {"documents": [str(folder / "learnt")], "held_out": [str(folder / "held_out")]}


def rows(run: str | Path) -> list[dict[str, str]]:
    with Path(run, "metrics.csv").open() as file:
        return [{name: cell for name, cell in row.items() if name not in TIME_COLUMNS} for row in csv.DictReader(file)]


def same_weights(a: str | Path, b: str | Path) -> bool:
    weights, others = (load_file(Path(run, "model.safetensors")) for run in (a, b))
    return all(torch.equal(weights[name], others[name]) for name in weights)


def maze(root: Path, **more: Any) -> dict[str, Any]:
    return train("tmaze", root=str(root), **MAZE, **more)


def reader(root: Path, texts: dict[str, list[str]], **more: Any) -> dict[str, Any]:
    return train("byte-lm", root=str(root), **READER, **texts, **more)


def test_measuring_changes_nothing(tmp_path: Path, texts: dict[str, list[str]]) -> None:
    without, measured = maze(tmp_path), maze(tmp_path, **PLAYING)
    assert same_weights(f"{without['run']}/agent", f"{measured['run']}/agent")
    told = rows(measured["run"])
    assert [row["eval_mean_return"] != "" for row in told] == [False, True] * 4
    assert [row | {"eval_mean_return": "", "eval_success_rate": ""} for row in told] == [
        row | {"eval_mean_return": "", "eval_success_rate": ""} for row in rows(without["run"])
    ]
    without, measured = reader(tmp_path, texts), reader(tmp_path, texts, **{"evaluation.every": 3})
    assert same_weights(f"{without['run']}/agent", f"{measured['run']}/agent")
    known = [row["held_out_bits_per_byte"] != "" for row in rows(measured["run"])]
    assert known == [False, False, True, False, False, True, False, True]
    assert without["metrics"] == measured["metrics"]  # the end is measured in any case


def test_the_best_agent_gives_its_figure_again(tmp_path: Path, texts: dict[str, list[str]]) -> None:
    result = maze(tmp_path, **PLAYING)
    best = result["best"]
    figures = {int(row["update"]): float(row["eval_mean_return"]) for row in rows(result["run"])[1::2]}
    assert best["figure"] == max(figures.values()) == figures[best["update"]]
    assert best["steps"] == 64 * best["update"]
    agent = agents.load(best["folder"])
    assert isinstance(agent, agents.ActorCritic)
    played = play(agent, make_streams("recurra/TMaze-v0", 4, corridor=[1, 3]), episodes=6, seed=1_000_000)
    assert sum(episode.total for episode in played) / 6 == best["figure"]
    assert evaluate(best["folder"], episodes=3)["env"] == "recurra/TMaze-v0"  # its run knows what it was trained in

    result = reader(tmp_path, texts, **{"evaluation.every": 2, "reading.learning_rate": 0.1})
    best = result["best"]
    figures = {int(row["update"]): float(row["held_out_bits_per_byte"]) for row in rows(result["run"])[1::2]}
    assert best["figure"] == min(figures.values()) == figures[best["update"]]
    (row,) = read(texts["held_out"], reader=best["folder"])["documents"]
    assert row["bits_per_byte"] == pytest.approx(best["figure"], abs=1e-5)


def test_each_evaluation_may_be_filmed(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    without, filmed = maze(tmp_path, **PLAYING), maze(tmp_path, **PLAYING, **{"evaluation.video": True})
    assert same_weights(f"{without['run']}/agent", f"{filmed['run']}/agent")
    videos = Path(filmed["run"], "videos")
    assert sorted(path.name for path in videos.iterdir()) == ["2.gif", "4.gif", "6.gif", "8.gif"]
    assert all(image.open(path).n_frames > 1 for path in videos.iterdir())


def test_a_figure_of_training_may_decide_too(tmp_path: Path) -> None:
    result = maze(tmp_path, **{"best.metric": "entropy", "best.better": "lower"})
    assert result["best"]["figure"] == min(float(row["entropy"]) for row in rows(result["run"]))
    assert not Path(maze(tmp_path)["run"], "best").exists()  # nothing is measured, nothing is best


@pytest.mark.parametrize(
    ("stop", "updates"),
    [
        ({"metric": "eval_success_rate", "above": -1}, 2),
        ({"metric": "eval_success_rate", "above": -1, "patience": 3}, 6),
        ({"metric": "entropy", "below": 100, "patience": 5}, 5),
        ({"metric": "entropy", "above": 100}, 8),
    ],
)
def test_training_ends_where_it_was_to_get(stop: dict[str, Any], updates: int, tmp_path: Path) -> None:
    result = maze(tmp_path, **PLAYING, **{f"stop.{name}": value for name, value in stop.items()})
    assert len(rows(result["run"])) == updates
    assert result["steps"] == 64 * updates
    assert json.loads(Path(result["run"], "result.json").read_text()) == result
    with pytest.raises(UserError, match="is finished"):
        train("tmaze", resume=result["run"])


@pytest.mark.parametrize(("better", "sign"), [("higher", 1), ("lower", -1)])
@pytest.mark.parametrize("cut", range(6))  # saved there, and gone on with
def test_training_ends_where_a_figure_gets_no_better(better: Any, sign: int, cut: int) -> None:
    options = StopOptions("entropy", better=better, patience=2)
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(broadcast=lambda figure: figure), should_stop=False)
    stop, stopped = Stop(options), []
    for update, figure in enumerate([1.0, 1.0, 3.0, 2.0, math.nan, 3.0]):
        if update == cut:
            saved, stop = stop.state_dict(), Stop(options)
            stop.load_state_dict(saved)
        stop.on_train_batch_end(trainer, SimpleNamespace(metrics={"entropy": sign * figure}))
        stopped.append(trainer.should_stop)
    assert stopped == [False] * 5 + [True]


def test_what_is_not_measured_counts_for_nothing(tmp_path: Path) -> None:
    goals = {"best.metric": "success_rate", "stop.metric": "success_rate", "stop.below": 1}
    options = {**MAZE, **goals, "env.id": "CartPole-v1", "env.corridor": None, "curriculum": None}
    recipe = {name: value for name, value in options.items() if not name.startswith(("curriculum.", "env.corridor"))}
    result = train("gym", root=str(tmp_path), **recipe)
    assert result["steps"] == 8 * 64
    assert result["metrics"]["success_rate"] is None
    assert "best" not in result


@pytest.mark.parametrize("crash", range(1, 7))
def test_a_crash_anywhere_changes_neither_the_best_nor_the_end(
    crash: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goals = PLAYING | {"stop.metric": "eval_mean_return", "stop.below": 1000, "stop.patience": 3}
    whole = maze(tmp_path / "whole", **goals)
    write, written = Checkpoints.write, []

    def fail(self: Checkpoints, trainer: Any, module: Any) -> None:
        written.append(module.done)
        if len(written) == crash:
            raise OSError(28, "No space left on device", "last.ckpt")
        write(self, trainer, module)

    monkeypatch.setattr(Checkpoints, "write", fail)
    with pytest.raises(UserError, match=rf"No space left .* from update {crash - 1} with --resume"):
        maze(tmp_path / "crashed", **goals)
    crashed = train("tmaze", resume="auto", root=str(tmp_path / "crashed"))
    assert rows(crashed["run"]) == rows(whole["run"])
    assert {**crashed["best"], "folder": ""} == {**whole["best"], "folder": ""}
    for folder in ("agent", "best"):
        assert same_weights(Path(crashed["run"], folder), Path(whole["run"], folder))


def test_stopped_but_killed_before_it_was_told(tmp_path: Path) -> None:
    result = maze(tmp_path, **PLAYING, **{"stop.metric": "entropy", "stop.below": 100, "stop.patience": 3})
    Path(result["run"], "result.json").unlink()
    again = train("tmaze", resume="auto", root=str(tmp_path))
    assert len(rows(again["run"])) == 3
    assert again["metrics"] == result["metrics"]
