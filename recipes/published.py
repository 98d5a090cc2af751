"""What others reached on BABILong, in percent, beside which runs that answer are shown.

BABILong's leaderboard (Kuratov et al. 2024, arXiv 2406.10149, Table 4 and the project's result files) and, marked ARMT
paper, Table 1 of Rodkin et al. 2024 (arXiv 2407.04841). From 4k on the leaderboard's row of ARMT on qa5 repeats its
average and is left out. ``mean`` is over qa1 to qa5.
"""

from typing import NamedTuple

LENGTHS = ("0", "1k", "2k", "4k", "8k", "16k", "32k", "64k", "128k", "512k", "1M", "10M")


class Published(NamedTuple):
    """One model's figures on a task by length; lengths that are missing were not measured."""

    model: str
    task: str
    figures: dict[str, float]


def _row(model: str, task: str, *figures: float) -> Published:
    return Published(model, task, dict(zip(LENGTHS, figures, strict=False)))


ROWS = [
    _row("RMT", "qa1", 100, 100, 100, 100, 100, 100, 99, 96, 94, 87, 84, 66),
    _row("RMT", "qa2", 100, 100, 99, 98, 97, 94, 82, 59, 39, 25, 22, 19),
    _row("RMT", "qa3", 97, 94, 88, 81, 73, 66, 55, 55, 36, 25, 22, 21),
    _row("RMT", "qa4", 100, 94, 87, 83, 80, 75, 64, 51, 38, 26, 24, 20),
    _row("RMT", "qa5", 100, 100, 99, 99, 99, 94, 90, 89, 86, 69, 63, 44),
    _row("RMT", "mean", 99.4, 97.4, 94.7, 92.3, 89.9, 85.6, 77.9, 69.9, 58.5, 46.4, 42.8, 33.8),
    _row("ARMT", "qa1", 100, 99, 100, 100, 100, 100, 100, 100, 100, 99, 99, 89),
    _row("ARMT", "qa2", 100, 97, 99, 100, 100, 100, 100, 100, 100, 99, 99, 84),
    _row("ARMT", "qa3", 97, 85, 90, 92, 92, 92, 91, 90, 86, 80, 72, 37),
    _row("ARMT", "qa4", 100, 99, 100, 100, 100, 100, 100, 100, 100, 100, 100, 92),
    Published("ARMT paper", "qa5", {"64k": 99.0, "128k": 98.7, "512k": 98.4, "1M": 97.3, "10M": 80.9}),
    _row("ARMT", "mean", 99.3, 95.9, 97.6, 98.1, 98.2, 98.1, 98.0, 97.9, 96.9, 95.3, 93.4, 76.6),
    _row("Mamba 130M", "mean", 98.5, 98.6, 98.7, 98.7, 98.5, 98.5, 98.1, 97, 92.5),
    _row("GPT-4-0125", "mean", 87, 81, 77, 74, 71, 64, 53, 43, 36),
    _row("Llama-3.1-70B", "mean", 85, 81, 78, 74, 70, 65, 59, 53, 45),
]


def beside(tasks: list[str]) -> list[Published]:
    """Give the rows of those tasks, and the means."""
    return [row for row in ROWS if row.task in (*tasks, "mean")]
