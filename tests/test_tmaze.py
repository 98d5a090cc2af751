"""The passive T-Maze keeps the rules of Ni et al. 2023, one by one and batched, and skips corridors truly."""

import json
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.envs import TMaze, TMazeVector
from recurra.errors import UserError

RIGHT, UP, LEFT, DOWN = range(4)


def begin(env, cue, seed=0):
    """Reset until the episode has the cue."""
    while True:
        obs, _ = env.reset(seed=seed)
        if obs[1] == cue:
            return obs
        seed += 1


def play(env, actions):
    """Give the trace of some actions: observations as lists, rewards, and whether the episode is over."""
    return [(obs.tolist(), reward, over) for obs, reward, over, *_ in map(env.step, actions)]


def test_the_cue_shows_once_and_position_does_not():
    env = TMaze(corridor=3)
    assert begin(env, cue=1).tolist() == [0, 1]
    assert play(env, [RIGHT, RIGHT, RIGHT, UP]) == [
        ([0, 0], 0, False),
        ([0, 0], 0, False),
        ([1, 0], 0, False),
        ([1, 1], 1, True),
    ]


def test_invalid_moves_stay_and_lagging_costs_the_inverse_length():
    env = TMaze(corridor=4)
    begin(env, cue=-1)
    assert play(env, [LEFT, RIGHT, UP, LEFT, DOWN]) == [
        ([0, 0], -0.25, False),  # still at the start, where the cue shows no more
        ([0, 0], -0.25, False),
        ([0, 0], -0.25, False),
        ([0, 0], -0.25, False),
        ([0, 0], 0, True),  # the last step has no penalty
    ]


@pytest.mark.parametrize("length", [1, 2, 63, 100])
@pytest.mark.parametrize("cue", [1, -1])
def test_remembering_returns_one_and_walking_right_nothing(length, cue):
    env = TMaze(corridor=length)
    for last, expected in [(UP if cue == 1 else DOWN, 1.0), (DOWN if cue == 1 else UP, 0.0), (RIGHT, 0.0)]:
        begin(env, cue)
        trace = play(env, [RIGHT] * length + [last])
        assert sum(reward for _, reward, _ in trace) == expected
        assert [over for *_, over in trace] == [False] * length + [True]


def test_the_last_step_is_terminated_not_truncated_and_reports_success():
    env = TMaze(corridor=1)
    begin(env, cue=1)
    assert env.step(RIGHT)[4] == {}
    *_, terminated, truncated, info = env.step(UP)
    assert (terminated, truncated, info) == (True, False, {"is_success": True})
    with pytest.raises(UserError, match="reset"):
        env.step(RIGHT)


def test_seeds_are_honoured_and_global_randomness_is_left_alone():
    def cues(seed):
        env = TMaze(corridor=(1, 50))
        first, _ = env.reset(seed=seed)
        return [(first[1], *(tuple(env.reset()[0]) for _ in range(30)))]

    np.random.seed(1)
    before = np.random.get_state()[1].tolist()
    assert cues(3) == cues(3) != cues(4)
    vectors = [TMazeVector(num_envs=50, corridor=(1, 50)) for _ in range(2)]
    for vector in vectors:
        vector.reset(seed=7)
    assert vectors[0].state_dict() == vectors[1].state_dict()
    vectors[0].reset(seed=8)
    assert vectors[0].state_dict() != vectors[1].state_dict()
    assert np.random.get_state()[1].tolist() == before


def test_corridors_and_cues_are_uniform_within_bounds():
    vector = TMazeVector(num_envs=20_000, corridor=(3, 7))
    vector.reset(seed=0)
    state = vector.state_dict()
    values, counts = np.unique(state["length"], return_counts=True)
    assert values.tolist() == [3, 4, 5, 6, 7]
    assert np.abs(counts - 4000).max() < 5 * np.sqrt(4000)
    assert abs(np.mean(state["goal"])) < 5 / np.sqrt(20_000)

    env = TMaze(corridor=(2, 3))
    env.reset(seed=0)
    lengths, cues = [], []
    for _ in range(1000):
        steps, over = 0, False
        while not over:
            over = env.step(RIGHT)[2]
            steps += 1
        lengths.append(steps - 1)
        cues.append(env.reset()[0][1])
    assert set(lengths) == {2, 3}
    assert abs(np.mean(lengths) - 2.5) < 0.1
    assert abs(np.mean(cues)) < 0.2


