"""Animations show what happened: every attribute, at every step, is where the world was."""

from xml.etree import ElementTree

import numpy as np
import pytest

from recurra.envs.grid import GridWorlds, Map, Recording
from recurra.errors import UserError

SVG = "{http://www.w3.org/2000/svg}"
STAY, UP, DOWN, LEFT, RIGHT = range(5)


def value(element, name, time):
    """Give an attribute at a time from 0 to 1, as a browser plays it."""
    for animate in element.findall(f"{SVG}animate"):
        if animate.get("attributeName") != name:
            continue
        times = [float(part) for part in animate.get("keyTimes").split(";")]
        values = [float(part) for part in animate.get("values").split(";")]
        assert times[0] == 0
        assert times[-1] == 1
        assert times == sorted(times)
        assert len(times) == len(values)
        if animate.get("calcMode") == "discrete":
            return values[int(np.searchsorted(times, time + 1e-4, side="right")) - 1]
        return float(np.interp(time, times, values))
    return float(element.get(name, 1))


def agents_of(drawing):
    return [circle for circle in drawing.iter(f"{SVG}circle") if circle.find(f"{SVG}title") is not None]


def goals_of(drawing):
    return [circle for circle in drawing.iter(f"{SVG}circle") if circle.find(f"{SVG}title") is None]


@pytest.mark.parametrize("on_target", ["finish", "nothing", "restart"])
def test_every_step_is_shown(on_target):
    worlds = GridWorlds(
        worlds=2, maps="random", agents=(3, 5), on_target=on_target, collision_system="soft", radius=1, horizon=30
    )
    worlds.reset(seed=0)
    recording, rng = Recording(worlds, world=1), np.random.default_rng(0)
    frames = [worlds.frame(1)]
    while not recording.over:
        recording.add(worlds.step(rng.integers(5, size=(2, 5))))
        frames.append(worlds.frame(1))
    recording.add(worlds.step(rng.integers(5, size=(2, 5))))  # of the next episode
    drawing = ElementTree.fromstring(recording.svg(rest=0))
    team = int(frames[0].member.sum())
    assert len(agents_of(drawing)) == len(goals_of(drawing)) == team
    last = len(frames) - 1
    for number, frame in enumerate(frames):
        for agent, (circle, goal) in enumerate(zip(agents_of(drawing), goals_of(drawing), strict=True)):
            for shape, cells in ((circle, frame.places), (goal, frame.goals)):
                place = [value(shape, name, number / last) for name in ("cy", "cx")]
                assert place == pytest.approx((cells[agent] * 20 + 10).tolist(), abs=0.1)
            there = frame.present[agent] or number == 0 or frames[number - 1].present[agent]
            assert value(circle, "opacity", number / last) == there


def test_walls_and_ways():
    obstacles = np.array([[0, 1, 1], [0, 0, 0]], dtype=bool)
    worlds = GridWorlds(maps=Map.of(obstacles, starts=[(0, 0)], goals=[[(1, 2)]], name="one & two"))
    recording = Recording(worlds)
    for action in (DOWN, STAY, RIGHT, RIGHT):
        recording.add(worlds.step(np.array([[action]])))
    drawing = ElementTree.fromstring(recording.svg(steps_per_second=2, rest=0))
    assert drawing.find(f"{SVG}title").text == "one & two"
    assert drawing.find(f"{SVG}path").get("d") == "M20 0h40v20h-40z"
    assert drawing.find(f"{SVG}polyline").get("points") == "10,10 10,30 30,30 50,30"
    assert {animate.get("dur") for animate in drawing.iter(f"{SVG}animate")} == {"2s"}
    assert {animate.get("repeatCount") for animate in drawing.iter(f"{SVG}animate")} == {"indefinite"}


def test_attention_to_teammates(tmp_path):
    worlds = GridWorlds(maps="a.A\nb.B\nc.C", horizon=3)
    recording = Recording(worlds)
    for number in range(3):
        heeds = np.zeros((3, 3))
        heeds[0, 1] = number / 2
        recording.add(worlds.step(np.array([[STAY, RIGHT, STAY]])), attention=heeds)
    drawing = ElementTree.fromstring(recording.save(tmp_path / "team.svg", rest=0).read_text())
    (line,) = drawing.iter(f"{SVG}line")
    assert [value(line, "stroke-opacity", number / 3) for number in range(3)] == [0, 0.5, 1]
    assert [value(line, "x2", number / 3) for number in range(4)] == pytest.approx([10, 30, 50, 50], abs=0.01)
    assert not list(ElementTree.fromstring(recording.svg(watched=[1, 2])).iter(f"{SVG}line"))


def test_the_end_is_seen_before_it_begins_anew():
    worlds = GridWorlds(maps="a.A")
    recording = Recording(worlds)
    for _ in range(2):
        recording.add(worlds.step(np.array([[RIGHT]])))
    drawing = ElementTree.fromstring(recording.svg(steps_per_second=2, rest=3))
    (agent,) = agents_of(drawing)
    assert {animate.get("dur") for animate in drawing.iter(f"{SVG}animate")} == {"4s"}
    assert [value(agent, "cx", time) for time in (0, 0.125, 0.25, 0.5, 1)] == pytest.approx([10, 30, 50, 50, 50])
    assert value(agent, "opacity", 0.99) == 1


def test_what_cannot_be_drawn():
    worlds = GridWorlds(maps="a.A", horizon=9)
    recording = Recording(worlds)
    step = recording.add(worlds.step(np.array([[STAY]])))
    with pytest.raises(UserError, match="must be of shape"):
        recording.add(step, attention=np.zeros(2))
    with pytest.raises(UserError, match="no agent 3"):
        recording.svg(watched=[3])
    with pytest.raises(UserError, match="must be positive"):
        recording.svg(steps_per_second=0)
    with pytest.raises(UserError, match="rest must be at least 0"):
        recording.svg(rest=-1)
    recording = Recording(worlds)
    recording.add(step)
    recording.add(step, attention=np.zeros((1, 1)))
    with pytest.raises(UserError, match="with every step"):
        recording.svg()
