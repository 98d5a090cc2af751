"""POPGym's tasks, whose observations are tuples, whole numbers and floats, are trained in and measured."""

import math
from pathlib import Path

import pytest

from recurra.recipes import evaluate, train

pytest.importorskip("popgym")
SMALL = {"environments": 4, "steps": 512, "dim": 8, "memory": "gru", "ppo.rollout": 64, "ppo.sequence": 64}


@pytest.mark.parametrize(
    "task",
    [
        "AutoencodeEasy",  # observes a Tuple
        "CountRecallEasy",  # a MultiDiscrete
        "BattleshipEasy",  # acts in a MultiDiscrete
        "PositionOnlyPendulumEasy",  # in a Box
    ],
)
def test_a_task_is_trained_in_and_measured(task: str, tmp_path: Path) -> None:
    result = train("popgym", root=str(tmp_path), **{"env.id": f"popgym-{task}-v0", **SMALL})
    assert result["steps"] == 512
    assert math.isfinite(result["metrics"]["policy_loss"])
    measured = evaluate(result["run"], episodes=3)
    assert measured["episodes"] == 3
    assert math.isfinite(measured["mean_return"])


@pytest.mark.slow
def test_what_came_four_cards_ago_is_repeated(tmp_path: Path) -> None:
    result = train("popgym", root=str(tmp_path), memory="gru")
    assert result["metrics"]["mean_return"] > 0.95
