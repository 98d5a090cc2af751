"""Learning by PPO: advantages, gradients through memory, absent tokens, the curriculum, and that it does learn."""

import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recurra.errors import UserError
from recurra.recipes import train
from recurra.recipes.curriculum import Curriculum, CurriculumOptions
from recurra.recipes.ppo import PPO, advantages
from recurra.recipes.rollout import Rollout
from recurra.recipes.settings import ActingRecipe, PPOOptions
from recurra.recipes.training import build

# --- advantages ---


@settings(max_examples=60, deadline=None)
@given(
    time=st.integers(1, 12),
    share=st.sampled_from([0.0, 0.3, 1.0]),
    discount=st.sampled_from([0.0, 0.9, 1.0]),
    gae_lambda=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 10_000),
)
def test_advantages_are_sums_of_errors_discounted_to_the_end_of_the_episode(
    time: int, share: float, discount: float, gae_lambda: float, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(2, 3, time, generator=draw, dtype=torch.float64)
    ends = torch.rand(3, time, generator=draw) < share
    last = torch.randn(3, generator=draw, dtype=torch.float64)
    estimate = advantages(rewards, values, ends, last, discount=discount, gae_lambda=gae_lambda)
    for row in range(3):
        following = [*values[row, 1:].tolist(), last[row].item()]
        for start in range(time):
            total, weight = 0.0, 1.0
            for now in range(start, time):
                over = bool(ends[row, now])
                error = rewards[row, now] + (0.0 if over else discount * following[now]) - values[row, now]
                total += weight * float(error)
                if over:
                    break
                weight *= discount * gae_lambda
            assert estimate[row, start].item() == pytest.approx(total, abs=1e-9)


def test_a_trace_of_one_gives_returns_and_of_zero_one_step_errors() -> None:
    rewards, values = torch.randn(2, 2, 5, dtype=torch.float64)
    last, ends = torch.randn(2, dtype=torch.float64), torch.zeros(2, 5, dtype=torch.bool)
    powers = 0.9 ** torch.arange(6, dtype=torch.float64)
    whole = (rewards * powers[:5]).sum(1) + powers[5] * last - values[:, 0]
    full = advantages(rewards, values, ends, last, discount=0.9, gae_lambda=1.0)
    torch.testing.assert_close(full[:, 0], whole)
    single = advantages(rewards, values, ends, last, discount=0.9, gae_lambda=0.0)
    torch.testing.assert_close(single[:, 0], rewards[:, 0] + 0.9 * values[:, 1] - values[:, 0])


# --- an update ---


def module(corridor: int = 3, environments: int = 3, **ppo: Any) -> PPO:
    """Build what learns in a small T-Maze, with an optimizer but no trainer around it."""
    options = PPOOptions(**{"rollout": 8, "sequence": 4, "epochs": 1, "minibatches": 1, **ppo})
    env = {"id": "recurra/TMaze-v0", "corridor": corridor}
    built = build(ActingRecipe(steps=1000, env=env, environments=environments, memory="gru", dim=16, ppo=options))
    assert isinstance(built, PPO)
    optimizer = built.configure_optimizers()
    built.optimizers = lambda *_, **__: optimizer  # type: ignore[method-assign, assignment]
    built.manual_backward = lambda loss, **_: loss.backward()  # type: ignore[method-assign]
    return built


def collected(learner: PPO) -> Rollout:
    return learner.collector.collect(learner.agent, steps=learner.options.rollout, sequence=learner.options.sequence)


def gradients(learner: PPO, rollout: Rollout) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Learn once: the figures, and the gradients that the last minibatch left."""
    torch.manual_seed(0)
    figures = learner._learn(rollout)
    return figures, {
        name: part.grad.clone() for name, part in learner.agent.named_parameters() if part.grad is not None
    }


def test_the_first_reading_of_a_rollout_finds_the_policy_that_acted() -> None:
    learner = module()
    figures, _ = gradients(learner, collected(learner))
    assert figures["divergence"] == pytest.approx(0.0, abs=1e-6)
    assert figures["clipped"] == 0.0
    assert figures["policy_loss"] == pytest.approx(0.0, abs=1e-5)  # normalised advantages at a ratio of 1
    assert figures["entropy"] == pytest.approx(math.log(4), rel=1e-2)


def with_absent(rollout: Rollout, garbage: float) -> Rollout:
    """Put absent tokens in, as terminal observations that are shown in their own step, which hold garbage."""
    present, ends = rollout.present.clone(), rollout.ends.clone()
    gone = torch.zeros_like(present)
    gone[0, 2], gone[1, 4], gone[2, 7] = True, True, True
    present[gone] = False
    ends[gone.roll(-1, 1)] = True  # an absent token follows an episode's end
    ends[gone] = False

    def spoil(tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor[gone] = garbage
        return tensor

    spoilt = {name: spoil(getattr(rollout, name)) for name in ("values", "log_probs", "rewards")}
    spoilt["tokens"] = tuple(map(spoil, rollout.tokens))
    actions = rollout.actions.clone()
    actions[gone] = int(garbage) % 4
    return rollout._replace(present=present, ends=ends, actions=actions, **spoilt)


def test_what_absent_tokens_hold_affects_nothing() -> None:
    learner, other = module(), module()
    rollout = collected(learner)
    figures, grads = gradients(learner, with_absent(rollout, 0.0))
    others, other_grads = gradients(other, with_absent(rollout, 37.0))
    assert figures == pytest.approx(others, rel=1e-5, abs=1e-6)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, other_grads[name], msg=name)
    for one, two in zip(learner.agent.parameters(), other.agent.parameters(), strict=True):
        torch.testing.assert_close(one, two)


def test_absent_tokens_get_no_gradient() -> None:
    learner = module()
    rollout = with_absent(collected(learner), 1.0)
    obs = rollout.tokens[0].clone().requires_grad_()
    gradients(learner, rollout._replace(tokens=(obs,)))
    assert obs.grad is not None
    assert not obs.grad[~rollout.present].any()
    assert obs.grad[rollout.present].abs().sum(-1).gt(0).float().mean() > 0.8


@pytest.mark.parametrize(("sequence", "reached"), [(8, range(7)), (4, range(4, 7))])
def test_gradients_flow_through_memory_as_far_as_a_sequence_goes(sequence: int, reached: range) -> None:
    learner = module(corridor=100, rollout=8, sequence=sequence, discount=1.0, gae_lambda=0.0)
    torch.nn.init.zeros_(learner.agent.actor.weight)  # only the critic pulls at the memory
    rollout = collected(learner)
    obs = torch.randn_like(rollout.tokens[0])
    with torch.no_grad():
        pieces = zip(obs.split(sequence, 1), rollout.first.split(sequence, 1), rollout.starts, strict=True)
        values = torch.cat([learner.agent(piece, start, first=first)[0].value for piece, first, start in pieces], 1)
    # The critic is right everywhere but at time 6 of the first stream.
    rewards = values - torch.cat((values[:, 1:], rollout.next_value[:, None]), 1)
    rewards[0, 6] += 1.0
    obs.requires_grad_()
    gradients(learner, rollout._replace(tokens=(obs,), rewards=rewards, values=values))
    assert obs.grad is not None
    felt = obs.grad.abs().amax(-1) > 1e-6
    assert felt[0].nonzero().flatten().tolist() == list(reached)
    assert not felt[1:].any()


# --- settings ---


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"rollout": 10, "sequence": 4}, "ppo.sequence must divide ppo.rollout: 4 does not divide 10"),
        ({"rollout": 4, "sequence": 8}, "8 does not divide 4"),
        ({"rollout": 0, "sequence": 1}, "ppo.sequence must divide"),
        ({"sequence": 0}, "ppo.sequence must divide"),
        ({"epochs": 0}, "at least 1"),
        ({"minibatches": 0}, "at least 1"),
    ],
)
def test_options_that_cannot_be(options: dict[str, int], line: str) -> None:
    with pytest.raises(UserError, match=line):
        PPOOptions(**options)


def test_more_minibatches_than_sequences() -> None:
    with pytest.raises(UserError, match="6 sequences cannot be split in 7 minibatches"):
        module(minibatches=7)


def test_a_rollout_of_one_step_has_no_spread() -> None:
    options = PPOOptions(rollout=1, sequence=1, minibatches=1)
    with pytest.raises(UserError, match="a rollout of one step has nothing to compare"):
        build(ActingRecipe(steps=9, env={"id": "recurra/TMaze-v0"}, environments=1, memory="gru", ppo=options))


def test_a_minibatch_of_absent_tokens_only_teaches_nothing() -> None:
    learner = module(sequence=8, minibatches=3)
    rollout = collected(learner)
    present = rollout.present.clone()
    present[1] = False
    figures, _ = gradients(learner, rollout._replace(present=present))
    assert all(math.isfinite(figure) for figure in figures.values())
    assert all(parameter.isfinite().all() for parameter in learner.agent.parameters())


def test_figures_are_means_over_as_many_minibatches_as_asked_for() -> None:
    learner = module(environments=5, sequence=8, minibatches=4, learning_rate=1e-9)
    figures, _ = gradients(learner, collected(learner))
    assert figures["entropy"] == pytest.approx(math.log(4), rel=1e-2)


@pytest.mark.parametrize("wrong", [{"start": 0}, {"factor": 1}, {"success": 1.5}, {"window": 0}])
def test_senseless_curricula_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"curriculum\.{next(iter(wrong))} must"):
        CurriculumOptions(**{"option": "size", "start": 1, **wrong})


@pytest.mark.parametrize("target", ["long", None, [1, 2, 3], ["a", "b"]])
def test_a_curriculum_grows_numbers_only(target: Any) -> None:
    with pytest.raises(UserError, match="'size' must be a number or a pair"):
        Curriculum(CurriculumOptions("size", start=1), env={"size": target})


# --- the curriculum ---


def test_a_level_rises_when_enough_episodes_in_a_full_window_succeed() -> None:
    curriculum = Curriculum(CurriculumOptions("size", start=4, factor=2, success=0.75, window=4), env={"size": 10})
    assert curriculum.settings == {"size": 4}
    assert not curriculum.promote([1.0, 1.0, 1.0])  # the window is not full
    assert not curriculum.promote([0.0, 0.0])  # the last four: 1, 1, 0, 0
    assert not curriculum.promote([1.0])  # 1, 0, 0, 1
    assert curriculum.promote([1.0, 1.0])  # 0, 1, 1, 1
    assert curriculum.settings == {"size": 8}
    assert not curriculum.promote([1.0])  # the window is of the new level only
    assert curriculum.promote([1.0] * 3)
    assert curriculum.settings == {"size": 10}  # the target, exactly
    assert not curriculum.promote([1.0] * 9)
    assert curriculum.settings == {"size": 10}


@settings(max_examples=50, deadline=None)
@given(
    start=st.integers(1, 40),
    factor=st.floats(1.01, 4.0),
    target=st.integers(1, 100) | st.tuples(st.integers(1, 50), st.integers(50, 100)),
)
def test_levels_rise_to_the_target_and_stay_what_the_environment_takes(start: int, factor: float, target: Any) -> None:
    curriculum = Curriculum(CurriculumOptions("size", start=start, factor=factor, window=1), env={"size": target})
    values = [curriculum.settings["size"]]
    while curriculum.promote([1.0]):
        values.append(curriculum.settings["size"])
    assert values[-1] == (list(target) if isinstance(target, tuple) else target)
    highs = [value[1] for value in values] if isinstance(target, tuple) else values
    assert all(type(high) is int for high in highs)
    assert highs == sorted(highs)
    if isinstance(target, tuple):
        assert all(1 <= low <= high and low <= target[0] for low, high in values)


def test_a_target_with_a_fraction_keeps_it() -> None:
    curriculum = Curriculum(CurriculumOptions("wind", start=0.1, factor=2, window=1), env={"wind": 0.25})
    assert curriculum.promote([1.0])
    assert curriculum.settings["wind"] == pytest.approx(0.2)
    assert curriculum.promote([1.0])
    assert curriculum.settings == {"wind": 0.25}


def test_episodes_that_tell_no_success_earn_no_promotion() -> None:
    curriculum = Curriculum(CurriculumOptions("size", start=1, window=2), env={"size": 10})
    assert not curriculum.promote([math.nan] * 8)
    assert curriculum.settings == {"size": 1}


def test_aids_are_withdrawn_by_a_promotion_of_their_own() -> None:
    options = CurriculumOptions("size", start=4, factor=2, window=2, aids={"wind": 0, "map": True})
    curriculum = Curriculum(options, env={"size": 8, "wind": 3, "map": False, "seed": 1})
    assert curriculum.settings == {"size": 4, "wind": 0, "map": True}
    assert curriculum.promote([1.0] * 2)
    assert curriculum.settings == {"size": 8, "wind": 0, "map": True}
    assert not curriculum.promote([1.0])
    assert curriculum.promote([1.0])
    assert curriculum.settings == {"size": 8, "wind": 3, "map": False}
    assert not curriculum.promote([1.0] * 2)
    with pytest.raises(UserError, match=r"curriculum.aids 'fog' is not among the settings of env: size"):
        Curriculum(CurriculumOptions("size", start=4, aids={"fog": 1}), env={"size": 8})


def test_a_learner_gives_and_withdraws_aids() -> None:
    maze = {"id": "recurra/TMazeActive-v0", "corridor": 1, "oracle": 1}
    aided = CurriculumOptions("corridor", start=1, success=0.0, window=1, aids={"oracle": [0, 1]})
    recipe = ActingRecipe(steps=128, env=maze, environments=16, curriculum=aided, ppo=PPOOptions(rollout=8, sequence=8))
    learner, other = (cast(PPO, build(recipe)) for _ in range(2))
    mazes: Any = other.collector.streams.env
    assert mazes.oracle == (0, 1)
    assert set(mazes.state_dict()["behind"]) == {0, 1}
    assert learner.curriculum is not None
    assert learner.curriculum.promote([0.0])
    checkpoint: dict[str, Any] = {}
    learner.on_save_checkpoint(checkpoint)
    other.on_load_checkpoint(checkpoint)
    assert mazes.oracle == 1


@pytest.mark.parametrize("aids", [{}, {"wind": 1}])
def test_a_saved_curriculum_goes_on_alike(aids: dict[str, Any]) -> None:
    options = CurriculumOptions("size", start=25, window=3, aids=aids)
    curriculum, other = (Curriculum(options, env={"size": [2, 30], "wind": 2}) for _ in range(2))
    curriculum.promote([1.0] * 3)
    curriculum.promote([1.0] * 3)
    curriculum.promote([1.0, 1.0])
    other.load_state_dict(curriculum.state_dict())
    assert other.settings == curriculum.settings
    assert other.promote([1.0]) == curriculum.promote([1.0])
    assert other.settings == curriculum.settings


# --- learning ---

SHORT: dict[str, Any] = {
    "env.corridor": 3,
    "curriculum": None,
    "steps": 24_000,
    "environments": 32,
    "dim": 32,
    "ppo.rollout": 32,
    "ppo.sequence": 32,
    "ppo.learning_rate": 3e-3,
    "threads": 1,
}


def test_a_memory_learns_the_t_maze(tmp_path: Path) -> None:
    result = train("tmaze", root=str(tmp_path), memory="gru", **SHORT)
    assert result["metrics"]["success_rate"] > 0.95


def test_no_memory_does_not(tmp_path: Path) -> None:
    result = train("tmaze", root=str(tmp_path), memory="none", **SHORT)
    assert 0.35 < result["metrics"]["success_rate"] < 0.65


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["delta_net", "gru"])
def test_recipe_gym_balances_the_pole(memory: str, tmp_path: Path) -> None:
    result = train("gym", root=str(tmp_path), memory=memory, threads=1)
    assert result["steps"] >= 200_000
    assert result["metrics"]["mean_return"] >= 400
