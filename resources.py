"""How much memory the process holds."""

import os
import resource
import sys
from pathlib import Path


def resident() -> int:
    """Give the bytes of memory that the process holds now, or held at most where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak()


def peak() -> int:
    """Give the most bytes of memory that the process has held.

    Not by ``getrusage`` where the system says it otherwise: on Linux that begins with what its parent held.
    """
    try:
        (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
