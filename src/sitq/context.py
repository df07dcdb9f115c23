"""What a running task can know of itself, and say about itself."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, Final, ParamSpec, Protocol, TypeVar, cast, overload

from sitq import validation
from sitq.batch import BatchInfo
from sitq.clock import as_datetime
from sitq.exceptions import ValidationError, WorkerError
from sitq.record import SECOND
from sitq.signals import Cancel

P = ParamSpec("P")
R = TypeVar("R")

_LAST_WORD: Final = 1.0
"""Seconds for which a task that is cancelled waits until what it has done is kept."""

_LONGEST_MESSAGE: Final = 1_000


class Desk(Protocol):
    """Where the engine takes what a running task says. Called from any thread."""

    def progress(self, task: CurrentTask, fraction: float | None, message: str, /) -> None:
        """Keep a note, soon."""
        ...

    def extend(self, task: CurrentTask, seconds: float, /) -> None:
        """Move the attempt's time-out."""
        ...

    def done(self, task: CurrentTask, step: str, /) -> tuple[Any] | None:
        """The value of a step that was done before, or None."""
        ...

    def keep(self, task: CurrentTask, step: str, value: Any, /) -> Future[None]:
        """Keep the value of a step; cancelled if the attempt has lost its lease."""
        ...


class CurrentTask:
    """The task that is running here.

    Its methods may be called from every thread, also from one that was handed this object.

    Attributes:
        id: Its id.
        name: The name of its function.
        queue: The queue that it came from.
        attempt: The number of this run, counted from 1.
        last_start: Its deadline in microseconds since 1970, or None. What it enqueues inherits it.
        cancel_reason: Why it is to stop, or None; a function in a thread or a process looks here.
    """

    __slots__ = ("_batch", "attempt", "cancel_reason", "desk", "id", "last_start", "name", "queue")

    def __init__(  # noqa: PLR0917 - made for each attempt, and keywords cost
        self,
        task_id: str,
        name: str,
        queue: str,
        attempt: int,
        last_start: int | None = None,
        desk: Desk | None = None,
    ) -> None:
        self.id = task_id
        self.name = name
        self.queue = queue
        self.attempt = attempt
        self.last_start = last_start
        self.desk = desk
        self.cancel_reason: str | None = None

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to stop: by somebody, by its time-out, or since its worker stops."""
        return self.cancel_reason is not None

    def progress(self, fraction: float | None = None, message: str = "") -> None:
        """Leave a note about how far it is, for those who watch. Returns at once.

        Of many notes in a short time the last one is kept, and the last one of all in any case, before the
        task ends. A record holds the newest 20.

        Args:
            fraction: From 0 to 1, or None.
            message: A line of text, of at most 1,000 characters.

        Raises:
            ValidationError: `fraction` is not from 0 to 1, or `message` no text or too long.
        """
        if fraction is not None:
            fraction = _fraction(fraction)
        if not isinstance(message, str):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
            raise ValidationError(f"the message must be text, not {type(message).__name__}")
        if len(message) > _LONGEST_MESSAGE:
            raise ValidationError(
                f"the message has {len(message):,} characters; at most {_LONGEST_MESSAGE:,} are kept"
            )
        self._desk().progress(self, fraction, message.encode("utf-8", "backslashreplace").decode())

    def extend(self, seconds: float | timedelta) -> None:
        """Let this attempt take so much longer than it may by now. Without a time-out nothing happens.

        Raises:
            ValidationError: `seconds` is negative or not finite.
        """
        self._desk().extend(self, validation.duration(seconds, "seconds") / SECOND)

    @overload
    async def once(
        self, name: str, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...

    @overload
    async def once(self, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    async def once(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Do a step of the task that is not to be done again: what it returns is kept with the task.

        Another attempt gets what was kept, and the function is not called. It is kept before this returns; a
        worker that dies between the two does the step again. What raises is not kept.

        Args:
            name: The step's name, of its own within the task: in a loop `f"charge {n}"`, not `"charge"`.
            function: What to do: an async function, or a plain one, which runs right here.
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Raises:
            ValidationError: The name is not acceptable, or the task has too many steps.
            SerializationError: What the function returned cannot be kept. The task fails and is not tried
                again, unless it catches this.
        """
        name = validation.name(name, "name of the step")
        desk = self._desk()
        found = desk.done(self, name)
        if found is not None:
            return found[0]
        value = validation.function(function, "once(name, {}, …)")(*args, **kwargs)
        if inspect.isawaitable(value):
            value = await value
        keeping = asyncio.ensure_future(asyncio.wrap_future(desk.keep(self, name, value)))
        try:
            await asyncio.shield(keeping)
        except asyncio.CancelledError:
            await asyncio.wait([keeping], timeout=_LAST_WORD)  # what is done is done
            raise
        return value

    def once_sync(self, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """What `once` does, for functions in threads and processes.

        Raises:
            WorkerError: It was called in an event loop, which it would block.
            Cancel: The task has lost its lease, so another worker may be running it: let it pass.
        """
        if _in_event_loop():
            raise WorkerError("once_sync() would block the event loop; await once(…)", task_id=self.id)
        name = validation.name(name, "name of the step")
        desk = self._desk()
        found = desk.done(self, name)
        if found is not None:
            return cast("R", found[0])
        value: object = validation.function(function, "once_sync(name, {}, …)")(*args, **kwargs)
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise ValidationError(f"step {name} is async; await once(…) in an async function")
        try:
            desk.keep(self, name, value).result()
        except CancelledError:
            raise Cancel(f"the lease was lost before step {name} could be kept") from None
        return cast("R", value)

    def _desk(self) -> Desk:
        if self.desk is None:
            raise WorkerError(f"task {self.id} is not run by a worker", task_id=self.id)
        return self.desk

    @property
    def batch(self) -> BatchInfo | None:
        """The batch that it is of, or None.

        For a callback its counts are final; for a member they are of the time when its worker first met it.
        """
        return getattr(self, "_batch", None)

    @batch.setter
    def batch(self, batch: BatchInfo | None) -> None:
        self._batch = batch

    @property
    def deadline(self) -> datetime | None:
        """The instant after which it would not be started again, or None."""
        return as_datetime(self.last_start)

    @property
    def state(self) -> Any:
        """What the worker's lifespan yielded. `FromLifespan` gives it to a parameter with its type.

        Raises:
            WorkerError: The worker has no lifespan.
        """
        try:
            return lifespan_state.get()
        except LookupError:
            raise WorkerError(
                "there is no state here: the worker has no lifespan (start it with Worker(…, lifespan=…)), "
                "or the task runs in a process of its own; FromLifespan(…) brings what it needs there",
                task_id=self.id,
                operation="state",
            ) from None

    def __repr__(self) -> str:
        return f"<CurrentTask {self.id} {self.name} attempt {self.attempt}>"


def _fraction(given: object) -> float:
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given <= 1:
        return float(given)
    raise ValidationError(f"the fraction must be a number from 0 to 1, not {given!r}")


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


current: ContextVar[CurrentTask] = ContextVar("sitq_current_task")

lifespan_state: ContextVar[Any] = ContextVar("sitq_lifespan_state")
"""Set once for a worker: the tasks that it starts, and their threads, inherit it."""


def current_task() -> CurrentTask:
    """The task that the calling code runs in; in a thread of the worker's pool, too.

    Raises:
        WorkerError: No task is running here.
    """
    try:
        return current.get()
    except LookupError:
        raise WorkerError("current_task() was called outside of a task", operation="current_task") from None
