"""`python -m sitq.testing.storm`: one storm, or storms of ascending seeds until the time is over.

One on each store, if several are named.
"""

from __future__ import annotations

import argparse
import json
import resource
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sitq.testing.storm import scenes, stopping
from sitq.testing.storm.setup import Setup
from sitq.testing.storm.storm import Storm
from sitq.testing.storm.verdict import Verdict

_SCENES: Final[dict[str, Callable[[Setup], Verdict]]] = {
    "storm": lambda setup: Storm(setup).run(),
    "zombies": scenes.zombies,
    "recovery": scenes.recovery,
    "supervised": scenes.supervised,
    "load": scenes.load,
    "stops": stopping.stops,
}


_OPTIONS: Final[dict[str, str]] = {
    "store": "sqlite, postgres, redis, or module:function of a factory; several with commas, in turn",
    "seconds": "for which faults strike",
    "tasks": "how many",
    "kills": "how many workers are killed, or stopped",
    "lease": "of the workers, in seconds",
    "poisons": "how many tasks of each deadly kind",
    "within": "seconds of a recovery, 0 is what is promised",
}


def main() -> int:
    """Run storms; 1 if a promise was broken."""
    usual = Setup(folder="")
    parser = argparse.ArgumentParser(prog="python -m sitq.testing.storm", description=__doc__)
    parser.add_argument("scene", nargs="?", default="storm", choices=tuple(_SCENES), help="what is proved")
    parser.add_argument("--seed", type=int, help="of the first one; drawn if left out")
    parser.add_argument(
        "--time", type=float, default=0.0, help="seconds of one after another; by default one"
    )
    for name, about in _OPTIONS.items():
        value: str | float = getattr(usual, name)
        what: Callable[[str], object] = type(value)
        parser.add_argument(f"--{name}", type=what, default=value, help=f"{about} [default: {value}]")
    parser.add_argument("--keep", type=Path, help="a new folder that keeps journals, logs and store of one")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON in a last line")
    given = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    several = given.time or "," in given.store
    return _many(given, seed) if several else _one(given, seed)


def _again(given: argparse.Namespace, seed: int, store: str) -> list[str]:
    options = [f"--{name}={store if name == 'store' else getattr(given, name)}" for name in _OPTIONS]
    return ["-m", "sitq.testing.storm", given.scene, f"--seed={seed}", *options]


def _one(given: argparse.Namespace, seed: int) -> int:
    """One scene, in this process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    folder = given.keep or Path(tempfile.mkdtemp(prefix="sitq-storm-"))
    setup = Setup(folder=str(folder), seed=seed, **{name: getattr(given, name) for name in _OPTIONS})
    print(f"{given.scene} of seed {seed}", flush=True)
    begun = time.monotonic()
    verdict = _SCENES[given.scene](setup)
    print(verdict.text())
    print(
        f"took {time.monotonic() - begun:.1f} s; again: python {' '.join(_again(given, seed, given.store))}",
        flush=True,
    )
    if not verdict.clean:
        print(f"journals, logs and store are kept in {folder}", flush=True)
    elif not given.keep:
        shutil.rmtree(folder, ignore_errors=True)
    if given.json:
        told = {"clean": verdict.clean, "counts": verdict.counts, "explained": verdict.explained}
        print(json.dumps(told | {"recovery": max(verdict.recovery, default=0.0)}))
    return 0 if verdict.clean else 1


def _many(given: argparse.Namespace, seed: int) -> int:
    """One after another, each in a process with a small disk of its own, the stores in turn."""
    end = time.monotonic() + given.time
    results: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    stores = given.store.split(",")
    turn = 0
    while turn < len(stores) or time.monotonic() < end:
        store = stores[turn % len(stores)]
        command = [sys.executable, *_again(given, seed, store), "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        *lines, last = done.stdout.rstrip().split("\n")
        print(f"on {store}:", "\n".join(lines), sep="\n", flush=True)
        results["clean" if done.returncode == 0 else f"BROKEN on {store}, seed {seed}"] += 1
        if last.startswith("{"):
            totals.update(json.loads(last)["counts"])
        seed += 1
        turn += 1
    print("all together:")
    for name, count in [*totals.items(), *sorted(results.items())]:
        print(f"{count:10,}  {name}")
    return 0 if set(results) == {"clean"} else 1


if __name__ == "__main__":
    sys.exit(main())
