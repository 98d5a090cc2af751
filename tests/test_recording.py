"""What is recorded is what happened, whatever the environment's way of beginning anew, and by whichever policy."""

import json

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv

from recurra import agents
from recurra.agents import ActorCritic
from recurra.envs import Streams, TMaze, TMazeVector
from recurra.envs.tmaze import Oracle
from recurra.envs.trajectories import Store, Writer, record
from recurra.errors import UserError
from recurra.recipes import collecting
from recurra.recipes.cli import main

MODES = getattr(gymnasium.vector, "AutoresetMode", None)


class Counting(gymnasium.Env):
    """Episode n of an environment lasts n + offset steps, and says so: observations are (episode, step)."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Discrete(7)

    def __init__(self, offset=1, cut=False):
        self.episode, self.at, self.offset, self.cut = -1, 0, offset, cut

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.at = self.episode + 1, 0
        return np.array([self.episode, 0.0]), {}

    def step(self, action):
        self.at += 1
        over = self.at >= self.episode + self.offset
        observation = np.array([self.episode, float(self.at)])
        return observation, float(action), over and not self.cut, over and self.cut, {}


def counted(observation, first):
    """Tell in the action what was seen, so that the record shows that they belong together."""
    np.testing.assert_array_equal(np.asarray(observation)[..., 1] == 0, first)
    return np.asarray(observation)[..., 1].astype(int) % 7


def conventions():
    kinds = {"single": None, "default": {}}
    if MODES:
        kinds |= {mode.value: {"autoreset_mode": mode} for mode in MODES if mode.value != "Disabled"}
    return kinds


def made(options, cut=False):
    if options is None:
        return Counting(cut=cut), None
    return SyncVectorEnv([lambda at=at: Counting(1 + at, cut) for at in range(3)], **options), 3


def writer(path, env, streams):
    space = env.observation_space if streams is None else env.single_observation_space
    actions = env.action_space if streams is None else env.single_action_space
    return Writer(path, observation_space=space, action_space=actions, streams=streams)


@pytest.mark.parametrize("kind", conventions())
@pytest.mark.parametrize("cut", [False, True])
def test_episodes_are_whole_under_every_autoreset(tmp_path, kind, cut):
    env, streams = made(conventions()[kind], cut)
    with writer(tmp_path, env, streams) as out:
        told = record(env, counted, out, episodes=9)
    store = Store(tmp_path)
    assert (told.episodes, told.steps, told.success_rate) == (9, store.steps, None)
    expected = range(1, 10) if streams is None else [n + offset for n in range(3) for offset in (1, 2, 3)]
    assert sorted(store.lengths) == sorted(expected)
    for one in store:
        steps = np.arange(one.length + 1)
        assert one.observations[:, 1].tolist() == steps.tolist()
        assert len(set(one.observations[:, 0])) == 1
        assert one.actions.tolist() == one.rewards.tolist() == (steps[:-1] % 7).tolist()
        assert (one.terminated, one.truncated) == (not cut, cut)
    assert told.mean_return == pytest.approx(store.returns.mean())


@pytest.mark.parametrize("kind", conventions())
def test_so_many_steps_cut_what_is_open(tmp_path, kind):
    env, streams = made(conventions()[kind])
    with writer(tmp_path, env, streams) as out:
        told = record(env, counted, out, steps=40)
    store = Store(tmp_path)
    assert 40 <= store.steps == told.steps < 40 + (streams or 1)
    assert told.episodes == len(store)
    assert told.mean_return == pytest.approx(store.returns.mean())
    cut = [one for one in store if one.truncated]
    assert len(cut) <= (streams or 1)
    for one in store:
        assert one.observations[:, 1].tolist() == list(range(one.length + 1))


def test_random_actions_repeat_by_their_seed_and_are_uniform(tmp_path):
    def actions(name, seed):
        env = TMazeVector(num_envs=8, corridor=20)
        with writer(tmp_path / name, env, 8) as out:
            record(Streams(env), "random", out, episodes=100, seed=seed)
        return [one.actions.tolist() for one in Store(tmp_path / name)]

    one = actions("a", 1)
    assert one == actions("b", 1) != actions("c", 2)
    counts = np.bincount(np.concatenate(one))
    assert np.abs(counts - counts.sum() / 4).max() < 5 * np.sqrt(counts.sum() * 3 / 16)


class Agent:
    """Counts in its state how many observations it was shown, and what it was told it earned."""

    def __init__(self):
        self.told = []

    def act(self, obs, state, first, reward=None):
        state = np.where(first, 0, 0 if state is None else state + 1)
        self.told.append(reward)
        return state % 7, state


def test_an_agent_carries_its_state_and_is_told_rewards(tmp_path):
    env, streams = made({})
    agent = Agent()
    with writer(tmp_path, env, streams) as out:
        record(env, agent, out, episodes=9)
    for one in Store(tmp_path):
        assert one.actions.tolist() == [t % 7 for t in range(one.length)]
    assert len(agent.told) > 3
    assert all(len(rewards) == streams for rewards in agent.told)


def test_short_episodes_are_not_favoured(tmp_path):
    env = SyncVectorEnv([lambda: Counting(1), lambda: Counting(1000)])
    with writer(tmp_path, env, 2) as out:
        told = record(env, counted, out, episodes=3)
    assert sorted(Store(tmp_path).lengths) == [1, 2, 1000]
    assert told.episodes == 3


@pytest.mark.parametrize("options", [{}, {"noise": True, "penalty": 0}, {"oracle": 1}, {"junctions": (1, 4)}])
def test_an_oracles_episodes_are_those_of_the_maze_step_by_step(tmp_path, options):
    env = TMazeVector(num_envs=16, corridor=(1, 12), **options)
    with writer(tmp_path, env, 16) as out:
        told = record(env, Oracle(), out, episodes=50, seed=3)
    store = Store(tmp_path)
    assert told.success_rate == 1
    assert set(store.returns) <= {1, 2, 3, 4}
    for one in store:
        assert one.terminated
        cues = one.observations[:, 1]
        single = TMaze(noise="noise" in options)
        assert one.observations[0] in single.observation_space
        if not {"oracle", "junctions"} & options.keys():
            turn = {1: 1, -1: 3}[int(cues[0])]
            assert one.actions.tolist() == [0] * (one.length - 1) + [turn]


def test_single_and_batched_mazes_give_the_same_record(tmp_path):
    vector, single = TMazeVector(num_envs=1, corridor=(1, 9), noise=True), TMaze(corridor=(1, 9), noise=True)
    for name, env, streams in (("vector", vector, 1), ("single", single, None)):
        with writer(tmp_path / name, env, streams) as out:
            record(env, Oracle(), out, episodes=20, seed=3)
    for mine, theirs in zip(Store(tmp_path / "vector"), Store(tmp_path / "single"), strict=True):
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_wrong_requests_are_the_users_error(tmp_path):
    env, _ = made({})
    with writer(tmp_path, env, 3) as out:
        for wrong in ({}, {"episodes": 0}, {"episodes": 2, "steps": 2}):
            with pytest.raises(UserError, match="either episodes or steps"):
                record(env, counted, out, **wrong)
        with pytest.raises(UserError, match="'random'"):
            record(env, "randm", out, episodes=1)
        with pytest.raises(UserError, match="streams=None is needed, not 3"):
            record(Counting(), counted, out, episodes=1)


def command(capsys, *arguments):
    status = main(["record", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_command_records_and_adds_to_what_is_there(tmp_path, capsys):
    there = tmp_path / "mazes"
    options = ("recurra/TMazeNoisy-v0", "--policy", "oracle", "--env.corridor", "[2,9]", "--out", there, "--json")
    status, out, _ = command(capsys, *options, "--episodes", 30)
    told = json.loads(out)
    assert status == 0
    assert (told["episodes"], told["total_episodes"], told["success_rate"], told["mean_return"]) == (30, 30, 1.0, 1.0)
    assert told["bytes"] == sum(file.stat().st_size for file in there.iterdir())
    told = json.loads(command(capsys, *options, "--episodes", 12, "--seed", 1)[1])
    assert (told["episodes"], told["total_episodes"]) == (12, 42)
    store = Store(there)
    store.verify()
    assert (len(store), store.steps) == (42, int(store.lengths.sum()))
    assert 3 <= store.lengths.min() < store.lengths.max() <= 10
    status, out, _ = command(capsys, "CartPole-v1", "--out", tmp_path / "poles", "--episodes", 3)
    assert status == 0
    assert "holds 3 episodes" in out


def test_the_command_records_trained_agents(tmp_path, capsys):
    corridor = 4
    agent = ActorCritic(TMaze().observation_space, TMaze().action_space, memory="gru", dim=8, previous_reward=True)
    agents.save(agent, tmp_path / "agent")
    options = ("--policy", tmp_path / "agent", "--out", tmp_path / "mazes", "--json", "--episodes", 9)
    status, out, said = command(capsys, "recurra/TMaze-v0", *options, "--env.corridor", corridor)
    assert status == 0, said
    assert json.loads(out)["episodes"] == 9
    loaded = agents.load(tmp_path / "agent")
    for one in Store(tmp_path / "mazes"):
        state, reward, actions = None, 0.0, []
        for t in range(one.length):
            action, state = loaded.act(one.observations[t].copy(), state, t == 0, reward)
            actions.append(int(action))
            reward = one.rewards[t]
        assert one.actions.tolist() == actions
    status, _, said = command(capsys, "CartPole-v1", *options)
    assert (status, said.count("\n")) == (2, 1)
    assert "was trained with observation space" in said


def test_agents_are_recorded_in_the_precision_that_is_asked_for(tmp_path, capsys, monkeypatch):
    agent = ActorCritic(TMaze().observation_space, TMaze().action_space, memory="gru", dim=8)
    agents.save(agent, tmp_path / "agent")
    computed = []

    def act(*arguments, **options):
        computed.append(torch.is_autocast_enabled("cpu"))
        return record(*arguments, **options)

    monkeypatch.setattr(collecting, "act", act)
    options = ("recurra/TMaze-v0", "--policy", tmp_path / "agent", "--out", tmp_path / "mazes", "--episodes", 2)
    assert command(capsys, *options, "--precision", "bf16-mixed")[0] == 0
    assert command(capsys, *options)[0] == 0
    assert computed == [True, False]
    status, _, said = command(capsys, *options, "--precision", "7-bit")
    assert (status, said) == (2, "recurra: error: precision must be 32-true or bf16-mixed, got '7-bit'\n")


def test_what_the_user_gets_wrong_is_one_line_and_touches_nothing(tmp_path, capsys):
    there = tmp_path / "mazes"
    assert command(capsys, "recurra/TMaze-v0", "--out", there, "--episodes", 2)[0] == 0
    before = {file: file.read_bytes() for file in there.iterdir()}
    for arguments, expected in (
        (("recurra/TMazeNoisy-v0", "--out", there), "name another folder"),
        (("CartPole-v1", "--out", tmp_path / "new", "--policy", "oracle"), "only T-Mazes"),
        (("CartPole-v1", "--out", tmp_path / "new", "--policy", "orakel"), "did you mean 'oracle'"),
        (("CartPole-v1", "--out", tmp_path / "new", "--episodes", 0), "at least 1"),
        (("CartPole-v9", "--out", tmp_path / "new"), "CartPole-v1"),
        (("CartPole-v1",), "out"),
        (("recurra/TMaze-v0", "--out", tmp_path / "new", "--env.coridor", 3), "corridor"),
        (("recurra/TMaze-v0", "--out", tmp_path), "something else than trajectories"),
    ):
        status, out, said = command(capsys, *arguments)
        assert (status, out, said.count("\n")) == (2, "", 1), said
        assert expected in said
    assert {file: file.read_bytes() for file in there.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["mazes"]
