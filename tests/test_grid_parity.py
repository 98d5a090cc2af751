"""Step by step what the package `pogema` gives (1.4 or 2.0), for the same maps, starts, goals and actions.

But for its defects, each told where it is left out:

- under `soft`, agents that follow each other vanish from observations (`observed`);
- who has finished stays terminated, and goes on observing, in every later step (`compare`, `check`);
- `ep_length` of `finish` is the mean of agents' own lengths (`told`);
- on maps with `@` and `$`, a new goal avoids a cell that is not the agent's own (the last test);
- places must be Python's own ints, and lifelong goals lists of at least two, so that is what it is given (`original`);
- seeds of `reset` do nothing in 1.4, so that its instances are compared by the seed of its configuration.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pogema = pytest.importorskip("pogema")

from recurra.envs.grid import GridWorlds, Map, PogemaWorlds, parse, pogema_instance  # noqa: E402
from recurra.envs.grid.movement import MOVES  # noqa: E402
from recurra.errors import UserError  # noqa: E402
from recurra.recipes import evaluate  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of old wrappers, and of agents that run out of goals


@st.composite
def cases(draw):
    """Draw the rules, and some worlds of different maps and teams."""
    rules = {
        "on_target": draw(st.sampled_from(["finish", "nothing", "restart"])),
        "collision_system": draw(st.sampled_from(["priority", "block_both", "soft"])),
        "observation_type": draw(st.sampled_from(["default", "POMAPF", "MAPF"])),
    }
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    maps = []
    for _ in range(draw(st.integers(1, 3))):
        obstacles = rng.random((draw(st.integers(1, 7)), draw(st.integers(2, 7)))) < draw(st.floats(0, 0.6))
        obstacles.flat[rng.permutation(obstacles.size)[:2]] = False
        free = np.argwhere(~obstacles)
        starts = rng.permutation(free)[: draw(st.integers(1, 12))]
        goals = [
            rng.choice(free, size=int(rng.integers(2, 5)) if rules["on_target"] == "restart" else 1) for _ in starts
        ]
        maps.append(Map(obstacles, starts=starts, goals=tuple(goals), horizon=draw(st.integers(1, 25))))
    return rules, draw(st.integers(1, 4)), maps, rng


def original(map, rules, radius):
    goals = [goals.tolist() for goals in map.goals]
    config = pogema.GridConfig(
        map=map.obstacles.astype(int).tolist(),
        agents_xy=map.starts.tolist(),
        targets_xy=goals if rules["on_target"] == "restart" else [each[0] for each in goals],
        num_agents=len(map.starts),
        obs_radius=radius,
        max_episode_steps=map.horizon,
        **rules,
    )
    return pogema.pogema_v0(config)


def observed(env, obs, rules):
    """Give the original's observations; but under `soft`, agents that follow each other vanish from them."""
    if rules["collision_system"] == "soft":
        # It moves agents one by one and clears the cell behind each, though the one that follows is there already.
        grid = env.unwrapped.grid
        grid.positions[:] = 0
        for agent, cell in enumerate(grid.positions_xy):
            grid.positions[cell] += grid.is_active[agent]
        obs = env.unwrapped._obs()
    return obs


def compare(ours, obs, present, world, radius):
    for agent in np.flatnonzero(present):  # who has finished goes on observing there: it is not to act upon it
        theirs = obs[agent]
        if not isinstance(ours, dict):
            np.testing.assert_array_equal(ours[world, agent], theirs)
            continue
        assert theirs.keys() == ours.keys()
        for name, values in theirs.items():
            if name == "global_obstacles":  # ours has room for the largest map
                part = ours[name][world]
                rows, columns = values.shape
                np.testing.assert_array_equal(part[:rows, :columns], values)
                assert not part[rows:].any()
                assert not part[:, columns:].any()
            else:
                np.testing.assert_array_equal(ours[name][world, agent], values)


def told(metrics, world, agents, on_target):
    ours = {name: values[world] for name, values in metrics.items()}
    if on_target == "finish":
        # Its ep_length is the mean of agents' own lengths there, and SoC and makespan are not told.
        ours["ep_length"] = ours.pop("SoC") / agents
        del ours["makespan"]
    if on_target == "restart":
        del ours["ep_length"]  # not told there
    return ours


