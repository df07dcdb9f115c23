"""The examples run, and show what they promise to show."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SHOWN = {
    "example_end_to_end.py": [
        "result: page 7",
        "result: 1229",
        "failed: ZeroDivisionError: division by zero",
        "not finished in time: None",
        "closed",
    ],
    "examples/basic/api_demo.py": ["TaskQueue", "SQLiteBackend", "Worker", "result: Hello, World!"],
    "examples/basic/eta.py": [r"first\n.*second\n.*third"],
    "examples/basic/retries.py": ["worked at attempt 3", "now it is ready"],
    "examples/basic/sync_context.py": ["1 / 4 = 0.25", "1 / 0 failed: .*division by zero"],
    "examples/basic/worker_processes.py": ["squares: 0 1 4 9 16 25 36 49", r"worker processes: [12]"],
    "examples/demo/run.py": [
        r"\d+ tasks are in .*tasks.db",
        r"async function +20 .*page 1 … page 20",
        r"lambda, by value +8 ",
        "worked at attempt 3",
        "ZeroDivisionError: division by zero",
        r"Process \d+ was killed; its task started again in process \d+, \d+ ms later",
        "All 41 tasks ended as expected; the workers stopped with exit code 0",
    ],
}


def test_every_example_is_run_here():
    scripts = [*ROOT.glob("example*.py"), *ROOT.glob("examples/*/*.py")]
    assert {str(each.relative_to(ROOT)) for each in scripts} - {"examples/demo/work.py"} == set(SHOWN)


@pytest.mark.parametrize("script", SHOWN)
def test_it_shows_what_it_promises(script, tmp_path):
    command = [sys.executable, "-W", "error", str(ROOT / script)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for pattern in SHOWN[script]:
        assert re.search(pattern, ended.stdout), f"{pattern} is not in:\n{ended.stdout}"
    assert list(tmp_path.iterdir()) == []  # it cleans up
