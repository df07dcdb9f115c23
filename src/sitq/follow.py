"""Following a task: each change of it that can be seen, until its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from sitq.backends.base import DONE_TOPIC, Backend, task_topic
from sitq.info import TaskUpdate, progress_of, status_of
from sitq.record import TERMINAL, Progress, Record

_FLOOR: Final = 0.25
"""Seconds between looks without a hint: the start of a task gives none, and a hint can get lost."""

_PAUSE: Final = 0.01
"""Seconds between looks at the least, however many hints there are."""

Read = Callable[[str], Awaitable[Record | None]]
"""Reads a task by its id."""


async def follow(backend: Backend, read: Read, topic: str, task_id: str) -> AsyncGenerator[TaskUpdate]:
    """How a task is now, then each change that can be seen, the last one with its end.

    Nothing for an unknown task; it stops without an end for one that is purged meanwhile.

    Args:
        backend: Gives the hints.
        read: Reads the task.
        topic: The reply topic of the tasks that were enqueued here.
        task_id: The task.
    """
    listener = backend.listen({task_topic(task_id), topic, DONE_TOPIC})
    seen: Record | None = None
    try:
        while True:
            begun = time.monotonic()
            record = await read(task_id)
            if record is None:
                return
            for update in changes(seen, record):
                yield update
            if record.state in TERMINAL:
                return
            seen = record
            await asyncio.sleep(max(_PAUSE, time.monotonic() - begun))
            await listener.wait(_FLOOR)
    finally:
        listener.close()


def changes(before: Record | None, now: Record) -> list[TaskUpdate]:
    """What there is to tell of a task that was seen before as it was then: each new note, then its status."""
    notes = new_notes(before.progress if before else (), now.progress)
    moved = before is None or (before.state, before.attempt) != (now.state, now.attempt)
    status = status_of(now.state)
    if not moved:
        return [_update(now, status, note) for note in notes]
    # A running task left the notes; what it is now may have come after them.
    told = [_update(now, "running", note) for note in notes] if before is not None else []
    newest = now.progress[-1] if now.progress else None
    if told and status == "running":
        return told
    return [*told, _update(now, status, newest)]


def new_notes(before: tuple[Progress, ...], now: tuple[Progress, ...]) -> tuple[Progress, ...]:
    """The notes behind those that were there before; a record keeps only its newest ones."""
    if before == now:
        return ()
    for gone in range(len(before)):
        left = before[gone:]
        if now[: len(left)] == left:
            return now[len(left) :]
    return now


def _update(record: Record, status: str, note: Progress | None) -> TaskUpdate:
    return TaskUpdate(
        task_id=record.id,
        status=status,
        progress=None if note is None else progress_of(note),
        attempt=record.attempt,
        ended=status == status_of(record.state) and record.state in TERMINAL,
    )
