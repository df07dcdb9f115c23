"""One attempt in flight: the claimed record and what the worker knows of its run."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from enum import Enum
from typing import Any

from sitq.context import CurrentTask
from sitq.record import Record


class Interruption(Enum):
    """Why the worker itself ends a run."""

    STOP = "somebody cancelled the task"
    LOST = "its lease was lost to another worker"
    SHUTDOWN = "the worker stops"


class Run:
    """An attempt from its claim until its outcome is stored."""

    __slots__ = ("context", "interruption", "reason", "record", "task", "thread")

    def __init__(self, record: Record) -> None:
        self.record = record
        self.context = CurrentTask(record.id, record.name, record.queue, record.attempt)
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
            self.context.cancelled = True
            if self.task is not None:
                # Not at once: a task that is cancelled before its first step never takes it.
                self.task.get_loop().call_soon(self.task.cancel)
