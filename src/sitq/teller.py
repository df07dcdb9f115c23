"""Telling events to listeners and to the durable stream, behind those to whom they happen."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from sitq.backends.base import Backend
from sitq.events import STREAM, EventListener, Heard, Listeners, TaskEvent, to_bytes

_MOST: Final = 10_000
"""How many events wait for a listener, or for the stream; of more, the oldest are dropped."""

_BATCH: Final = 500
"""How many events are written to the stream at once."""

_PATIENCE: Final = 2.0
"""Seconds that listeners and the stream get at the end for what they have not heard yet."""

_PAUSE: Final = 0.5
"""Seconds until a store is asked again that did not take a part of the stream."""

logger = logging.getLogger("sitq.events")


class Teller:
    """Tells the events of one event loop. What is told waits for nobody, and nobody waits for it."""

    def __init__(self, listeners: Listeners, backend: Backend) -> None:
        self._listeners = listeners
        self._backend = backend
        self._heard: tuple[Heard, ...] = ()
        self._outlets: dict[Heard, Outlet] = {}
        self._stream: _Loop | None = None

    def tell(self, events: Iterable[TaskEvent]) -> None:
        """Pass events on, in their order. From the event loop."""
        if self._heard is not self._listeners.heard:
            self._tune()
        if self._stream is None and self._listeners.keep:
            self._stream = _Loop(self._write, "the stream of events")
        outlets = self._outlets.items()
        for event in events:
            for heard, outlet in outlets:
                if not heard.kinds or event.kind in heard.kinds:
                    outlet.put(event)
            if self._stream is not None:
                self._stream.put(event)

    async def close(self) -> None:
        """Let everybody hear what was told so far, for a while."""
        outlets = [*self._outlets.values()] + ([] if self._stream is None else [self._stream])
        if outlets:
            await asyncio.gather(*(outlet.close(_PATIENCE) for outlet in outlets))

    def _tune(self) -> None:
        """Take up listeners that are new, and let go of those that want to hear no more."""
        self._heard = self._listeners.heard
        gone = [heard for heard in self._outlets if heard not in self._heard]
        for heard in gone:
            self._outlets.pop(heard).end()
        for heard in self._heard:
            if heard not in self._outlets:
                self._outlets[heard] = _outlet(heard.listener)

    async def _write(self, events: Sequence[TaskEvent]) -> None:
        for start in range(0, len(events), _BATCH):
            data = [to_bytes(event) for event in events[start : start + _BATCH]]
            while True:
                try:
                    await self._backend.append(STREAM, data, self._listeners.keep)
                    break
                except Exception as error:  # noqa: BLE001 - the stream waits, and its events with it
                    logger.warning("the store did not take %d events, trying again: %s", len(data), error)
                    await asyncio.sleep(_PAUSE)


class Outlet(Protocol):
    """Somewhere that events go to, at its own pace."""

    def put(self, event: TaskEvent) -> None:
        """Take one more."""
        ...

    def end(self) -> None:
        """Take no more, and forget what waits."""
        ...

    async def close(self, patience: float) -> None:
        """Take no more, and wait until what waits has gone out, or the patience is over."""
        ...


def _outlet(listener: EventListener) -> Outlet:
    label = getattr(listener, "__qualname__", repr(listener))
    if inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(type(listener).__call__):

        async def tell(events: Sequence[TaskEvent]) -> None:
            for event in events:
                try:
                    await _told(listener, event)
                except Exception:
                    logger.exception("the listener %s failed on %s", label, event.kind)

        return _Loop(tell, label)
    return _Thread(listener, label)


async def _told(listener: EventListener, event: TaskEvent) -> None:
    answer = listener(event)
    if answer is not None:
        await answer


class _Waiting:
    """Events on their way to somebody, at most so many."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._events: deque[TaskEvent] = deque()
        self._missed = 0

    def push(self, event: TaskEvent) -> None:
        if len(self._events) >= _MOST:
            self._events.popleft()
            if not self._missed:
                logger.warning("%s is too slow: its oldest events are dropped", self.label)
            self._missed += 1
        self._events.append(event)

    def take(self) -> list[TaskEvent]:
        """All that wait, behind a word on those that were dropped."""
        events, self._events = [*self._events], deque()
        if self._missed:
            events.insert(0, TaskEvent(kind="gap", at=datetime.now(UTC), missed=self._missed))
            self._missed = 0
        return events

    def __bool__(self) -> bool:
        return bool(self._events)


class _Loop:
    """An outlet in the event loop."""

    def __init__(self, tell: Callable[[Sequence[TaskEvent]], Coroutine[Any, Any, None]], label: str) -> None:
        self._tell = tell
        self._waiting = _Waiting(label)
        self._news = asyncio.Event()
        self._ending = False
        self._task = asyncio.create_task(self._work())

    def put(self, event: TaskEvent) -> None:
        self._waiting.push(event)
        self._news.set()

    def end(self) -> None:
        self._task.cancel()

    async def close(self, patience: float) -> None:
        self._ending = True
        self._news.set()
        await asyncio.wait([self._task], timeout=patience)
        if not self._task.done():
            logger.warning("%s did not take its last events in time", self._waiting.label)
            self._task.cancel()
            await asyncio.wait([self._task], timeout=patience)

    async def _work(self) -> None:
        while not self._ending or self._waiting:
            await self._news.wait()
            self._news.clear()
            if events := self._waiting.take():
                await self._tell(events)


class _Thread:
    """An outlet in a thread of its own: a plain function may block, and is then the only one that waits.

    A daemon, so that one which never returns does not hold up the end of the process.
    """

    def __init__(self, listener: EventListener, label: str) -> None:
        self._listener = listener
        self._waiting = _Waiting(label)
        self._news = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._work, name="sitq-listener", daemon=True)
        self._thread.start()

    def put(self, event: TaskEvent) -> None:
        with self._news:
            self._waiting.push(event)
            self._news.notify()

    def end(self) -> None:
        with self._news:
            self._waiting.take()
            self._ending = True
            self._news.notify()

    async def close(self, patience: float) -> None:
        with self._news:
            self._ending = True
            self._news.notify()
        deadline = time.monotonic() + patience
        while self._thread.is_alive() and time.monotonic() < deadline:  # noqa: ASYNC110 - for moments only
            await asyncio.sleep(0.001)
        if self._thread.is_alive():
            logger.warning("%s did not take its last events in time", self._waiting.label)

    def _work(self) -> None:
        while True:
            with self._news:
                while not self._waiting and not self._ending:
                    self._news.wait()
                events = self._waiting.take()
            if not events:
                return
            for event in events:
                try:
                    self._hear(event)
                except BaseException:
                    logger.exception("the listener %s failed on %s", self._waiting.label, event.kind)

    def _hear(self, event: TaskEvent) -> None:
        answer = self._listener(event)
        if inspect.iscoroutine(answer):
            answer.close()
            raise TypeError("it returned a coroutine: make it an async function")
