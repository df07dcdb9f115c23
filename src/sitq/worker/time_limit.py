"""The time of an attempt: when it is over, the function is told so before it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class TimeLimit:
    """Cancels the asyncio task that makes it when its time is over; `asyncio.timeout` could not say why.

    Args:
        seconds: Until then; None if its time begins later, by `reschedule`.
        tell: Called when the time is over. It answers why the task is cancelled, or None if it is being
            cancelled already.

    Attributes:
        expired: Whether the task was cancelled by it.
    """

    def __init__(self, seconds: float | None, tell: Callable[[], str | None]) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - each attempt is a task
        self._task: asyncio.Task[Any] = task
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._cancelled_before = task.cancelling()
        self._over = False
        self._handle: asyncio.TimerHandle | None = None
        self.expired = False
        if seconds is not None:
            self.reschedule(self._loop.time() + seconds)

    def when(self) -> float | None:
        """When the time is over, by the event loop's clock; None if it has not begun."""
        return None if self._handle is None else self._handle.when()

    def reschedule(self, when: float) -> bool:
        """Let it be over at another time; False if it is over already, or the function has ended."""
        if self._over:
            return False
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_at(when, self._expire)
        return True

    def _expire(self) -> None:
        self._over = True
        reason = self._tell()
        if reason is not None:
            self.expired = True
            self._task.cancel(reason)

    @property
    def alone(self) -> bool:
        """Whether nobody else has cancelled the task."""
        return self._task.cancelling() - self.expired <= self._cancelled_before

    def end(self) -> None:
        """The function has ended, in whatever way."""
        self._over = True
        if self._handle is not None:
            self._handle.cancel()
        if self.expired:
            self._task.uncancel()
