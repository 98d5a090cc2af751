"""What happens around training: figures in a file and on the screen, checkpoints, a clean stop."""

import csv
import math
import signal
import threading
import time
from pathlib import Path
from typing import Any

import lightning
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from recurra import agents
from recurra.files import whole
from recurra.recipes import processes
from recurra.recipes.runs import Run


class Clock:
    """Seconds of training, those before a resume included."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last = time.perf_counter()

    def start(self) -> None:
        """Leave out what has passed so far."""
        self._last = time.perf_counter()

    def tick(self) -> float:
        """Give the seconds since the last call."""
        now = time.perf_counter()
        passed, self._last = now - self._last, now
        self.seconds += passed
        return passed


class Metrics(lightning.Callback):
    """Writes a row of ``metrics.csv`` after each update; a resumed run goes on below the checkpoint's row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()

    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the newest figures."""
        checkpoint["metrics"] = {"seconds": self.clock.seconds, "newest": module.metrics}

    def on_load_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        """Take them up again."""
        self.clock.seconds, module.metrics = checkpoint["metrics"]["seconds"], checkpoint["metrics"]["newest"]

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Keep the rows up to the checkpoint; drop what was written after it."""
        self.clock.start()
        if not trainer.is_global_zero:
            return
        rows: list[list[str]] = []
        if module.done and self.path.is_file():
            with self.path.open(newline="") as file:
                rows = list(csv.reader(file))[: module.done + 1]
        with whole(self.path) as scratch, scratch.open("w", newline="") as file:
            csv.writer(file).writerows(rows)

    def on_train_batch_end(self, trainer: Any, module: Any, *unused: Any) -> None:
        """Write a row."""
        passed = self.clock.tick()
        if not trainer.is_global_zero:
            return
        row = {
            "update": module.done,
            "steps": module.steps,
            "seconds": round(self.clock.seconds, 3),
            "steps_per_second": round(module.steps_per_update / passed, 1),
            **{name: "" if math.isnan(figure) else repr(figure) for name, figure in module.metrics.items()},
        }
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)
        for logger in trainer.loggers:
            logger.log_metrics(module.metrics, step=module.steps)


class Finite(lightning.Callback):
    """Ends training where what it computes are no longer numbers, before anything of it is written."""

    def on_train_batch_end(self, trainer: Any, module: Any, *unused: Any) -> None:
        """Look at the losses, the gradient and the weights.

        Raises:
            FloatingPointError: if one of them is infinite or no number.
        """
        for name, figure in module.metrics.items():
            if name.endswith(("loss", "bits_per_byte", "gradient_norm")):
                _require_finite(name.replace("_", " "), math.isfinite(figure))
        for name, weights in module.agent.named_parameters():
            _require_finite(f"weight {name}", bool(weights.isfinite().all()))


def _require_finite(what: str, finite: bool) -> None:
    if not finite:
        raise FloatingPointError(f"its {what} is not finite")


class Checkpoints(lightning.Callback):
    """Writes the agent and ``last.ckpt`` every few updates and at the end, each whole or not at all."""

    def __init__(self, run: Run, *, every: int) -> None:
        self.run, self.every = run, every
        self.written = 0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Note which update the checkpoint is of."""
        self.written = module.done

    def on_train_batch_end(self, trainer: Any, module: Any, *unused: Any) -> None:
        """Write, if it is time to."""
        if module.done % self.every == 0 and module.done < module.updates:
            self.write(trainer, module)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Write where training ended, or was stopped."""
        self.write(trainer, module)

    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        """Leave out Lightning's count of batches: those that are left will be an epoch of their own."""
        del checkpoint["loops"]

    def write(self, trainer: Any, module: Any) -> None:
        """Write the agent and the checkpoint, in this order: who goes on from a checkpoint has its agent."""
        if not trainer.is_global_zero:  # a part of the checkpoint is this process's, the file is not
            trainer.save_checkpoint(self.run.checkpoint)
            return
        agents.save(module.agent, self.run.agent)
        with whole(self.run.checkpoint) as scratch:
            trainer.save_checkpoint(scratch)
        self.written = module.done


class StopOnInterrupt(lightning.Callback):
    """Lets Ctrl-C end training after the rollout at hand; a second Ctrl-C ends it at once.

    Used as a context around the training that it is a callback of.
    """

    def __init__(self) -> None:
        self.asked = False
        self._listens = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> "StopOnInterrupt":
        if self._listens:
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *unused: Any) -> None:
        if self._listens:
            signal.signal(signal.SIGINT, self._before)

    def on_train_batch_end(self, trainer: Any, module: Any, *unused: Any) -> None:
        """Stop, if asked to."""
        trainer.should_stop = trainer.should_stop or any(processes.gather(self.asked))

    def _ask(self, *unused: Any) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Display(lightning.Callback):
    """Shows how training goes: live on a terminal, elsewhere a plain line every few seconds."""

    def __init__(
        self, console: Console, metrics: Metrics, *, title: str, names: tuple[str, ...], every: float = 10.0
    ) -> None:
        self.console, self.metrics, self.title, self.names, self.every = console, metrics, title, names, every
        self.figures: dict[str, float] = {}
        self.live: Live | None = None
        self._last_line = -math.inf

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Begin."""
        self._seconds, self._steps = self.metrics.clock.seconds, module.steps
        if self.console.is_terminal:
            columns = (TextColumn(self.title), BarColumn(), MofNCompleteColumn(), TextColumn("updates"))
            self.bar = Progress(*columns, TimeRemainingColumn(), console=self.console)
            self.task = self.bar.add_task("", total=module.updates, completed=module.done)
            self.live = Live(self.bar, console=self.console, refresh_per_second=4)
            self.live.start()

    def on_train_batch_end(self, trainer: Any, module: Any, *unused: Any) -> None:
        """Show the newest figures."""
        clock = self.metrics.clock
        speed = (module.steps - self._steps) / max(clock.seconds - self._seconds, 1e-9)
        measured = {name: module.metrics[name] for name in self.names}
        self.figures |= {name: figure for name, figure in measured.items() if not math.isnan(figure)}
        figures = {name: self.figures[name] for name in self.names if name in self.figures}
        if self.live is not None:
            table = Table("steps", "steps/s", *(name.replace("_", " ") for name in figures), box=SIMPLE_HEAD)
            table.add_row(f"{module.steps:,}", f"{speed:,.0f}", *(f"{figure:.3g}" for figure in figures.values()))
            self.bar.update(self.task, completed=module.done)
            self.live.update(Group(self.bar, table))
        elif clock.seconds - self._last_line >= self.every or module.done == module.updates:
            self._last_line = clock.seconds
            listed = "  ".join(f"{name} {figure:.3g}" for name, figure in figures.items())
            self.console.print(
                f"steps {module.steps:,}  steps/s {speed:,.0f}  {listed}", highlight=False, soft_wrap=True
            )

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        """Leave the screen as it was."""
        self.teardown(trainer, module, "fit")

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        """End."""
        if self.live is not None:
            self.live.stop()
            self.live = None
