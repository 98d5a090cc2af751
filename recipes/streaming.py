"""Reading documents of any length with a trained reader, at constant memory; stopped and gone on with at will."""

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from recurra.agents import Reader, ReaderState
from recurra.envs.documents import Source, expand
from recurra.errors import UserError
from recurra.memory import state as states
from recurra.recipes import devices, loading
from recurra.recipes.settings import require_seed


def read(
    documents: str | list[str],
    *,
    reader: str,
    state_in: str | None = None,
    state_out: str | None = None,
    resume: bool = False,
    write: int = 0,
    temperature: float = 0.8,
    seed: int = 0,
    piece: int = 65_536,
    device: str = "cpu",
    precision: str = "32-true",
    console: Console | None = None,
) -> dict[str, Any]:
    """Read documents and say how well each was foretold; the Python door of ``recurra read``.

    Args:
        documents: files, folders, bundled works (``text:shakespeare/macbeth``), or ``-`` for standard input.
        reader: a run folder, a checkpoint or a reader's own folder.
        state_in: a state that the first document continues: its first byte is foretold from there.
        state_out: where the state of the document at hand is written, anew after each piece.
        resume: the first document is the one that the state was saved in: skip what was read of it, and count on.
        write: how many bytes to go on writing after the last document.
        temperature: of writing; 0 takes the likeliest byte.
        seed: of writing.
        piece: bytes between looks at the state, and between writes of it.
        device: cpu, cuda or auto.
        precision: 32-true or bf16-mixed.
        console: where progress is shown; None shows nothing.

    Returns:
        ``documents`` (a list of ``path``, ``bytes``, ``tokens``, ``bits_per_byte``, None for an empty one, and
        ``answers``), ``tokens_per_second``, ``state_bytes``, ``peak_rss_bytes``, and ``written`` where asked for.

    Raises:
        UserError: if a document, the reader or the state does not fit.
        FileNotFoundError: if there is no such file.
        KeyboardInterrupt: if Ctrl-C stopped it; the state is written and the message says how to go on.
    """
    if resume and state_in is None:
        raise UserError("to resume a reading, give the state that it saved: --state-in FILE")
    if state_out is not None and not Path(state_out).absolute().parent.is_dir():
        raise FileNotFoundError(f"{state_out}: there is no folder to write the state to")
    if state_out is not None and Path(state_out).is_dir():
        raise UserError(f"{state_out} is a folder: name a file for the state")
    if piece < 1 or write < 0 or temperature < 0:
        raise UserError("piece must be at least 1, what is to be written and temperature at least 0")
    require_seed("seed", seed)
    where = devices.device(device)
    context = devices.precision(precision, where)
    model = loading.reader(reader).to(where)
    sources = expand(documents)
    fresh = model.initial_state(1)
    state = fresh if state_in is None else states.load(state_in, like=fresh)
    start = time.perf_counter()
    rows, total, last = [], 0, state
    with context:
        for source in sources:
            begun = state
            try:
                for state in _shown(source, model, begun, int(begun.read) if resume else 0, piece, console):
                    if state_out is not None:
                        states.save(state, state_out)
            except KeyboardInterrupt as stop:
                said = f"stopped after {int(state.read):,} bytes of {source.name}"
                if state_out is not None:
                    states.save(state, state_out)
                    said += f"; go on with recurra read {source.name} --state-in {state_out} --resume"
                raise KeyboardInterrupt(said) from stop
            rows.append(_row(source, state, since=fresh if resume else begun))
            total += int(state.read) - int(begun.read)
            last, state, resume = state, fresh, False
        seconds = time.perf_counter() - start
        result: dict[str, Any] = {
            "documents": rows,
            "tokens_per_second": round(total / max(seconds, 1e-9), 1),
            "state_bytes": states.nbytes(fresh),
        }
        if write:
            written, last = model.write(write, last, temperature=temperature, seed=seed)
            result["written"] = written.decode("utf-8", errors="replace")
        if state_out is not None:
            states.save(last, state_out)
    result["peak_rss_bytes"] = _peak()
    return result


def _row(source: Source, state: ReaderState, *, since: ReaderState) -> dict[str, Any]:
    count, bits = int(state.read) - int(since.read), float(state.bits) - float(since.bits)
    per_byte = bits / count if count else None
    return {"path": source.name, "bytes": count, "tokens": count, "bits_per_byte": per_byte, "answers": []}


def _shown(
    source: Source, model: Reader, state: ReaderState, skipped: int, piece: int, console: Console | None
) -> Iterator[ReaderState]:
    """Read a document, showing on a terminal how it goes."""
    live = Live(console=console, refresh_per_second=4) if console is not None and console.is_terminal else None
    begin, start = int(state.read), time.perf_counter()
    of = "" if source.size is None else f" of {source.size:,}"
    with live or nullcontext():
        for now in model.stream(source.pieces(piece, start=skipped), state):
            if live is not None:
                speed = (int(now.read) - begin) / (time.perf_counter() - start)
                live.update(
                    f"{source.name}: {int(now.read):,}{of} bytes, {float(now.bits) / int(now.read):.3f} bits a byte, "
                    f"{speed:,.0f} bytes/s, state {states.nbytes(now):,} bytes, memory {_resident():,} bytes"
                )
            yield now


def _resident() -> int:
    """Give the bytes of memory that the process holds now, or held at most where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return _peak()


def _peak() -> int:
    """Give the most bytes of memory that the process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
