"""What a record tells people: a task at a glance, with its times as datetimes and nothing unpickled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from sitq.clock import as_datetime, moment
from sitq.record import NEVER, SECOND, Failure, Progress, Record, State

_ENDED: Final = {State.COMPLETED: "success"}
"""What users call the states that they do not call as the store does."""


def status_of(state: State) -> str:
    """A state in the words of `Result.status`: `success` for a completed task, else the state's own name."""
    return _ENDED.get(state, state.value)


@dataclass(frozen=True, slots=True)
class TaskFailure:
    """Why an attempt, or the task, did not complete.

    Attributes:
        kind: `raised`, `timeout`, `crashed`, `cancelled`, `expired`, `dependency`, `unrunnable` or
            `unstorable`.
        type: The exception's type, as `module.QualName`, or "".
        message: One sentence.
        traceback: The worker's traceback as text, or "".
        attempt: The attempt that it belongs to; 0 if none ran.
        at: When.
        worker: Which worker, or "".
    """

    kind: str
    type: str
    message: str
    traceback: str
    attempt: int
    at: datetime
    worker: str


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """One note that a running task left about itself.

    Attributes:
        fraction: How much of it is done, from 0 to 1, or None.
        message: What it says, or "".
        at: When.
    """

    fraction: float | None
    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class TaskUpdate:
    """A change that somebody who follows a task gets to see.

    Attributes:
        task_id: The task.
        status: `blocked`, `queued` or `running`, or how it ended: `success`, `failed`, `cancelled`,
            `expired` or `dead`.
        progress: The newest note, or None if there is none.
        attempt: The number of the last run, 0 before the first.
        ended: Whether this is the last update.
    """

    task_id: str
    status: str
    progress: TaskProgress | None = None
    attempt: int = 0
    ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """A task at a glance. Its arguments are shown by the preview that the producer made.

    Attributes:
        id: The task.
        function: The name of its function.
        queue: The queue that it waits in, or came from.
        state: `blocked`, `queued`, `running`, `completed`, `failed`, `cancelled`, `expired` or `dead`.
        preview: Its arguments as a short text, without what looks secret.
        priority: Higher ones run first.
        attempts: How many runs were begun.
        failures: How many retries were spent.
        crashes: How many workers died or hung under it since a run of it last ended by itself.
        errors: Its newest failures, the last one last.
        progress: The newest note that it left about itself, or None.
        notes: Its newest notes, at most 20, the last one last.
        created_at: When it was enqueued.
        due_at: Before when it does not start; None while it depends on tasks that have not ended.
        started_at: When its last run began, or None.
        finished_at: When it ended, or None.
        expires_at: After when it is not started for the first time, or None.
        deadline_at: After when it is not started any more, or None.
        kept_until: When its record may be purged, or None.
        timeout: Seconds that one run may take, or None.
        worker: Who runs it, or None.
        stop: Why it is asked to stop while it runs, or None.
        parents: The tasks that it was enqueued to depend on.
        tags: Its labels.
        limits: The keys of the limits that it is subject to.
        unique: Its unique key, or None.
        batch: Its batch, or None.
        schedule: The schedule that it is a tick of, or None.
        retry_of: The task that it runs again, or None.
    """

    id: str
    function: str
    queue: str
    state: State
    preview: str
    priority: int
    attempts: int
    failures: int
    crashes: int
    errors: tuple[TaskFailure, ...] = field(repr=False)
    progress: TaskProgress | None
    notes: tuple[TaskProgress, ...]
    created_at: datetime
    due_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    deadline_at: datetime | None
    kept_until: datetime | None
    timeout: float | None
    worker: str | None
    stop: str | None
    parents: tuple[str, ...]
    tags: tuple[str, ...]
    limits: tuple[str, ...]
    unique: str | None
    batch: str | None
    schedule: str | None
    retry_of: str | None


def info_of(record: Record) -> TaskInfo:
    """A record as people see it."""
    return TaskInfo(
        id=record.id,
        function=record.name,
        queue=record.queue,
        state=record.state,
        preview=record.preview,
        priority=record.priority,
        attempts=record.attempt,
        failures=record.failures,
        crashes=record.crashes,
        errors=tuple(map(_failure, record.errors)),
        progress=progress_of(record.progress[-1]) if record.progress else None,
        notes=tuple(map(progress_of, record.progress)),
        created_at=moment(record.created),
        due_at=None if record.state is State.BLOCKED else as_datetime(min(record.due, NEVER)),
        started_at=as_datetime(record.started),
        finished_at=as_datetime(record.finished),
        expires_at=as_datetime(record.expires),
        deadline_at=as_datetime(record.deadline),
        kept_until=as_datetime(record.keep_until),
        timeout=None if record.timeout is None else record.timeout / SECOND,
        worker=record.owner,
        stop=record.stop,
        parents=tuple(edge.parent for edge in record.edges),
        tags=record.tags,
        limits=tuple(limit.key for limit in record.limits),
        unique=record.unique.key if record.unique else None,
        batch=record.batch,
        schedule=record.schedule,
        retry_of=record.retry_of,
    )


def progress_of(note: Progress) -> TaskProgress:
    """A note as people see it."""
    return TaskProgress(note.fraction, note.message, moment(note.at))


def _failure(failure: Failure) -> TaskFailure:
    return TaskFailure(
        failure.kind,
        failure.type,
        failure.message,
        failure.traceback,
        failure.attempt,
        moment(failure.at),
        failure.worker,
    )


@dataclass(frozen=True, slots=True)
class TaskPage:
    """A part of a listing.

    Attributes:
        tasks: The tasks of this page.
        after: Where the next page begins, or None after the last one.
    """

    tasks: tuple[TaskInfo, ...]
    after: int | None

    def __iter__(self) -> Iterator[TaskInfo]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)


@dataclass(frozen=True, slots=True)
class Pause:
    """What is not to start for a while.

    Attributes:
        kind: `queue`, `function` or `key`.
        name: Which one.
        since: When it was paused.
        until: When it goes on by itself, or None.
        reason: Why, or "".
    """

    kind: Literal["queue", "function", "key"]
    name: str
    since: datetime
    until: datetime | None
    reason: str
