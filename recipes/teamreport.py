"""The HTML report of teams: their figures with intervals, as a table and as plots, and episodes that play."""

import html
from pathlib import Path
from typing import Any

from recurra.envs.grid import Recording
from recurra.recipes.figures import shown, spanned
from recurra.recipes.report import PAGE, lines_of, numeric, scale_of, table
from recurra.recipes.teams import FIGURES

_ABOUT = (
    "Circles are agents, rings their goals, faint lines the ways that they go. A line from an agent to another says "
    "how strongly it attends to that one's memory; memories without such weights have none."
)


def write(
    folder: str,
    result: dict[str, Any],
    axes: list[str],
    episodes: list[tuple[dict[str, Any], Recording, dict[str, float]]],
) -> Path:
    """Write the report; give the page's path.

    Args:
        folder: where; made where it is missing.
        result: what `recurra.recipes.protocols.measured` found.
        axes: what the rows differ in.
        episodes: those to show: the point of the row that each is of, the recording, and its figures.
    """
    page = Path(folder, "index.html")
    page.parent.mkdir(parents=True, exist_ok=True)
    rows = result["rows"]
    names = [name for name in FIGURES if name in rows[0]]
    body = [figures(rows, axes, names)]
    axis = numeric(rows, axes)
    if axis is not None and names:
        plot(rows, axes, axis, names, page.with_name("plot.svg"))
        body.append(f'<img src="plot.svg" alt="{html.escape(", ".join(names))} by {html.escape(axis)}">')
    if result.get("published"):
        body += ["<h2>Published</h2>", beside(result["published"])]
    body.append(f"<h2>Episodes</h2>\n<p>{_ABOUT}</p>")
    for number, (point, recording, came) in enumerate(episodes, 1):
        recording.save(page.with_name(f"episode-{number}.svg"))
        said = [f"{name} {value}" for name, value in point.items()]
        said += [f"{name} {shown(came[name])}" for name in names if name in came]
        body.append(f"<h3>{html.escape(', '.join(said)) or 'the first'}</h3>")
        body.append(f'<img src="episode-{number}.svg" style="max-height: 90vh" alt="an episode">')
    title = f"{result['run']} in {result['env']}"
    page.write_text(PAGE.format(title=html.escape(title), body="\n".join(body)))
    return page


def figures(rows: list[dict[str, Any]], axes: list[str], names: list[str]) -> str:
    """Write each row's figures, with where their means lie in 95 of 100 resamplings."""
    heads = (["run"] if len({row["run"] for row in rows}) > 1 else []) + ["memory", *axes, "episodes"]
    lines = []
    for row in rows:
        told = [spanned(row[name], row[f"{name}_95"]) for name in names]
        about = [shown(row[name]) for name in heads]
        lines.append([*about, *told, shown(row["mean_return"]), shown(row["mean_length"])])
    return table([*heads, *names, "mean return", "mean length"], lines)


def beside(published: list[dict[str, Any]]) -> str:
    """Write what others reached."""
    names = list(dict.fromkeys(name for row in published for name in row))
    return table(names, [[shown(row.get(name)) for name in names] for row in published])


def plot(rows: list[dict[str, Any]], axes: list[str], axis: str, names: list[str], path: Path) -> None:
    """Draw figures over a numeric option, each with its interval: a line for each run and all else that differs."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(7, 0.6 + 2.4 * len(names)), layout="constrained")
    parts = canvas.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    lines = lines_of(rows, axes, axis)
    for name, part in zip(names, parts, strict=True):
        for label, own in lines.items():
            own = sorted((row for row in own if row[name] is not None), key=lambda row: row[axis])
            if not own:
                continue
            at = [row[axis] for row in own]
            (line,) = part.plot(at, [row[name] for row in own], marker="o", markersize=3, label=label)
            low, high = zip(*(row[f"{name}_95"] for row in own), strict=True)
            part.fill_between(at, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
        part.set(ylabel=name.replace("_", " "))
        part.grid(alpha=0.3)
        if name in ("CSR", "ISR"):
            part.set_ylim(-0.03, 1.03)
    parts[-1].set_xscale(scale_of(rows, axis))
    parts[-1].set_xlabel(axis)
    parts[0].legend(fontsize="small")
    canvas.savefig(path)
