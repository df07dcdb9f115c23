"""Crash images: `python tests/crash --images=2000`, or one of a kept tape: `--tape=DIR --image=17`."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from images import Task, examine, summary
from recorder import library

BATCH = 500
"""Images of each tape."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make crash ARGS=…", description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--seed", type=int, help="what is drawn; without it, it is drawn itself and printed")
    parser.add_argument("--synchronous", choices=("FULL", "NORMAL"), default="FULL")
    parser.add_argument("--thorough", type=int, default=1, help="work each n-th disk off, too")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many tapes at once")
    parser.add_argument("--tape", type=Path, help="the folder of a tape that was kept")
    parser.add_argument("--keep", type=Path, help="where tapes with broken images stay")
    parser.add_argument("--image", type=int, help="this one only")
    given = parser.parse_args()
    cannot = library()
    if isinstance(cannot, str):
        print(cannot)
        return 2
    seed = random.SystemRandom().randrange(1_000_000) if given.seed is None else given.seed
    print(f"seed {seed}, synchronous={given.synchronous}", flush=True)
    begun = time.monotonic()
    if given.tape is not None:
        numbers = tuple(range(given.images)) if given.image is None else (given.image,)
        reports = [examine(Task(seed, numbers, given.synchronous, given.thorough, given.tape))]
    else:
        sizes = [min(BATCH, given.images - at) for at in range(0, given.images, BATCH)]
        tasks = [
            Task(seed + at, tuple(range(size)), given.synchronous, given.thorough, keep=given.keep)
            for at, size in enumerate(sizes)
        ]
        with ProcessPoolExecutor(min(given.jobs, len(tasks)), get_context("spawn")) as pool:
            reports = list(pool.map(examine, tasks))
    for line in (line for report in reports for line in report.lines):
        print(line)
    counts = sum((report.counts for report in reports), Counter[str]())
    print(summary(counts, time.monotonic() - begun))
    return counts["broken"] > 0 or counts["images"] == 0


if __name__ == "__main__":
    sys.exit(main())
