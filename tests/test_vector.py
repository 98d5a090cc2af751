"""Streams read every convention of autoreset alike; they are set, saved and made from ids."""

import json
import sys
import types
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from gymnasium.vector.utils import batch_space

from recurra import envs
from recurra.envs import Streams, TMaze, TMazeVector, make_streams
from recurra.errors import UserError

OLD = gymnasium.__version__.startswith("0.")
CHOICE = hasattr(gymnasium.vector, "AutoresetMode")
MODES = [{"autoreset_mode": "SameStep"}, {"autoreset_mode": "NextStep"}] if CHOICE else [{}]


class Counter(gymnasium.Env):
    """Shows how many steps it took; an episode is ``length`` steps long, and then over or cut."""

    observation_space = Box(0, 99, (1,), np.float32)
    action_space = Discrete(3)

    def __init__(self, length=2, cut=False, report="is_success"):
        self.length, self.cut, self.report = length, cut, report

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.show(), {}

    def step(self, action):
        self.time += 1
        ended = self.time >= self.length
        info = {self.report: bool(action == 1)} if ended else {}
        return self.show(), float(10 * action + self.time), ended and not self.cut, ended and self.cut, info

    def show(self):
        return np.array([self.time], dtype=np.float32)


class Nested(Counter):
    """Shows the time in every way that a space has."""

    observation_space = Dict(
        time=Counter.observation_space, seen=Tuple([Discrete(9), Dict(bits=MultiBinary(4), pair=MultiDiscrete([9, 9]))])
    )

    def show(self):
        return {"time": super().show(), "seen": (self.time, {"bits": bits(self.time), "pair": pair(self.time)})}


def bits(time):
    return (np.asarray(time)[..., None] >> np.arange(4) & 1).astype(np.int8)


def pair(time):
    return np.stack([time, 2 * np.asarray(time)], -1)


class NestedVector(gymnasium.vector.VectorEnv):
    """The same, batched: episodes of 2 steps that are over and of 3 that are cut."""

    metadata, closed, viewer, is_vector_env = {**envs.vector.SAME_STEP}, False, None, True
    num_envs = 2
    single_observation_space, single_action_space = Nested.observation_space, Nested.action_space
    observation_space, action_space = batch_space(Nested.observation_space, 2), batch_space(Nested.action_space, 2)
    lengths = np.array([2, 3])

    def __init__(self):
        """Ask nothing of gymnasium, whose releases ask for different things."""

    def reset(self, *, seed=None, options=None):
        self.time = np.zeros(2, int)
        return self.show(), {}

    def step(self, actions):
        self.time += 1
        reward, ended, last = 10.0 * actions + self.time, self.time >= self.lengths, self.show()
        info = envs.vector.finals(last, ended, is_success=actions == 1) if ended.any() else {}
        self.time[ended] = 0
        return self.show(), reward, ended & [True, False], ended & [False, True], info

    def show(self):
        time = self.time.copy()
        return {"time": time[:, None].astype(np.float32), "seen": (time, {"bits": bits(time), "pair": pair(time)})}


class Wrapped(gymnasium.Wrapper):
    """A wrapper that changes nothing."""


class Labelled(Counter):
    """Shows a dict with a text in it."""

    observation_space = Dict({"time": Counter.observation_space, "label": Text(9)})

    def show(self):
        return {"time": super().show(), "label": f"at{self.time}"}


def counters(kind, mode, makes):
    return Streams(kind(makes, **mode))


def learnt(streams, steps):
    """Play by what is shown; give each stream's transitions that are to be learnt from."""
    obs, first = streams.reset(seed=0)
    assert first.all()
    present = np.ones(streams.num, dtype=bool)
    seen = [[] for _ in range(streams.num)]
    for _ in range(steps):
        # What an absent stream does is ignored.
        actions = np.where(present, obs[:, 0].astype(int) % 3, 2)
        after = streams.step(actions)
        for row in np.flatnonzero(present):
            seen[row].append(
                (
                    obs[row, 0],
                    after.reward[row],
                    bool(after.terminated[row]),
                    bool(after.truncated[row]),
                    after.final_obs[row, 0],
                    after.success[row],
                )
            )
        # Every stream goes on from a new episode's first observation, or from what followed its action.
        assert not after.obs[after.first].any()
        ongoing = ~after.first & after.present
        np.testing.assert_array_equal(after.obs[ongoing], after.final_obs[ongoing])
        obs, present = after.obs, after.present
    streams.close()
    return seen


NAN = pytest.approx(np.nan, nan_ok=True)


