"""How things are timed: repeated, the median taken, with what the machine can do beside it."""

import csv
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from recurra import resources
from recurra.errors import UserError


def seconds(
    function: Callable[[], object],
    *,
    budget: float = 1.0,
    least: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Give the median time of a call: after one to warm up, as many as fit the budget, at least ``least``.

    A first call that takes more than the budget has warmed up on its way, and stands for all.
    """
    if (first := _once(function, clock)) > budget:
        return first
    times: list[float] = []
    while len(times) < least or sum(times) < budget:
        times.append(_once(function, clock))
    return statistics.median(times)


def by_turns(function: Callable[[], object], peer: Callable[[], object], *, budget: float = 1.0) -> tuple[float, float]:
    """Give the median times of a call of each, made by turns: what slows the machine for a while slows both."""
    function()
    peer()
    times: list[tuple[float, float]] = []
    while len(times) < 3 or sum(map(sum, times)) < budget:
        times.append((_once(function, time.perf_counter), _once(peer, time.perf_counter)))
    ours, theirs = zip(*times, strict=True)
    return statistics.median(ours), statistics.median(theirs)


def _once(function: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def steady(run: str) -> tuple[float, float]:
    """Give the steps per second of a training run after its first update, and the seconds of that one."""
    with Path(run, "metrics.csv").open(newline="") as file:
        rows = [{name: float(row[name]) for name in ("steps", "seconds")} for row in csv.DictReader(file)]
    first, last = rows[0], rows[-1]
    return (last["steps"] - first["steps"]) / (last["seconds"] - first["seconds"]), first["seconds"]


def apart(function: Callable[..., dict[str, Any]], trials: Iterable[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Call a function with each trial's arguments, each in a process of its own, with as many threads as here.

    Yields:
        What it gave, and ``resident_bytes``: the most that the process held, what it imports included.
    """
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawning, max_tasks_per_child=1) as processes:
        for arguments in trials:
            yield processes.submit(_resident, torch.get_num_threads(), function, arguments).result()


def _resident(threads: int, function: Callable[..., dict[str, Any]], arguments: tuple[Any, ...]) -> dict[str, Any]:
    torch.set_num_threads(threads)
    found = function(*arguments)
    return found | {"resident_bytes": resources.peak()}


def require_counts(**options: int | Sequence[int]) -> None:
    """Refuse what cannot be counted or measured.

    Raises:
        UserError: if an option, or an entry of one, is less than 1, or has no entry.
    """
    for name, given in options.items():
        numbers = [given] if isinstance(given, int) else given
        if not numbers or min(numbers) < 1:
            raise UserError(f"{name} must be at least 1, got {given}")


def matrix_rate(size: int = 512, *, device: str = "cpu") -> float:
    """Measure the floating-point operations per second of a float32 product of two ``size`` square matrices."""
    a, b = torch.randn(2, size, size, device=device)
    return 2 * size**3 / seconds(lambda: a @ b, budget=0.3)


def machine(device: str = "cpu") -> str:
    """Name the machine that figures are of."""
    if device != "cpu":
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"CPU, {platform.machine()}, {threads} thread{'s' * (threads > 1)}, torch {torch.__version__}"
