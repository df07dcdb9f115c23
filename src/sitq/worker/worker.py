"""The worker: what users start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Self

from sitq import validation
from sitq.backends import open_backend
from sitq.backends.base import Backend
from sitq.codec import Codec
from sitq.exceptions import WorkerError
from sitq.keys import KeyRing
from sitq.serialization import Serializer
from sitq.worker.settings import LEASE, make_settings
from sitq.worker.shift import Shift


class Worker:
    """Runs tasks: async functions in its event loop, all others in threads.

    Args:
        backend: The store, or a URL that opens one. It may be shared with queues, in this event loop or in
            another thread's.
        serializer: Reads arguments and writes results; what a built-in serializer wrote is read anyway.
        max_concurrency: How many tasks run at once.
        poll_interval: Seconds after which an idle worker looks for tasks though it heard of none.
        queues: Names of queues in strict order, or names with weights; by default `default` alone.
        lease: Seconds for which a task is this worker's without a renewal. Its tasks start again elsewhere so
            long after it died.
        grace: Seconds that running tasks get to end after `stop`; the rest goes back to its queue.
        keys: Verify what is read and sign results; by default those in `SITQ_SECRET_KEYS`, if it is set.
        trust_store: Run code from a store that others can write to although it is not signed.
        worker_id: A name of its own, unique for each start; made up by default.

    Raises:
        ValidationError: A setting is not acceptable.
    """

    def __init__(
        self,
        backend: Backend | str,
        serializer: Serializer | None = None,
        max_concurrency: int = 10,
        poll_interval: float | timedelta = 1.0,
        *,
        queues: Mapping[str, float] | Iterable[str] | None = None,
        lease: float | timedelta = LEASE,
        grace: float | timedelta = 20.0,
        keys: KeyRing | None = None,
        trust_store: bool = False,
        worker_id: str | None = None,
    ) -> None:
        self.backend: Backend = open_backend(backend)
        self._settings = make_settings(
            queues=queues,
            max_concurrency=max_concurrency,
            poll_interval=poll_interval,
            lease=lease,
            grace=grace,
            worker_id=worker_id,
        )
        self._serializer = None if serializer is None else validation.serializer(serializer)
        self._keys = keys
        self._trust_store = trust_store
        self._working = False
        self._shift: Shift | None = None
        self._background: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._stop_asked = False

    @property
    def id(self) -> str:
        """The name under which it claims tasks."""
        return self._settings.worker

    @property
    def grace(self) -> float:
        """Seconds that running tasks get to end after `stop`."""
        return self._settings.grace

    async def start(self) -> None:
        """Work until `stop` is called.

        Raises:
            WorkerError: It is already working.
            ConnectionError: The store cannot be reached or opened.
        """
        await self.run()

    async def run(self, *, burst: bool = False) -> None:
        """Work until `stop` is called or, in a burst, until no task of its queues is ready or running."""
        if self._working:
            raise WorkerError("this worker is already working", operation="start")
        self._working = True
        self._ended.clear()
        try:
            await self.backend.acquire()
            try:
                if not self._stop_asked:
                    self._shift = Shift(self.backend, self._codec(), self._settings, burst=burst)
                    await self._shift.work()
            finally:
                self._shift = None
                await self.backend.release()
        finally:
            self._working = self._stop_asked = False
            self._ended.set()

    async def stop(self, grace: float | None = None) -> None:
        """Claim nothing more, let running tasks end for `grace` seconds, hand the rest back, and return then.

        Without effect on a worker that has ended; one that has not begun to work returns from `start` at
        once. Called again while stopping, it shortens the grace.

        Raises:
            ValidationError: `grace` is negative or not finite.
        """
        grace = validation.timeout(grace, "grace")
        if self._shift is None:
            self._stop_asked = not self._ended.is_set()
            return
        self._shift.stop(grace)
        await self._ended.wait()

    async def __aenter__(self) -> Self:
        self._ended.clear()  # or a stop before its first step would mean nothing
        self._background = asyncio.create_task(self.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        background, self._background = self._background, None
        if background is not None:
            await self.stop()
            await background

    def _codec(self) -> Codec:
        return Codec.of(self.backend, self._serializer, self._keys, trust_store=self._trust_store)

    def __repr__(self) -> str:
        queues = ", ".join(self._settings.queues)
        return f"<Worker {self.id} on {self.backend!r} for {queues}>"