@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
@pytest.mark.parametrize("mode", MODES)
def test_every_convention_gives_the_same_present_transitions(kind, mode):
    streams = counters(kind, mode, [Counter, partial(Counter, length=3, cut=True)])
    over, cut = learnt(streams, 11)
    episode = [(0, 1, False, False, 1, NAN), (1, 12, True, False, 2, 1.0)]
    assert over[:6] == episode * 3
    episode = [(0, 1, False, False, 1, NAN), (1, 12, False, False, 2, NAN), (2, 23, False, True, 3, 0.0)]
    assert cut[:6] == episode * 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv, NestedVector])
def test_every_convention_gives_the_same_nested_transitions(kind, mode):
    if kind is NestedVector:
        streams = Streams(NestedVector())
    else:
        streams = counters(kind, mode, [Nested, partial(Nested, length=3, cut=True)])

    def times(obs):
        time = obs["time"][:, 0].astype(int)
        number, inner = obs["seen"]
        assert (number == time).all()
        assert (inner["bits"] == bits(time)).all()
        assert (inner["pair"] == pair(time)).all()
        return time

    obs, _ = streams.reset(seed=0)
    present = np.ones(2, bool)
    seen = [[], []]
    for _ in range(9):
        shown = times(obs)
        after = streams.step(shown % 3)
        final = times(after.final_obs)
        assert not times(after.obs)[after.first].any()
        for row in np.flatnonzero(present):
            step = shown[row], after.reward[row], after.terminated[row], after.truncated[row], final[row]
            seen[row].append((*step, after.success[row]))
        obs, present = after.obs, after.present
    streams.close()
    assert seen[0][:6] == [(0, 1, False, False, 1, NAN), (1, 12, True, False, 2, 1.0)] * 3
    cut = [(0, 1, False, False, 1, NAN), (1, 12, False, False, 2, NAN), (2, 23, False, True, 3, 0.0)]
    assert seen[1][:6] == cut * 2


class Scripted(gymnasium.vector.VectorEnv):
    """Plays a written trace."""

    closed, viewer, is_vector_env = False, None, True
    num_envs = 1
    single_observation_space, single_action_space = Counter.observation_space, Counter.action_space

    def __init__(self, trace, metadata):
        self.trace, self.metadata = iter(trace), metadata

    def reset(self, *, seed=None, options=None):
        return np.zeros((1, 1), np.float32), {}

    def step(self, actions):
        obs, reward, cut, info = next(self.trace)
        return np.array([[obs]], np.float32), np.array([reward]), np.array([False]), np.array([cut]), info


def objects(value):
    array = np.full(1, None)
    array[0] = value
    return array


LAST, YES = np.array([2], np.float32), np.array([True])
UP_TO_0_29 = [
    (1, 1.0, False, {}),
    (
        0,
        2.0,
        True,
        {
            "final_observation": objects(LAST),
            "_final_observation": YES,
            "final_info": objects({"success": 0.5}),
            "_final_info": YES,
        },
    ),
    (1, 1.0, False, {}),
]
SAME_STEP = [
    (1, 1.0, False, {}),
    (
        0,
        2.0,
        True,
        {
            "final_obs": objects(LAST),
            "_final_obs": YES,
            "final_info": {"success": np.array([0.5]), "_success": YES},
            "_final_info": YES,
        },
    ),
    (1, 1.0, False, {}),
]
NEXT_STEP = [
    (1, 1.0, False, {}),
    (2, 2.0, True, {"success": np.array([0.5]), "_success": YES}),
    (0, 0.0, False, {}),
    (1, 1.0, False, {}),
]


def flags(trace, metadata):
    """Give obs, reward, truncated, final_obs, first, present, success of each step of a trace."""
    streams = Streams(Scripted(trace, metadata))
    streams.reset()
    steps = [streams.step(np.zeros(1, int)) for _ in trace]
    return [
        (s.obs.item(), s.reward.item(), s.truncated.item(), s.final_obs.item(), s.first.item(), s.present.item())
        for s in steps
    ], [s.success.item() for s in steps]


@pytest.mark.parametrize(
    ("trace", "metadata"),
    [(UP_TO_0_29, {}), (SAME_STEP, {}), (SAME_STEP, {"autoreset_mode": "SameStep"})],
)
def test_written_traces_that_reset_in_the_same_step(trace, metadata):
    steps, success = flags(trace, metadata)
    assert steps == [
        (1, 1, False, 1, False, True),
        (0, 2, True, 2, True, True),
        (1, 1, False, 1, False, True),
    ]
    assert success == [NAN, 0.5, NAN]


@pytest.mark.parametrize("metadata", [{}, {"autoreset_mode": "NextStep"}])
def test_a_written_trace_that_resets_in_the_next_step(metadata):
    steps, success = flags(NEXT_STEP, metadata)
    assert steps == [
        (1, 1, False, 1, False, True),
        (2, 2, True, 2, False, False),
        (0, 0, False, 0, True, True),
        (1, 1, False, 1, False, True),
    ]
    assert success == [NAN, 0.5, NAN, NAN]