@pytest.mark.parametrize("make", [TMaze, TMazeVector])
def test_a_new_corridor_counts_from_the_next_episode(make):
    env = make(corridor=1)
    env.reset(seed=0)
    env.corridor = [5, 5]
    assert env.corridor == (5, 5)
    action = RIGHT if make is TMaze else np.array([RIGHT])
    env.step(action)
    assert np.all(env.step(action)[2])
    if make is TMaze:
        env.reset()
    assert [bool(np.all(env.step(action)[2])) for _ in range(6)] == [False] * 5 + [True]


@pytest.mark.parametrize("corridor", [0, -1, 1.5, True, "ten", (3, 2), (0, 2), (1, 2, 3), (1,), None, (1, 2.5)])
@pytest.mark.parametrize("make", [TMaze, TMazeVector])
def test_a_wrong_corridor_is_the_users_error(make, corridor):
    with pytest.raises(UserError, match="corridor must be an int >= 1 or a pair"):
        make(corridor=corridor)


def test_gymnasium_finds_nothing_to_say():
    env = gymnasium.make("recurra.envs:recurra/TMaze-v0", corridor=5, render_mode="ansi")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


@pytest.mark.skipif(gymnasium.__version__.startswith("0."), reason="make_vec before 1.0 is experimental")
def test_make_vec_gives_the_batched_mazes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make_vec("recurra/TMaze-v0", num_envs=3, corridor=5)
    assert isinstance(env, TMazeVector)
    assert (env.num_envs, env.corridor) == (3, 5)
    assert env.reset(seed=0)[0] in env.observation_space


def test_the_picture_shows_agent_arms_and_for_one_step_the_cue():
    env = TMaze(corridor=4, render_mode="ansi")
    begin(env, cue=1)
    assert env.render() == "    o\n@...+  the cue: up\n    o\n"
    env.step(RIGHT)
    assert env.render() == "    o\n.@..+\n    o\n"
    play(env, [RIGHT, RIGHT, RIGHT, DOWN])
    assert env.render() == "    o\n....+\n    @\n"
    assert TMaze().render() is None


def test_a_long_corridor_is_elided():
    vector = TMazeVector(num_envs=2, corridor=1_000_000, render_mode="ansi")
    vector.reset(seed=0)
    vector.advance(np.array([0, 500_000]))
    start, middle = vector.render()
    assert "the cue" in start
    assert "the cue" not in middle
    assert max(len(line) for line in (start + middle).splitlines()) < 100
    assert middle.count("more") == 2


