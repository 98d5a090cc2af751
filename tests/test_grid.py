"""Grid worlds: seeds, teams that come and go, figures, ways; beside the package, see test_grid_parity.py."""

import json
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.envs.grid import REWARDS, GridWorlds, Map, parse
from recurra.envs.grid.fields import FAR, components, distances, downhill, ways
from recurra.envs.grid.movement import COLLISIONS, MOVES
from recurra.envs.grid.observing import OBSERVATIONS
from recurra.envs.grid.worlds import ON_TARGET
from recurra.errors import UserError

STAY, UP, DOWN, LEFT, RIGHT = range(5)


def equal(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    else:
        np.testing.assert_array_equal(one, other)


def equal_steps(one, other):
    for name, values in one._asdict().items():
        equal(values, getattr(other, name))


rules = st.fixed_dictionaries(
    {
        "on_target": st.sampled_from(sorted(ON_TARGET)),
        "collision_system": st.sampled_from(sorted(COLLISIONS)),
        "observation_type": st.sampled_from(sorted(OBSERVATIONS)),
        "maps": st.sampled_from(["random", "mazes", "puzzles", "rooms", "bottleneck"]),
        "agents": st.sampled_from([2, (1, 3)]),
        "reward": st.sampled_from(sorted(REWARDS)),
    }
)


@given(rules, st.integers(0, 2**31), st.integers(1, 4))
@settings(deadline=None, max_examples=25)
def test_what_a_world_does_depends_on_its_seed_and_actions_alone(options, seed, radius):
    """Not on how many others there are, nor on what episodes came before a reset; larger maps come in between."""
    rng = np.random.default_rng(seed)
    many = GridWorlds(worlds=3, radius=radius, horizon=7, **options)
    alone = GridWorlds(worlds=1, radius=radius, horizon=7, **options)
    for _ in range(9):
        many.step(rng.integers(5, size=(3, many.num_agents)))
    _, present = many.reset(seed=seed)
    _, there = alone.reset(seed=seed)
    assert present[:1].tolist() == there.tolist()
    for _ in range(20):
        actions = rng.integers(5, size=(3, many.num_agents))
        step, single = many.step(actions), alone.step(actions[:1])
        for name in ("reward", "terminated", "truncated", "first", "present", "arrived"):
            equal(getattr(step, name)[:1], getattr(single, name))
        if options["observation_type"] != "MAPF":  # it shows the whole board, which is as large as the largest map
            equal(_first(step.obs), single.obs)
            equal(_first(step.final_obs), single.final_obs)


def _first(obs):
    return {name: values[:1] for name, values in obs.items()} if isinstance(obs, dict) else obs[:1]


@given(rules, st.integers(0, 2**31), st.integers(0, 12))
@settings(deadline=None, max_examples=25)
def test_a_saved_world_goes_on_identically(options, seed, before):
    rng = np.random.default_rng(seed)
    worlds = GridWorlds(worlds=2, radius=2, horizon=6, **options)
    worlds.reset(seed=seed)
    for _ in range(before):
        worlds.step(rng.integers(5, size=(2, worlds.num_agents)))
    saved = json.loads(json.dumps(worlds.state_dict()))
    other = GridWorlds(worlds=2, radius=2, horizon=6, **options)
    other.load_state_dict(saved)
    for _ in range(15):
        actions = rng.integers(5, size=(2, worlds.num_agents))
        equal_steps(worlds.step(actions), other.step(actions))


def test_seeds():
    def starts(seed):
        obs, _ = worlds.reset(seed=seed)
        return obs.tobytes(), worlds.maps[0].text(), worlds.places.tolist(), worlds.goals.tolist()

    worlds = GridWorlds(worlds=2, maps="warehouse", agents=8)
    one, other = starts(3), starts(4)
    assert one != other
    assert starts(None) != other  # goes on
    assert starts(3) == one  # on maps with @ and $ too
    worlds.reset(seed=[5, 5])
    assert (worlds.places[0] == worlds.places[1]).all()
    for one, same in (([7, 8], np.array([7, 8])), (3, np.int64(3))):
        assert worlds.reset(seed=one)[0].tobytes() == worlds.reset(seed=same)[0].tobytes()


def test_goals_to_come_do_not_depend_on_teammates():
    """Who reaches a goal draws the next; a teammate that is quicker or slower changes nothing of it."""
    sent = []
    for teammate in range(2):
        worlds = GridWorlds(
            maps="...\n...",
            agents=2,
            on_target="restart",
            collision_system="soft",
            horizon=9999,
            observation_type="guided",
        )
        worlds.reset(seed=1)
        goals, rng = [], np.random.default_rng(teammate)
        while len(goals) < 6:
            leads = worlds._observer.leads(worlds._cells())
            step = worlds.step(np.array([[leads[0], rng.integers(5)]]))
            if step.reward[0, 0]:
                goals.append(worlds.goals[0, 0].tolist())
        sent.append(goals)
    assert sent[0] == sent[1]
    assert all(one != other for one, other in zip(sent[0], sent[0][1:], strict=False))


def test_a_team_finishes_one_by_one():
    worlds = GridWorlds(maps="a.A\nb.B", radius=1, horizon=9)
    step = worlds.step(np.array([[RIGHT, STAY]]))
    step = worlds.step(np.array([[RIGHT, RIGHT]]))
    assert step.terminated.tolist() == [[True, False]]
    assert step.reward.tolist() == [[1.0, 0.0]]
    assert step.present.tolist() == [[False, True]]
    assert not step.obs[0, 0].any()  # who has left sees nothing, is seen by no one, and is told once that it ended
    assert step.obs[0, 1, 1].sum() == 1
    step = worlds.step(np.array([[RIGHT, RIGHT]]))
    assert step.terminated.tolist() == [[False, True]]
    assert step.first.tolist() == [True]
    assert step.present.all()
    assert {name: value.tolist() for name, value in step.metrics.items()} == {
        "ISR": [1.0],
        "CSR": [1.0],
        "SoC": [5.0],
        "makespan": [3.0],
        "ep_length": [3.0],
    }


def test_a_horizon_truncates():
    worlds = GridWorlds(maps="a.A\nb.B", horizon=2)
    worlds.step(np.array([[RIGHT, STAY]]))
    step = worlds.step(np.array([[RIGHT, STAY]]))
    assert step.truncated.tolist() == [True]
    assert step.terminated.tolist() == [[True, False]]
    assert step.arrived.tolist() == [[1.0, 0.0]]
    assert step.metrics["CSR"] == 0
    assert step.metrics["ISR"] == 0.5
    assert step.metrics["SoC"] == 4
    assert step.final_obs[0, 1].any()
    assert (step.obs != step.final_obs).any()


def test_throughput_counts_goals_a_step():
    two = Map.of([[0, 0]], starts=[(0, 0)], goals=[[(0, 1), (0, 0)]], horizon=4)
    worlds = GridWorlds(maps=two, on_target="restart")
    steps = [worlds.step(np.array([[action]])) for action in (RIGHT, STAY, LEFT, STAY)]
    assert [step.reward.item() for step in steps] == [1, 0, 1, 0]
    assert steps[-1].metrics["avg_throughput"] == 0.5


def test_absent_agents_are_nowhere():
    worlds = GridWorlds(worlds=64, maps="random", agents=(1, 4), radius=3, horizon=3, observation_type="POMAPF")
    obs, present = worlds.reset(seed=0)
    assert set(present.sum(1).tolist()) == {1, 2, 3, 4}
    for _ in range(4):
        for values in obs.values():
            assert not values[~present].any()
        seen = obs["agents"].sum((2, 3))
        assert (seen[present] >= 1).all()
        assert (seen.max(1) <= present.sum(1)).all()
        step = worlds.step(np.full(present.shape, 4))
        assert not step.reward[~present].any()
        obs, present = step.obs, step.present


def test_what_absent_agents_are_told_to_do_is_ignored():
    worlds = GridWorlds(maps="aA.\nb..\n..B", horizon=9)
    assert worlds.step(np.array([[RIGHT, STAY]])).present.tolist() == [[False, True]]
    assert worlds.step(np.array([[-1, DOWN]])).present.tolist() == [[False, True]]


def test_one_who_has_nowhere_else_to_go_stays_on_its_goal():
    worlds = GridWorlds(maps=Map.of([[0, 1]], starts=[(0, 0)], goals=[[(0, 0)]]), on_target="restart")
    assert [worlds.step(np.array([[STAY]])).reward.item() for _ in range(3)] == [1, 1, 1]


@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 12), st.floats(0, 0.7))
@settings(deadline=None, max_examples=40)
def test_shortest_ways(seed, height, width, density):
    rng = np.random.default_rng(seed)
    free = np.zeros((3, height + 2, width + 2), dtype=bool)
    free[:, 1:-1, 1:-1] = rng.random((3, height, width)) >= density
    if not free.any():
        return
    goals = rng.permutation(np.flatnonzero(free))[:5]
    world, cell = np.divmod(goals, free[0].size)
    steps = distances(free, world, cell)
    actions = downhill(steps, width + 2)
    many = np.arange(40) % len(world)  # as many as are searched for in another way
    np.testing.assert_array_equal(ways(free, world[many], cell[many]), actions[many])
    np.testing.assert_array_equal(ways(free, world, cell), actions)
    labels = components(free).reshape(3, -1)
    for one, at, found, leads in zip(world, cell, steps, actions, strict=True):
        expected = _searched(free[one], at)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(expected < FAR, labels[one] == labels[one, at])
        onward = np.arange(len(found)) + (MOVES @ (width + 2, 1))[leads]
        moves = leads > 0
        np.testing.assert_array_equal(moves, (found > 0) & (found < FAR))
        np.testing.assert_array_equal(found[onward[moves]], found[moves] - 1)


