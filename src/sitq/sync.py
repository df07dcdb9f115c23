"""The queue for code without an event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from sitq.backends.base import Backend
from sitq.core import Result, Task
from sitq.exceptions import SyncTaskQueueError, TaskExecutionError
from sitq.options import NO_OPTIONS, Options, make_options
from sitq.queue import TaskQueue
from sitq.serialization import Serializer

Value = TypeVar("Value")


class SyncTaskQueue:
    """A `TaskQueue` whose calls block, over one event loop in a thread of its own.

    Used as a context manager, or opened by its first call and closed by `close`. It may be shared by threads.

    Args:
        backend: The store, or a URL that opens one.
        serializer: Turns arguments into bytes; `CloudpickleSerializer` by default.
        settings: What else `TaskQueue` takes.

    Raises:
        SyncTaskQueueError: An event loop is running in this thread; a blocking call would stop it.
    """

    def __init__(self, backend: Backend | str, serializer: Serializer | None = None, **settings: Any) -> None:
        self._queue = TaskQueue(backend, serializer, **settings)
        self._turn = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process: int | None = None
        self._closed = False

    def enqueue(
        self, function: Callable[..., Any], /, *args: Any, eta: datetime | None = None, **kwargs: Any
    ) -> str:
        """Enqueue one call and return its id once the store has it. See `TaskQueue.enqueue`."""
        return self._do(self._queue.enqueue(function, *args, eta=eta, **kwargs))

    def options(self, **options: Any) -> SyncEnqueuer:
        """The queue with options for the tasks enqueued through it. See `TaskQueue.options`."""
        return SyncEnqueuer(self, make_options(NO_OPTIONS, options))

    def enqueue_call(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], options: Options
    ) -> str:
        """Enqueue one call that is given as data. See `TaskQueue.enqueue`."""
        return self._do(self._queue.enqueue_call(function, args, kwargs, options))

    def enqueue_many(self, tasks: Iterable[Task]) -> list[str]:
        """Enqueue tasks, all or none of them. See `TaskQueue.enqueue_many`."""
        return self._do(self._queue.enqueue_many(tasks))

    def get_result(self, task_id: str, timeout: float | None = None) -> Any:
        """Wait until a task has ended and return the value that it returned.

        None, too, for an unknown task and when `timeout` seconds have passed; `get_outcome` tells them apart.

        Raises:
            TaskExecutionError: The task did not succeed; it carries the remote type, message and traceback.
        """
        result = self.get_outcome(task_id, timeout)
        if result is None:
            return None
        if result.status != "success":
            raise TaskExecutionError(
                f"task {task_id} ended as {result.status}: {result.error or 'no reason given'}",
                error_type=result.error_type or result.status,
                error_message=(result.error or "").removeprefix(f"{result.error_type}: "),
                traceback=result.traceback,
                task_id=task_id,
                operation="get_result",
            )
        return self._queue.deserialize_result(result)

    def get_outcome(self, task_id: str, timeout: float | None = None) -> Result | None:
        """Wait until a task has ended and return what became of it. See `TaskQueue.get_result`."""
        return self._do(self._queue.get_result(task_id, timeout))

    def get_results(self, task_ids: Sequence[str]) -> list[Result | None]:
        """What is known of tasks now. See `TaskQueue.get_results`."""
        return self._do(self._queue.get_results(task_ids))

    def deserialize_result(self, result: Result) -> Any:
        """The value in a result of `get_outcome`."""
        return self._queue.deserialize_result(result)

    def cancel(self, task_id: str, reason: str = "") -> bool:
        """Cancel a waiting task, or ask a running one to stop. See `TaskQueue.cancel`."""
        return self._do(self._queue.cancel(task_id, reason))

    def stats(self) -> dict[str, dict[str, int]]:
        """How many tasks there are per queue and state."""
        return self._do(self._queue.stats())

    def close(self) -> None:
        """Let go of the store and end the event loop. Idempotent."""
        with self._turn:
            self._closed = True
            loop, self._loop = self._loop, None
        if loop is None or self._process != os.getpid():  # what a parent process opened is not the fork's
            return
        try:
            asyncio.run_coroutine_threadsafe(self._queue.close(), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            if self._thread is not None:
                self._thread.join()

    def __enter__(self) -> Self:
        self._do(self._queue.connect())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _do(self, call: Coroutine[Any, Any, Value]) -> Value:
        try:
            with self._turn:  # so that no call reaches a loop that has ended
                future = asyncio.run_coroutine_threadsafe(call, self._running_loop())
        except SyncTaskQueueError:
            call.close()
            raise
        try:
            return future.result()
        except CancelledError:
            raise SyncTaskQueueError("the queue was closed while this call was under way") from None
        except BaseException:
            future.cancel()  # of use only if it was this thread that was interrupted
            raise

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


class SyncEnqueuer:
    """A queue with options for the tasks that are enqueued through it."""

    def __init__(self, queue: SyncTaskQueue, options: Options) -> None:
        self._queue = queue
        self._options = options

    def options(self, **options: Any) -> SyncEnqueuer:
        """The same with more options."""
        return SyncEnqueuer(self._queue, make_options(self._options, options))

    def enqueue(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> str:
        """Enqueue one call with these options; every keyword goes to the function."""
        return self._queue.enqueue_call(function, args, kwargs, self._options)


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