def check(case):
    rules, radius, maps, rng = case
    originals = [original(map, rules, radius) for map in maps]
    turns = iter(maps * 99)
    most = max(len(map.starts) for map in maps)
    worlds = GridWorlds(worlds=len(maps), maps=lambda *_: next(turns), radius=radius, agents=(1, most), **rules)
    obs, present = worlds._observe(), worlds.present
    for world, env in enumerate(originals):
        compare(obs, env.reset()[0], present[world], world, radius)
        assert present[world].sum() == len(maps[world].starts)
    running = set(range(len(maps)))
    while running:
        actions = rng.integers(5, size=(len(maps), most))
        step = worlds.step(actions)
        for world in sorted(running):
            env, agents = originals[world], len(maps[world].starts)
            acted = present[world, :agents]
            theirs, rewards, terminated, truncated, infos = env.step(actions[world, :agents].tolist())
            theirs = observed(env, theirs, rules)
            still = [info["is_active"] for info in infos]
            # Who has finished stays terminated there in every later step.
            assert step.terminated[world, :agents].tolist() == (np.array(terminated) & acted).tolist()
            assert step.reward[world, :agents].tolist() == rewards
            assert [step.truncated[world]] * agents == truncated
            over = all(terminated) or all(truncated)
            assert step.first[world] == over
            if not over:
                assert step.present[world].tolist() == still + [False] * (most - agents)
                assert worlds.places[world, :agents].tolist() == [
                    [x - radius, y - radius] for x, y in env.unwrapped.grid.positions_xy
                ]
            compare(step.final_obs, theirs, np.array(still), world, radius)
            if over:
                running.remove(world)
                assert told(step.metrics, world, agents, rules["on_target"]) == pytest.approx(infos[0]["metrics"])
        present = step.present


@given(cases())
@settings(deadline=None, max_examples=200)
def test_steps_are_equal(case):
    check(case)


@pytest.mark.slow
@given(cases())
@settings(deadline=None, max_examples=1000)
def test_steps_are_equal_in_a_thousand_cases(case):
    check(case)


@given(st.integers(0, 10**6), st.booleans(), st.integers(1, 6))
@settings(deadline=None, max_examples=30)
def test_instances_are_those_that_seeds_draw(seed, marked, agents):
    """Starts, first goals, and goals to come; on maps with @ and $, where the original shuffles its own lists."""
    rng = np.random.default_rng(seed)
    symbols = list(".#@$!") if marked else list("...#")
    text = "\n".join("".join(rng.choice(symbols, size=9)) for _ in range(8))
    if marked:
        text += "\n@@@@@@$$$\n@$$$.....\n"
    config = pogema.GridConfig(map=text, num_agents=agents, seed=seed, on_target="restart", max_episode_steps=60)
    env = pogema.pogema_v0(config)
    try:
        env.reset()
    except (KeyError, OverflowError, ValueError):
        return
    ours = pogema_instance(parse(text), agents, seed, goals=4)
    assert ours.starts.tolist() == env.get_agents_xy(ignore_borders=True)
    assert [goals[0].tolist() for goals in ours.goals] == env.get_targets_xy(ignore_borders=True)
    if not marked:  # there it avoids a cell that is not where the agent stands, its coordinates being those of the rim
        theirs = env.unwrapped.get_lifelong_targets_xy(ignore_borders=True)
        for one, other in zip(ours.goals, theirs, strict=True):
            assert one.tolist()[: len(other)] == [list(cell) for cell in other][:4]


@given(
    st.sampled_from(["finish", "nothing", "restart"]),
    st.sampled_from(["priority", "block_both"]),  # under soft, the package's own observations miss agents
    st.sampled_from(["default", "POMAPF", "MAPF", "guided"]),
    st.integers(0, 10**6),
)
@settings(deadline=None, max_examples=40)
def test_the_package_is_met_as_our_own_worlds_are(on_target, collision_system, observation_type, seed):
    """With its own instances, drawn from seeds; the next episodes are of the next seeds."""
    rng = np.random.default_rng(seed)
    map = Map(rng.random((7, 9)) < 0.2)
    rules = {"on_target": on_target, "collision_system": collision_system}
    theirs = PogemaWorlds.make(
        worlds=2,
        observation_type=observation_type,
        map=map.obstacles.astype(int).tolist(),
        num_agents=3,
        obs_radius=2,
        max_episode_steps=8,
        **rules,
    )
    seeds = iter(range(seed, seed + 99))
    goals = 99 if on_target == "restart" else 1
    ours = GridWorlds(
        worlds=2,
        maps=lambda *_: pogema_instance(map, 3, next(seeds), goals=goals),
        agents=3,
        observation_type=observation_type,
        radius=2,
        horizon=8,
        **rules,
    )
    seeds = iter(range(seed, seed + 99))
    (obs, _), (own, _) = theirs.reset(seed=seed), ours.reset()
    assert theirs.observation_space == ours.observation_space
    equal(obs, own)
    while True:
        actions = rng.integers(5, size=(2, 3))
        one, other = theirs.step(actions), ours.step(actions)
        for name in ("reward", "terminated", "truncated", "first", "arrived", "metrics", "final_obs"):
            equal(getattr(one, name), getattr(other, name))
        if one.first.all() or not one.first.any():  # who ends apart takes the next seed in another order
            equal(one.obs, other.obs)
            equal(one.present, other.present)
        if one.first.any():
            return