@given(st.integers(0, 2**31), st.sampled_from(["random", "mazes", "rooms"]), st.integers(1, 9))
@settings(deadline=None, max_examples=10)
def test_ways_that_were_found_ahead_are_those_found_anew(seed, maps, agents):
    def made():
        rules = {"on_target": "restart", "collision_system": "soft", "reward": "way", "observation_type": "guided"}
        return GridWorlds(worlds=3, maps=maps, agents=agents, radius=3, horizon=50, **rules)

    worlds, rng, reached = made(), np.random.default_rng(seed), 0
    obs, _ = worlds.reset(seed=seed)
    for time in range(120):
        # To where the way leads, if it is next to oneself, and sometimes anywhere.
        ahead = np.stack([obs[..., 0, 3 + down, 3 + right] == 1 for down, right in MOVES], -1) * [0.1, 1, 1, 1, 1]
        actions = np.where(rng.random((3, agents)) < 0.2, rng.integers(5, size=(3, agents)), ahead.argmax(-1))
        if time % 10 == 9:
            anew = made()
            anew.load_state_dict(worlds.state_dict())
            expected = anew.step(actions)
        step = worlds.step(actions)
        if time % 10 == 9:
            np.testing.assert_array_equal(step.obs, expected.obs)
            np.testing.assert_array_equal(step.reward, expected.reward)
        obs, reached = step.obs, reached + np.nan_to_num(step.metrics["avg_throughput"]).sum()
    assert reached > 0


