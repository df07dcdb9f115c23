"""From what a store answered to the events that tell of it. Pure: nothing is told here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, Literal

from sitq.backends.base import PAUSE_KEY, PAUSE_NAME, PAUSE_QUEUE, Answer, Duplicate, Replaced
from sitq.clock import moment
from sitq.events import EventKind, TaskEvent
from sitq.move import Release, Retry, Settle
from sitq.policy import outcome as came_to
from sitq.record import SECOND, Failure, Record, State

_ENDS: Final[dict[State, EventKind]] = {
    State.COMPLETED: "succeeded",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.EXPIRED: "expired",
    State.DEAD: "dead",
}

Verdict = Settle | Retry | Release


def placed(group: Sequence[Record], answers: Iterable[Answer], now: datetime) -> list[TaskEvent]:
    """What became of tasks that were put."""
    return [
        TaskEvent(kind=_placed_kind(answer), at=now, task_id=answer.id, name=record.name, queue=record.queue)
        for record, answer in zip(group, answers, strict=True)
    ]


def _placed_kind(answer: Answer) -> EventKind:
    match answer:
        case Duplicate():
            return "deduplicated"
        case Replaced():
            return "replaced"
        case _:
            return "enqueued"


def started(records: Iterable[Record], now: int, worker: str) -> list[TaskEvent]:
    """That attempts begin; before each, that the one before it crashed, if it did."""
    events: list[TaskEvent] = []
    for record in records:
        last = record.errors[-1] if record.errors else None
        if last is not None and last.kind == "crashed" and last.attempt == record.attempt - 1:
            events.append(
                TaskEvent(
                    kind="crashed",
                    at=moment(last.at),
                    task_id=record.id,
                    name=record.name,
                    queue=record.queue,
                    attempt=last.attempt,
                    worker=last.worker,
                    error=last.message,
                )
            )
        events.append(_of(record, "started", now, worker))
    return events


def settled(
    record: Record, verdict: Verdict, outcome: came_to.Outcome | None, now: int, worker: str, *, kept: bool
) -> TaskEvent:
    """What an attempt came to, after the store has taken it, or refused it as the lease was lost."""
    seconds = None if record.started is None else max(0, now - record.started) / SECOND
    if not kept:
        return _of(record, "lost", now, worker, seconds=seconds)
    match verdict:
        case Settle():
            return _of(record, _ENDS[verdict.state], now, worker, failure=verdict.failure, seconds=seconds)
        case Retry():
            delay = verdict.delay / SECOND
            return _of(record, "retried", now, worker, failure=verdict.failure, seconds=seconds, delay=delay)
        case Release():
            delay = verdict.delay / SECOND
            kind = _back_kind(verdict, outcome)
            return _of(record, kind, now, worker, failure=verdict.failure, seconds=seconds, delay=delay)


def _back_kind(verdict: Release, outcome: came_to.Outcome | None) -> EventKind:
    if verdict.freeze is not None or isinstance(outcome, came_to.Throttled):
        return "throttled"
    return "snoozed" if isinstance(outcome, came_to.Snoozed) else "handed_back"


def followed(records: Iterable[Record], worker: str) -> list[TaskEvent]:
    """That tasks were placed in the step that settled another one."""
    return [_of(record, "enqueued", record.created, worker) for record in records]


def ended(record: Record, worker: str = "") -> TaskEvent | None:
    """How a task ended that a store or an operator let end; None if it has not."""
    kind = _ENDS.get(record.state)
    if kind is None:
        return None
    failure = record.errors[-1] if record.errors else None
    return _of(record, kind, record.finished or 0, worker, failure=failure)


def cancelled(record: Record) -> TaskEvent:
    """That a waiting task was cancelled, or a running one asked to stop."""
    return ended(record) or _of(record, "stopping", _now(), record.owner or "", reason=record.stop or "")


def changed(record: Record) -> TaskEvent:
    """That a waiting task starts at another time, or sooner or later than others."""
    now = _now()
    return _of(record, "changed", now, "", delay=max(0, record.due - now) / SECOND)


def deleted(task_id: str) -> TaskEvent:
    """That a task's record was removed."""
    return TaskEvent(kind="deleted", at=datetime.now(UTC), task_id=task_id)


def paused(kind: Literal["paused", "resumed"], cell: str, reason: str = "") -> TaskEvent:
    """That what a pause's cell names is paused, or goes on."""
    now = datetime.now(UTC)
    if cell.startswith(PAUSE_QUEUE):
        return TaskEvent(kind=kind, at=now, queue=cell.removeprefix(PAUSE_QUEUE), reason=reason)
    if cell.startswith(PAUSE_NAME):
        return TaskEvent(kind=kind, at=now, name=cell.removeprefix(PAUSE_NAME), reason=reason)
    return TaskEvent(kind=kind, at=now, key=cell.removeprefix(PAUSE_KEY), reason=reason)


def of_worker(kind: EventKind, worker: str, now: int) -> TaskEvent:
    """That a worker starts or stops."""
    return TaskEvent(kind=kind, at=moment(now), worker=worker)


def _of(
    record: Record,
    kind: EventKind,
    at: int,
    worker: str,
    *,
    failure: Failure | None = None,
    seconds: float | None = None,
    delay: float | None = None,
    reason: str = "",
) -> TaskEvent:
    return TaskEvent(
        kind=kind,
        at=moment(at),
        task_id=record.id,
        name=record.name,
        queue=record.queue,
        attempt=record.attempt,
        worker=worker,
        seconds=seconds,
        delay=delay,
        error=None if failure is None else failure.message,
        error_type="" if failure is None else failure.type,
        reason=reason,
    )


def _now() -> int:
    return round(datetime.now(UTC).timestamp() * SECOND)
