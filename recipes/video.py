"""Moving pictures (GIF) of episodes, in any environment that draws itself: as a picture, or in text."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from recurra.agents import Acting
from recurra.envs.making import make_single
from recurra.errors import UserError
from recurra.files import whole


def check(options: dict[str, Any]) -> None:
    """Make sure, before the work, that an environment can be filmed.

    Args:
        options: the environment's, its id among them.

    Raises:
        UserError: if it does not draw itself, or a package is missing.
    """
    if find_spec("PIL") is None or find_spec("matplotlib") is None:
        raise UserError("a video needs pillow and matplotlib: pip install 'recurra[report]'")
    env = _make(options)
    try:
        env.reset(seed=0)
        env.render()
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(f"a video of {options['id']} cannot be drawn: {error}") from error
    finally:
        env.close()


def write(
    path: Path, agent: Acting, options: dict[str, Any], *, seed: int, sample: bool = False, most: int = 1000
) -> None:
    """Play an episode and write what it looked like.

    Args:
        path: of the GIF; its folder is made where it is missing.
        agent: who acts.
        options: the environment's, its id among them.
        seed: of the episode.
        sample: draw actions instead of taking the likeliest.
        most: after how many steps to stop.
    """
    env = _make(options)
    per_second = min(env.metadata.get("render_fps") or 30, 50)  # browsers slow down what is faster
    frames: Iterator[Any] = _frames(env, agent, seed, sample, most)
    try:
        if env.render_mode == "ansi":
            frames = _drawn(list(frames))
        from PIL import Image

        pictures = (Image.fromarray(np.asarray(frame, np.uint8)) for frame in frames)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as scratch:
            next(pictures).save(
                scratch, "GIF", save_all=True, append_images=pictures, duration=round(1000 / per_second), loop=0
            )
    finally:
        env.close()


def _make(options: dict[str, Any]) -> gymnasium.Env:
    plain = make_single(**options)
    modes = plain.metadata.get("render_modes") or ()
    plain.close()
    mode = next((mode for mode in ("rgb_array", "ansi") if mode in modes), None)
    if mode is None:
        raise UserError(f"{options['id']} cannot be filmed: it draws neither rgb_array nor ansi")
    return make_single(**options, render_mode=mode)


def _frames(env: gymnasium.Env, agent: Acting, seed: int, sample: bool, most: int) -> Iterator[Any]:
    obs, _ = env.reset(seed=seed)
    yield env.render()
    state, over, reward = None, False, 0.0
    for _ in range(most):
        action, state = agent.act(obs, state, reward=reward, greedy=not sample)
        obs, earned, terminated, truncated, _ = env.step(action)
        reward = float(earned)
        over = terminated or truncated
        yield env.render()
        if over:
            return


def _drawn(texts: list[str]) -> Iterator[np.ndarray]:
    """Draw texts, all on sheets of one size."""
    from matplotlib import get_data_path
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSansMono.ttf")), 16)
    rows = max(text.count("\n") + 1 for text in texts)
    columns = max(len(line) for text in texts for line in text.split("\n"))
    size = (round(font.getlength("m") * columns) + 20, 20 * rows + 20)
    for text in texts:
        sheet = Image.new("RGB", size, "white")
        ImageDraw.Draw(sheet).multiline_text((10, 10), text, fill="black", font=font)
        yield np.asarray(sheet)
