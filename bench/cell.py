"""A cell of the table: one workload on one store, in a process of its own, so that none disturbs the next."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from bench.loop import run
from bench.plan import Plan
from bench.row import Row
from bench.stores.every import STORES
from bench.workloads import WORKLOADS

_PATIENCE: Final = 240.0
_PATIENCE_WHEN_NAMED: Final = 900.0
"""Seconds that a workload may take, and one that was asked for by name."""


def measure(store: str, workload: str, plan: Plan) -> Sequence[Row]:
    """The rows of a cell; one that says what went wrong if it could not be measured."""
    command = [sys.executable, "-m", "bench.cell", store, workload, json.dumps(plan.as_data())]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    patience = _PATIENCE_WHEN_NAMED if plan.named else _PATIENCE
    try:
        output, errors = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        return [_failed(store, workload, f"it took longer than {patience:g} s")]
    finally:
        _end(process)
    if process.returncode:
        lines = errors.strip().splitlines() or [f"exit code {process.returncode}"]
        return [_failed(store, workload, lines[-1])]
    if errors:
        sys.stderr.write(errors)
    return [Row.from_data(row) for row in json.loads(output)]


def _failed(store: str, workload: str, error: str) -> Row:
    return Row(workload, store, "", None, error=error)


def _end(process: subprocess.Popen[str]) -> None:
    """End the cell, and the worker processes that it may have left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> None:
    """Measure a cell and print its rows as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.cell", description=main.__doc__)
    parser.add_argument("store", choices=STORES)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("plan", help="as JSON")
    chosen = parser.parse_args()
    plan = Plan.from_data(json.loads(chosen.plan))
    rows = run(_measure(chosen.store, chosen.workload, plan), uvloop=plan.uvloop)
    json.dump([row.as_data() for row in rows], sys.stdout)


async def _measure(store: str, workload: str, plan: Plan) -> Sequence[Row]:
    return await WORKLOADS[workload](STORES[store], plan)


if __name__ == "__main__":
    main()
