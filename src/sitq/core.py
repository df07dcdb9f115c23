"""The data that users hold: what goes into a queue and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sitq import validation
from sitq.exceptions import ValidationError
from sitq.ids import new_id
from sitq.options import NO_OPTIONS, Options, make_options
from sitq.record import State


def as_datetime(instant: int | None) -> datetime | None:
    """Microseconds since 1970 as an aware datetime in UTC."""
    return None if instant is None else datetime.fromtimestamp(instant / 1_000_000, UTC)


def _now() -> datetime:
    return datetime.now(UTC)


class Task:
    """One call to be run: a function, its arguments and its options.

    Attributes:
        id: The task's id; made here unless given.
        function: What to run.
        args: Positional arguments.
        kwargs: Keyword arguments.
        eta: The instant before which it does not start, or None.
        status: `queued` until it is enqueued and after that; what became of it is asked of the queue.
        created_at: When this object was made.
        options: How it is to be run.

    Raises:
        ValidationError: The function cannot be called, or an option is unknown or not acceptable.
    """

    __slots__ = ("args", "created_at", "function", "id", "kwargs", "options", "status")

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.function = validation.function(function)
        if isinstance(args, str | bytes | Mapping) or not isinstance(args, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
            raise ValidationError(f"args must be a tuple of arguments, not {args!r}; write ({args!r},)")
        self.args = tuple(args)
        self.kwargs = dict(kwargs or {})
        self.options: Options = make_options(NO_OPTIONS, options)
        self.id: str = self.options.id or new_id()
        self.status: str = State.QUEUED.value
        self.created_at = _now()

    @property
    def eta(self) -> datetime | None:
        """The instant before which the task does not start."""
        return as_datetime(self.options.eta)

    def __repr__(self) -> str:
        called = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return f"<Task {self.id} {called}>"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a task.

    Attributes:
        task_id: The task.
        status: `success`, `failed`, `cancelled`, `expired`, `dead`, or `pending` while it has not ended.
        value: The serializer's output, if it succeeded; `TaskQueue.deserialize_result` reads it.
        error: Why it did not succeed, in one sentence.
        traceback: The worker's traceback as text, if there is one.
        created_at: When the task was enqueued.
        completed_at: When it ended, or None.
        error_type: The type of the exception, as `module.QualName`, if one was raised.
        codec: The name of the serializer that wrote `value`.
    """

    task_id: str
    status: str
    value: bytes | None = None
    error: str | None = None
    traceback: str | None = None
    created_at: datetime = field(default_factory=_now)
    completed_at: datetime | None = None
    error_type: str | None = None
    codec: str | None = None


@dataclass(frozen=True, slots=True)
class ReservedTask:
    """A claimed task, decoded, just before its run.

    Attributes:
        id: The task's id.
        function: What will run.
        args: Positional arguments.
        kwargs: Keyword arguments.
        eta: When it was due.
        attempt: The run's number, counted from 1.
        queue: The queue that it was claimed from.
    """

    id: str
    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    eta: datetime | None = None
    attempt: int = 1
    queue: str = "default"