@given(
    st.sampled_from(["finish", "nothing", "restart"]),
    st.sampled_from(["priority", "block_both", "soft"]),
    st.sampled_from(["mazes", "warehouse", "bottleneck", "..A.\na.#b\nB...", "@.$\n.!.\n@.$"]),
    st.integers(0, 10**6),
)
@settings(deadline=None, max_examples=12)
def test_episodes_of_our_own_worlds_are_played_in_the_package(on_target, collision_system, maps, seed):
    """Goals to come among them, though ours are drawn in another way than its own."""
    rules = {"on_target": on_target, "collision_system": collision_system, "observation_type": "guided"}
    ours = GridWorlds(worlds=2, maps=maps, agents=2, radius=2, horizon=30, **rules)
    ours.reset(seed=seed)
    theirs = PogemaWorlds.like(ours)
    (own, _), (obs, _) = ours.reset(seed=seed), theirs.reset(seed=seed)
    equal(obs, own)
    rng, going = np.random.default_rng(seed), np.ones(2, dtype=bool)
    while going.any():
        ahead = np.stack([own[..., 0, 2 + down, 2 + right] == 1 for down, right in MOVES], -1) * [0.1, 1, 1, 1, 1]
        actions = np.where(rng.random((2, 2)) < 0.2, rng.integers(5, size=(2, 2)), ahead.argmax(-1))
        one, other = ours.step(actions), theirs.step(actions)
        for name in ("reward", "terminated", "truncated", "first", "arrived", "final_obs"):
            equal(getattr(one, name)[going], getattr(other, name)[going])
        for name, values in one.metrics.items():
            equal(values[going & one.first], other.metrics[name][going & one.first])
        going &= ~one.first
        own = one.obs


@pytest.mark.parametrize("asked", [{"protocol": "bottleneck", "lengths": [3, 12]}, {"protocol": "pogema"}])
def test_a_trained_team_does_there_what_it_does_here(asked, tmp_path):
    asked = {"kinds": ["puzzles"], "sizes": [2, 3]} | asked if asked["protocol"] == "pogema" else asked
    ours, theirs = (evaluate("bottleneck-sparse", episodes=3, in_pogema=there, **asked) for there in (False, True))
    assert theirs["env"] == f"{ours['env']} in pogema {pogema.__version__}"
    for one, other in zip(ours["rows"], theirs["rows"], strict=True):
        for name in ("CSR", "ISR", "SoC", "avg_throughput", "mean_length"):
            assert one.get(name) == other.get(name)


def test_teams_there_are_of_one_size():
    worlds = GridWorlds(worlds=9, agents=(1, 3))
    worlds.reset(seed=0)
    with pytest.raises(UserError, match="give agents as one number, not 1 to 3"):
        PogemaWorlds.like(worlds)


def equal(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    else:
        np.testing.assert_array_equal(one, other)


def test_lists_of_places_are_not_shuffled_away():
    worlds = PogemaWorlds.make(map="@@@@@.$$$$$", num_agents=2)
    worlds.reset(seed=3)
    first = worlds.frame(0)
    worlds.reset(seed=4)
    worlds.reset(seed=3)
    assert worlds.frame(0).places.tolist() == first.places.tolist()
    assert worlds.frame(0).goals.tolist() == first.goals.tolist()


def test_what_the_package_refuses():
    with pytest.raises(UserError, match="pogema refuses the configuration"):
        PogemaWorlds.make(size=1)
    with pytest.raises(UserError, match="pogema cannot begin"):
        PogemaWorlds.make(map="..#", num_agents=2)
    with pytest.raises(UserError, match="did you mean 'guided'"):
        PogemaWorlds.make(observation_type="guide")
    with pytest.raises(UserError, match="the environments do not show 'MAPF'"):
        PogemaWorlds([pogema.pogema_v0(pogema.GridConfig())], observation_type="MAPF")
    with pytest.raises(UserError, match="actions must be 0"):
        PogemaWorlds.make().step(np.array([[7]]))
    one, two = (pogema.pogema_v0(pogema.GridConfig(num_agents=agents)) for agents in (1, 2))
    with pytest.raises(UserError, match="equal numbers of agents"):
        PogemaWorlds([one, two])
