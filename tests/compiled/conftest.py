"""The Triton kernels compiled for GPUs, without one: what the interpreter lets pass, and whether they fit a card."""

import os
import re
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

os.environ["TRITON_INTERPRET"] = "0"
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # what is usual, said so that 3.9 need not warn

import pytest
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

LIMITS = {80: 163 * 1024, 90: 227 * 1024}
"""Bytes of shared memory that one program may have, by compute capability."""


class Kernel(NamedTuple):
    """What a kernel came to when compiled: bytes of shared memory, registers and bytes of stack of a thread."""

    name: str
    what: str
    capability: int
    warps: int
    shared: int
    registers: int
    stack: int


def _usage(cubin: bytes) -> tuple[int, int]:
    """Give registers and stack: what does not fit in registers is spilled there."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        printed = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", printed).groups()
    return int(registers), int(stack)


@pytest.fixture(params=sorted(LIMITS), ids="sm_{}".format)
def compiling(request, monkeypatch, record_property):
    """Compile, instead of launching, whatever is launched inside ``with compiling(what) as kernels``."""
    target = GPUTarget("cuda", request.param, 32)
    driver = SimpleNamespace(
        get_current_target=lambda: target, get_current_device=lambda: request.param, get_current_stream=lambda _: 0
    )
    triton.runtime.driver.set_active(driver)
    run = JITFunction.run

    @contextmanager
    def compiling(what):
        found = []

        def compile_only(self, *args, grid, warmup, **options):
            kernel = run(self, *args, grid=grid, warmup=True, **options)
            metadata = kernel.metadata
            registers, stack = _usage(kernel.asm["cubin"])
            name = self.fn.__name__
            found.append(Kernel(name, what, request.param, metadata.num_warps, metadata.shared, registers, stack))

        with monkeypatch.context() as patch:
            patch.setattr(JITFunction, "run", compile_only)
            yield found
        for kernel in found:
            record_property("kernel", tuple(kernel))
            assert kernel.shared < LIMITS[kernel.capability], kernel

    return compiling


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("kernels: shared memory of a program; registers, and stack (spills), of a thread")
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ())]
    kernels = dict.fromkeys(tuple(kernel) for report in reports for _, kernel in report.user_properties)
    for name, what, capability, warps, shared, registers, stack in kernels:
        terminalreporter.write_line(
            f"sm_{capability} {name:20} {what:44} {warps:2} warps {shared:7,} B {registers:4} registers {stack:6,} B"
        )