def test_what_cannot_be_read_is_the_users_error():
    with pytest.raises(UserError, match="SAME_STEP or NEXT_STEP"):
        Streams(Scripted([], {"autoreset_mode": "Disabled"}))
    if CHOICE:
        with pytest.raises(UserError, match="resets itself"):
            counters(SyncVectorEnv, {"autoreset_mode": "Disabled"}, [Counter])
    with pytest.raises(UserError, match="no final_obs"):
        flags(NEXT_STEP, {"autoreset_mode": "SameStep"})


def test_batched_mazes_are_read_like_single_ones():
    batched = Streams(TMazeVector(num_envs=2, corridor=2))
    single = Streams(SyncVectorEnv([partial(TMaze, corridor=2)] * 2, **MODES[0]))
    for streams in (batched, single):
        obs, _ = streams.reset(seed=0)
        right = np.zeros(2, int)
        streams.step(right)
        streams.step(right)
        after = streams.step(np.where(obs[:, 1] == 1, 1, [3, 1]))
        assert after.final_obs.tolist() == [[1, obs[0, 1]], [1, 1]]
        assert np.abs(after.obs[:, 1]).tolist() == [1, 1]
        assert after.terminated.tolist() == [True, True]
        assert not after.truncated.any()
        assert after.success.tolist() == [1.0, float(obs[1, 1] == 1)]


@pytest.mark.parametrize("mode", MODES)
def test_either_word_for_success_is_read_and_silence_is_nan(mode):
    streams = counters(SyncVectorEnv, mode, [partial(Counter, report=word) for word in ("success", "is_success", "x")])
    streams.reset()
    assert streams.step(np.ones(3, int)).success == NAN
    assert streams.step(np.ones(3, int)).success.tolist() == [1, 1, NAN]


@pytest.mark.parametrize("mode", MODES)
def test_given_arrays_are_the_callers_own(mode):
    streams = counters(SyncVectorEnv, {**mode, "copy": False}, [Counter, partial(Counter, length=3)])
    kept = [streams.reset()[0]]
    steps = [streams.step(np.ones(2, int)) for _ in range(6)]
    fields = kept + [field for step in steps for field in step]
    copies = [field.copy() for field in fields]
    assert not np.shares_memory(steps[0].obs, steps[0].final_obs)
    steps[0].final_obs[:] = 77
    copies[5] = steps[0].final_obs.copy()
    for _ in range(5):
        streams.step(np.zeros(2, int))
    for field, copy in zip(fields, copies, strict=True):
        np.testing.assert_array_equal(field, copy)


@pytest.mark.parametrize("mode", MODES)
def test_observations_may_be_dicts_and_hold_texts(mode):
    streams = counters(SyncVectorEnv, mode, [Labelled, partial(Labelled, length=3)])
    obs, _ = streams.reset()
    assert obs["label"].tolist() == ["at0", "at0"]
    streams.step(np.ones(2, int))
    after = streams.step(np.ones(2, int))
    assert after.final_obs["label"].tolist() == ["at2", "at2"]
    assert after.final_obs["time"].tolist() == [[2], [2]]
    expected = "at0" if after.present[0] else "at2"
    assert after.obs["label"].tolist() == [expected, "at2"]


def test_seeds_are_honoured():
    for make in (partial(make_streams, "recurra/TMaze-v0"), partial(make_streams, "CartPole-v1")):
        first, again, other = (make(9).reset(seed=seed)[0] for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
def test_an_attribute_is_set_on_every_environment(kind):
    streams = counters(kind, MODES[0], [Counter, Counter])
    streams.set("length", 4)
    streams.reset()
    ended = [streams.step(np.ones(2, int)).terminated.tolist() for _ in range(4)]
    assert ended == [[False, False]] * 3 + [[True, True]]
    with pytest.raises(UserError, match="did you mean 'length'"):
        streams.set("lenght", 4)
    assert streams.step(np.ones(2, int)).present.all()
    streams.close()


@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
def test_an_attribute_is_set_beneath_wrappers(kind):
    streams = counters(kind, MODES[0], [lambda: Wrapped(Counter())] * 2)
    if OLD and kind is AsyncVectorEnv:
        with pytest.raises(UserError, match="SyncVectorEnv"):
            streams.set("length", 1)
    else:
        streams.set("length", 1)
        streams.reset()
        assert streams.step(np.ones(2, int)).terminated.all()
    streams.close()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Streams(TMazeVector(num_envs=3)),
        lambda: Streams(SyncVectorEnv([TMaze] * 3, **MODES[0])),
        lambda: Streams(AsyncVectorEnv([TMaze] * 3, **MODES[0])),
    ],
)
def test_corridors_are_set_as_pairs_too(make):
    streams = make()
    streams.set("corridor", (1, 1))
    streams.reset()
    streams.step(np.zeros(3, int))
    assert streams.step(np.zeros(3, int)).terminated.all()
    with pytest.raises(UserError, match="no attribute 'coridor': did you mean 'corridor'"):
        streams.set("coridor", 3)
    with pytest.raises(UserError, match="corridor must be"):
        streams.set("corridor", 0)
    assert streams.step(np.zeros(3, int)).present.all()
    streams.close()


