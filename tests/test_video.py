"""Videos show an episode step by step, in any environment that draws itself."""

import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from recurra.agents import ActorCritic
from recurra.errors import UserError
from recurra.recipes import video

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")


class Bar(gymnasium.Env):
    """A bar that grows a column with each step, until it fills the picture."""

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = spaces.Box(-1, 1, (1,))
    action_space = spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None, width: int = 12) -> None:
        self.render_mode, self.width = render_mode, width

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.column = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.column += 1
        return np.zeros(1, np.float32), 1.0, self.column == self.width, False, {}

    def render(self) -> Any:
        picture = np.zeros((8, self.width, 3), np.uint8)
        picture[:, : self.column, 0] = 255
        return picture


class Blind(Bar):
    metadata = {"render_modes": []}  # noqa: RUF012


@pytest.fixture(autouse=True)
def registered() -> Any:
    for kind in (Bar, Blind):
        gymnasium.register(f"Filmed{kind.__name__}-v0", entry_point=kind)
    yield
    for kind in (Bar, Blind):
        del gymnasium.registry[f"Filmed{kind.__name__}-v0"]


def agent_of(env: gymnasium.Env) -> ActorCritic:
    torch.manual_seed(0)
    return ActorCritic(env.observation_space, env.action_space, memory="gru", dim=8).eval()


def test_every_step_is_a_frame(tmp_path: Path) -> None:
    options = {"id": "FilmedBar-v0", "width": 12}
    video.check(options)
    video.write(tmp_path / "new" / "bar.gif", agent_of(Bar()), options, seed=0)
    with Image.open(tmp_path / "new" / "bar.gif") as film:
        assert (film.n_frames, film.size, film.info["duration"]) == (13, (12, 8), 50)
        for step in range(13):
            film.seek(step)
            red = np.asarray(film.convert("RGB"))[:, :, 0] > 128
            assert red.all(0).tolist() == [column < step for column in range(12)]
    video.write(tmp_path / "short.gif", agent_of(Bar()), options, seed=0, most=5)
    with Image.open(tmp_path / "short.gif") as film:
        assert film.n_frames == 6


@pytest.mark.parametrize("corridor", [3, 1000])
def test_what_draws_itself_in_text_is_drawn(corridor: int, tmp_path: Path) -> None:
    options = {"id": "recurra.envs:recurra/TMaze-v0", "corridor": corridor}
    video.check(options)
    video.write(tmp_path / "maze.gif", agent_of(gymnasium.make(**options)), options, seed=0, most=20)
    with Image.open(tmp_path / "maze.gif") as film:
        assert film.n_frames > 1
        assert np.asarray(film.convert("L")).min() < 64  # written on it


def test_what_does_not_draw_itself_is_refused() -> None:
    with pytest.raises(UserError, match="FilmedBlind-v0 cannot be filmed: it draws neither rgb_array nor ansi"):
        video.check({"id": "FilmedBlind-v0"})


def test_what_needs_a_package_to_draw_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(UserError, match=r"a video of CartPole-v1 cannot be drawn: .*pygame"):
        video.check({"id": "CartPole-v1"})


def test_a_film_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"id": "FilmedBar-v0"}
    video.write(tmp_path / "bar.gif", agent_of(Bar()), options, seed=0)
    before = (tmp_path / "bar.gif").read_bytes()
    drawn = Bar.render
    monkeypatch.setattr(Bar, "render", lambda self: drawn(self) if self.column < 5 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        video.write(tmp_path / "bar.gif", agent_of(Bar()), options, seed=0)
    assert (tmp_path / "bar.gif").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["bar.gif"]