def _searched(free, start):
    """Search breadth first, cell by cell."""
    width = free.shape[1]
    found, queue = np.full(free.size, FAR), deque([start])
    found[start] = 0
    while queue:
        cell = queue.popleft()
        for step in (-width, width, -1, 1):
            if free.flat[cell + step] and found[cell + step] == FAR:
                found[cell + step] = found[cell] + 1
                queue.append(cell + step)
    return found


def test_the_way_is_drawn_as_far_as_it_is_seen():
    worlds = GridWorlds(maps="a.#B.\n#.#.#\n#...A\nb....", radius=1, observation_type="guided")
    obs, _ = worlds.reset()
    assert obs[0, 0, 0].tolist() == [[-1, -1, -1], [-1, 1, 1], [-1, -1, 1]]
    worlds = GridWorlds(maps="a.#B.\n#.#.#\n#...A\nb....", radius=4, observation_type="guided")
    obs, _ = worlds.reset()
    assert obs[0, 0, 0, 4:8, 4:9].tolist() == [[1, 1, -1, 0, 0], [-1, 1, -1, 0, -1], [-1, 1, 1, 1, 1], [0, 0, 0, 0, 0]]
    assert np.argwhere(obs[0, 0, 2]).tolist() == [[4, 7]]  # the goal of the other
    assert np.argwhere(obs[0, 0, 1]).tolist() == [[4, 4], [7, 4]]


