"""A task in the hand of who enqueued it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterable
from typing import Any, Generic, Protocol, TypeVar, cast, overload

from sitq.core import Result
from sitq.exceptions import (
    TaskCancelledError,
    TaskDeadError,
    TaskExecutionError,
    TaskExpiredError,
    UnknownTaskError,
    ValidationError,
)
from sitq.info import TaskInfo, TaskProgress, TaskUpdate, status_of
from sitq.parents import Parent

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
H = TypeVar("H", bound=Parent)


class HandleQueue(Protocol):
    """What a handle asks of the queue that made it."""

    async def get_result(
        self, task_id: str, timeout: float | None = None, *, raise_on_timeout: bool = False
    ) -> Result | None:
        """What became of a task, once it has ended."""
        ...

    async def get_results(self, task_ids: list[str], /) -> list[Result | None]:
        """What is known of tasks now."""
        ...

    def deserialize_result(self, result: Result) -> Any:
        """The value that a task returned."""
        ...

    async def task_info(self, task_id: str) -> TaskInfo | None:
        """A task at a glance."""
        ...

    def updates(self, task_id: str) -> AsyncIterator[TaskUpdate]:
        """The changes of a task until its end."""
        ...

    async def cancel(self, task_id: str, /, reason: str = "") -> bool:
        """Cancel a task."""
        ...


class TaskHandle(Parent, Generic[R_co]):
    """A task that was enqueued, to be awaited, watched or cancelled.

    `await handle` is the value that the task returned. It may be awaited any number of times, by any number
    of callers. A caller that is cancelled meanwhile leaves the task as it is. As an argument of another task
    it stands for its value, and makes the other one wait for it.

    Two handles of one task are equal.

    Attributes:
        id: The task's id.
    """

    __slots__ = ("_ended", "_queue", "id")

    def __init__(self, task_id: str, queue: HandleQueue) -> None:
        self.id = task_id
        self._queue = queue
        self._ended: Result | None = None

    def __await__(self) -> Generator[Any, Any, R_co]:
        return self.result().__await__()

    async def result(self, timeout: float | None = None) -> R_co:
        """Wait until the task has ended, and return the value that it returned.

        Args:
            timeout: Seconds to wait at most; the task goes on if they are over.

        Raises:
            TimeoutError: It has not ended in time; a built-in `TimeoutError`, too.
            TaskExecutionError: It failed. The error has the type, the text and the traceback of what was
                raised in the worker.
            TaskCancelledError: It was cancelled.
            TaskExpiredError: It was not started in time.
            TaskDeadError: It cannot run.
            UnknownTaskError: There is no such task; it never existed, or its record has been purged.
        """
        result = await self.outcome(timeout)
        if result.status != "success":
            raise error_of(result)
        return cast("R_co", self._queue.deserialize_result(result))

    async def outcome(self, timeout: float | None = None) -> Result:
        """Wait until the task has ended, and return what became of it, whatever that is.

        Raises:
            TimeoutError: It has not ended in time.
            UnknownTaskError: There is no such task.
        """
        if self._ended is None:
            result = await self._queue.get_result(self.id, timeout, raise_on_timeout=True)
            self._ended = self._known(result)
        return self._ended

    async def peek(self) -> Result:
        """What is known of the task now; its status is `pending` if it has not ended.

        Raises:
            UnknownTaskError: There is no such task.
        """
        if self._ended is None:
            (result,) = await self._queue.get_results([self.id])
            known = self._known(result)
            if known.status == "pending":
                return known
            self._ended = known
        return self._ended

    async def status(self) -> str:
        """`blocked`, `queued` or `running`, or how it ended.

        It ended as `success`, `failed`, `cancelled`, `expired` or `dead`.

        Raises:
            UnknownTaskError: There is no such task.
        """
        return self._ended.status if self._ended is not None else status_of((await self.info()).state)

    async def info(self) -> TaskInfo:
        """The task at a glance.

        Raises:
            UnknownTaskError: There is no such task.
        """
        info = await self._queue.task_info(self.id)
        if info is None:
            raise unknown(self.id, "task_info")
        return info

    async def progress(self) -> TaskProgress | None:
        """The newest note that the task left about itself, or None.

        Raises:
            UnknownTaskError: There is no such task.
        """
        return (await self.info()).progress

    async def notes(self) -> tuple[TaskProgress, ...]:
        """The newest notes that the task left about itself, at most 20, the last one last.

        Raises:
            UnknownTaskError: There is no such task.
        """
        return (await self.info()).notes

    def updates(self) -> AsyncIterator[TaskUpdate]:
        """How it is now, then each change of its status and progress until its end. See `TaskQueue.updates`.

        Raises:
            UnknownTaskError: There is no such task.
        """
        return self._queue.updates(self.id)

    async def cancel(self, reason: str = "") -> bool:
        """Cancel it if it waits, ask it to stop if it runs. False if it has ended or is unknown."""
        return await self._queue.cancel(self.id, reason)

    def _known(self, result: Result | None) -> Result:
        if result is None:
            raise unknown(self.id, "result")
        return result

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, TaskHandle) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<TaskHandle {self.id}>"


@overload
def value_of(task: TaskHandle[R]) -> R: ...


@overload
def value_of(task: Parent) -> Any: ...


def value_of(task: Parent) -> Any:
    """The task itself, with the type of the value that it stands for as an argument.

    `await queue.submit(add, value_of(handle), 1)` is for type checkers what it means. There is no value yet,
    so it is of use only as an argument, at any depth.

    Raises:
        ValidationError: It is none that an argument can stand for.
    """
    if not isinstance(task, Parent):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
        raise ValidationError(f"value_of takes a handle or a Task, not {type(task).__name__}")
    return task


def handles_of(kind: type[H], given: Iterable[H], method: str) -> list[H]:
    """What was given as handles, if that is what it is.

    Raises:
        ValidationError: It is no list, or something in it is no handle of this kind.
    """
    if not isinstance(given, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
        raise ValidationError(f"{method} takes a list of handles, not {given!r}; submit returns them")
    found = list(given)
    for each in found:
        if not isinstance(each, kind):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
            name = type(each).__name__
            hint = "submit returns them, and queue.handle(task_id) makes one of an id"
            if method == "gather" and name in {"list", "tuple", "set"}:
                hint = "write gather(*handles)"
            raise ValidationError(f"{method} takes handles of tasks, not {name}; {hint}")
    return found


def unknown(task_id: str, operation: str) -> UnknownTaskError:
    """The error for an id that stands for no task."""
    message = f"there is no task {task_id}; it never existed, or its record has been purged"
    return UnknownTaskError(message, task_id=task_id, operation=operation)


_ERRORS: dict[str, type[TaskExecutionError]] = {
    "cancelled": TaskCancelledError,
    "expired": TaskExpiredError,
    "dead": TaskDeadError,
}


def error_of(result: Result, operation: str = "result") -> TaskExecutionError:
    """The error that the end of a task is for who wanted its value."""
    error = _ERRORS.get(result.status, TaskExecutionError)(
        f"task {result.task_id} ended as {result.status}: {result.error or 'no reason given'}",
        error_type=result.error_type or result.status,
        error_message=(result.error or "").removeprefix(f"{result.error_type}: "),
        traceback=result.traceback,
        task_id=result.task_id,
        operation=operation,
    )
    if result.traceback:
        error.add_note(f"In the worker:\n{result.traceback}")
    return error
