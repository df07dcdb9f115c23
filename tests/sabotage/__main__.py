"""Sabotage: take away one line of safety at a time, from a copy of the sources, and see who notices.

`make sabotage` runs all of them, `make sabotage ARGS="fence jitter"` those whose name has one of the words.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saboteurs import SABOTEURS, Saboteur

ROOT = Path(__file__).parents[2]
LIMIT = 60.0
"""Seconds within which a saboteur must be noticed."""


@contextmanager
def sabotaged(saboteur: Saboteur | None) -> Iterator[Path]:
    """A copy of the sources with one change."""
    with tempfile.TemporaryDirectory(prefix="sitq-sabotage-") as name:
        sources = Path(name) / "src"
        shutil.copytree(ROOT / "src", sources)  # with what is compiled already, which saves half of the time
        if saboteur is not None:
            file = sources / "sitq" / saboteur.file
            text = file.read_text()
            found = text.count(saboteur.old)
            if found != 1:
                sys.exit(f"{saboteur.name}: its text is {found} times in {saboteur.file}; mend the saboteur")
            file.write_text(text.replace(saboteur.old, saboteur.new))
        yield sources


def run(sources: Path, tests: list[str], limit: float) -> list[dict[str, str]] | None:
    """How the tests ended with these sources; None if that took too long."""
    report = sources.parent / "report"
    report.touch()
    path = os.pathsep.join([str(sources), str(Path(__file__).parent)])
    with (sources.parent / "output").open("w") as output:
        try:
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "pytest",
                    "-q",
                    "-p",
                    "told",
                    "-o",
                    f"cache_dir={sources.parent / 'cache'}",
                    "-p",
                    "no:randomly",
                    f"--timeout={limit - 5:g}",
                    *tests,
                ],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": path, "SABOTAGE_REPORT": str(report)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None
    return [json.loads(line) for line in report.read_text().splitlines()]


def noticed(saboteur: Saboteur, told: list[dict[str, str]]) -> str | None:
    """What the test said about it; None if it passed, or ended in any other way than by its assertion."""
    for one in told:
        if one["outcome"] == "failed" and one["when"] == "call" and one["test"].startswith(saboteur.test):
            why = one["why"]
            if why.startswith(("AssertionError", "assert ", "Failed: DID NOT RAISE", "Failed: it ")):
                return why.splitlines()[0]
    return None


def main() -> int:
    words = sys.argv[1:]
    chosen = [one for one in SABOTEURS if not words or any(word in one.name for word in words)]
    with sabotaged(None) as sources:
        tests = list(dict.fromkeys(one.test for one in chosen))
        told = run(sources, tests, 600) or []
        broken = [one["test"] for one in told if one["outcome"] == "failed"]
        passed = sum(one["outcome"] == "passed" for one in told)
        if broken or passed < len(tests):
            print((sources.parent / "output").read_text())
            print(f"without sabotage {passed} of {len(tests)} tests pass, and these fail: {broken}")
            return 1
        print(f"without sabotage all {passed} tests pass")
    survivors = []
    for saboteur in chosen:
        begun = time.monotonic()
        with sabotaged(saboteur) as sources:
            told = run(sources, [saboteur.test], LIMIT)
            why = noticed(saboteur, told or [])
            if why is None:
                survivors.append(saboteur.name)
                print((sources.parent / "output").read_text()[-3000:])
        took = time.monotonic() - begun
        test = saboteur.test.rpartition("::")[2]
        verdict = "caught" if why else "TOO SLOW" if told is None else "SURVIVED"
        print(f"{verdict:8}  {took:4.1f} s  {saboteur.name} ({saboteur.file})\n{'':19}{test}", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} saboteurs were caught")
    for name in survivors:
        print(f"not caught: {name}")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
