"""One attempt in flight: the claimed record and what the worker knows of its run."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from enum import Enum
from typing import Any, NamedTuple

from sitq.context import CurrentTask, Desk
from sitq.record import SECOND, Failure, Record
from sitq.worker.time_limit import TimeLimit


class Interruption(Enum):
    """Why the worker itself ends a run."""

    STOP = "somebody cancelled the task"
    LOST = "its lease was lost to another worker"
    SHUTDOWN = "the worker stops"


class Remote(NamedTuple):
    """What was raised elsewhere, and what is known of it from there."""

    error: BaseException
    failure: Failure
    kinds: tuple[str, ...]


class Run:
    """An attempt from its claim until its outcome is stored.

    Attributes:
        outcome: What it came to; there only if the task goes back to the queue.
        unfit: What Python said of arguments that do not fit; there only if something happens around the call.
        limit: Ends it when its time is over; there only if its function began and has a time-out.
        remote: What its function raised in another process; there only if it did.
        began: When it began, by the monotonic clock; there only if that is logged.
    """

    __slots__ = (
        "_extended",
        "began",
        "context",
        "interruption",
        "limit",
        "outcome",
        "reason",
        "record",
        "remote",
        "task",
        "thread",
        "unfit",
    )

    outcome: object
    unfit: TypeError
    limit: TimeLimit
    remote: Remote
    began: float
    _extended: float  # as the two above, only where it is needed: a plain task does not pay for it

    def __init__(self, record: Record, desk: Desk | None = None) -> None:
        self.record = record
        self.context = CurrentTask(
            record.id, record.name, record.queue, record.attempt, record.deadline, desk
        )
        self.task: asyncio.Task[None] | None = None
        self.thread: Future[Any] | None = None
        self.interruption: Interruption | None = None
        self.reason = ""

    def interrupt(self, why: Interruption, reason: str = "") -> None:
        """End the run: an async function is cancelled, one in a thread is only told.

        The first reason stays.
        """
        if self.interruption is None:
            self.interruption = why
            self.reason = reason
            self.tell(reason or why.value)
            if self.task is not None:
                # Not at once: a task that is cancelled before its first step never takes it.
                self.task.get_loop().call_soon(self.task.cancel, reason or why.value)

    def lose(self) -> None:
        """Note that its lease is lost, where the attempt itself is about to end."""
        self.interruption = Interruption.LOST
        self.tell(Interruption.LOST.value)

    def tell(self, reason: str) -> None:
        """Tell the function that it is to stop; the first reason stays."""
        if self.context.cancel_reason is None:
            self.context.cancel_reason = reason

    def tell_late(self) -> str | None:
        """Tell the function that its time is over; why it ends now, or None if something else ends it."""
        if self.interruption is not None:
            return None
        self.tell(self.late)
        return self.late

    def extend(self, seconds: float) -> None:
        """Give it so much longer than it had, unless its time is over."""
        limit: TimeLimit | None = getattr(self, "limit", None)
        if limit is not None and (when := limit.when()) is not None and limit.reschedule(when + seconds):
            self._extended = self.extended + seconds

    @property
    def extended(self) -> float:
        """Seconds by which its time was extended."""
        return getattr(self, "_extended", 0.0)

    @property
    def late(self) -> str:
        """What is said of it when its time is over."""
        limit = (self.record.timeout or 0) / SECOND + self.extended
        return f"it took longer than its time-out of {limit:g} s"

    def start_clock(self) -> None:
        """Let its time begin now, if it has not begun yet."""
        limit: TimeLimit | None = getattr(self, "limit", None)
        if limit is not None and limit.when() is None and self.record.timeout is not None:
            limit.reschedule(asyncio.get_running_loop().time() + self.record.timeout / SECOND)

    def raised_elsewhere(self, error: BaseException) -> Remote | None:
        """What is known of an error from where it was raised, if that was in another process."""
        remote: Remote | None = getattr(self, "remote", None)
        return remote if remote is not None and remote.error is error else None


def is_stepping(run: Run) -> bool:
    """Whether it is the event loop that runs the attempt right now."""
    try:
        return asyncio.current_task() is run.task
    except RuntimeError:
        return False
