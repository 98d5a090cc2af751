"""Grid worlds as Gymnasium and PettingZoo know environments."""

import json

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.envs import GridVector, GridWorlds, Streams, make_streams
from recurra.envs.grid import GENERATORS, GridParallel, PogemaWorlds, parse
from recurra.envs.grid.observing import OBSERVATIONS
from recurra.envs.grid.worlds import ON_TARGET
from recurra.errors import UserError


@given(
    st.sampled_from(sorted(ON_TARGET)),
    st.sampled_from(sorted(OBSERVATIONS)),
    st.integers(0, 2**31),
    st.sampled_from([3, (1, 3)]),
)
@settings(deadline=None, max_examples=20)
def test_agents_side_by_side_are_those_of_the_worlds(on_target, observation_type, seed, agents):
    options = {"maps": "puzzles", "options": {"obstacles": 5}, "agents": agents, "radius": 1, "horizon": 6}
    options |= {"on_target": on_target, "observation_type": observation_type}
    streams, worlds = Streams(GridVector(num_envs=6, **options)), GridWorlds(worlds=2, **options)
    rng = np.random.default_rng(seed)
    streams.reset(seed=seed)
    _, present = worlds.reset(seed=seed)
    for _ in range(15):
        actions = rng.integers(5, size=6)
        one, team = streams.step(actions), worlds.step(actions.reshape(2, 3))
        assert one.reward.tolist() == team.reward.reshape(-1).tolist()
        assert one.first.tolist() == np.repeat(team.first, 3).tolist()
        going = (present & ~team.terminated & team.first[:, None]).reshape(-1)
        assert one.truncated.tolist() == going.tolist()  # who is done has nothing to come
        assert one.terminated.tolist() == (np.repeat(team.first, 3) & ~going).tolist()
        done = np.repeat(team.first, 3)
        np.testing.assert_array_equal(one.success[done], (team.arrived == 1).reshape(-1)[done])
        assert np.isnan(one.success[~done]).all()
        for obs, of_team in ((one.obs, team.obs), (one.final_obs, team.final_obs)):
            if isinstance(obs, dict):
                assert obs.keys() == streams.observation_space.spaces.keys()
                np.testing.assert_array_equal(obs["xy"], of_team["xy"].reshape(6, 2))
                assert streams.observation_space.contains({name: values[4] for name, values in obs.items()})
            else:
                np.testing.assert_array_equal(obs, of_team.reshape(6, 3, 3, 3))
                assert streams.observation_space.contains(obs[4])
        present = team.present


@pytest.mark.parametrize(
    "options",
    [{"maps": kind} for kind in sorted(GENERATORS)]
    + [{"maps": "rooms", "options": {"room": 9, "rows": [1, 5]}}, {"maps": [parse("..\n.."), parse("....")]}],
)
def test_whole_maps_are_shown_in_one_shape_from_the_first_to_the_largest(options):
    agents = GridVector(num_envs=4, agents=2, observation_type="MAPF", radius=2, horizon=1, **options)
    agents.reset(seed=0)
    for _ in range(15):
        obs, *_ = agents.step(np.zeros(4, dtype=int))
        assert agents.observation_space.contains(obs)


def test_figures_of_the_team_come_with_the_last_step():
    agents = GridVector(num_envs=2, maps="aA.\nb.B")
    agents.reset()
    info = agents.step(np.array([4, 0]))[-1]
    assert info["present"].tolist() == [False, True]
    agents.step(np.array([0, 4]))
    _, _, terminated, truncated, info = agents.step(np.array([0, 4]))
    assert terminated.tolist() == [True, True]
    assert not truncated.any()
    told = info["final_info"][0] if gymnasium.__version__ < "1" else {k: v[0] for k, v in info["final_info"].items()}
    assert told["SoC"] == 4
    assert told["is_success"]


