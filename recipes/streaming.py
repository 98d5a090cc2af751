"""Reading documents of any length with a trained reader, at constant memory; stopped, asked and gone on with."""

import hashlib
import inspect
import json
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from recurra import resources
from recurra.agents import Reader, ReaderState, tracing
from recurra.agents.tokens import NotText
from recurra.envs.documents import Source, expand
from recurra.errors import UserError
from recurra.memory import state as states
from recurra.recipes import devices, loading
from recurra.recipes import report as reports
from recurra.recipes import tracing as pages
from recurra.recipes.settings import require_seed

#: By the last so many bytes that were read of a document it is known again.
TAIL = 1024

#: What a `ReaderState` counts.
COUNTS = ("read", "tokens", "bits")


def read(
    documents: str | list[str],
    *,
    reader: str,
    questions: list[str] | None = None,
    answers_every: int | None = None,
    at_once: int = 1,
    state_in: str | None = None,
    state_out: str | None = None,
    resume: bool = False,
    trace: str | None = None,
    write: int = 0,
    temperature: float = 0.8,
    seed: int = 0,
    piece: int = 65_536,
    device: str = "cpu",
    precision: str = "32-true",
    console: Console | None = None,
    each: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Read documents, say how well each was foretold and answer questions; the Python door of ``recurra read``.

    Args:
        documents: files, folders, bundled works (``text:shakespeare/macbeth``), or ``-`` for standard input; none, to
            ask about what was read before, of which ``state_in`` is the state.
        reader: a run folder, a checkpoint, a reader's own folder, or the name of one that comes with the package.
        questions: what to ask about each document, all at its end.
        answers_every: ask on the way, too, whenever so many tokens more have been read.
        at_once: how many documents to read side by side, in one batch.
        state_in: a state that the first documents continue, as many as it is of: their first bytes are foretold from
            there.
        state_out: where the state of the documents at hand is written, anew after each piece: a new file, or one that
            holds a state.
        resume: the first document is the one that the state was saved in: skip what was read of it, and count on.
        trace: a folder for a page that shows where in its document each answer was read; see `recurra.agents.tracing`.
        write: how many tokens to go on writing after the last document; bytes, of a reader of bytes.
        temperature: of writing; 0 takes the likeliest.
        seed: of writing.
        piece: bytes between looks at the state, and between writes of it.
        device: cpu, cuda or auto.
        precision: 32-true or bf16-mixed.
        console: where progress is shown; None shows nothing.
        each: called with what came of each document once it is read, as in ``documents``: if another cannot be read,
            it is not lost.

    Returns:
        ``documents`` (a list of ``path``, ``bytes``, ``tokens``, ``bits_per_byte``, None for an empty one and for a
        reader that only answers, and ``answers``: a list of ``question``, ``answer`` and ``at``, how many tokens had
        been read), ``tokens_per_second``, ``state_bytes``, ``peak_rss_bytes``, and ``written`` and ``trace`` (the page)
        where asked for.

    Raises:
        UserError: if a document, a question, the reader or the state does not fit.
        FileNotFoundError: if there is no such file.
        KeyboardInterrupt: if Ctrl-C stopped it; the state is written and the message is the command that goes on.
    """
    if resume and state_in is None:
        raise UserError("to resume a reading, give the state that it saved: --state-in FILE")
    if state_out is not None:
        _check_target(Path(state_out))
    if piece < 1 or at_once < 1 or write < 0 or temperature < 0:
        raise UserError("piece must be at least 1, at-once too, what is to be written and temperature at least 0")
    if answers_every is not None and (answers_every < 1 or not questions):
        raise UserError("to be answered on the way, ask something, every 1 token or more")
    require_seed("seed", seed)
    if trace is not None:
        if not questions or state_in is not None:
            raise UserError("a trace needs a question, and no --state-in")
        reports.check(trace)
    if not documents and (state_in is None or not questions):
        raise UserError("name a document; or ask about what was read before, with --state-in and --question")
    where = devices.device(device)
    context = devices.precision(precision, where)
    model = loading.reader(reader).to(where)
    asked = questions or []
    model.check(asked)
    sources = expand(documents) if documents else []
    for source in sources:
        if asked and source.size == 0:
            raise UserError(f"{source.name} is empty: there is nothing to ask about")
        if trace is not None and source.size is None:
            raise UserError(f"{source.name} can be read once only, a trace reads twice: save it to a file first")
    name, fresh = model.fingerprint(), model.initial_state(1)
    state = None if state_in is None else states.load(state_in, like=fresh, of=name)
    again = _again(
        ["--reader", reader, *(word for question in asked for word in ("--question", question))],
        answers_every=answers_every,
        at_once=at_once,
        state_out=state_out,
        write=write,
        temperature=temperature,
        seed=seed,
        piece=piece,
        device=device,
        precision=precision,
    )
    looks = min(piece, -(-(answers_every or 8 * piece) // 8))  # bytes between them: near enough to answer in time
    reading = _Reading(model, asked, answers_every, looks, state_out, name, again, console, each)
    start = time.perf_counter()
    total, last = 0, state
    with context:
        if not sources and state is not None:
            if not bool(state.read.all()):
                raise UserError(f"{state_in} is of a document of which nothing was read: there is nothing to ask about")
            for one in _apart(state):
                reading.add(_row(f"{state_in}", one, one, reading.ask(one)))
        for begin in range(0, len(sources), at_once):
            group = sources[begin : begin + at_once]
            begun = model.initial_state(len(group)) if state is None else state
            if len(begun.read) != len(group):
                raise UserError(
                    f"{state_in} is the state of {len(begun.read)} documents, read here are {len(group)}: name as "
                    f"many, with --at-once {len(begun.read)}"
                )
            since = _since(begun, str(state_in), group) if resume else begun
            last = reading.go(group, begun, since, then=sources[begin + at_once :])
            total += int((last.tokens - begun.tokens).sum())
            state, resume = None, False
        seconds = time.perf_counter() - start
        result: dict[str, Any] = {
            "documents": reading.rows,
            "tokens_per_second": round(total / max(seconds, 1e-9), 1),
            "state_bytes": states.nbytes(fresh),
        }
        if write and last is not None:
            end = states.select(last, slice(-1, None))
            written, end = model.write(write, end, temperature=temperature, seed=seed)
            result["written"] = written.decode("utf-8", errors="replace")
            last = end if len(last.read) == 1 else last
        if trace is not None:
            traces = [
                (source.name, tracing.trace(model, source.pieces(piece), question))
                for source in sources
                for question in asked
            ]
            result["trace"] = str(pages.write(trace, traces))
    if state_out is not None and last is not None and (write or not sources):
        states.save(last, state_out, of=name)
    result["peak_rss_bytes"] = resources.peak()
    return result


class _Reading:
    """How documents are read: what is asked, where the state is written, what is shown; ``rows`` is what came of it."""

    def __init__(
        self,
        model: Reader,
        questions: list[str],
        every: int | None,
        piece: int,
        state_out: str | None,
        name: str,
        again: list[str],
        console: Console | None,
        each: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        self.model, self.questions, self.every, self.piece = model, questions, every, piece
        self.state_out, self.name, self.again, self.console, self.each = state_out, name, again, console, each
        self.rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        """Add what came of a document."""
        self.rows.append(row)
        if self.each is not None:
            self.each(row)

    def go(self, sources: list[Source], begun: ReaderState, since: ReaderState, then: list[Source]) -> ReaderState:
        """Read on in documents side by side, from a state; ``since`` they began, ``then`` come others."""
        skipped = (begun.read - since.read).tolist()
        pieces = [source.pieces(self.piece, start=start) for source, start in zip(sources, skipped, strict=True)]
        state, answers = begun, [[] for _ in sources]  # type: ignore[var-annotated]
        due = self._due(begun)
        try:
            with self._shown(sources, state) as show:
                for state in self.model.side_by_side(list(pieces), begun):
                    self._keep(state, since, sources)
                    show(state)
                    for row in torch.nonzero(state.tokens >= due).flatten().tolist() if self.every else ():
                        answers[row] += self.ask(states.select(state, slice(row, row + 1)))
                    due = self._due(state)
        except KeyboardInterrupt as stop:
            names = [source.name for source in sources]
            counts = ", ".join(f"{count:,}" for count in state.read.tolist())
            said = f"stopped after {counts} bytes of {' '.join(names)}"
            if self.state_out is not None:
                self._keep(state, since, sources)
                left = [*names, *(source.name for source in then)]
                said += "; go on with " + shlex.join(
                    ["recurra", "read", *left, "--state-in", self.state_out, "--resume", *self.again]
                )
            raise KeyboardInterrupt(said) from stop
        except NotText as error:
            raise UserError(f"{sources[error.row].name}: {error}") from error
        for source, before, after, given in zip(sources, _apart(since), _apart(state), answers, strict=True):
            if self.questions and not int(after.read):
                raise UserError(f"{source.name} is empty: there is nothing to ask about")
            self.add(_row(source.name, before, after, [*given, *self.ask(after)]))
        if state is begun:  # there was nothing to read, and so nothing has been written yet
            self._keep(state, since, sources)
        return state

    def _keep(self, state: ReaderState, since: ReaderState, sources: list[Source]) -> None:
        """Write the state, with what had been read before its documents began and what they are known by again."""
        if self.state_out is not None:
            counts = (state.read - since.read).tolist()
            before = {name: getattr(since, name).tolist() for name in COUNTS}
            tails = [_tail(source, count) for source, count in zip(sources, counts, strict=True)]
            notes = {"since": json.dumps(before), "tails": json.dumps(tails)}
            states.save(state, self.state_out, of=self.name, notes=notes)

    def _due(self, state: ReaderState) -> torch.Tensor:
        """Say after how many tokens of each stream to ask next."""
        every = self.every or 1
        return (state.tokens // every + 1) * every

    def ask(self, state: ReaderState) -> list[dict[str, Any]]:
        """Ask all questions about what one stream has read."""
        at = int(state.tokens)
        said = self.model.ask(self.questions, state) if self.questions else []
        return [
            {"question": question, "answer": answer, "at": at}
            for question, answer in zip(self.questions, said, strict=True)
        ]

    @contextmanager
    def _shown(self, sources: list[Source], begun: ReaderState) -> Iterator[Any]:
        """Show on a terminal how reading goes: where it is, how fast, and how much memory it takes."""
        if self.console is None or not self.console.is_terminal:
            yield lambda state: None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[said]}"),
        )
        start, first = time.perf_counter(), int(begun.tokens.sum())
        with Progress(*columns, console=self.console, refresh_per_second=4) as progress:
            tasks = [
                progress.add_task(source.name, total=source.size, completed=int(count), said="")
                for source, count in zip(sources, begun.read, strict=True)
            ]

            def show(state: ReaderState) -> None:
                speed = (int(state.tokens.sum()) - first) / max(time.perf_counter() - start, 1e-9)
                for row, task in enumerate(tasks):
                    count, bits = int(state.read[row]), float(state.bits[row])
                    said = f"{count:,} bytes, {bits / count:.3f} bits a byte" if bits else f"{count:,} bytes"
                    if row == len(tasks) - 1:
                        said += f", {speed:,.0f} tokens/s, state {states.nbytes(state):,} bytes, "
                        said += f"memory {resources.resident():,} bytes"
                    progress.update(task, completed=count, said=said)

            yield show


def _check_target(path: Path) -> None:
    """Make sure that a state can be written to a file, and takes the place of a state alone."""
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder to write the state to")
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file for the state")
    if path.exists() and path.stat().st_size and states.notes(path) is None:
        raise UserError(f"{path} is there, and is no state: name a new file for --state-out")


def _again(words: list[str], **options: Any) -> list[str]:
    """Give the words of a command that reads with these options of `read`."""
    usual = inspect.signature(read).parameters
    spelt = {"answers_every": "answers-as-you-go", "at_once": "at-once", "state_out": "state-out", "write": "continue"}
    chosen = {spelt.get(name, name): str(value) for name, value in options.items() if value != usual[name].default}
    return [*words, *(word for name, value in chosen.items() for word in (f"--{name}", value))]


def _since(state: ReaderState, state_in: str, sources: list[Source]) -> ReaderState:
    """Give what had been counted before the documents that a state was saved in; and see that they are these.

    Raises:
        UserError: if they are others.
    """
    noted = states.notes(state_in) or {}
    if "since" not in noted:  # saved elsewhere
        return state._replace(**{name: torch.zeros_like(getattr(state, name)) for name in COUNTS})
    before = json.loads(noted["since"])
    since = state._replace(**{name: torch.tensor(before[name]).to(getattr(state, name)) for name in COUNTS})
    counts = (state.read - since.read).tolist()
    for source, count, tail in zip(sources, counts, json.loads(noted["tails"]), strict=True):
        if None not in (tail, found := _tail(source, count)) and tail != found:
            raise UserError(f"{source.name} is not the document that {state_in} was saved in, or has changed since")
    return since


def _tail(source: Source, count: int) -> str | None:
    """Give what a document is known by after so many bytes: a digest of the last of them; None of a pipe."""
    if source.size is None:
        return None
    begin = max(0, count - TAIL)
    last = next(source.pieces(TAIL, start=begin), b"")[: count - begin]
    return hashlib.sha256(last).hexdigest()


def _apart(state: ReaderState) -> list[ReaderState]:
    return [states.select(state, slice(row, row + 1)) for row in range(len(state.read))]


def _row(name: str, since: ReaderState, state: ReaderState, answers: list[dict[str, Any]]) -> dict[str, Any]:
    count, bits = int(state.read) - int(since.read), float(state.bits) - float(since.bits)
    tokens = int(state.tokens) - int(since.tokens)
    per_byte = bits / count if count and bits else None
    return {"path": name, "bytes": count, "tokens": tokens, "bits_per_byte": per_byte, "answers": answers}