seeds = st.integers(0, 2**32)
bounds = st.tuples(st.integers(1, 6), st.integers(0, 5)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@settings(deadline=None, max_examples=60)
@given(num=st.integers(1, 5), corridor=bounds, seed=seeds, steps=st.integers(1, 40))
def test_batched_mazes_are_single_mazes(num, corridor, seed, steps):
    vector = TMazeVector(num_envs=num, corridor=corridor)
    obs, _ = vector.reset(seed=seed)
    singles = [None] * num

    def renew(rows):
        lengths = vector.state_dict()["length"]
        for row in rows:
            singles[row] = TMaze(corridor=lengths[row])
            assert begin(singles[row], obs[row, 1]).tolist() == obs[row].tolist()

    renew(range(num))
    # Mostly right, or nothing but the corridor's beginning is ever seen.
    walk = np.random.default_rng(seed).choice(4, size=(steps, num), p=[0.85, 0.05, 0.05, 0.05])
    for actions in walk:
        obs, reward, terminated, truncated, info = vector.step(actions)
        final = info.get("final_obs", info.get("final_observation", obs))
        final_info = info.get("final_info")
        for row, action in enumerate(actions):
            single_obs, single_reward, over, cut, single_info = singles[row].step(action)
            assert (reward[row], terminated[row], truncated[row]) == (single_reward, over, cut)
            assert (final if over else obs)[row].tolist() == single_obs.tolist()
            if over:
                told = final_info["is_success"][row] if isinstance(final_info, dict) else final_info[row]["is_success"]
                assert told == single_info["is_success"]
        renew(np.flatnonzero(terminated))


@settings(deadline=None, max_examples=60)
@given(num=st.integers(1, 6), corridor=bounds, seed=seeds, steps=st.integers(0, 15), limit=st.integers(0, 9))
def test_forecast_and_advance_are_what_stepping_gives(num, corridor, seed, steps, limit):
    random = np.random.default_rng(seed)
    mazes = TMazeVector(num_envs=num, corridor=corridor)
    mazes.reset(seed=seed)
    for _ in range(steps):
        mazes.step(random.choice(4, size=num, p=[0.85, 0.05, 0.05, 0.05]))
    actions, ahead, counts = mazes.forecast(limit)
    assert ahead.shape == (num, counts.max(), 2)
    assert counts.min() >= 0
    assert counts.max() <= limit
    chosen = random.integers(counts, endpoint=True)

    stepped = TMazeVector(num_envs=num)
    stepped.load_state_dict(mazes.state_dict())
    observations, rewards = mazes.advance(chosen)
    state = mazes.state_dict()
    total = np.zeros(num)
    for step in range(counts.max() + 1):
        if step:
            obs, reward, ended, _, _ = stepped.step(actions)
            total += reward
            known = step <= counts
            assert not ended[known].any()
            np.testing.assert_array_equal(ahead[known, step - 1], obs[known])
            assert not ahead[~known, step - 1].any()
            rows = np.flatnonzero(step == chosen)
            np.testing.assert_array_equal(observations[rows], obs[rows])
        else:
            rows = np.flatnonzero(chosen == 0)
        np.testing.assert_allclose(rewards[rows], total[rows], atol=1e-12)
        now = stepped.state_dict()
        for name in ("x", "time", "length", "goal"):
            assert [state[name][row] for row in rows] == [now[name][row] for row in rows]


def test_a_forecast_leaves_exactly_the_last_step():
    mazes = TMazeVector(num_envs=3, corridor=(2, 90))
    cues = mazes.reset(seed=0)[0][:, 1]
    mazes.step(np.array([RIGHT, LEFT, RIGHT]))
    obs, rewards = mazes.advance(mazes.forecast(1000).counts)
    assert obs.tolist() == [[1, 0], [0, 0], [1, 0]]  # who lags is not at the junction
    assert rewards[0] == rewards[2] == 0 > rewards[1]
    assert mazes.forecast(1000).counts.tolist() == [0, 0, 0]
    same, nothing = mazes.advance(np.zeros(3, dtype=np.int64))
    assert same.tolist() == obs.tolist()
    assert not nothing.any()
    _, reward, ended, _, _ = mazes.step(np.where(cues == 1, UP, DOWN))
    assert reward.tolist() == [1, 0, 1]
    assert ended.all()


def test_advancing_by_nothing_at_the_start_shows_the_cue():
    mazes = TMazeVector(num_envs=4, corridor=9)
    obs, _ = mazes.reset(seed=0)
    assert mazes.advance(np.zeros(4, dtype=np.int64))[0].tolist() == obs.tolist()


def test_advancing_beyond_a_forecast_is_the_users_error():
    mazes = TMazeVector(num_envs=2, corridor=5)
    mazes.reset(seed=0)
    for counts in ([6, 0], [-1, 0]):
        with pytest.raises(UserError, match="forecast"):
            mazes.advance(np.array(counts))
    with pytest.raises(UserError, match="negative"):
        mazes.forecast(-1)
    with pytest.raises(UserError, match="num_envs"):
        TMazeVector(num_envs=0)


def test_a_restored_env_continues_identically_through_json():
    random = np.random.default_rng(0)
    mazes = TMazeVector(num_envs=7, corridor=(1, 5))
    mazes.reset(seed=0)
    for _ in range(9):
        mazes.step(random.integers(4, size=7))
    restored = TMazeVector(num_envs=7)
    restored.load_state_dict(json.loads(json.dumps(mazes.state_dict())))
    assert restored.state_dict() == mazes.state_dict()
    for _ in range(30):
        actions = random.integers(4, size=7)
        for mine, theirs in zip(mazes.step(actions)[:4], restored.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(UserError, match="7 mazes"):
        TMazeVector(num_envs=6).load_state_dict(mazes.state_dict())
