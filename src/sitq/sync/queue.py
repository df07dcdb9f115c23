"""The queue for code without an event loop: a thin blocking face of `TaskQueue`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar, Unpack, overload

from sitq.backends.base import Backend
from sitq.core import Result, Task
from sitq.decorator import TaskDecorator, TaskFunction
from sitq.exceptions import ValidationError
from sitq.handle import TaskHandle, error_of, handles_of, unknown
from sitq.info import TaskUpdate
from sitq.keywords import FunctionOptions, GivenOptions
from sitq.options import NO_OPTIONS, Options, make_options
from sitq.parents import Parent, id_of
from sitq.queue import TaskQueue
from sitq.queue.base import QueueSettings
from sitq.router import TaskRouter
from sitq.serialization import Serializer
from sitq.sync.bridge import Bridge
from sitq.sync.control import SyncControl
from sitq.sync.flows import SyncFlows
from sitq.sync.handle import SyncTaskHandle
from sitq.sync.within import SyncWithin

P = ParamSpec("P")
R = TypeVar("R")


class SyncTaskQueue(SyncControl, SyncFlows):
    """A `TaskQueue` whose calls block, over one event loop in a thread of its own.

    Used as a context manager, or opened by its first call and closed by `close`. It may be shared by threads.

    Args:
        backend: The store, or a URL that opens one; or a `TaskQueue`, such as the one that an application
            declares its functions with, whose store and settings hold here, too. It is left open.
        serializer: Turns arguments into bytes; `CloudpickleSerializer` by default.
        settings: What else `TaskQueue` takes.

    Raises:
        SyncTaskQueueError: An event loop is running in this thread; a blocking call would stop it.
        ValidationError: Settings are given beside a `TaskQueue`, which has its own.
    """

    def __init__(
        self,
        backend: Backend | TaskQueue | str,
        serializer: Serializer | None = None,
        **settings: Unpack[QueueSettings],
    ) -> None:
        if isinstance(backend, TaskQueue):
            if serializer is not None or settings:
                given = "serializer" if serializer is not None else min(settings)
                raise ValidationError(f"{backend!r} has settings of its own; give {given}=… to that one")
            self._queue = backend.twin()
        else:
            self._queue = TaskQueue(backend, serializer, **settings)
        self._bridge = Bridge()

    # -- functions of this queue ---------------------------------------------------------------------------

    @property
    def task(self) -> TaskDecorator:
        """The decorator `@queue.task` or `@queue.task(retry=3, …)`, as of a `TaskQueue`.

        Enqueue such a function with `queue.enqueue(function, …)`: its own methods are for event loops.
        """
        return self._queue.task

    def include(
        self,
        routed: TaskRouter | TaskFunction[..., Any, Any],
        prefix: str = "",
        **options: Unpack[FunctionOptions],
    ) -> None:
        """Let functions belong to this queue, of a router or one with `@task`. See `TaskQueue.include`."""
        self._queue.include(routed, prefix, **options)

    @property
    def inner(self) -> TaskQueue:
        """The queue behind it, of which `sitq worker` makes its workers."""
        return self._queue

    # -- tasks going in ------------------------------------------------------------------------------------

    @overload
    def enqueue(self, function: Callable[..., Any], /, *args: Any, eta: datetime, **kwargs: Any) -> str: ...

    @overload
    def enqueue(self, function: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> str: ...

    def enqueue(  # type: ignore[misc]  # an `eta` of the function's own is not for it
        self, function: Callable[..., Any], /, *args: Any, eta: datetime | None = None, **kwargs: Any
    ) -> str:
        """Enqueue one call and return its id once the store has it. See `TaskQueue.enqueue`."""
        return self._bridge.call(self._queue.enqueue(function, *args, eta=eta, **kwargs))

    def options(self, **options: Unpack[GivenOptions]) -> SyncEnqueuer:
        """The queue with options for the tasks enqueued through it. See `TaskQueue.options`."""
        return SyncEnqueuer(self, make_options(NO_OPTIONS, options))

    def enqueue_call(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], options: Options
    ) -> str:
        """Enqueue one call that is given as data. See `TaskQueue.enqueue`."""
        return self._bridge.call(self._queue.enqueue_call(function, args, kwargs, options))

    def enqueue_many(self, tasks: Iterable[Task]) -> list[str]:
        """Enqueue tasks, all or none of them. See `TaskQueue.enqueue_many`."""
        return self._bridge.call(self._queue.enqueue_many(tasks))

    @overload
    def submit(
        self, function: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> SyncTaskHandle[R]: ...

    @overload
    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> SyncTaskHandle[R]: ...

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> SyncTaskHandle[Any]:
        """Enqueue one call and return a handle of the task. See `TaskQueue.submit`."""
        return self._hand(self._bridge.call(self._queue.submit(function, *args, **kwargs)))

    def submit_call(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], options: Options
    ) -> SyncTaskHandle[Any]:
        """Enqueue one call that is given as data, and return a handle of it. See `TaskQueue.submit`."""
        return self._hand(self._bridge.call(self._queue.submit_call(function, args, kwargs, options)))

    def submit_many(self, tasks: Iterable[Task]) -> list[SyncTaskHandle[Any]]:
        """Enqueue tasks, all or none of them, and return their handles in order."""
        return [self._hand(each) for each in self._bridge.call(self._queue.submit_many(tasks))]

    def within(self, connection: object) -> SyncWithin:
        """The queue within a transaction of yours. See `TaskQueue.within`.

        Raises:
            ValidationError: The connection is one for event loops.
        """
        return SyncWithin(self._queue, connection, self._bridge)

    def handle(self, task_id: str) -> SyncTaskHandle[Any]:
        """A handle of a task that is in the store, by its id."""
        return self._hand(self._queue.handle(task_id))

    def _hand(self, handle: TaskHandle[R]) -> SyncTaskHandle[R]:
        return SyncTaskHandle(handle, self._bridge)

    # -- results coming out --------------------------------------------------------------------------------

    def get_result(
        self, task_id: str | Parent, timeout: float | None = None, *, raise_on_timeout: bool = False
    ) -> Any:
        """Wait until a task has ended and return the value that it returned.

        None, too, when `timeout` seconds have passed, unless `raise_on_timeout` is set.

        Raises:
            UnknownTaskError: There is no such task.
            TimeoutError: The time has passed and `raise_on_timeout` is set.
            TaskExecutionError: The task did not succeed; it carries the remote type, message and traceback.
        """
        result = self._bridge.call(self._value_of(task_id, timeout, raise_on_timeout=raise_on_timeout))
        if result is None:
            return None
        if result.status != "success":
            raise error_of(result, "get_result")
        return self._queue.deserialize_result(result)

    async def _value_of(
        self, task_id: str | Parent, timeout: float | None, *, raise_on_timeout: bool
    ) -> Result | None:
        """What became of a task; None if the time has passed."""
        result = await self._queue.get_result(task_id, timeout, raise_on_timeout=raise_on_timeout)
        if result is None and (await self._queue.get_results([task_id]))[0] is None:
            raise unknown(id_of(task_id), "result")
        return result

    def get_outcome(self, task_id: str | Parent, timeout: float | None = None) -> Result | None:
        """Wait until a task has ended and return what became of it. See `TaskQueue.get_result`."""
        return self._bridge.call(self._queue.get_result(task_id, timeout))

    def get_results(self, task_ids: Iterable[str | Parent]) -> list[Result | None]:
        """What is known of tasks now. See `TaskQueue.get_results`."""
        return self._bridge.call(self._queue.get_results(task_ids))

    def deserialize_result(self, result: Result) -> Any:
        """The value in a result of `get_outcome`."""
        return self._queue.deserialize_result(result)

    @overload
    def gather(
        self,
        *handles: SyncTaskHandle[R],
        return_exceptions: Literal[False] = False,
        timeout: float | None = None,
    ) -> list[R]: ...

    @overload
    def gather(
        self, *handles: SyncTaskHandle[R], return_exceptions: bool, timeout: float | None = None
    ) -> list[R | BaseException]: ...

    def gather(
        self, *handles: SyncTaskHandle[Any], return_exceptions: bool = False, timeout: float | None = None
    ) -> list[Any]:
        """Wait until all tasks have ended, and return their values. See `TaskQueue.gather`."""
        inner = [each.handle for each in handles_of(SyncTaskHandle, handles, "gather")]
        return self._bridge.call(
            self._queue.gather(*inner, return_exceptions=return_exceptions, timeout=timeout)
        )

    def as_completed(
        self, handles: Iterable[SyncTaskHandle[R]], timeout: float | None = None
    ) -> Generator[SyncTaskHandle[R]]:
        """The handles in the order in which their tasks end. See `TaskQueue.as_completed`."""
        given = handles_of(SyncTaskHandle, handles, "as_completed")
        inner = [each.handle for each in given]
        by_id = {each.id: each for each in given}
        for ended in self._bridge.each(lambda: self._queue.as_completed(inner, timeout)):
            yield by_id[ended.id]

    def updates(self, task_id: str | Parent) -> Generator[TaskUpdate]:
        """How a task is now, then each change until its end. See `TaskQueue.updates`."""
        return self._bridge.each(lambda: self._queue.updates(task_id))

    # -- lifecycle -----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the store and end the event loop. Idempotent."""
        self._bridge.close(self._queue.close)

    def __enter__(self) -> Self:
        self._bridge.call(self._queue.connect())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SyncEnqueuer:
    """A queue with options for the tasks that are enqueued through it."""

    def __init__(self, queue: SyncTaskQueue, options: Options) -> None:
        self._queue = queue
        self._options = options

    def options(self, **options: Unpack[GivenOptions]) -> SyncEnqueuer:
        """The same with more options."""
        return SyncEnqueuer(self._queue, make_options(self._options, options))

    def enqueue(self, function: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> str:
        """Enqueue one call with these options; every keyword goes to the function."""
        return self._queue.enqueue_call(function, args, kwargs, self._options)

    @overload
    def submit(
        self, function: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> SyncTaskHandle[R]: ...

    @overload
    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> SyncTaskHandle[R]: ...

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> SyncTaskHandle[Any]:
        """Enqueue one call with these options, and return a handle of it."""
        return self._queue.submit_call(function, args, kwargs, self._options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._queue!r} with {', '.join(sorted(self._options.given))}>"
