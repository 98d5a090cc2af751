"""The pole with hidden velocities is gymnasium's, one by one and batched."""

import json
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.envs import CartPoleHidden, CartPoleHiddenVector, make_streams
from recurra.errors import UserError

seeds = st.integers(0, 2**32 - 1)


def final(info):
    return info["final_obs" if "final_obs" in info else "final_observation"]


@settings(deadline=None, max_examples=20)
@given(seed=seeds)
def test_the_single_pole_is_cartpole_without_velocities(seed):
    seen = gymnasium.make("recurra.envs:recurra/CartPoleHidden-v0")
    whole = gymnasium.make("CartPole-v1")
    assert seen.reset(seed=seed)[0].tolist() == whole.reset(seed=seed)[0][[0, 2]].tolist()
    random, over = np.random.default_rng(seed), False
    while not over:
        action = int(random.integers(2))
        obs, *ends, _ = seen.step(action)
        whole_obs, *whole_ends, _ = whole.step(action)
        assert obs.tolist() == whole_obs[[0, 2]].tolist()
        assert ends == whole_ends
        over = ends[1] or ends[2]


def balancing(state):
    """Push where the pole falls: a hand-written rule that sees what agents do not."""
    return (state[:, 2] + 0.5 * state[:, 3] + 0.02 * state[:, 0] + 0.05 * state[:, 1] > 0).astype(np.int64)


@settings(deadline=None, max_examples=20)
@given(num=st.integers(1, 5), seed=seeds, steps=st.integers(1, 60), care=st.sampled_from([0.0, 0.5, 0.9]))
def test_batched_poles_are_gymnasiums(num, seed, steps, care):
    random = np.random.default_rng(seed)
    poles, single = CartPoleHiddenVector(num_envs=num, max_episode_steps=40), CartPoleHidden()
    single.reset(seed=0)
    poles.reset(seed=seed)
    for _ in range(steps):
        before = poles.state_dict()
        state = np.array(before["state"])
        actions = np.where(random.random(num) < care, balancing(state), random.integers(2, size=num))
        obs, reward, terminated, truncated, info = poles.step(actions)
        after = poles.state_dict()
        for row in range(num):
            single.state, single.steps_beyond_terminated = tuple(before["state"][row]), None
            single_obs, single_reward, over, _, _ = single.step(int(actions[row]))
            assert (reward[row], terminated[row]) == (single_reward, over)
            assert truncated[row] == (before["steps"][row] == 39)
            ended = terminated[row] or truncated[row]
            np.testing.assert_allclose((final(info) if ended else obs)[row], single_obs, rtol=1e-6)
            if ended:
                assert after["steps"][row] == 0
                assert np.abs(after["state"][row]).max() <= 0.05
            else:
                np.testing.assert_allclose(after["state"][row], np.array(single.state, dtype=float), rtol=1e-12)
    assert obs in poles.observation_space


def test_a_balanced_pole_is_truncated_after_500_steps():
    poles = CartPoleHiddenVector(num_envs=20)
    poles.reset(seed=0)
    for step in range(500):
        _, _, terminated, truncated, _ = poles.step(balancing(np.array(poles.state_dict()["state"])))
        assert not terminated.any()
        assert truncated.all() == truncated.any() == (step == 499)
    assert gymnasium.spec("recurra/CartPoleHidden-v0").max_episode_steps == 500


def test_a_push_alone_shows_no_velocity():
    # Two poles that differ in velocities only look the same.
    poles = CartPoleHiddenVector(num_envs=2)
    state = poles.state_dict()
    state["state"] = [[0.1, 0.7, 0.02, -0.3], [0.1, -0.2, 0.02, 0.4]]
    poles.load_state_dict(state)
    assert (poles._observe()[0] == poles._observe()[1]).all()
    obs = poles.step(np.array([1, 1]))[0]
    assert (obs[0] != obs[1]).all()


def test_starts_are_uniform_and_seeded():
    poles = CartPoleHiddenVector(num_envs=20_000)
    poles.reset(seed=3)
    start = np.array(poles.state_dict()["state"])
    assert np.abs(start).max() <= 0.05
    assert np.abs(start.mean(0)).max() < 5 * 0.1 / np.sqrt(12 * 20_000)
    np.testing.assert_allclose(start.std(0), 0.1 / np.sqrt(12), rtol=0.02)
    assert np.abs(np.corrcoef(start.T) - np.eye(4)).max() < 0.04
    other = CartPoleHiddenVector(num_envs=20_000)
    other.reset(seed=3)
    assert other.state_dict() == poles.state_dict()


def test_restored_poles_continue_identically_through_json():
    random = np.random.default_rng(0)
    poles = CartPoleHiddenVector(num_envs=6, max_episode_steps=30)
    for _ in range(50):
        poles.step(random.integers(2, size=6))
    restored = CartPoleHiddenVector(num_envs=6, max_episode_steps=30)
    restored.load_state_dict(json.loads(json.dumps(poles.state_dict())))
    for _ in range(60):
        actions = random.integers(2, size=6)
        for mine, theirs in zip(poles.step(actions)[:4], restored.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert restored.state_dict() == poles.state_dict()
    with pytest.raises(UserError, match="6 poles"):
        CartPoleHiddenVector(num_envs=5).load_state_dict(poles.state_dict())


def test_gymnasium_finds_nothing_to_say():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(CartPoleHidden(), skip_render_check=True)


def test_streams_are_batched_and_can_be_saved():
    streams = make_streams("recurra/CartPoleHidden-v0", 4)
    assert isinstance(streams.env, CartPoleHiddenVector)
    assert streams.saves
    assert make_streams("recurra/CartPoleHidden-v0", 2, max_episode_steps=7).env.max_episode_steps == 7
    with pytest.raises(UserError, match="takes no option"):
        make_streams("recurra/CartPoleHidden-v0", 2, lenght=7)
    with pytest.raises(UserError, match="max_episode_steps must be at least 1"):
        make_streams("recurra/CartPoleHidden-v0", 2, max_episode_steps=0)


def test_an_episodes_end_reaches_the_agent():
    streams = make_streams("recurra/CartPoleHidden-v0", 3, max_episode_steps=9)
    streams.reset(seed=0)
    for step in range(1, 28):
        transition = streams.step(np.arange(step, step + 3) % 2)  # left and right in turn: nothing falls so soon
        assert not transition.terminated.any()
        ended = step % 9 == 0
        assert (transition.truncated == ended).all()
        assert (transition.first == ended).all()
        assert transition.present.all()
        assert np.isnan(transition.success).all()
        assert (transition.final_obs != transition.obs).any() == ended


@pytest.mark.skipif(gymnasium.__version__.startswith("0."), reason="make_vec before 1.0 is experimental")
def test_make_vec_gives_the_batched_poles():
    env = gymnasium.make_vec("recurra/CartPoleHidden-v0", num_envs=3)
    assert isinstance(env, CartPoleHiddenVector)
    assert env.max_episode_steps == 500
