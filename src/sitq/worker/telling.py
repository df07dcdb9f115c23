"""What the log says of tasks: their ends, their retries and, for those who want it, starts and successes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any

from sitq.move import Release, Retry, Settle
from sitq.record import SECOND, Failure, Record, State
from sitq.worker.run import Run

logger = logging.getLogger("sitq.worker")


def log_starts(runs: Iterable[Run]) -> None:
    """Tell that attempts began, and note when."""
    for run in runs:
        record = run.record
        run.began = time.monotonic()
        logger.debug(
            "task %s of %s starts, attempt %d", record.id, record.name, record.attempt, extra=_about(record)
        )


def log_success(run: Run) -> None:
    """Tell that a task returned."""
    record = run.record
    began: float | None = getattr(run, "began", None)
    took = "" if began is None else f" in {time.monotonic() - began:.3f} s"
    logger.debug(
        "task %s of %s completed in attempt %d%s",
        record.id,
        record.name,
        record.attempt,
        took,
        extra=_about(record),
    )


def log_return(record: Record, verdict: Retry | Release) -> None:
    """Tell that a task goes back to its queue."""
    delay = verdict.delay or 0
    again = f"again in {delay / SECOND:.1f} s" if delay else "again at once"
    if verdict.failure is None:
        logger.debug("task %s of %s runs %s", record.id, record.name, again, extra=_about(record))
        return
    logger.info(
        "attempt %d of %s failed: %s; %s",
        record.attempt,
        record.name,
        _what(verdict.failure),
        again,
        extra=_about(record),
    )


def log_end(record: Record, verdict: Settle) -> None:
    """Tell that a task failed for good."""
    failure = verdict.failure
    if failure is None or verdict.state not in {State.FAILED, State.DEAD}:
        return
    trace = f"\n{failure.traceback.rstrip()}" if failure.traceback else ""
    logger.error(
        "task %s of %s in attempt %d: %s: %s%s",
        record.id,
        record.name,
        record.attempt,
        verdict.state,
        _what(failure),
        trace,
        extra=_about(record),
    )


def _what(failure: Failure) -> str:
    return ": ".join(part for part in (failure.type, failure.message) if part)


def _about(record: Record) -> dict[str, Any]:
    return {"task_id": record.id, "task_name": record.name, "queue": record.queue}
