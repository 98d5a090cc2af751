"""T-Mazes keep the rules of Ni et al. 2023, one by one and batched, chain them, and skip corridors truly."""

import json
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.envs import Streams, TMaze, TMazeVector, make_streams
from recurra.envs.tmaze import Oracle
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
    assert (terminated, truncated, info) == (True, False, {"is_success": True, "turns": 1})
    with pytest.raises(UserError, match="reset"):
        env.step(RIGHT)


def begin_active(cue, **options):
    """Give an active maze whose cue, read one step back, is this."""
    env = TMaze(oracle=1, **options)
    seed = 0
    while True:
        obs, _ = env.reset(seed=seed)
        assert obs.tolist() == [0, 0]
        if env.step(LEFT)[0][1] == cue:
            env.reset(seed=seed)
            return env
        seed += 1


@pytest.mark.parametrize("cue", [1, -1])
def test_the_active_cue_shows_on_the_first_visit_to_the_oracle_only(cue):
    env = begin_active(cue, corridor=2)
    assert play(env, [LEFT, RIGHT, RIGHT, RIGHT, UP]) == [
        ([0, cue], 0, False),
        ([0, 0], 0, False),
        ([0, 0], 0, False),
        ([1, 0], 0, False),
        ([1, 1], float(cue == 1), True),
    ]
    env = begin_active(cue, corridor=4)
    assert play(env, [LEFT, LEFT, RIGHT, LEFT]) == [
        ([0, cue], 0, False),
        ([0, 0], -0.25, False),  # a wall: the visit goes on, and the cue is gone
        ([0, 0], -0.25, False),
        ([0, 0], -0.25, False),
    ]


@pytest.mark.parametrize("length", [1, 2, 63])
def test_going_back_returns_one_and_guessing_a_half(length):
    returns = {1: [], -1: []}
    for cue in (1, -1):
        for choice in (UP, DOWN):
            env = begin_active(cue, corridor=length)
            read = play(env, [LEFT] + [RIGHT] * (length + 1) + [UP if cue == 1 else DOWN])
            assert (sum(reward for _, reward, _ in read), read[-1][-1]) == (1, True)
            env = begin_active(cue, corridor=length)
            # Who does not go back is at the junction early, and waits in an arm or before it: the horizon is L + 3.
            guess = play(env, [RIGHT] * length + [choice, RIGHT, LEFT])
            assert [obs for obs, *_ in guess[-3:]] == [[1, 1 if choice == UP else -1]] * 3
            assert [over for *_, over in guess] == [False] * (length + 2) + [True]
            returns[cue].append(sum(reward for _, reward, _ in guess))
    assert returns == {1: [1, 0], -1: [0, 1]}


def test_an_arm_can_be_left_again():
    env = begin_active(1, corridor=1)
    assert [obs for obs, *_ in play(env, [RIGHT, DOWN, UP, UP])] == [[1, 0], [1, -1], [1, 0], [1, 1]]


def chain(length, junctions, wrong=None):
    """Walk a chain by its cues, and turn the other way at one junction; give rewards, infos and the cues seen."""
    env = TMaze(corridor=length, junctions=junctions)
    obs, _ = env.reset(seed=4)
    rewards, infos, cues, over = [], [], [], False
    while not over:
        cue = obs[1]
        cues.append(cue)
        for step in range(length):
            obs, reward, over, *_ = env.step(RIGHT)
            assert (obs.tolist(), reward, over) == ([step == length - 1, 0], 0, False)
        obs, reward, over, cut, info = env.step(UP if (cue == 1) != (len(cues) == wrong) else DOWN)
        assert not cut
        rewards.append(reward)
        infos.append(info)
    return rewards, infos, cues


@pytest.mark.parametrize("length", [1, 5])
def test_a_right_turn_leads_to_a_new_cue_and_a_wrong_one_ends_the_chain(length):
    rewards, infos, cues = chain(length, junctions=40)
    assert rewards == [1] * 40
    assert infos == [{}] * 39 + [{"is_success": True, "turns": 40}]
    assert 8 < cues.count(1) < 32
    rewards, infos, _ = chain(length, junctions=40, wrong=7)
    assert rewards == [1] * 6 + [0]
    assert infos[-1] == {"is_success": False, "turns": 6}
    rewards, infos, _ = chain(length, junctions=None, wrong=200)
    assert rewards == [1] * 199 + [0]
    assert infos[-1] == {"is_success": False, "turns": 199}


