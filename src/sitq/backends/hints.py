"""Hints within one process: who listens to which topic, across threads and event loops."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from sitq.backends.base import OWN_ENDS


class LocalListener:
    """A waiter in one event loop; any thread may wake it."""

    def __init__(self, hub: Hub, topics: frozenset[str]) -> None:
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._hinted = False
        self.topics = topics

    async def wait(self, timeout: float) -> bool:
        """Wait for a hint; False when `timeout` seconds passed without one."""
        if not self._hinted and timeout > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    while not self._hinted:
                        await self._event.wait()
                        self._event.clear()  # a hint that was already answered may set it late
        hinted, self._hinted = self._hinted, False
        return hinted

    def hint(self) -> None:
        """Wake the waiter, from any thread."""
        if self._hinted:
            return
        self._hinted = True
        if asyncio._get_running_loop() is self._loop:  # noqa: SLF001 - the public one raises where there is none
            self._event.set()
            return
        with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._event.set)

    def close(self) -> None:
        """Stop listening. Idempotent."""
        self._hub.remove(self)


Listener = TypeVar("Listener", bound=LocalListener)


class Hub:
    """Passes hints on to the listeners of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._observers: tuple[Callable[[Sequence[str]], None], ...] = ()
        self._by_topic: dict[str, tuple[LocalListener, ...]] = {}

    @property
    def quiet(self) -> bool:
        """Whether nobody listens."""
        return not self._by_topic

    @property
    def topics(self) -> frozenset[str]:
        """What somebody listens to."""
        with self._lock:
            return frozenset(self._by_topic)

    def listen(self, topics: Iterable[str]) -> LocalListener:
        """A listener for the running event loop."""
        return self.add(LocalListener(self, frozenset(topics)))

    def add(self, listener: Listener) -> Listener:
        """Let a listener hear from now on."""
        with self._lock:
            for topic in listener.topics:
                self._by_topic[topic] = (*self._by_topic.get(topic, ()), listener)
        return listener

    def remove(self, listener: LocalListener) -> None:
        """Forget a listener."""
        with self._lock:
            for topic in listener.topics:
                rest = tuple(one for one in self._by_topic.get(topic, ()) if one is not listener)
                if rest:
                    self._by_topic[topic] = rest
                else:
                    self._by_topic.pop(topic, None)

    def observe(self, told: Callable[[Sequence[str]], None]) -> Callable[[], None]:
        """Tell the ids in topics of `own_end_topic` to this or another observer."""

        def end() -> None:
            with self._lock:
                self._observers = tuple(each for each in self._observers if each is not told)

        with self._lock:
            self._observers = (*self._observers, told)
        return end

    def hint(self, topics: Iterable[str]) -> None:
        """Wake whoever listens to one of the topics."""
        if self._observers:
            ended = [topic.removeprefix(OWN_ENDS) for topic in topics if topic.startswith(OWN_ENDS)]
            observers = self._observers
            if ended and observers:
                observers[0](ended)
        for topic in topics:
            for listener in self._by_topic.get(topic, ()):
                listener.hint()

    def hint_all(self) -> None:
        """Wake everybody."""
        for listeners in list(self._by_topic.values()):
            for listener in listeners:
                listener.hint()
