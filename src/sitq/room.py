"""Bounded queues: waiting until there is room, in the order of arrival and without hot polling."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from sitq.backends.base import DONE_TOPIC, Backend, Listener
from sitq.exceptions import QueueFullError, TaskQueueError
from sitq.record import Record

_SHORTEST: Final = 0.01
"""Seconds between a hint and a try, and between the first two tries: the worker claims right after an end."""

_LONGEST: Final = 1.0
"""Seconds between tries when nothing is heard of: the start of a task gives no hint."""

Put = Callable[[Sequence[Record]], Awaitable[list[str]]]
"""Stores tasks, all or none of them, or raises `QueueFullError`."""


class _Line:
    """Those who wait for room in a queue."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()  # hands itself on in the order of arrival
        self.length = 0


class Room:
    """Lets the callers of one event loop wait for room, in a line for each queue.

    Only the first one in a line asks the store: at once when a task has ended, and else less and less often,
    down to once a second. Callers of several processes and event loops are served as they come.
    """

    def __init__(self, backend: Backend, put: Put) -> None:
        self._backend = backend
        self._put = put
        self._lines: dict[str, _Line] = {}
        self._hearing: set[asyncio.Future[bool]] = set()
        self._closed = False

    def close(self) -> None:
        """Let nobody wait any longer; each of them gets a `TaskQueueError`."""
        self._closed = True
        for heard in self._hearing:
            heard.cancel()

    async def put(self, group: Sequence[Record]) -> list[str]:
        """Store tasks as soon as there is room for all of them.

        Raises:
            QueueFullError: There are more of them than their queue may hold.
            TaskQueueError: The `TaskQueue` was closed meanwhile.
        """
        _check_size(group)
        queue = next(record.queue for record in group if record.room is not None)
        line = self._lines.get(queue)
        if line is None:
            try:
                return await self._put(group)
            except QueueFullError:
                line = self._lines.setdefault(queue, _Line())
        line.length += 1
        try:
            async with line.turn:
                return await self._put_first(group)
        finally:
            line.length -= 1
            if not line.length and self._lines.get(queue) is line:
                del self._lines[queue]

    async def _put_first(self, group: Sequence[Record]) -> list[str]:
        listener = self._backend.listen({DONE_TOPIC})
        pause = _SHORTEST
        try:
            while not self._closed:
                try:
                    return await self._put(group)
                except QueueFullError:
                    pass
                if await self._hear(listener, pause):
                    pause = _SHORTEST
                    await asyncio.sleep(pause)
                else:
                    pause = min(2 * pause, _LONGEST)
        finally:
            listener.close()
        raise TaskQueueError(
            "the queue was closed while there was no room for the task; it was not stored",
            task_id=group[0].id,
            operation="enqueue",
        )

    async def _hear(self, listener: Listener, pause: float) -> bool:
        """Wait for a hint, for so long at most and not beyond the close; whether there was one."""
        heard = asyncio.ensure_future(listener.wait(pause))
        self._hearing.add(heard)
        try:
            await asyncio.wait({heard})
            return not heard.cancelled() and heard.result()
        finally:
            self._hearing.discard(heard)
            heard.cancel()


def _check_size(group: Sequence[Record]) -> None:
    """Refuse a group that would wait for ever."""
    counts = Counter(record.queue for record in group)
    for record in group:
        if record.room is not None and counts[record.queue] > record.room:
            raise QueueFullError(
                f"{counts[record.queue]:,} tasks at once never fit into queue {record.queue}, "
                f"whose max_length is {record.room:,}; enqueue fewer of them in one call",
                task_id=record.id,
                operation="enqueue",
            )
