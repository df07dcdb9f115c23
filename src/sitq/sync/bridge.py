"""Blocking calls over one event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from concurrent.futures import CancelledError, Future
from typing import Any, Final, TypeVar

from sitq.exceptions import SyncTaskQueueError
from sitq.sync.errands import Errands

Value = TypeVar("Value")

_END: Final = object()


class Bridge:
    """Carries calls of any thread into an event loop, and their answers back."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process: int | None = None
        self._closed = False

    def call(self, call: Coroutine[Any, Any, Value]) -> Value:
        """Wait for a coroutine.

        Raises:
            SyncTaskQueueError: An event loop is running in this thread, or the bridge was closed or forked.
        """
        return _answer(self._start(call))

    def _start(self, call: Coroutine[Any, Any, Value]) -> Future[Value]:
        try:
            with self._turn:  # so that no call reaches a loop that has ended
                return asyncio.run_coroutine_threadsafe(call, self._running_loop())
        except SyncTaskQueueError:
            call.close()
            raise

    def call_with(self, call: Callable[[Errands], Coroutine[Any, Any, Value]]) -> Value:
        """Wait for a coroutine that has errands done in this thread meanwhile.

        Raises:
            SyncTaskQueueError: As for `call`.
        """
        errands = Errands()
        future = self._start(call(errands))
        future.add_done_callback(lambda _: errands.end())
        return _answer(future, errands.serve)

    def each(self, items: Callable[[], AsyncIterator[Value]]) -> Generator[Value]:
        """Wait for one item after another."""
        iterator: AsyncIterator[Value] | None = None

        async def following() -> Any:
            nonlocal iterator
            if iterator is None:  # in the loop, as it may look for the running one
                iterator = aiter(items())
            return await anext(iterator, _END)

        try:
            while (item := self.call(following())) is not _END:
                yield item
        finally:
            if iterator is not None:
                self._end(iterator)

    def _end(self, iterator: AsyncIterator[Any]) -> None:
        close: Callable[[], Awaitable[None]] | None = getattr(iterator, "aclose", None)
        if close is None:
            return
        ending = close

        async def end() -> None:
            await ending()

        try:
            self.call(end())
        except SyncTaskQueueError:  # it was closed, and its generators with it
            return

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Make a last call and end the event loop. Idempotent."""
        with self._turn:
            self._closed = True
            loop, self._loop = self._loop, None
        if loop is None or self._process != os.getpid():  # what a parent process opened is not the fork's
            return
        try:
            asyncio.run_coroutine_threadsafe(last(), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            if self._thread is not None:
                self._thread.join()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if _inside_a_loop():
            raise SyncTaskQueueError(
                "an event loop is running in this thread: use TaskQueue and await its methods"
            )
        if self._closed:
            raise SyncTaskQueueError("this queue is closed; make a new SyncTaskQueue")
        if self._loop is None:
            self._process = os.getpid()
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_run, args=(self._loop,), name="sitq-sync", daemon=True)
            self._thread.start()
        if self._process != os.getpid():
            raise SyncTaskQueueError(
                f"this queue was opened in process {self._process} and is used in its fork {os.getpid()}: "
                "make a new SyncTaskQueue in the child process"
            )
        return self._loop


def _answer(future: Future[Value], meanwhile: Callable[[], None] | None = None) -> Value:
    try:
        if meanwhile is not None:
            meanwhile()
        return future.result()
    except CancelledError:
        raise SyncTaskQueueError("the queue was closed while this call was under way") from None
    except BaseException:
        future.cancel()  # of use only if it was this thread that was interrupted
        raise


def _inside_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
