"""The shipped recipes are what they say, and train what they promise."""

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from recurra.envs.probes import Recall
from recurra.errors import UserError
from recurra.recipes import cli, evaluate, parsing, runs, train
from recurra.recipes.settings import ActingRecipe, RecallEnv, RecallRecipe, find, read, shipped, summary
from recurra.recipes.training import build


def test_options_in_options_are_values() -> None:
    for given, expected in (("5", 5), ("[3, 9]", [3, 9]), ("0.5", 0.5), ("long", "long"), ("null", None)):
        for overrides in ([f"--env.options.corridor={given}"], ["--env.options.corridor", given]):
            assert read(find("bottleneck"), overrides).env["options"]["corridor"] == expected


@pytest.mark.parametrize("name", shipped())
def test_a_recipe_says_what_it_is_for_and_can_be_built(name: str) -> None:
    path = find(name)
    assert path.read_text().startswith("# ")
    assert 20 < len(summary(path)) <= 100
    for package in ("popgym", "minigrid"):
        if package in name:
            pytest.importorskip(package)
    module: Any = build(
        read(path, ["--pretrained", "null"] if name == "babilong-hf" else [])
    )  # its model is on the hub
    assert module.saves or name in ("gym", "minigrid", "popgym")  # of others' environments
    module.close()


@pytest.mark.parametrize("name", shipped())
def test_help_for_training_is_not_left_for_evaluation(name: str) -> None:
    recipe = read(find(name), [])
    if isinstance(recipe, ActingRecipe) and recipe.curriculum is not None:
        aids = recipe.curriculum.aids
        assert all(recipe.env[option] != help for option, help in aids.items())


@pytest.mark.parametrize("name", shipped())
def test_a_recipe_for_a_gpu_takes_one(name: str) -> None:
    assert read(find(name), []).device == ("auto" if "for a GPU" in summary(find(name)) else "cpu")