def test_lagging_in_one_corridor_is_not_forgiven_in_the_next():
    env = TMaze(corridor=2, junctions=2)
    begin(env, cue=1)
    play(env, [RIGHT, RIGHT])
    assert env.step(UP)[1:3] == (1, False)
    assert [step[1:] for step in play(env, [LEFT, RIGHT, RIGHT])] == [(-0.5, False), (-0.5, False), (0, True)]


def test_numbers_of_junctions_are_uniform_within_bounds():
    vector = TMazeVector(num_envs=20_000, junctions=(2, 5), oracle=(0, 3))
    vector.reset(seed=0)
    for name, least in (("most", 2), ("behind", 0)):
        values, counts = np.unique(vector.state_dict()[name], return_counts=True)
        assert values.tolist() == list(range(least, least + 4))
        assert np.abs(counts - 5000).max() < 5 * np.sqrt(5000)


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


@pytest.mark.parametrize("make", [TMaze, TMazeVector])
def test_options_may_be_set_later(make):
    env = make()
    env.junctions, env.oracle = [2, 3], np.int64(2)
    assert (env.junctions, env.oracle) == ((2, 3), 2)
    env.junctions = None
    assert env.junctions is None
    with pytest.raises(UserError, match="oracle must be"):
        env.oracle = None
    assert env.oracle == 2


def test_a_bonus_is_for_the_first_sight_of_a_cue_behind_the_start():
    env = begin_active(1, corridor=4, bonus=0.3)
    assert [reward for _, reward, _ in play(env, [LEFT, RIGHT, LEFT])] == [0.3, 0, -0.25]
    env = TMaze(corridor=4, bonus=0.3)  # this one shows it at the start
    begin(env, cue=1)
    assert sum(reward for _, reward, _ in play(env, [RIGHT] * 4 + [UP])) == 1


