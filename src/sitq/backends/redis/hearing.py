"""Hints from other processes: one connection of a backend that is subscribed to what somebody waits for."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Iterable
from typing import Final

from sitq.backends.hints import Hub, LocalListener
from sitq.backends.redis.ear import Ear, ear_at
from sitq.backends.redis.location import AnyClient

LINGER: Final = 5.0
"""Seconds for which a topic is heard after its last listener: who waits for one result after another listens
anew for each, and a subscription costs two round trips and a look at what came before it."""

LONGEST_PAUSE: Final = 2.0
"""Seconds between two attempts to connect, at the most."""


class Hearing:
    """Subscriptions to the topics that listeners of this process wait for.

    Whoever begins to listen is woken when the subscription is there, and again after each new connection:
    what happened before that was told to nobody.
    """

    def __init__(self, client: AnyClient, prefix: str, hub: Hub, *, wired: bool) -> None:
        self._client = client
        self._wired = wired
        self._prefix = prefix
        self._hub = hub
        self._wanted: Counter[str] = Counter()
        self._lingering: dict[str, float] = {}
        self._leaving: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def listen(self, topics: Iterable[str]) -> RemoteListener:
        """A listener in the event loop of the connection."""
        listener = RemoteListener(self, self._hub.listen(topics))
        topics = listener.local.topics
        if any(topic not in self._wanted and topic not in self._lingering for topic in topics):
            self._changed.set()
        self._wanted.update(topics)
        if self._task is None:
            self._task = self._loop.create_task(self._stay_connected())
        return listener

    def forget(self, topics: Iterable[str]) -> None:
        """One listener less on each of the topics."""
        unwanted: list[str] = []
        for topic in topics:
            self._wanted[topic] -= 1
            if self._wanted[topic] <= 0:
                del self._wanted[topic]
                unwanted.append(topic)
        try:
            if asyncio.get_running_loop() is self._loop:
                self._linger(unwanted)
                return
        except RuntimeError:
            pass  # a thread without an event loop
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the connection with it
            self._loop.call_soon_threadsafe(self._linger, unwanted)

    def _linger(self, topics: Iterable[str]) -> None:
        until = self._loop.time() + LINGER
        self._lingering.update((topic, until) for topic in topics)
        self._leave_later()

    def _leave_later(self) -> None:
        if self._leaving is None and self._lingering and not self._closed:
            self._leaving = self._loop.call_later(LINGER, self._leave)

    def _leave(self) -> None:
        """Let go of what nobody has listened to for a while."""
        self._leaving, now = None, self._loop.time()
        self._lingering = {topic: until for topic, until in self._lingering.items() if until > now}
        self._changed.set()
        self._leave_later()

    async def close(self) -> None:
        """Give the connection up."""
        self._closed = True
        self._changed.set()
        if self._leaving is not None:
            self._leaving.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _stay_connected(self) -> None:
        pause = 0.05
        while not self._closed:  # a cancellation may come out of the group as the error that it caused
            started = self._loop.time()
            with contextlib.suppress(Exception):  # whatever it was, waiting workers poll meanwhile
                await self._hear()
            if self._loop.time() - started > 2 * LONGEST_PAUSE:
                pause = 0.05
            if not self._closed:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _hear(self) -> None:
        ear = await ear_at(self._client, self._prefix, self._told, wired=self._wired)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(ear.hear())
                both.create_task(self._follow(ear))
        finally:
            with contextlib.suppress(Exception):
                await ear.close()

    def _told(self, channel: str) -> None:
        self._hub.hint([channel.removeprefix(self._prefix)])

    async def _follow(self, ear: Ear) -> None:
        """Keep the subscriptions at what is wanted."""
        there: set[str] = set()
        while not self._closed:  # redis-py 8.1 swallows a cancellation while it writes
            self._changed.clear()
            wanted = {*self._wanted, *self._lingering}
            come, gone = wanted - there, there - wanted
            if come:
                await ear.subscribe(*(self._prefix + topic for topic in sorted(come)))
            if gone:
                await ear.unsubscribe(*(self._prefix + topic for topic in sorted(gone)))
            there = wanted
            if not self._closed:
                await self._changed.wait()


class RemoteListener:
    """A waiter for hints, of this process and of others."""

    def __init__(self, hearing: Hearing, local: LocalListener) -> None:
        self.local = local
        self._hearing = hearing
        self._closed = False

    async def wait(self, timeout: float) -> bool:
        """Wait for a hint; False when `timeout` seconds passed without one."""
        return await self.local.wait(timeout)

    def close(self) -> None:
        """Stop listening. Idempotent."""
        if not self._closed:
            self._closed = True
            self.local.close()
            self._hearing.forget(self.local.topics)
