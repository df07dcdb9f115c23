"""Measure sitq beside the raw stores and print a table."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import cell, machine
from bench.plan import Plan
from bench.row import Row
from bench.stores.every import STORES
from bench.table import table, verdict
from bench.workloads import WORKLOADS


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if something could not be measured. A goal that is missed is no failure."""
    chosen = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the cell is ended, too
    plan = Plan(
        reps=chosen.reps or (1 if chosen.quick else 3),
        quick=chosen.quick,
        uvloop=chosen.uvloop,
        named=bool(chosen.only),
    )
    facts = machine.facts(plan, chosen.stores)
    for what, fact in facts.items():
        print(f"{what}: {fact}")
    print(flush=True)
    rows: list[Row] = []
    with contextlib.suppress(KeyboardInterrupt):  # what has been measured is worth seeing
        for row in _measure(chosen.stores, chosen.only or list(WORKLOADS), plan):
            rows.append(row)  # noqa: PERF402 - those before an interruption count
    print(table(rows))
    if chosen.json:
        data = {"facts": facts, "rows": [row.as_data() | {"verdict": verdict(row)} for row in rows]}
        chosen.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return int(any(row.error for row in rows))


def _measure(stores: Sequence[str], workloads: Sequence[str], plan: Plan) -> Iterator[Row]:
    for workload in workloads:
        for store in stores:
            begun = time.monotonic()
            found = cell.measure(store, workload, plan)
            yield from found
            failed = "".join(f": {row.error}" for row in found if row.error)
            _progress(f"{time.monotonic() - begun:6.1f} s  {workload} on {store}{failed}")


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--stores", type=_stores, default=list(STORES), help=f"some of {','.join(STORES)}")
    parser.add_argument(
        "--only", type=_workloads, help=f"by name or its beginning: {', '.join(WORKLOADS)}; rss is longer so"
    )
    parser.add_argument("--quick", action="store_true", help="everything small, within a minute")
    parser.add_argument("--reps", type=int, metavar="N", help="repetitions of each side (default 3, quick 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write facts and rows there as well")
    parser.add_argument("--uvloop", action="store_true", help="run uvloop in all processes, on both sides")
    return parser


def _stores(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in STORES]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no store {unknown[0]!r}; there are {', '.join(STORES)}")
    return names


def _workloads(text: str) -> list[str]:
    found: list[str] = []
    for start in text.split(","):
        names = [name for name in WORKLOADS if name.startswith(start)]
        if not names:
            message = f"there is no workload {start!r}; there are {', '.join(WORKLOADS)}"
            raise argparse.ArgumentTypeError(message)
        found += [name for name in names if name not in found]
    return found


if __name__ == "__main__":
    sys.exit(main())
