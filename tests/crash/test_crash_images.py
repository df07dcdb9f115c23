"""The power goes at any moment, and the disk holds what it may hold then: what was acknowledged is there.

`make crash` looks at more disks. Each tape is played and judged in processes of its own: a recorded process
stays one until it ends.
"""

import importlib
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.append(str(HERE))

disk = importlib.import_module("disk")
recorder = importlib.import_module("recorder")
scene = importlib.import_module("scene")

hidden = recorder.library()
recorded = pytest.mark.skipif(isinstance(hidden, str), reason=str(hidden))


@pytest.fixture
def crash(tmp_path):
    """Judges disks; what was counted, by the word behind its figure."""

    def run(*arguments: str) -> dict[str, int]:
        done = subprocess.run(
            [sys.executable, str(HERE), "--jobs=1", "--thorough=4", f"--keep={tmp_path}", *arguments],
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        print(done.stdout, done.stderr)  # noqa: T201 - pytest shows it on a failure
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
        return {word: int(figure) for figure, word in re.findall(r"(\d+) (\w+)", done.stdout)}

    return run


@recorded
@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(4))
def test_after_a_power_loss_all_that_was_acknowledged_is_there(crash, part):
    counted = crash("--images=500", f"--seed={100 + part}")
    assert (counted["images"], counted["lost"], counted["broken"]) == (500, 0, 0)
    assert counted["syncs"] > 100  # and there was something to lose
    assert counted["writes"] > 3000
    assert counted["acknowledged"] > 50_000
    assert counted["tasks"] > 1000


@recorded
@pytest.mark.timeout(300)
def test_with_less_than_full_syncs_a_power_loss_takes_the_last_moments_and_nothing_else(crash):
    counted = crash("--images=300", "--seed=200", "--synchronous=NORMAL")
    assert counted["lossy"] > 30, "hardly a disk lost anything: they show nothing"


@recorded
@pytest.mark.timeout(120)
def test_a_tape_leads_to_the_very_files_that_are_there(tmp_path):
    """Nothing that changed a file has passed the recorder by."""
    events = scene.record(tmp_path, "FULL", 301)
    after = disk.Disk()
    for event in events:
        after.follow(event)
    files = {path.name: path.read_bytes() for path in tmp_path.glob(f"{scene.FILE}*")}
    assert len(files[scene.FILE]) > 100_000
    assert after.image(random.Random(1), "everything") == files
    lowest = after.image(random.Random(1), "nothing")
    assert lowest[scene.FILE] == files[scene.FILE], "the last connection closed a file that it had not synced"
