"""Waiting for tasks to end: one subscription for all who wait in an event loop."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Final

from sitq import exceptions
from sitq.backends.base import DONE_TOPIC, Backend, Listener
from sitq.coalesce import Coalescer
from sitq.exceptions import TaskQueueError
from sitq.ids import token
from sitq.record import TERMINAL, Record

_FLOOR: Final = 1.0
"""Seconds between looks at a store that pushes hints: the floor under those that get lost."""

_POLL: Final = 0.05
"""Seconds between looks at a store that cannot push."""

_LOOK: Final = 1.0
"""Seconds that the first look may take, also for those who have less time."""

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0

_PAGE: Final = 500
"""How many tasks one read asks for."""

logger = logging.getLogger("sitq.queue")


class _Wait:
    """A task that somebody waits for."""

    __slots__ = ("ended", "waiters")

    def __init__(self) -> None:
        self.ended: asyncio.Future[Record | None] = asyncio.get_running_loop().create_future()
        self.waiters = 0


class ResultWaiter:
    """Tells the callers of one event loop when their tasks have ended.

    However many wait, there is one listener, and after a hint one read for all of them. A read is followed by
    a pause as long as it took, so that waiting for very many tasks never takes more than half of the time.
    A store that is away meanwhile is asked again until it is back: their own timeouts say how long they wait.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._reads = Coalescer(backend.get, most=_PAGE)
        self._waits: dict[str, _Wait] = {}
        self._watching: asyncio.Task[None] | None = None
        self.topic = "reply/" + token()

    async def wait(self, task_id: str, seconds: float | None) -> Record | None:
        """The record of a task once it has ended; `None` at once for an unknown one.

        Raises:
            TimeoutError: It has not ended after so many seconds; after one look if they are 0, or as soon as
                a store that does not answer has had its second.
        """
        wait = self._waits.setdefault(task_id, _Wait())
        wait.waiters += 1
        try:
            if self._watching is None:  # before the first look, or an end between the two would be missed
                listener = self._backend.listen({self.topic, DONE_TOPIC})
                self._watching = asyncio.create_task(self._watch(listener))
            deadline = None if seconds is None else time.monotonic() + seconds
            async with asyncio.timeout(None if seconds is None else max(seconds, _LOOK)):
                record = await self._reads.submit(task_id)
            if record is None or record.state in TERMINAL:
                return record
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            async with asyncio.timeout(left):
                return await asyncio.shield(wait.ended)
        finally:
            wait.waiters -= 1
            if not wait.waiters and self._waits.get(task_id) is wait:
                del self._waits[task_id]

    async def read(self, task_id: str) -> Record | None:
        """The record of a task now; reads of several callers go together."""
        return await self._reads.submit(task_id)

    async def close(self) -> None:
        """Stop watching; whoever still waits gets a `TaskQueueError`."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        self._give_up(
            TaskQueueError("the queue was closed while a result was waited for", operation="get_result")
        )

    async def _watch(self, listener: Listener) -> None:
        floor = _FLOOR if self._backend.traits.pushes else _POLL
        pause = _FIRST_PAUSE
        try:
            while self._waits:
                await listener.wait(floor)
                begun = time.monotonic()
                try:
                    await self._look()
                except exceptions.ConnectionError as error:
                    logger.warning("the store did not say what became of tasks, asking again: %s", error)
                    await asyncio.sleep(pause * (0.5 + random.random()))
                    pause = min(2 * pause, _LONGEST_PAUSE)
                else:
                    pause = _FIRST_PAUSE
                    await asyncio.sleep(time.monotonic() - begun)
        except Exception as error:  # noqa: BLE001 - whoever waits learns why nobody looks any more
            self._give_up(error)
        finally:
            listener.close()
            self._watching = None

    def _give_up(self, error: Exception) -> None:
        for wait in self._waits.values():
            if not wait.ended.done():
                wait.ended.set_exception(error)
                wait.ended.exception()  # those who wait may have gone
        self._waits.clear()

    async def _look(self) -> None:
        ids = list(self._waits)
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            for task_id, record in zip(page, await self._backend.get(page), strict=True):
                wait = self._waits.get(task_id)
                if wait is None or (record is not None and record.state not in TERMINAL):
                    continue
                del self._waits[task_id]
                if not wait.ended.done():
                    wait.ended.set_result(record)
