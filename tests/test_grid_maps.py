"""Maps: symbols, files, generators, and those of POGEMA's benchmark to the cell."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.envs.grid import GENERATORS, GridWorlds, Map, parse, read, validation
from recurra.envs.grid.maps import plain, unplain
from recurra.envs.grid.placing import labelled, place
from recurra.errors import UserError


def test_letters_are_starts_and_goals():
    map = parse("b.A\n#a.\nB..")
    assert map.starts.tolist() == [[1, 1], [0, 0]]
    assert [goals.tolist() for goals in map.goals] == [[[0, 2]], [[2, 0]]]
    assert map.obstacles.sum() == 1
    assert GridWorlds(maps=map).num_agents == 2


def test_marks_are_where_starts_and_goals_may_be():
    map = parse("@$!.#")
    assert map.may_start.tolist() == [[True, False, False, True, False]]
    assert map.may_goal.tolist() == [[False, True, False, True, False]]
    rng = np.random.default_rng(0)
    drawn = {tuple(np.concatenate(place(map, 1, rng)).tolist()) for _ in range(99)}
    assert drawn == {(0, 1), (0, 3), (3, 1)}
    corner = Map(np.zeros((2, 2), dtype=bool), may_goal=np.array([[True, False], [False, False]]))
    assert {tuple(np.concatenate(place(corner, 1, rng)).tolist()) for _ in range(99)} == {(1, 0), (2, 0), (3, 0)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this one has none"),
        ("..\n...", "row 2: 3 cells, but the first row has 2"),
        ("..?", r"'\?' is no symbol"),
        ("é", "is no symbol"),
        ("a..", "'a' has no goal: put a 'A'"),
        ("A..", "'A' has no start: put a 'a'"),
        ("a.a", "'a' stands twice"),
        ("aA@", "one or the other"),
    ],
)
def test_text_that_is_no_map(text, message):
    with pytest.raises(UserError, match=message) as told:
        parse(text)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"starts": [(0, 0)]}, "give both"),
        ({"starts": [(0, 0)], "goals": [[(0, 2)]]}, r"the goal \(0, 2\) lies outside the 2 by 2 map"),
        ({"starts": [(-1, 0)], "goals": [[(0, 0)]]}, r"the start \(-1, 0\) lies outside"),
        ({"starts": [(0, 1)], "goals": [[(0, 0)]]}, r"the start \(0, 1\) is an obstacle"),
        ({"starts": [(0, 0), (0, 0)], "goals": [[(1, 0)], [(1, 1)]]}, "two agents start in one cell"),
        ({"starts": [(0, 0)], "goals": []}, "1 starts, but goals for 0"),
        ({"starts": [(0, 0)], "goals": [[]]}, "an agent has no goal"),
        ({"starts": [(0, 0, 1)], "goals": [[(0, 0)]]}, "a start is a pair"),
        ({"starts": [(0, 0)], "goals": ["here"]}, "pairs"),
    ],
)
def test_starts_and_goals_that_do_not_fit(given, message):
    with pytest.raises(UserError, match=message):
        Map.of([[0, 1], [0, 0]], **given)


def test_numbers_of_any_kind_are_places():
    cells = np.array([[0, 0]], dtype=np.int32)
    assert Map.of([[0, 0]], starts=cells, goals=[cells]).starts.tolist() == [[0, 0]]


def test_files(tmp_path):
    text = tmp_path / "mine.txt"
    text.write_text("a.A\n")
    (one,) = read(text)
    assert one.name == "mine"
    assert GridWorlds(maps=str(text)).num_agents == 1
    several = tmp_path / "maps.yaml"
    several.write_text("left: |-\n  .#\n  ..\nright: |-\n  #..\n")
    maps = read(several)
    assert [map.name for map in maps] == ["left", "right"]
    moving = tmp_path / "street.map"
    moving.write_text("type octile\nheight 2\nwidth 3\nmap\n.@G\nT.W\n")
    assert read(moving)[0].text() == ".#.\n#.#"
    seen = {map.text() for map in GridWorlds(worlds=20, maps=str(several)).maps}
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.txt", "..\n.", "row 2: 1 cells"),
        ("bad.txt", "", "has none"),
        ("bad.txt", b"\xff\xfe", "cannot be read as a map"),
        ("bad.yaml", "a: [", "is not YAML"),
        ("bad.yaml", "- ..", "names with a map's text"),
        ("bad.yaml", "one: 3", "names with a map's text"),
        ("bad.yaml", "one: |-\n  .x.", "bad.yaml: one"),
        ("bad.map", "..", "begins with type"),
        ("bad.map", "type octile\nheight 2\nwidth 3\nmap\n...\n", "the header says 2 by 3"),
        ("bad.map", "type octile\nheight 1\nwidth 3\nmap\n.x.\n", "'x' is no terrain"),
    ],
)
def test_files_that_are_no_maps(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as told:
        GridWorlds(maps=str(path))
    assert "\n" not in str(told.value)
    assert name in str(told.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        GridWorlds(maps=str(tmp_path / "none.yaml"))


@given(st.sampled_from(sorted(GENERATORS)), st.integers(0, 2**31))
@settings(deadline=None, max_examples=60)
def test_generators_give_maps_that_the_benchmarks_teams_fit_on(kind, seed):
    rng = np.random.default_rng(seed)
    drawn = GENERATORS[kind]
    map = drawn.draw(rng, drawn.agents[0])
    again = drawn.draw(np.random.default_rng(seed), drawn.agents[0])
    assert again.text() == map.text()
    if map.starts is None and kind != "random":
        assert place(map, drawn.agents[0], rng) is not None
    if kind in ("rooms", "puzzles", "warehouse", "bottleneck"):
        labels = labelled(map)
        assert len(np.unique(labels[labels >= 0])) == 1
    restored = unplain(json.loads(json.dumps(plain(map))))
    assert plain(restored) == plain(map)


@pytest.mark.parametrize("kind", sorted(GENERATORS))
def test_the_benchmarks_largest_teams_fit(kind):
    agents = GENERATORS[kind].agents[-1]
    worlds = GridWorlds(worlds=3, maps=kind, agents=agents, on_target="restart", collision_system="soft", radius=1)
    worlds.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(5):
        worlds.step(rng.integers(5, size=(3, agents)))
    for map, places in zip(worlds.maps, worlds.places, strict=True):
        assert len({tuple(place) for place in places.tolist()}) == agents
        assert not map.obstacles[places[:, 0], places[:, 1]].any()


def test_random_maps_have_as_many_obstacles_as_they_are_to_have():
    rng = np.random.default_rng(0)
    assert GENERATORS["random"].draw(rng, 1, height=10, width=7, density=0.3).obstacles.sum() == 21


def test_corridors():
    """Two rooms of 2 by 9, a corridor of L cells, the agents in different rooms and on the way to the other's."""
    for length in (1, 3, 1000):
        map = GENERATORS["bottleneck"].draw(np.random.default_rng(length), 2, corridor=length)
        assert map.text() == "\n".join([".........", "........."] + ["####.####"] * length + ["........."] * 2)
        assert map.horizon == 2 * length + 100
        assert map.starts[0, 0] < 2
        assert map.starts[1, 0] >= length + 2
        assert map.goals[0][0, 0] >= length + 2
        assert map.goals[1][0, 0] < 2
    lengths = {GENERATORS["bottleneck"].draw(np.random.default_rng(seed), 2).height - 4 for seed in range(200)}
    assert lengths == {3, 4, 5, 6, 7, 8, 12, 16, 17, 18, 20, 21, 22, 23, 24, 27}
    low, high = 5, 9
    drawn = [GENERATORS["bottleneck"].draw(np.random.default_rng(seed), 2, corridor=(low, high)) for seed in range(60)]
    assert {map.height - 4 for map in drawn} == set(range(low, high + 1))


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        ("random", "d412aa6acc9d6883919c4074bcf7b7cad7272b408ee0eaefe13221acac9f3aa4"),
        ("mazes", "6aea47bfda547683810d0a01d756c697839fb3eb48a7f210aaf0e7f528abe916"),
    ],
)
def test_validation_maps_are_the_benchmarks(kind, known):
    """All 128, as the files 01-random/maps.yaml and 02-mazes/maps.yaml of pogema-benchmark hold them."""
    text = "\n\n".join(validation(kind, seed).text() for seed in range(128))
    assert hashlib.sha256(text.encode()).hexdigest() == known


def test_the_warehouse_is_the_benchmarks():
    """As 03-warehouse/maps.yaml of pogema-benchmark holds it."""
    map = GENERATORS["warehouse"].draw(np.random.default_rng(0), 1)
    kinds = np.select([map.obstacles, map.may_start, map.may_goal], ["#", "@", "$"], "!")
    text = "\n".join("".join(row) for row in kinds)
    known = "0d4407bf968989567ce1596d819eb31d5f5b141b99cc6efe3bf4c5e67e60341c"
    assert hashlib.sha256(text.encode()).hexdigest() == known


def test_validation_maps_of_other_kinds_are_not_drawn():
    with pytest.raises(UserError, match="not of 'puzzles'"):
        validation("puzzles", 0)
