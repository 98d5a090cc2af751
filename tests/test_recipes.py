"""The shipped recipes are what they say, and train what they promise."""

from pathlib import Path
from typing import Any

import pytest

from recurra.recipes import evaluate, train
from recurra.recipes.settings import ActingRecipe, find, read, shipped, summary
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
