"""Running an ended task again: the record of the task that does it."""

from __future__ import annotations

from collections.abc import Collection

from sitq.ids import derived_id
from sitq.record import Record


def id_of_retry(task_id: str) -> str:
    """The id of the task that runs another one again.

    It is made of that one's id, so that to run it again twice is to run it again once.
    """
    return derived_id("retry", task_id)


def again(record: Record, *, payload: bytes, reply: str | None, known: Collection[str], now: int) -> Record:
    """A new task that does what an ended one did, due at once.

    It depends on the same parents: those that have ended count as they did. It keeps what says how the task
    is run, and drops what was about its first time: when it was due, a deadline that is over, the bound of
    its queue, its place in a schedule, and a unique key that was held for a window of time.

    Args:
        record: The task that ended.
        payload: Its payload, sealed for the id of the new one.
        reply: The topic of who asks for it.
        known: The parents that are still there; one that was purged had ended, and is left out.
        now: The present, in microseconds.
    """
    over = record.deadline is not None and record.deadline <= now
    windowed = record.unique is not None and record.unique.scope == "window"
    return Record(
        id=id_of_retry(record.id),
        retry_of=record.id,
        payload=payload,
        reply=reply,
        deadline=None if over else record.deadline,
        unique=None if windowed else record.unique,
        edges=tuple(edge for edge in record.edges if edge.parent in known),
        **{name: getattr(record, name) for name in _KEPT},
    )


_KEPT = (
    *("queue", "name", "preview", "priority", "ttl", "timeout", "retry", "limits", "fair", "inputs"),
    *("batch", "executor", "tags", "keep", "keep_failed", "trace", "python", "version"),
)
"""What a retry has in common with the task that it runs again."""