def test_ids():
    streams = make_streams("recurra/Bottleneck-v0", 6, options={"corridor": 4})
    assert streams.env.worlds.num_worlds == 3
    assert streams.observation_space.shape == (3, 5, 5)
    assert [map.height for map in streams.env.worlds.maps] == [8, 8, 8]
    streams.set("options", {"corridor": 7})
    streams.set("horizon", 9)
    streams.reset(seed=0)
    assert [map.height for map in streams.env.worlds.maps] == [11, 11, 11]
    streams.step(np.zeros(6, dtype=int))
    saved = json.loads(json.dumps(streams.state_dict()))
    other = make_streams("recurra/Bottleneck-v0", 6, options={"corridor": 4})
    other.load_state_dict(saved)
    assert other.env.horizon == 9
    assert other.env.options == {"corridor": 7}
    for _ in range(20):
        one, same = streams.step(np.arange(6) % 5), other.step(np.arange(6) % 5)
        np.testing.assert_array_equal(one.obs, same.obs)
        np.testing.assert_array_equal(one.first, same.first)
    with pytest.raises(UserError, match="a multiple of 2"):
        make_streams("recurra/Bottleneck-v0", 3)
    with pytest.raises(UserError, match="did you mean 'agents'"):
        make_streams("recurra/Grid-v0", 3, agent=1)


def test_text():
    agents = GridVector(num_envs=2, maps="aA#\nb.B", render_mode="ansi")
    assert agents.render() == ("aA#\nb.B\n",)
    agents.step(np.array([0, 4]))
    agents.step(np.array([4, 4]))
    assert agents.render() == ("..#\n...\n",)  # as it ended, though the next episode began


@pytest.mark.filterwarnings("ignore:No agents present")  # those who are not part of an episode
@pytest.mark.parametrize("on_target", sorted(ON_TARGET))
@pytest.mark.parametrize("observation_type", ["default", "POMAPF", "guided"])
def test_pettingzoo(on_target, observation_type):
    tests = pytest.importorskip("pettingzoo.test")
    from pettingzoo import ParallelEnv

    env = GridParallel(
        maps="random", agents=(1, 5), on_target=on_target, observation_type=observation_type, radius=2, horizon=20
    )
    assert isinstance(env, ParallelEnv)
    tests.parallel_api_test(env, num_cycles=200)
    maker = {"maps": "random", "agents": 3, "on_target": on_target, "observation_type": observation_type}
    tests.parallel_seed_test(lambda: GridParallel(**maker), num_cycles=60)


def test_agents_leave_one_by_one():
    env = GridParallel(maps="aA.\nb.B", horizon=3)
    observations, infos = env.reset(seed=0)
    assert list(observations) == list(infos) == env.agents == env.possible_agents == ["agent_0", "agent_1"]
    *_, ended, cut, infos = env.step({"agent_0": 4, "agent_1": 0})
    assert ended == {"agent_0": True, "agent_1": False}
    assert not any(cut.values())
    assert env.agents == ["agent_1"]
    saved = json.loads(json.dumps(env.state_dict()))
    for each in (env, GridParallel(maps="aA.\nb.B", horizon=3)):
        each.load_state_dict(saved)
        observations, rewards, *_ = each.step({"agent_1": 4})
        assert list(observations) == ["agent_1"]
        assert rewards == {"agent_1": 0.0}
        *_, ended, cut, infos = each.step({})
        assert cut == {"agent_1": True}
        assert infos["agent_1"]["metrics"]["ISR"] == 0.5
        assert each.agents == []
        with pytest.raises(UserError, match="reset"):
            each.step({})


def test_agents_that_there_are_not():
    env = GridParallel(maps="aA.\nb.B")
    env.reset(seed=0)
    with pytest.raises(UserError, match="no agent 'agent_O'; did you mean 'agent_"):
        env.step({"agent_O": 4})


def test_a_parallel_environment_is_one_world():
    with pytest.raises(UserError, match="is one world"):
        GridParallel(worlds=2)


def test_what_is_no_environment_of_pogema():
    with pytest.raises(UserError, match="at least one"):
        PogemaWorlds([])
    with pytest.raises(UserError, match="is no environment of pogema"):
        PogemaWorlds([gymnasium.make("CartPole-v1")])
