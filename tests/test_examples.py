"""The examples are short, run, and do what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_learns_in_under_forty_lines(example: Path, tmp_path: Path) -> None:
    assert len(example.read_text().splitlines()) < 40
    # One thread, as other tests: many small operations on two threads wait for each other where cores are few.
    alone, command = {**os.environ, "OMP_NUM_THREADS": "1"}, [sys.executable, str(example)]
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    accuracy = re.search(r"accuracy[^\d]*(?:after 10,000 blanks )?(\d\.\d\d)", done.stdout)
    assert accuracy, done.stdout
    assert float(accuracy[1]) >= 0.95
