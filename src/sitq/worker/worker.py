"""The worker: what users start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload

from sitq import validation
from sitq.backends import open_backend
from sitq.backends.base import Backend
from sitq.codec import Codec
from sitq.context import lifespan_state
from sitq.events import EventKind, EventListener, Listeners
from sitq.exceptions import WorkerError
from sitq.keys import KeyRing
from sitq.lifespan import Lifespan, checked
from sitq.middleware import AroundAttempt, Middleware, around_attempts
from sitq.middleware import checked as checked_middleware
from sitq.provision import Overrides, checked_overrides
from sitq.serialization import Serializer
from sitq.spill import Spill
from sitq.worker.frame import Frame
from sitq.worker.patience import within
from sitq.worker.scope import NO_STATE
from sitq.worker.settings import LEASE, make_settings
from sitq.worker.shift import Shift
from sitq.worker.vitals import Vitals

L = TypeVar("L", bound=EventListener)

_PATIENCE: Final = 10.0
"""Seconds in which a store must have opened when a worker is to stop, or closed when it has."""


class Worker:
    """Runs tasks: async functions in its event loop, all others in threads.

    Args:
        backend: The store, or a URL that opens one. It may be shared with queues, in this event loop or in
            another thread's.
        serializer: Reads arguments and writes results; what a built-in serializer wrote is read anyway.
        max_concurrency: How many tasks run at once.
        process_concurrency: How many of them with `executor="process"`; by default one for each core.
        poll_interval: Seconds after which an idle worker looks for tasks though it heard of none.
        queues: Names of queues in strict order, or names with weights; by default `default` alone.
        lease: Seconds for which a task is this worker's without a renewal. Its tasks start again elsewhere so
            long after it died.
        grace: Seconds that running tasks get to end after `stop`; the rest goes back to its queue.
        keys: Verify what is read and sign results; by default those in `SITQ_SECRET_KEYS`, if it is set.
        trust_store: Run code from a store that others can write to although it is not signed.
        spill: Where producers keep payloads, and it results, that are too large for the store.
        worker_id: A name of its own, unique for each start; made up by default.
        lifespan: An async context manager, made with the worker, that is entered before the first claim and
            left after the last task. What it yields is the tasks' `current_task().state`.
        middleware: Async functions `(task, call_next)` around each attempt, the first one outermost, or
            `Middleware` objects.
        overrides: Providers of `Depends` that others stand in for, `{get_client: FakeClient}`: for tests.
        max_tasks: It ends, once those that it runs have ended, when it has claimed so many tasks.
        max_memory: The same when its process occupies more memory: bytes, or text such as `200MiB`.
        keep_events: How many events the durable stream keeps, see `TaskQueue.events`; 0 writes none.

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
        spill: Spill | None = None,
        worker_id: str | None = None,
        process_concurrency: int | None = None,
        lifespan: Lifespan | None = None,
        middleware: Iterable[AroundAttempt | Middleware] = (),
        overrides: Overrides | None = None,
        max_tasks: int | None = None,
        max_memory: int | str | None = None,
        keep_events: int = 0,
    ) -> None:
        self.backend: Backend = open_backend(backend)
        self._settings = make_settings(
            queues=queues,
            max_concurrency=max_concurrency,
            process_concurrency=process_concurrency,
            poll_interval=poll_interval,
            lease=lease,
            grace=grace,
            worker_id=worker_id,
            max_tasks=max_tasks,
            max_memory=max_memory,
        )
        self._serializer = None if serializer is None else validation.serializer(serializer)
        self._keys = keys
        self._trust_store = trust_store
        self._spill = None if spill is None else validation.instance(spill, Spill, "spill")
        self._lifespan = checked(lifespan)
        self._middleware = checked_middleware(middleware)
        self._around = around_attempts(self._middleware)
        self._overrides = checked_overrides(overrides)
        self._listeners = Listeners(keep_events)
        self._frame: Frame | None = None
        self._retired = ""
        self._working = False
        self._shift: Shift | None = None
        self._background: asyncio.Task[None] | None = None
        self._lock = threading.Lock()  # for what follows: another event loop's thread may stop it
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = False
        self._stopping: list[Future[None]] = []
        self._stop_asked = False
        self._hurry = asyncio.Event()

    @property
    def id(self) -> str:
        """The name under which it claims tasks."""
        return self._settings.worker

    @property
    def grace(self) -> float:
        """Seconds that running tasks get to end after `stop`."""
        return self._settings.grace

    @property
    def retired(self) -> str:
        """Why it ended, or is about to, by `max_tasks` or `max_memory`; "" if that is not so."""
        return self._retired if self._shift is None else self._shift.retired

    def vitals(self) -> Vitals:
        """How it is, for a health probe; from any thread."""
        shift = self._shift
        return Vitals() if shift is None else shift.vitals()

    async def start(self) -> None:
        """Work until `stop` is called, or until it has done its part by `max_tasks` or `max_memory`.

        Raises:
            WorkerError: It is already working.
            ConfigurationError: `SITQ_SECRET_KEYS` holds no keys; nothing was begun then.
            ConnectionError: The store cannot be reached or opened.
        """
        await self.run()

    async def run(
        self,
        *,
        burst: bool = False,
        ready: Callable[[], Awaitable[None]] | None = None,
        retiring: Callable[[], None] = lambda: None,
    ) -> None:
        """Work until `stop` is called or, in a burst, until no task of its queues is ready or running.

        Args:
            burst: Whether it ends when nothing is left to do.
            ready: Awaited when the lifespan has begun, before the first claim.
            retiring: Called when it claims nothing more, by `max_tasks` or `max_memory`.

        Raises:
            WorkerError: It is already working.
            ConfigurationError: `SITQ_SECRET_KEYS` holds no keys; nothing was begun then.
            LifespanError: Its lifespan failed: at the start, and then nothing was claimed, or at the end.
            ConnectionError: The store cannot be reached or opened.
        """
        self._begin()
        try:
            self._codec()  # malformed keys are told before anything begins
            if await self._open():
                try:
                    if not self._stop_asked:
                        await self._work(burst=burst, ready=ready, retiring=retiring)
                finally:
                    await within(_PATIENCE, self.backend.release(), None)
        finally:
            self._end()

    def _begin(self) -> None:
        with self._lock:
            if self._working:
                raise WorkerError("this worker is already working", operation="start")
            self._working, self._retired, self._over = True, "", False
            self._loop = asyncio.get_running_loop()
            self._hurry = asyncio.Event()  # of this event loop; the last one may have been another
            if self._stop_asked:
                self._hurry.set()

    def _end(self) -> None:
        with self._lock:
            self._working, self._stop_asked, self._over = False, False, True
            self._loop = None
            stopping, self._stopping = self._stopping, []
        for each in stopping:
            if each.set_running_or_notify_cancel():
                each.set_result(None)

    async def _open(self) -> bool:
        """Open the store; False if a stop was asked for, and it did not become ready soon after."""
        opening = asyncio.ensure_future(self.backend.acquire())
        hurry = asyncio.ensure_future(self._hurry.wait())
        try:
            await asyncio.wait([opening, hurry], return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                await asyncio.wait([opening], timeout=_PATIENCE)
        except asyncio.CancelledError:
            if not opening.cancel() and opening.exception() is None:
                await self.backend.release()  # it was counted in already
            raise
        finally:
            hurry.cancel()
        if not opening.done():
            opening.cancel()
            return False
        opening.result()
        return True

    async def _work(
        self,
        *,
        burst: bool,
        ready: Callable[[], Awaitable[None]] | None,
        retiring: Callable[[], None],
    ) -> None:
        frame = self._frame = Frame(self._lifespan, self)
        state = await frame.enter()
        variable = None if state is NO_STATE else lifespan_state.set(state)
        try:
            if ready is not None and not frame.given_up:
                await ready()
            if not self._stop_asked:
                self._shift = Shift(
                    self.backend,
                    self._codec(),  # an open store knows whether others can write to it
                    self._settings,
                    burst=burst,
                    middleware=self._around,
                    overrides=self._overrides,
                    state=state,
                    retiring=retiring,
                    listeners=self._listeners,
                )
                await self._shift.work()
        except BaseException as error:
            await frame.leave(error)
            raise
        finally:
            self._retired = "" if self._shift is None else self._shift.retired
            self._shift = self._frame = None
            if variable is not None:
                lifespan_state.reset(variable)
        await frame.leave(None)

    async def stop(self, grace: float | None = None) -> None:
        """Claim nothing more, let running tasks end for `grace` seconds, hand the rest back, and return then.

        Without effect on a worker that has ended; one that has not begun to work returns from `start` at
        once. Called again while stopping, it shortens the grace. It may be called from every event loop and
        thread; a thread without an event loop calls `asyncio.run(worker.stop())`.

        Raises:
            ValidationError: `grace` is negative or not finite.
        """
        grace = validation.timeout(grace, "grace")
        ended: Future[None] = Future()
        with self._lock:
            loop = self._loop
            if loop is None:
                self._stop_asked = not self._over
                return
            self._stopping.append(ended)
        if loop is asyncio.get_running_loop():
            if self._stop_here(grace):
                await asyncio.wrap_future(ended)
            return
        with contextlib.suppress(RuntimeError):  # its event loop is closed, so nothing works there
            loop.call_soon_threadsafe(self._stop_here, grace)
            await asyncio.wrap_future(ended)

    def _stop_here(self, grace: float | None) -> bool:
        """Stop, in its own event loop; whether there was a shift, whose end is worth waiting for."""
        if self._shift is not None:
            self._shift.stop(grace)
            return True
        if not self._over:
            self._stop_asked = True
            self._hurry.set()
        if self._frame is not None:
            self._frame.give_up()
        return False

    @overload
    def on(self, listener: L, /) -> L: ...
    @overload
    def on(self, *kinds: EventKind) -> Callable[[L], L]: ...
    def on(self, *given: Any) -> Any:
        """Tell a listener what this worker does: `@worker.on`, or `@worker.on("failed", "dead")`.

        It is called with each `TaskEvent` after the store has taken it: an async function in the event loop,
        any other in a thread of its own. One that raises or is slow hurts nobody; if 10,000 events wait for
        it, the oldest are dropped, and a `gap` says how many. When the worker stops, it has 2 seconds for
        what it has not heard yet.

        Raises:
            ValidationError: There is no such kind, or the listener cannot be called with an event.
        """
        return self._listeners.on(*given)

    def off(self, listener: EventListener) -> None:
        """Tell a listener no more. Without effect if it was not told."""
        self._listeners.remove(listener)

    async def __aenter__(self) -> Self:
        self._over = False  # or a stop before its first step would mean nothing
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
        return Codec.of(
            self.backend, self._serializer, self._keys, trust_store=self._trust_store, spill=self._spill
        )

    def __repr__(self) -> str:
        queues = ", ".join(self._settings.queues)
        return f"<Worker {self.id} on {self.backend!r} for {queues}>"
