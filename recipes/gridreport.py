"""The HTML report of runs that answer: tasks by lengths as a table and a heat map, depth, speed, published rows."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recurra.agents.tracing import Trace
from recurra.envs.documents.babilong import characters
from recurra.errors import UserError
from recurra.recipes import published, tracing
from recurra.recipes.answering import DEPTHS
from recurra.recipes.figures import shown
from recurra.recipes.report import PAGE, table


def write(folder: str, result: dict[str, Any], traces: Sequence[tuple[str, Trace, list[int]]] = ()) -> Path:
    """Write the report; give the page's path.

    Args:
        folder: where; made where it is missing.
        result: what `recurra.recipes.answering.evaluate` found.
        traces: the ``traces`` of it.
    """
    page = Path(folder, "index.html")
    page.parent.mkdir(parents=True, exist_ok=True)
    rows = result["rows"]
    body = []
    for number, run in enumerate(dict.fromkeys(row["run"] for row in rows), 1):
        own = [row for row in rows if row["run"] == run]
        heat(own, Path(folder, f"grid-{number}.svg"))
        body += [f"<h2>{html.escape(run)}</h2>", grid(own)]
        body.append(f'<img src="grid-{number}.svg" alt="accuracy by task and length">')
        if any(share is not None for row in own for share in row["by_depth"]):
            body += ["<h3>By depth of the first fact that is needed</h3>", by_depth(own)]
    speed(rows, Path(folder, "speed.svg"))
    body += ["<h2>Speed and memory</h2>", resources(rows)]
    body.append('<img src="speed.svg" alt="tokens per second and resident memory by length">')
    if traces:
        body.append("<h2>Where it was read</h2>")
        body += [tracing.section(page.parent, number, *trace) for number, trace in enumerate(traces, 1)]
    body += ["<h2>Published, in percent</h2>", beside(list(dict.fromkeys(row["task"] for row in rows)))]
    page.write_text(PAGE.format(title=f"Questions: {html.escape(result['run'])}", body="\n".join(body)))
    return page


def _cells(rows: list[dict[str, Any]]) -> tuple[list[str], list[str], dict[tuple[str, str], float]]:
    """Give the tasks, the lengths in their order, and of each pair the share that was answered, all its rows alike."""
    cells: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        cells.setdefault((row["task"], str(row.get("length", ""))), []).append(row["success_rate"])
    tasks = list(dict.fromkeys(task for task, _ in cells))
    means = {cell: sum(shares) / len(shares) for cell, shares in cells.items()}
    return tasks, sorted({length for _, length in cells}, key=_size), means


def _size(length: str) -> float:
    try:
        return characters(length)
    except UserError:  # a published file of another name
        return 0


def grid(rows: list[dict[str, Any]]) -> str:
    """Write the share of questions answered, a line for each task, then their mean, a column for each length."""
    tasks, lengths, cells = _cells(rows)
    shares = [[cells.get((task, length)) for length in lengths] for task in tasks]
    lines = [[task, *map(_percent, row)] for task, row in zip(tasks, shares, strict=True)]
    if len(tasks) > 1:
        means = [None if None in column else sum(column) / len(tasks) for column in zip(*shares, strict=True)]
        lines.append(["mean", *map(_percent, means)])
    return table(["task", *lengths], lines)


def by_depth(rows: list[dict[str, Any]]) -> str:
    """Write the share of questions answered by where in the document the first fact stands."""
    parts = [f"{100 * part // DEPTHS} to {100 * (part + 1) // DEPTHS} %" for part in range(DEPTHS)]
    lines = [[row["task"], str(row.get("length", "")), *(_percent(share) for share in row["by_depth"])] for row in rows]
    return table(["task", "length", *parts], lines)


def resources(rows: list[dict[str, Any]]) -> str:
    """Write tokens per second and bytes of memory."""
    names = ["tokens_per_second", "resident_bytes", "state_bytes", "episodes"]
    lines = [
        [row["run"], row["task"], str(row.get("length", "")), *(shown(row[name]) for name in names)] for row in rows
    ]
    return table(["run", "task", "length", *names], lines)


def beside(tasks: list[str]) -> str:
    """Write what others reached."""
    lines = [
        [row.model, row.task, *(_plain(row.figures.get(length)) for length in published.LENGTHS)]
        for row in published.beside(tasks)
    ]
    return table(["model", "task", *published.LENGTHS], lines)


def heat(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the grid in colours."""
    from matplotlib.figure import Figure

    tasks, lengths, cells = _cells(rows)
    values = [[cells.get((task, length), float("nan")) for length in lengths] for task in tasks]
    canvas = Figure(figsize=(2 + 0.9 * len(lengths), 1.2 + 0.45 * len(tasks)), layout="constrained")
    axes = canvas.subplots()
    picture = axes.imshow(values, vmin=0, vmax=1, cmap="RdYlGn", aspect="auto")
    axes.set_xticks(range(len(lengths)), lengths)
    axes.set_yticks(range(len(tasks)), tasks)
    axes.set_xlabel("length in GPT-2 tokens")
    for line, row in enumerate(values):
        for column, value in enumerate(row):
            if value == value:
                axes.text(column, line, f"{100 * value:.0f}", ha="center", va="center")
    canvas.colorbar(picture, ax=axes)
    canvas.savefig(path)


def speed(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw tokens per second and resident memory by length."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(7, 5), layout="constrained")
    upper, lower = canvas.subplots(2, 1, sharex=True)
    _, lengths, _ = _cells(rows)
    for run, task in dict.fromkeys((row["run"], row["task"]) for row in rows):
        own = {str(row.get("length", "")): row for row in rows if (row["run"], row["task"]) == (run, task)}
        at = [place for place, length in enumerate(lengths) if length in own]
        found = [own[lengths[place]] for place in at]
        name = task if len({row["run"] for row in rows}) == 1 else f"{run} {task}"
        upper.plot(at, [row["tokens_per_second"] for row in found], marker="o", label=name)
        lower.plot(at, [row["resident_bytes"] / 2**20 for row in found], marker="o")
    upper.set(ylabel="tokens per second", ylim=(0, None))
    lower.set(ylabel="resident memory, MiB", xlabel="length in GPT-2 tokens", ylim=(0, None))
    lower.set_xticks(range(len(lengths)), lengths)
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    upper.legend(fontsize="small")
    canvas.savefig(path)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _plain(figure: float | None) -> str:
    return "–" if figure is None else f"{figure:g}"
