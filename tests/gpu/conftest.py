"""The Triton kernels where they run: on the GPU, or without one under Triton's interpreter, in a process of its own.

`make test` interprets them; `make test-gpu` runs the same tests on a GPU, with NaN in whatever is not written to.
"""

import os
import sys
from collections.abc import Iterator

import pytest
import torch

if not torch.cuda.is_available():
    assert "triton" not in sys.modules, "triton reads the variable when it is imported: pytest tests/gpu, nothing else"
    os.environ["TRITON_INTERPRET"] = "1"

from recurra.kernels import launching

INTERPRETED = launching.INTERPRETED


@pytest.fixture
def device() -> torch.device:
    return torch.device("cpu" if INTERPRETED else "cuda")


@pytest.fixture(autouse=True)
def _unwritten_memory_is_no_number(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fill what `torch.empty` and its kin give with NaN, which then shows wherever a kernel leaves a hole."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
