"""The connections of each event loop that uses a backend: an asyncio client serves one of them only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple

from sitq.backends.redis.hearing import Hearing
from sitq.backends.redis.link import Link
from sitq.backends.redis.location import TIMEOUT


class Way(NamedTuple):
    """One event loop's way to the server."""

    link: Link
    hearing: Hearing

    async def end(self, *, ours: bool) -> None:
        """Finish what was begun; close the client, too, if it is `ours`. To be called in its event loop."""
        try:
            await self.hearing.close()
            await self.link.close()
        finally:  # also when the event loop ends, and cancels what is left in it
            if ours:
                with contextlib.suppress(Exception):  # what is broken already cannot be closed any more
                    await self.link.client.aclose()

    async def end_from_anywhere(self, *, ours: bool) -> None:
        """The same from any event loop."""
        await _done_in(self.link.loop, lambda: self.end(ours=ours))


class OtherLoops:
    """The ways of event loops that did not open the backend, such as that of a `SyncTaskQueue` in a task.

    One is made when such a loop uses the backend, and ends with that loop or with the backend.
    """

    def __init__(self, make: Callable[[], Way]) -> None:
        self._make = make
        self._ways: dict[asyncio.AbstractEventLoop, tuple[Way, asyncio.Task[None]]] = {}

    def way(self) -> Way:
        """That of the running event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._ways:
            way = self._make()
            self._ways[loop] = way, loop.create_task(self._keep(way))
        return self._ways[loop][0]

    async def close(self) -> None:
        """End all of them."""
        for loop, (_, keeper) in list(self._ways.items()):
            await _done_in(loop, partial(_cancelled, keeper))

    async def _keep(self, way: Way) -> None:
        # Whoever ends an event loop cancels its tasks, and waits for them.
        try:
            await way.link.loop.create_future()
        finally:
            self._ways.pop(way.link.loop, None)
            await way.end(ours=True)


async def _done_in(loop: asyncio.AbstractEventLoop, what: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """See something done in an event loop. In one that is over, nothing is left that could be waited for."""
    if loop is asyncio.get_running_loop():
        await what()
    elif loop.is_running():
        there = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(what(), loop))
        with contextlib.suppress(TimeoutError):  # it is blocked, and will do it when it can
            await asyncio.wait_for(asyncio.shield(there), TIMEOUT)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
