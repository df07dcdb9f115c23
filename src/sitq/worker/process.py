"""The process of a worker: its event loop, its signals, its supervisor's orders, and its way out."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import importlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NoReturn

from sitq.exceptions import BackendError, ConfigurationError, LifespanError
from sitq.worker import orders
from sitq.worker.exits import Exit
from sitq.worker.freeing import free_leases
from sitq.worker.hearing import Hearing
from sitq.worker.stopping import stop_signals
from sitq.worker.worker import Worker

_LAST_MOMENT: Final = 1.0
"""Seconds that what a user's code left behind gets to end: its asyncio tasks, then its threads."""

_PATIENCE: Final = 5.0
"""Seconds for which the leases of dead workers hold back the first claim."""

_BETWEEN_REPORTS: Final = 1.0
"""Seconds between two words to the supervisor on how the worker is."""

_HURRY: Final = 3
"""From this signal on, nothing is handed back any more."""

logger = logging.getLogger("sitq.worker")


class UnusableStoreError(Exception):
    """The worker's store cannot be opened; the cause says why."""


def run_worker(
    worker: Worker, *, burst: bool = False, supervised: int | None = None, reports: bool = False
) -> Exit:
    """Run a worker as this process's work, and return, or end the process, as soon as its tasks are settled.

    The first SIGINT or SIGTERM stops it gracefully, the second at once, the third without handing anything
    back.

    Args:
        worker: The worker.
        burst: End when nothing is left to do.
        supervised: The socket of a supervisor, whose orders count; signals only ask for a graceful stop.
        reports: Whether the supervisor wants to know how it is.

    Raises:
        UnusableStoreError: Its store cannot be opened.
    """
    spare_the_collector()
    runner = asyncio.Runner(loop_factory=_loop_factory())
    with contextlib.ExitStack() as stack:
        post = None if supervised is None else stack.enter_context(socket.socket(fileno=supervised))
        duty = _Duty(worker, burst=burst, post=post, reports=reports)
        try:
            code = runner.run(duty.work())
        except LifespanError as error:
            logger.error("%s", error, exc_info=error.__cause__)  # noqa: TRY400 - where it was raised says nothing
            code = Exit.LIFESPAN
        except UnusableStoreError:
            runner.close()  # nothing of a user's has run, so nothing can hold it up
            raise
        if _somebody_is_left(runner.get_loop()):
            _leave(code)
    runner.close()
    return code