def test_goals_that_agents_share_are_seen():
    both = Map.of([[0, 0, 0]], starts=[(0, 0), (0, 1)], goals=[[(0, 2)], [(0, 2)]])
    obs, _ = GridWorlds(maps=both, radius=2, observation_type="guided").reset()
    assert obs[0, :, 2].sum((1, 2)).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("name", "along", "other", "held", "goal"),
    [
        ("sparse", 0, 0, 0, 1),
        ("dense", -0.01, -0.01, -0.01, 1),
        ("directional", 0.005, 0, 0, 1),
        ("directional_negative", -0.005, -0.01, -0.01, 1),
        ("moving_negative", -0.01, -0.01, -0.005, 1),
        ("way", 0.01, 0, 0, 0.01),  # the last step is one along the way, too
    ],
)
def test_rewards(name, along, other, held, goal):
    worlds = GridWorlds(maps="a.A", reward=name)
    assert [worlds.step(np.array([[action]])).reward.item() for action in (RIGHT, STAY, LEFT)] == [along, held, other]
    worlds.step(np.array([[RIGHT]]))
    assert worlds.step(np.array([[RIGHT]])).reward.item() == goal


def test_a_reward_of_ones_own():
    worlds = GridWorlds(maps="a.A", reward=lambda moved: moved.along * 2.0 - moved.held)
    assert [worlds.step(np.array([[action]])).reward.item() for action in (RIGHT, STAY, LEFT)] == [2, -1, 0]


def test_arrays_are_the_callers_own():
    worlds = GridWorlds(worlds=2, maps="mazes", agents=3, horizon=3)
    steps, kept = [], []
    for _ in range(7):
        steps.append(worlds.step(np.ones((2, 3), dtype=int)))
        kept.append([np.array(values) for values in steps[-1][:7]])
    for step, then in zip(steps, kept, strict=True):
        for values, before in zip(step[:7], then, strict=True):
            np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_target": "stay"}, "there is no on_target 'stay'"),
        ({"collision_system": "hard"}, "there is no collision_system 'hard'"),
        ({"observation_type": "POMAP"}, "did you mean 'POMAPF'"),
        ({"worlds": 0}, "worlds must be a whole number of at least 1"),
        ({"radius": 1.5}, "radius must be a whole number"),
        ({"horizon": 0}, "horizon must be"),
        ({"agents": (3, 2)}, "agents must be a whole number of at least 1, or a pair"),
        ({"maps": "mazess"}, "did you mean 'mazes'"),
        ({"maps": "mazes", "options": {"hight": 9}}, "did you mean 'height'"),
        ({"maps": "mazes", "options": {"height": 0}}, "height must satisfy 1 <= low <= high"),
        ({"maps": "random", "options": {"density": 2}}, "density must satisfy 0 <= low <= high <= 1"),
        ({"maps": "a.A", "options": {"height": 9}}, "those of a generator, but maps name none: leave options out"),
        ({"maps": lambda *_: "a.A"}, "gives a `Map`, such as parse"),
        ({"reward": None}, "there is no reward None"),
        ({"maps": "a.A", "agents": 2}, "there are starts for 1 agents, not for 2"),
        ({"maps": "...\n.#.", "agents": 3}, "3 agents do not fit"),
        ({"reward": "spars"}, "did you mean 'sparse'"),
        ({"maps": "bottleneck", "options": {"corridor": []}}, "corridor must be a whole number or a pair"),
        ({"maps": "bottleneck", "options": {"corridor": "long"}}, "corridor must be a whole number or a pair"),
        ({"maps": "bottleneck", "agents": 40}, "at most 36 agents"),
    ],
)
def test_what_cannot_be(options, message):
    with pytest.raises(UserError, match=message):
        GridWorlds(**options)


@pytest.mark.parametrize(
    ("actions", "message"), [([[5]], "actions must be 0"), ([[0.5]], "actions must be 0"), ([0], "must be of shape")]
)
def test_what_cannot_be_done(actions, message):
    with pytest.raises(UserError, match=message):
        GridWorlds(maps="a.A").step(np.array(actions))


def test_what_cannot_be_restored():
    state = GridWorlds(maps="a.A").state_dict()
    with pytest.raises(UserError, match="the state is of 1 worlds and 1 agents, here are 2 and 1"):
        GridWorlds(maps="a.A", worlds=2).load_state_dict(state)


@pytest.mark.parametrize(
    ("seed", "message"), [([1, 2], "one seed, or 1"), (-1, "at least 0, got -1"), (0.5, "got 0.5"), ("a", "got 'a'")]
)
def test_seeds_that_are_none(seed, message):
    with pytest.raises(UserError, match=message):
        GridWorlds(maps=parse("a.A")).reset(seed=seed)
