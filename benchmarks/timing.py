"""How things are timed: repeated, the median taken, with what the machine can do beside it."""

import platform
import statistics
import time
from collections.abc import Callable

import torch


def seconds(function: Callable[[], object], *, budget: float = 1.0, least: int = 3) -> float:
    """Give the median time of a call: after one to warm up, as many as fit the budget, at least ``least``."""
    function()
    times: list[float] = []
    while len(times) < least or sum(times) < budget:
        start = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def matrix_rate(size: int = 512, *, device: str = "cpu") -> float:
    """Measure the floating-point operations per second of a float32 product of two ``size`` square matrices."""
    a, b = torch.randn(2, size, size, device=device)
    return 2 * size**3 / seconds(lambda: a @ b, budget=0.3)


def machine(device: str = "cpu") -> str:
    """Name the machine that figures are of."""
    if device != "cpu":
        return torch.cuda.get_device_name()
    return f"CPU, {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