def test_saved_streams_continue_identically_through_json():
    streams = make_streams("recurra/TMaze-v0", 5, corridor=(1, 4))
    assert streams.saves
    streams.reset(seed=0)
    random = np.random.default_rng(0)
    for _ in range(7):
        streams.step(random.integers(4, size=5))
    restored = make_streams("recurra/TMaze-v0", 5)
    restored.load_state_dict(json.loads(json.dumps(streams.state_dict())))
    for _ in range(20):
        actions = random.integers(4, size=5)
        for mine, theirs in zip(streams.step(actions), restored.step(actions), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(UserError, match="5 streams"):
        make_streams("recurra/TMaze-v0", 4).load_state_dict(streams.state_dict())


class Saving(Scripted):
    """A scripted environment that can be saved (it has nothing to save)."""

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_a_stream_saved_while_it_waits_begins_anew_when_restored():
    streams = Streams(Saving(NEXT_STEP[:2], {}))
    for _ in range(2):
        streams.step(np.zeros(1, int))
    restored = Streams(Saving(NEXT_STEP[2:], {}))
    restored.load_state_dict(json.loads(json.dumps(streams.state_dict())))
    assert [restored.step(np.zeros(1, int)).first.item() for _ in range(2)] == [True, False]


def test_what_cannot_be_saved_says_so():
    streams = make_streams("CartPole-v1", 1)
    assert not streams.saves
    with pytest.raises(UserError, match="cannot be saved"):
        streams.state_dict()


def test_streams_are_made_from_ids():
    ours = make_streams("recurra.envs:recurra/TMaze-v0", 3, corridor=7)
    assert isinstance(ours.env, TMazeVector)
    assert (ours.num, ours.env.corridor) == (3, 7)
    assert ours.observation_space == Box(-1, 1, (2,), np.float32)
    assert ours.action_space == Discrete(4)
    theirs = make_streams("CartPole-v1", 2, max_episode_steps=3)
    theirs.reset(seed=0)
    steps = [theirs.step(np.array([0, 1])) for _ in range(4)]
    assert [step.truncated.tolist() for step in steps] == [[False] * 2] * 2 + [[True] * 2, [False] * 2]
    if OLD or CHOICE:  # 1.0 knows the next step only
        assert all(step.present.all() for step in steps)
        assert steps[2].first.all()
    theirs.close()


@pytest.mark.parametrize(
    ("id", "options", "message"),
    [
        ("recurra/TMase-v0", {}, "nearest: recurra/TMaze-v0"),
        ("cartpole-v1", {}, "CartPole-v1"),
        ("qqqqqq", {}, "pprint_registry"),
        ("recurra/TMaze-v0", {"coridor": 3}, "takes no option 'coridor': did you mean 'corridor'"),
        ("CartPole-v1", {"render_mod": None}, "takes no option 'render_mod': did you mean 'render_mode'"),
        ("recurra/TMaze-v0", {"corridor": 0}, "corridor must be"),
        ("no_such_package:Thing-v0", {}, "'no_such_package', which is not installed"),
    ],
)
def test_what_cannot_be_made_is_the_users_error(id, options, message):
    with pytest.raises(UserError, match=message):
        make_streams(id, 2, **options)


@pytest.mark.parametrize("count", [0, -3])
def test_there_is_at_least_one_stream(count):
    with pytest.raises(UserError, match="at least 1"):
        make_streams("recurra/TMaze-v0", count)


def test_a_missing_package_is_named():
    def needs():
        import a_package_that_is_not_there  # noqa: F401

    module = types.ModuleType("needy")
    sys.modules["needy"] = module
    gymnasium.register(id="Needy-v0", entry_point=lambda **_: needs())
    try:
        with pytest.raises(UserError, match="Needy-v0 needs the package 'a_package_that_is_not_there'"):
            make_streams("needy:Needy-v0", 1)
    finally:
        del sys.modules["needy"], gymnasium.envs.registration.registry["Needy-v0"]
