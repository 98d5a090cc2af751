"""The HTML report of an evaluation: a table, a plot over the grid, an episode to play."""

import html
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recurra.errors import UserError
from recurra.files import writable
from recurra.recipes.episode import Recording
from recurra.recipes.figures import shown

#: What a report's page looks like: its title, and its body.
PAGE = """<!doctype html>
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

_PLAYER = """<pre id="frame"></pre>
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
        UserError: if matplotlib is missing, or the folder cannot be made or written to.
    """
    if find_spec("matplotlib") is None:
        raise UserError("a report needs matplotlib: pip install 'recurra[report]'")
    writable(folder, "the report")


def write(folder: str, result: dict[str, Any], grid: list[str], episode: Recording | None = None) -> Path:
    """Write the report; give the page's path.

    Args:
        folder: where; made where it is missing.
        result: what `recurra.recipes.evaluate` found.
        grid: the options that the rows differ in.
        episode: one to show.
    """
    page = Path(folder, "index.html")
    page.parent.mkdir(parents=True, exist_ok=True)
    body = [_table(result["rows"], grid)]
    axis = numeric(result["rows"], grid)
    if axis is not None:
        plot(result["rows"], grid, axis, Path(folder, "plot.svg"))
        body.append(f'<img src="plot.svg" alt="by {html.escape(axis)}">')
    if episode is not None:
        strengths(episode, Path(folder, "memory.svg"))
        body.append('<h2>An episode</h2>\n<img src="memory.svg" alt="how strongly memory was written">')
        if episode.pictures:
            frames = list(zip(episode.pictures, episode.captions, strict=True))
            # A page may not end its script early, whatever an environment draws.
            body.append(_PLAYER.format(frames=json.dumps(frames).replace("<", "\\u003c")))
    title = f"{result['run']} in {result.get('env', result.get('task'))}"
    page.write_text(PAGE.format(title=html.escape(title), body="\n".join(body)))
    return page


def numeric(rows: list[dict[str, Any]], axes: list[str]) -> str | None:
    """Give the first of what the rows differ in that is a number."""
    return next((name for name in axes if all(isinstance(row[name], int | float) for row in rows)), None)


def plot(rows: list[dict[str, Any]], grid: list[str], axis: str, path: Path) -> None:
    """Draw success (or return, where there is no success) over a numeric option.

    There is a line for each run and for each combination of the grid's other options.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = "success_rate" if all(row["success_rate"] is not None for row in rows) else "mean_return"
    canvas = Figure(figsize=(7, 3.6), layout="constrained")
    axes = canvas.subplots()
    lines = lines_of(rows, grid, axis)
    if len(lines) > 10:
        axes.set_prop_cycle(color=colormaps["tab20"].colors)  # type: ignore[attr-defined]
    for label, own in lines.items():
        points = sorted((row[axis], row[figure]) for row in own)
        axes.plot(*zip(*points, strict=True), marker="o", label=label)
    axes.set_xscale(scale_of(rows, axis))
    if figure == "success_rate":
        axes.set_ylim(-0.03, 1.03)
    axes.set(xlabel=axis, ylabel=figure.replace("_", " "))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", ncols=1 + len(lines) // 10)
    canvas.savefig(path)


def lines_of(rows: list[dict[str, Any]], grid: list[str], axis: str) -> dict[str, list[dict[str, Any]]]:
    """Give the rows of each run and of each combination of the grid's options but ``axis``, by what a legend says."""
    runs = {row["run"]: row["memory"] for row in rows}
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        alone = list(runs.values()).count(row["memory"]) == 1
        label = row["memory"] if alone else f"{row['memory']} ({row['run']})"
        label += "".join(f", {name} {row[name]}" for name in grid if name != axis)
        lines.setdefault(label, []).append(row)
    return lines


def scale_of(rows: list[dict[str, Any]], axis: str) -> str:
    """Say how an option's values are best laid out: ``log`` where they are far apart, else ``linear``."""
    values = [row[axis] for row in rows]
    return "log" if min(values) > 0 and max(values) > 10 * min(values) else "linear"


def strengths(episode: Recording, path: Path) -> None:
    """Draw how strongly each layer's memory was written at each step of an episode, and, of a T-Maze, what was met."""
    from matplotlib.figure import Figure

    maze, layers = bool(episode.places), episode.strengths.shape[1]
    heights = [2.0] * maze + [1.2] * layers
    canvas = Figure(figsize=(7, 0.6 + sum(heights)), layout="constrained")
    parts = canvas.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    if maze:
        _walk(episode, parts[0])
    for layer, axes in enumerate(parts[maze:]):
        axes.bar(range(len(episode.strengths)), episode.strengths[:, layer], width=1.0, color="tab:purple")
        axes.set(ylabel="written" if layers == 1 else f"written,\nlayer {layer}", ylim=(0, None))
        axes.grid(alpha=0.3)
    parts[-1].set_xlabel("step")
    canvas.savefig(path)


def _walk(episode: Recording, axes: Any) -> None:
    """Draw the way through a T-Maze: the place in the corridor over time, cues where they showed, turns as taken."""
    steps = range(len(episode.places))
    axes.step(steps, episode.places, where="mid", color="tab:gray")
    for step, seen, action, reward in zip(steps, episode.observations, episode.actions, episode.rewards, strict=True):
        at_junction, told = (seen[2], seen[1]) if len(seen) == 4 else seen  # with noise, or without
        if told and not at_junction:
            axes.text(step, episode.places[step], "▲" if told > 0 else "▼", color="tab:blue", ha="center", va="bottom")
        if at_junction and action in (1, 3):
            wrong = step == steps[-1]  # any other turn that is not right may still be taken back
            colour = "tab:green" if reward > 0 else "tab:red" if wrong else "tab:gray"
            axes.text(step, episode.places[step], "▲" if action == 1 else "▼", color=colour, ha="center", va="bottom")
    axes.margins(y=0.2)
    axes.set(ylabel="cell")
    axes.set_title("cues in blue, right turns in green, a wrong one in red", fontsize="small")
    axes.grid(alpha=0.3)


def table(head: list[str], lines: list[list[str]]) -> str:
    """Write a table: its head, and lines of cells."""
    first = "".join(f"<th>{html.escape(str(name).replace('_', ' '))}</th>" for name in head)
    body = ("".join(f"<td>{html.escape(cell)}</td>" for cell in line) for line in lines)
    return f"<table><tr>{first}</tr>{''.join(f'<tr>{line}</tr>' for line in body)}</table>"


def _table(rows: list[dict[str, Any]], grid: list[str]) -> str:
    names = ["run", "memory", *grid, "episodes", "success_rate", "mean_return", "std_return", "mean_length"]
    names += [name for name in ("state_bytes",) if name in rows[0]]
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in names)
    lines = ("".join(f"<td>{html.escape(shown(row[name]))}</td>" for name in names) for row in rows)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
