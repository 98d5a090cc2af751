"""The HTML report of an evaluation: a table, a plot over the grid, an episode to play."""

import html
import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium

import recurra.envs  # noqa: F401 (registers our environments)
from recurra.agents import ActorCritic
from recurra.errors import UserError
from recurra.recipes.figures import shown

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
 body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
 table {{ border-collapse: collapse; margin: 1rem 0 }} td, th {{ padding: .3rem .8rem; border-bottom: 1px solid #ccc }}
 td {{ text-align: right }} td:first-child {{ text-align: left }} img {{ max-width: 100% }}
 pre {{ font-size: 1.1rem; line-height: 1.3; background: #f6f6f4; padding: 1rem; overflow-x: auto }}
</style>
<h1>{title}</h1>
{body}
</html>
"""

_PLAYER = """<h2>An episode</h2>
<pre id="frame"></pre>
<p><button id="play">Pause</button> <input id="at" type="range" min="0" value="0"> <span id="said"></span></p>
<script>
const frames = {frames};
const frame = document.getElementById("frame"), at = document.getElementById("at");
const said = document.getElementById("said"), play = document.getElementById("play");
let going = true;
at.max = frames.length - 1;
function show() {{
  const [picture, text] = frames[+at.value];
  frame.textContent = picture; said.textContent = text;
}}
at.oninput = show;
play.onclick = () => {{ going = !going; play.textContent = going ? "Pause" : "Play"; }};
setInterval(() => {{ if (going) {{ at.value = (+at.value + 1) % frames.length; show(); }} }}, 250);
show();
</script>
"""


def check(folder: str) -> None:
    """Make sure, before the work, that a report can be written.

    Raises:
        UserError: if matplotlib is missing, or the path is a file's.
    """
    if find_spec("matplotlib") is None:
        raise UserError("a report needs matplotlib: pip install 'recurra[report]'")
    if Path(folder).exists() and not Path(folder).is_dir():
        raise UserError(f"{folder} is a file: name a folder for the report")
    Path(folder).mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise UserError(f"{folder} cannot be written to")


def write(
    folder: str, result: dict[str, Any], grid: list[str], agent: ActorCritic, options: dict[str, Any], *, seed: int
) -> Path:
    """Write the report; give the page's path.

    Args:
        folder: where; made where it is missing.
        result: what `recurra.recipes.evaluate` found.
        grid: the options that the rows differ in.
        agent: plays the episode that is shown.
        options: the environment's for that episode, its id among them.
        seed: of that episode.
    """
    page = Path(folder, "index.html")
    body = [_table(result["rows"], grid)]
    axis = next((name for name in grid if all(isinstance(row[name], int | float) for row in result["rows"])), None)
    if axis is not None:
        plot(result["rows"], grid, axis, Path(folder, "plot.svg"))
        body.append(f'<img src="plot.svg" alt="by {html.escape(axis)}">')
    frames = _frames(agent, dict(options), seed)
    if frames:
        # A page may not end its script early, whatever an environment draws.
        body.append(_PLAYER.format(frames=json.dumps(frames).replace("<", "\\u003c")))
    page.write_text(_PAGE.format(title=html.escape(f"{result['run']} in {result['env']}"), body="\n".join(body)))
    return page


def plot(rows: list[dict[str, Any]], grid: list[str], axis: str, path: Path) -> None:
    """Draw success (or return, where there is no success) over a numeric option.

    There is a line for each run and for each combination of the grid's other options.
    """
    from matplotlib.figure import Figure

    figure = "success_rate" if all(row["success_rate"] is not None for row in rows) else "mean_return"
    canvas = Figure(figsize=(7, 3.6), layout="constrained")
    axes = canvas.subplots()
    runs = {row["run"]: row["memory"] for row in rows}
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        alone = list(runs.values()).count(row["memory"]) == 1
        label = row["memory"] if alone else f"{row['memory']} ({row['run']})"
        label += "".join(f", {name} {row[name]}" for name in grid if name != axis)
        lines.setdefault(label, []).append((row[axis], row[figure]))
    for label, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=label)
    values = [row[axis] for row in rows]
    if min(values) > 0 and max(values) > 10 * min(values):
        axes.set_xscale("log")
    if figure == "success_rate":
        axes.set_ylim(-0.03, 1.03)
    axes.set(xlabel=axis, ylabel=figure.replace("_", " "))
    axes.grid(alpha=0.3)
    axes.legend()
    canvas.savefig(path)


def _table(rows: list[dict[str, Any]], grid: list[str]) -> str:
    names = ["run", "memory", *grid, "episodes", "success_rate", "mean_return", "std_return", "mean_length"]
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in names)
    lines = ("".join(f"<td>{html.escape(shown(row[name]))}</td>" for name in names) for row in rows)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _frames(agent: ActorCritic, options: dict[str, Any], seed: int, most: int = 500) -> list[tuple[str, str]]:
    """Play one episode and keep its pictures, where the environment draws itself in text."""
    name = options.pop("id")
    env = gymnasium.make(name, **options)
    modes = env.metadata.get("render_modes", ())
    env.close()
    if "ansi" not in modes:
        return []
    env = gymnasium.make(name, render_mode="ansi", **options)
    obs, _ = env.reset(seed=seed)
    state, first, total = None, True, 0.0
    frames = [(str(env.render()), "step 0")]
    while len(frames) < most:
        action, state = agent.act(obs, state, first)
        first = False
        obs, reward, terminated, truncated, info = env.step(action)
        total += float(reward)
        said = f"step {len(frames)}, action {action}, return {total:.3f}"
        if "is_success" in info:
            said += ", success" if info["is_success"] else ", failure"
        frames.append((str(env.render()), said))
        if terminated or truncated:
            break
    env.close()
    return frames
