"""A page that shows where answers were read: a strip of the document for each, and the parts that weigh most."""

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recurra.agents.tracing import Trace
from recurra.recipes.report import PAGE

#: How many parts are shown as text.
SHOWN = 5

#: The most columns of a strip.
COLUMNS = 400


def write(folder: str, traces: Sequence[tuple[str, Trace]]) -> Path:
    """Write a page of traces, each with what it is of; give its path."""
    page = Path(folder, "index.html")
    page.parent.mkdir(parents=True, exist_ok=True)
    body = [section(page.parent, number, name, trace) for number, (name, trace) in enumerate(traces, 1)]
    page.write_text(PAGE.format(title="Where it was read", body="\n".join(body)))
    return page


def section(folder: Path, number: int, name: str, trace: Trace, facts: Sequence[int] = ()) -> str:
    """Write what a page says of a trace, its strip beside it as ``trace-NUMBER.svg``.

    Args:
        folder: the page's.
        number: of the trace on the page.
        name: what it is of.
        trace: the trace.
        facts: where the facts that are needed stand, in bytes.
    """
    draw(trace, folder / f"trace-{number}.svg", facts)
    total = sum(trace.weights) or 1.0
    parts = "".join(
        f"<li>to byte {trace.ends[part]:,}, {trace.weights[part] / total:.0%}: {html.escape(trace.texts[part].strip())}"
        for part in trace.heaviest(SHOWN)
    )
    return (
        f"<h3>{html.escape(name)}: {html.escape(trace.question)} {html.escape(trace.answer)}</h3>\n"
        f'<img src="trace-{number}.svg" alt="how far the answer hangs on each part of the document">\n<ul>{parts}</ul>'
    )


def draw(trace: Trace, path: Path, facts: Sequence[int] = ()) -> None:
    """Draw a document as a strip, dark where the answer hangs on it; facts that are known are marked above."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(8, 1.3), layout="constrained")
    axes = canvas.subplots()
    # As many columns as one can see, each as dark as the darkest of its parts.
    columns = np.unique(np.linspace(0, len(trace.ends), COLUMNS, endpoint=False).astype(int))
    edges = np.append(np.array([0, *trace.ends])[columns], trace.ends[-1])
    darkest = np.maximum.reduceat(trace.weights, columns)
    axes.pcolormesh(edges, [0, 1], [darkest], cmap="Greys", vmin=0, shading="flat", rasterized=True)
    if facts:
        axes.plot(facts, [1.08] * len(facts), "v", color="tab:red", clip_on=False)
    axes.set(yticks=[], xlabel="bytes of the document", xlim=(0, edges[-1]), ylim=(0, 1))
    canvas.savefig(path)