WRONG = {
    "corridor": [0, -1, 1.5, True, "ten", (3, 2), (0, 2), (1, 2, 3), (1,), None, (1, 2.5)],
    "oracle": [-1, 0.5, None, (-1, 2), "no"],
    "junctions": [0, (0, 2), "all", (3, 1), (1, None)],
    "penalty": [-1, "much", None],
    "bonus": [-1, "much", None, True, float("nan"), float("inf")],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
@pytest.mark.parametrize("make", [TMaze, TMazeVector])
def test_a_wrong_option_is_the_users_error(make, name, value):
    with pytest.raises(UserError, match=f"{name} must be ((None or )?an int >= [01] or a pair|a number)"):
        make(**{name: value})


IDS = {
    "recurra/TMaze-v0": (0, 1),
    "recurra/TMazeActive-v0": (1, 1),
    "recurra/TMazeEndless-v0": (0, 10),
    "recurra/TMazeNoisy-v0": (0, 1),
}


@pytest.mark.parametrize("name", IDS)
def test_gymnasium_finds_nothing_to_say(name):
    env = gymnasium.make(f"recurra.envs:{name}", corridor=5, render_mode="ansi")
    assert (env.unwrapped.oracle, env.unwrapped.junctions) == IDS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


@pytest.mark.parametrize("name", IDS)
def test_an_id_means_the_same_maze_batched(name):
    streams = make_streams(name, 3, corridor=5)
    assert isinstance(streams.env, TMazeVector)
    assert (streams.env.corridor, streams.env.oracle, streams.env.junctions) == (5, *IDS[name])
    assert make_streams(name, 3, oracle=2, junctions=(3, 4)).env.junctions == (3, 4)


@pytest.mark.skipif(gymnasium.__version__.startswith("0."), reason="make_vec before 1.0 is experimental")
@pytest.mark.parametrize("name", IDS)
def test_make_vec_gives_the_batched_mazes(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make_vec(name, num_envs=3, corridor=5)
    assert isinstance(env, TMazeVector)
    assert (env.num_envs, env.corridor, env.oracle, env.junctions) == (3, 5, *IDS[name])
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


options = st.fixed_dictionaries(
    {
        "corridor": bounds,
        "oracle": st.sampled_from([0, 0, 1, 2, (0, 1)]),
        "junctions": st.sampled_from([1, 1, 3, (1, 4), None]),
        "bonus": st.sampled_from([0, 0.25]),
        "penalty": st.sampled_from([1, 0]),
        "noise": st.booleans(),
    }
)


def mostly_right(random, state):
    """Choose as agents do that know a little, or nothing but the corridor's beginning is ever seen."""
    place = {name: np.array(state[name]) for name in ("x", "length", "goal", "told")}
    knowing = np.where(place["told"] < 0, LEFT, np.where(place["x"] < place["length"], RIGHT, UP))
    knowing = np.where((knowing == UP) & (place["goal"] < 0), DOWN, knowing)
    return np.where(random.random(len(knowing)) < 0.85, knowing, random.integers(4, size=len(knowing)))


def last(info, row):
    """Give the last observation and info of an episode that ended in a row."""
    final = info["final_info"]
    told = {name: final[name][row] for name in ("is_success", "turns")} if isinstance(final, dict) else final[row]
    return info["final_obs" if "final_obs" in info else "final_observation"][row], told


@settings(deadline=None, max_examples=60)
@given(options=options, seed=seeds, steps=st.integers(1, 60))
def test_a_batch_of_one_is_a_single_maze_of_the_same_seed(options, seed, steps):
    random = np.random.default_rng(seed)
    single, vector = TMaze(render_mode="ansi", **options), TMazeVector(render_mode="ansi", **options)
    obs, _ = vector.reset(seed=seed)
    assert single.reset(seed=seed)[0].tolist() == obs[0].tolist()
    for _ in range(steps):
        actions = mostly_right(random, vector.state_dict())
        obs, reward, terminated, truncated, info = vector.step(actions)
        single_obs, single_reward, over, cut, single_info = single.step(actions[0])
        assert (reward[0], terminated[0], truncated[0]) == (single_reward, over, cut)
        if over:
            final, told = last(info, 0)
            assert final.tolist() == single_obs.tolist()
            assert told == single_info
            single_obs, _ = single.reset()
        assert obs[0].tolist() == single_obs.tolist()
        assert vector.render() == (single.render(),)


@settings(deadline=None, max_examples=40)
@given(num=st.integers(2, 5), options=options, seed=seeds, steps=st.integers(1, 25))
def test_mazes_do_not_touch(num, options, seed, steps):
    random = np.random.default_rng(seed)
    many, one = TMazeVector(num_envs=num, **options), TMazeVector(noise=options["noise"])
    many.reset(seed=seed)
    for _ in range(steps):
        before = many.state_dict()
        actions = mostly_right(random, before)
        obs, reward, ended, _, info = many.step(actions)
        after = many.state_dict()
        for row in range(num):
            one.load_state_dict({**before, **{name: [before[name][row]] for name in PLACES}})
            alone_obs, alone_reward, alone_ended, _, alone_info = one.step(actions[[row]])
            assert (reward[row], ended[row]) == (alone_reward[0], alone_ended[0])
            if ended[row]:
                (obs_here, told_here), (obs_alone, told_alone) = last(info, row), last(alone_info, 0)
                assert (obs_here.tolist(), told_here) == (obs_alone.tolist(), told_alone)
            if after["time"][row]:  # else a new corridor was drawn
                assert obs[row].tolist() == alone_obs[0].tolist()


PLACES = ("x", "y", "time", "length", "behind", "goal", "told", "turns", "most", "key")


@settings(deadline=None, max_examples=60)
@given(num=st.integers(1, 6), options=options, seed=seeds, steps=st.integers(0, 25), limit=st.integers(0, 9))
def test_forecast_and_advance_are_what_stepping_gives(num, options, seed, steps, limit):
    random = np.random.default_rng(seed)
    mazes = TMazeVector(num_envs=num, **options)
    mazes.reset(seed=seed)
    for _ in range(steps):
        mazes.step(mostly_right(random, mazes.state_dict()))
    actions, ahead, counts, each = mazes.forecast(limit)
    assert ahead.shape == (num, counts.max(), 4 if options["noise"] else 2)
    assert counts.min() >= 0
    assert counts.max() <= limit
    chosen = random.integers(counts, endpoint=True)

    stepped = TMazeVector(num_envs=num, noise=options["noise"])
    stepped.load_state_dict(mazes.state_dict())
    observations, rewards = mazes.advance(chosen)
    state = mazes.state_dict()
    total = np.zeros(num)
    for step in range(counts.max() + 1):
        if step:
            obs, reward, ended, _, _ = stepped.step(actions)
            total += reward
            known = step <= counts
            np.testing.assert_array_equal(each[known], reward[known])
            assert not ended[known].any()
            np.testing.assert_array_equal(ahead[known, step - 1], obs[known])
            assert not ahead[~known, step - 1].any()
            rows = np.flatnonzero(step == chosen)
            np.testing.assert_array_equal(observations[rows], obs[rows])
        else:
            rows = np.flatnonzero(chosen == 0)
        np.testing.assert_allclose(rewards[rows], total[rows], atol=1e-12)
        now = stepped.state_dict()
        for name in PLACES:
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
    mazes = TMazeVector(num_envs=7, corridor=(1, 5), oracle=(0, 1), junctions=None)
    mazes.reset(seed=0)
    for _ in range(40):
        mazes.step(mostly_right(random, mazes.state_dict()))
    restored = TMazeVector(num_envs=7)
    restored.load_state_dict(json.loads(json.dumps(mazes.state_dict())))
    assert restored.state_dict() == mazes.state_dict()
    assert max(mazes.state_dict()["turns"]) > 1
    for _ in range(30):
        actions = mostly_right(random, mazes.state_dict())
        for mine, theirs in zip(mazes.step(actions)[:4], restored.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(UserError, match="7 mazes"):
        TMazeVector(num_envs=6).load_state_dict(mazes.state_dict())


def test_the_mazes_of_rate_show_their_four_numbers_and_forgive_lagging():
    env = gymnasium.make("recurra.envs:recurra/TMazeNoisy-v0", corridor=3).unwrapped  # T = 5 observations
    obs, _ = env.reset(seed=0)
    cue = obs[1]
    shown, rewards, over = [obs.tolist()], [], False
    for action in (RIGHT, RIGHT, RIGHT, UP if cue == 1 else DOWN):
        assert not over
        obs, reward, over, *_ = env.step(action)
        shown.append(obs.tolist())
        rewards.append(reward)
    assert [row[:3] for row in shown] == [[0, cue, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1], [cue, 0, 0]]
    assert over
    assert rewards == [0, 0, 0, 1]
    env.reset()
    assert [env.step(LEFT)[1] for _ in range(4)] == [0] * 4


def test_noise_is_uniform_over_steps_and_mazes_and_differs_between_episodes():
    mazes = TMazeVector(num_envs=300, corridor=400, noise=True)
    obs, _ = mazes.reset(seed=0)
    noise = np.concatenate([obs[:, None, 3], mazes.forecast(400).observations[:, :, 3]], axis=1)
    for axis in (0, 1):
        for value in (-1, 0, 1):
            share = (noise == value).mean(axis)
            assert np.abs(share - 1 / 3).max() < 5.5 * np.sqrt(2 / 9 / noise.shape[axis])
    along, across = (
        np.corrcoef(*pair)[0, 1]
        for pair in ((noise[:, :-1].flat, noise[:, 1:].flat), (noise[:-1].flat, noise[1:].flat))
    )
    assert max(abs(along), abs(across)) < 5 / np.sqrt(noise.size)
    assert (mazes.reset()[0][:, 3] != noise[:, 0]).any()


def test_states_saved_before_there_was_noise_are_read():
    mazes = TMazeVector(num_envs=2, corridor=4)
    mazes.reset(seed=0)
    old = {name: value for name, value in mazes.state_dict().items() if name not in ("penalty", "key")}
    restored = TMazeVector(num_envs=2)
    restored.load_state_dict(old)
    assert restored.state_dict() == mazes.state_dict()


@pytest.mark.parametrize(
    ("options", "most"), [({}, 1), ({"oracle": (0, 3)}, 1), ({"junctions": 4, "oracle": (0, 1)}, 4)]
)
@pytest.mark.parametrize("noise", [False, True])
def test_the_oracle_earns_all_there_is(options, most, noise):
    mazes = TMazeVector(num_envs=50, corridor=(1, 9), noise=noise, **options)
    single, oracle = TMaze(corridor=(1, 9), noise=noise, **options), Oracle()
    streams = Streams(mazes)
    obs, first = streams.reset(seed=0)
    totals, ended = np.zeros(50), []
    for _ in range(120):
        step = streams.step(oracle(obs, first))
        totals += step.reward
        ended += totals[step.over].tolist()
        totals[step.over] = 0
        obs, first = step.obs, step.first
    assert len(ended) > 50
    assert set(ended) == {most}
    oracle = Oracle()
    obs, total, first, over = single.reset(seed=1)[0], 0, True, False
    while not over:
        obs, reward, over, *_ = single.step(int(oracle(obs, first)))
        total, first = total + reward, False
    assert total == most