def helped(recipe: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["train", recipe, "--help"]) == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", shipped())
def test_help_tells_a_recipe_s_own_settings(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, told = read(find(name), []), helped(name, capsys)
    assert f"whole updates are made. (type: int, default: {recipe.steps})" in told
    assert f"number of blocks. (type: int, default: {recipe.layers})" in told
    assert f"of your own. (type: str, default: {recipe.memory})" in told
    assert all(option in told for option in ("--resume RESUME auto:", "--root ROOT where", "--json print"))
    assert not any(word in told for word in ("--method", "required", "class_path"))


@pytest.mark.parametrize(
    ("name", "counted"),
    [
        ("tmaze", "environment steps"),
        ("rate-tmaze", "steps of pieces, all rows together, padding counted"),
        ("byte-lm", "bytes"),
        ("recall", "tokens"),
        ("babilong", "tokens"),
    ],
)
def test_help_tells_what_steps_are_of(name: str, counted: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = helped(name, capsys)
    assert f"for how long to train: {counted}" in told
    assert ("at the end in any case" in told) == (name in ("byte-lm", "babilong"))


def test_help_tells_what_a_recipe_of_one_s_own_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text("method: ppo\nenv: {id: CartPole-v1}\nppo: {epochs: 3}\n")
    told = helped(str(tmp_path / "mine.yaml"), capsys)
    assert "whole updates are made. (required, type: int)" in told
    assert "how often each rollout is learnt from. (type: int, default: 3)" in told


BOUNDS = [
    ("tmaze", "ppo.entropy", -5.0, "must not be negative, got -5.0"),
    ("tmaze", "ppo.value", -0.5, "must not be negative, got -0.5"),
    ("tmaze", "expansion", 1e9, "must lie in 0..1024, got 1000000000.0"),
    ("tmaze", "expansion", ".inf", "must lie in 0..1024, got inf"),
    ("tmaze", "devices", 100_000, "must be at most 1024, got 100000"),
    ("rate-tmaze", "target", ".nan", "must be a finite number, got nan"),
    ("rate-tmaze", "scale", ".inf", "must be a finite number above 0, got inf"),
    ("rate-tmaze", "stop.above", ".nan", "must be a number, got nan"),
    ("babilong", "reading.document", ".inf", "must be at least 1, and finite, got inf"),
    ("babilong", "reading.facts", "[0.1, .inf]", "must be two numbers above 0, from and to, got [0.1, inf]"),
]


@pytest.mark.parametrize(("name", "setting", "value", "expected"), BOUNDS)
def test_settings_have_bounds(name: str, setting: str, value: Any, expected: str) -> None:
    with pytest.raises(UserError) as told:
        read(find(name), parsing.override({setting: value}))
    assert str(told.value).startswith(f"{setting} {expected}")


def test_noise_of_recall_has_bounds() -> None:
    with pytest.raises(UserError, match="noise must not be negative, and finite, got nan"):
        read(find("recall"), ["--env.noise", ".nan"])


def test_recall_is_the_same_wherever_it_is_left_as_it_is() -> None:
    usual = {name: known.default for name, known in inspect.signature(Recall).parameters.items() if name != "pairs"}
    assert {known.name: known.default for known in fields(RecallEnv) if known.name != "pairs"} == usual
    recipe = read(find("recall"), [])
    assert isinstance(recipe, RecallRecipe)
    assert {name: getattr(recipe.env, name) for name in usual} == usual


# What is seen only when the first observations are read.
LATE: dict[str, Any] = {"memory_options.backend": "foo", "dim": 8, "threads": 1, "environments": 4, "steps": 512}


@pytest.mark.parametrize("resume", [None, "auto"])
def test_a_mistake_that_is_seen_late_leaves_no_trace_either(resume: str | None, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(UserError, match="no backend 'foo'"):
        train("tmaze", root=str(tmp_path / "some" / "runs"), resume=resume, **LATE)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    (tmp_path / "tmaze").mkdir()
    with pytest.raises(UserError, match="no backend 'foo'"):
        train("tmaze", root=str(tmp_path), resume=resume, **LATE)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine", "tmaze"]


def test_runs_that_were_there_are_not_removed(tmp_path: Path) -> None:
    earlier = runs.create(tmp_path, "tmaze")
    earlier.write_config(read(find("tmaze"), parsing.override(LATE)))
    earlier.unlock()
    for resume in ("auto", str(earlier.folder), None):
        with pytest.raises(UserError, match="no backend 'foo'"):
            train("tmaze", root=str(tmp_path), resume=resume, **({} if resume else LATE))
        assert [path.name for path in (tmp_path / "tmaze").iterdir()] == ["0"]
        assert earlier.config.is_file()


def test_a_run_that_diverges_is_kept(tmp_path: Path) -> None:
    settings = {"dim": 8, "reading.streams": 4, "reading.piece": 64, "reading.warm_up": 0, "steps": 2048, "threads": 1}
    with pytest.raises(UserError, match="byte-lm/0 keeps the figures up to there; begin anew"):
        train("byte-lm", root=str(tmp_path), held_out=[], **settings, **{"reading.learning_rate": 1e30})
    assert (tmp_path / "byte-lm" / "0" / "metrics.csv").is_file()


@pytest.mark.slow
def test_the_active_maze_is_learnt(tmp_path: Path) -> None:
    run = train("tmaze-active", root=str(tmp_path))["run"]
    (row,) = evaluate(run, env={"corridor": 1000}, episodes=50)["rows"]
    assert row["success_rate"] == 1
    assert row["mean_return"] == pytest.approx(1)
    assert row["mean_length"] == 1003


@pytest.mark.slow
def test_the_pole_without_velocities_is_balanced(tmp_path: Path) -> None:
    run = train("cartpole-hidden", root=str(tmp_path), memory="gru")["run"]
    assert evaluate(run, episodes=100)["mean_return"] >= 475