def spare_the_collector() -> None:
    """Look for cycles less often, and not among what was imported and stays: a tenth of a worker's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


class _Duty:
    """A worker at work, and who may stop it."""

    def __init__(self, worker: Worker, *, burst: bool, post: socket.socket | None, reports: bool) -> None:
        self._worker = worker
        self._burst = burst
        self._post = post
        self._reports = reports
        self._exit = Exit.DONE
        self._stopped = False
        self._hearing = Hearing()
        self._go = asyncio.Event()
        self._freeing: list[asyncio.Task[None]] = []
        self._beside: set[asyncio.Task[Any]] = set()

    async def work(self) -> Exit:
        worker, loop = self._worker, asyncio.get_running_loop()
        # One of our own, since asyncio waits for its own one's threads without an end.
        threads = ThreadPoolExecutor(thread_name_prefix="asyncio")
        loop.set_default_executor(threads)

        def hear(count: int) -> None:
            if self._post is None:
                if count >= _HURRY:
                    os._exit(Exit.AT_ONCE)
                self._hearing.hear(count)
            loop.call_soon_threadsafe(self._signalled, count)

        self._hearing.start()
        with stop_signals(hear):
            try:
                await worker.backend.acquire()
            except (BackendError, ConfigurationError) as error:
                raise UnusableStoreError from error
            try:
                if self._post is not None:
                    self._post.setblocking(False)  # noqa: FBT003 - the socket module's own
                    self._do_beside(self._obey(self._post))
                await worker.run(burst=self._burst, ready=self._ready, retiring=self._retires)
                if worker.retired and not self._stopped:
                    self._exit = Exit.RETIRED
                await self._say(orders.ENDED)
            finally:
                await _end(self._beside)
                await worker.backend.release()
                await _end(asyncio.all_tasks() - {asyncio.current_task()})
                threads.shutdown(wait=False, cancel_futures=True)
                self._hearing.close()
            logger.info("stopped: %s", worker.id)
        return self._exit

    async def _ready(self) -> None:
        logger.info("working: %r", self._worker)
        if self._post is not None:
            await self._say(orders.READY, f"{self._worker.grace:g}")
            await self._told_to_go()
            if self._reports:
                threading.Thread(
                    target=self._report, args=(self._post,), name="sitq-vitals", daemon=True
                ).start()

    def _retires(self) -> None:
        if not self._stopped:
            self._do_beside(self._say(orders.RETIRING))

    def _report(self, post: socket.socket) -> None:
        """Tell the supervisor how it is, from a thread, as the event loop may be blocked."""
        with contextlib.suppress(OSError):
            while True:
                vitals = self._worker.vitals()
                claim = -1.0 if vitals.last_claim is None else vitals.last_claim
                with contextlib.suppress(BlockingIOError):
                    post.send(
                        orders.line(orders.ALIVE, f"{int(vitals.connected)} {claim:.3f} {int(vitals.stuck)}")
                    )
                time.sleep(_BETWEEN_REPORTS)

    # -- stop ----------------------------------------------------------------------------------------------

    def _signalled(self, count: int) -> None:
        self._hearing.notice(count)
        if count == 1 or self._post is not None:
            self._stop("a signal came")
        else:
            self._stop_now("a second signal came")

    def _stop(self, why: str) -> None:
        self._stopped = True
        logger.info("stopping, as %s: running tasks have %g s to end", why, self._worker.grace)
        self._go.set()
        self._do_beside(self._worker.stop())

    def _stop_now(self, why: str) -> None:
        self._stopped = True
        logger.warning("stopping at once, as %s: running tasks are handed back", why)
        self._exit = Exit.AT_ONCE
        self._go.set()
        self._do_beside(self._worker.stop(grace=0))

    # -- the supervisor's orders ---------------------------------------------------------------------------

    async def _obey(self, post: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        rest = b""
        with contextlib.suppress(OSError):
            while received := await loop.sock_recv(post, 4096):
                *lines, rest = (rest + received).split(b"\n")
                for each in lines:
                    self._ordered(*orders.parse(each))
        self._stop("the supervisor is gone")

    def _ordered(self, word: str, about: str) -> None:
        match word:
            case orders.STOP:
                self._stop("the supervisor says so")
            case orders.STOP_NOW:
                self._stop_now("the supervisor says so")
            case orders.FREE:
                freeing = self._do_beside(self._free(about))
                if not self._go.is_set():
                    self._freeing.append(freeing)
            case orders.GO:
                self._go.set()
            case _:
                logger.error("the supervisor gave an order that is not known here: %s", word)

    async def _told_to_go(self) -> None:
        """Wait until the leases of those that died before are freed, or a burst would not see their tasks."""
        await self._go.wait()
        if self._freeing:
            await asyncio.wait(self._freeing, timeout=_PATIENCE)

    async def _free(self, dead: str) -> None:
        freed = await free_leases(self._worker.backend, dead)
        if freed:
            logger.warning("%d tasks of %s, which died, may run again", freed, dead)
        await self._say(orders.FREED, dead)

    async def _say(self, word: str, about: str = "") -> None:
        if self._post is not None:
            with contextlib.suppress(OSError):
                await asyncio.get_running_loop().sock_sendall(self._post, orders.line(word, about))

    # -- beside --------------------------------------------------------------------------------------------

    def _do_beside(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        return task


async def _end(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    given = [task for task in tasks if task is not None]
    for task in given:
        task.cancel()
    if given:
        await asyncio.wait(given, timeout=_LAST_MOMENT)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, if it is installed."""
    try:
        uvloop: Any = importlib.import_module("uvloop")
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _somebody_is_left(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether something of the user's still runs, which the interpreter would wait for before it ends."""
    if asyncio.all_tasks(loop):
        return True
    deadline = time.monotonic() + _LAST_MOMENT
    for thread in threading.enumerate():
        if thread is threading.main_thread() or thread.daemon:
            continue
        thread.join(max(0.0, min(0.2, deadline - time.monotonic())))
        if thread.is_alive():
            return True
    return False


def _leave(code: Exit) -> NoReturn:
    """End the process without waiting for threads: their tasks are settled or handed back."""
    logger.warning("leaving, though a thread or an asyncio task of a function has not ended")
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - os._exit skips it
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)
