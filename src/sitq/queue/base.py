"""What every face of a queue stands on: the store, and a session for each event loop."""

from __future__ import annotations

import asyncio
import copy
import logging
import weakref
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self, TypedDict

from sitq import options, validation
from sitq.backends import open_backend
from sitq.backends.base import Backend
from sitq.codec import Codec
from sitq.events import Listeners, TaskEvent
from sitq.exceptions import BackendError, TaskQueueError
from sitq.keys import KeyRing
from sitq.keywords import WhenFull
from sitq.lifespan import Lifespan, checked
from sitq.middleware import AroundEnqueue, Middleware, around_enqueues
from sitq.middleware import checked as checked_middleware
from sitq.record import Record
from sitq.serialization import Serializer
from sitq.session import Session
from sitq.spill import Spill

logger = logging.getLogger("sitq.events")


class QueueSettings(TypedDict, total=False):
    """What a queue takes besides its store and its serializer, for faces that hand it on."""

    queue: str
    keys: KeyRing | None
    trust_store: bool
    max_length: int | None
    when_full: WhenFull
    spill: Spill | None
    middleware: Iterable[AroundEnqueue | Middleware]
    lifespan: Lifespan | None
    keep_events: int


class QueueBase:
    """A store, opened by the first use and let go of by `close`."""

    def __init__(
        self,
        backend: Backend | str,
        serializer: Serializer | None = None,
        *,
        queue: str = "default",
        keys: KeyRing | None = None,
        trust_store: bool = False,
        max_length: int | None = None,
        when_full: WhenFull = "refuse",
        spill: Spill | None = None,
        middleware: Iterable[AroundEnqueue | Middleware] = (),
        lifespan: Lifespan | None = None,
        keep_events: int = 0,
    ) -> None:
        self.backend: Backend = open_backend(backend)
        self.queue = validation.name(queue)
        self._serializer = None if serializer is None else validation.serializer(serializer)
        self._keys = keys
        self._trust_store = trust_store
        self._max_length = None if max_length is None else options.max_length(max_length)
        self._when_full = options.when_full(when_full)
        self._spill = None if spill is None else validation.instance(spill, Spill, "spill")
        self._middleware = checked_middleware(middleware)
        self._around = around_enqueues(self._middleware)
        self._lifespan = checked(lifespan)
        self._listeners = Listeners(keep_events)
        self._sessions: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Session] = (
            weakref.WeakKeyDictionary()
        )
        self._acquired = 0
        self._closed = False

    # -- lifecycle -----------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect the store if nobody did. Idempotent; not needed, as the first use does it."""
        await self._session()

    async def close(self) -> None:
        """Let go of the store, which is closed if this queue was the last to use it and had connected it.

        Idempotent.
        """
        self._closed = True
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()
        while self._acquired:
            self._acquired -= 1
            await self.backend.release()

    def twin(self) -> Self:
        """Another queue on the same store, with the same settings and listeners, to be closed by itself."""
        other = copy.copy(self)
        vars(other).update(_sessions=weakref.WeakKeyDictionary(), _acquired=0, _closed=False)
        return other

    @property
    def closed(self) -> bool:
        """Whether it was closed, so that it cannot be used any more."""
        return self._closed

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- the session of an event loop ----------------------------------------------------------------------

    async def _session(self) -> Session:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or self._closed:
            self._check_open()
            await self.backend.acquire()  # each of several first calls counts, so that none is early
            if self._closed:
                await self.backend.release()
                self._check_open()
            self._acquired += 1
            session = self._sessions.get(loop)
            if session is None:
                session = self._sessions[loop] = Session(self.backend, self._codec(), self._listeners)
        return session

    async def _tell_about(self, task_ids: Sequence[str], words: Callable[[Record], TaskEvent]) -> None:
        """Tell those who listen what became of tasks. The store is only asked if anybody does."""
        if not task_ids or not self._listeners.active:
            return
        try:
            found = await self.backend.get(task_ids)
        except BackendError as error:  # what was done is done
            logger.warning("%d tasks could not be reported: %s", len(task_ids), error)
            return
        await self._tell([words(record) for record in found if record is not None])

    async def _tell(self, events: Iterable[TaskEvent]) -> None:
        """Tell those who listen."""
        if self._listeners.active:
            (await self._session()).teller.tell(events)

    def _check_open(self) -> None:
        if self._closed:
            raise TaskQueueError("this queue is closed; make a new TaskQueue", operation="connect")

    def _codec(self) -> Codec:
        return Codec.of(
            self.backend, self._serializer, self._keys, trust_store=self._trust_store, spill=self._spill
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.queue!r} on {self.backend!r}>"
