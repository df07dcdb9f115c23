"""The data that users hold: what goes into a queue and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import time
from types import FunctionType
from typing import Any, Final, Unpack, cast

from sitq import validation
from sitq.clock import as_datetime
from sitq.exceptions import ValidationError
from sitq.ids import new_id
from sitq.keywords import GivenOptions
from sitq.options import NO_OPTIONS, Options, make_options
from sitq.parents import Parent
from sitq.record import State

_QUEUED: Final = State.QUEUED.value


def _now() -> datetime:
    return datetime.now(UTC)


class Task(Parent):
    """One call to be run: a function, its arguments and its options.

    As an argument of another task it stands for its value, and makes the other one wait for it.

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

    __slots__ = ("_made", "args", "function", "id", "kwargs", "options", "status")

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[GivenOptions],
    ) -> None:
        self.function = (
            function if type(function) is FunctionType else validation.function(function, "Task({}, …)")
        )
        self.args = args if type(args) is tuple else _arguments(args)
        self.kwargs: dict[str, Any] = {} if kwargs is None else _keywords(kwargs)
        self.options: Options = make_options(NO_OPTIONS, options) if options else NO_OPTIONS
        self.id: str = self.options.id or new_id()
        self.status = _QUEUED
        self._made = time()

    @property
    def created_at(self) -> datetime:
        """When this object was made."""
        return datetime.fromtimestamp(self._made, UTC)

    @property
    def eta(self) -> datetime | None:
        """The instant before which the task does not start."""
        return as_datetime(self.options.eta)

    def replace(
        self,
        *,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[GivenOptions],
    ) -> Task:
        """The same task, id and all, with other arguments or with options laid over its own.

        Raises:
            ValidationError: An option is unknown or not acceptable.
        """
        other = Task(
            self.function,
            self.args if args is None else tuple(args),
            self.kwargs if kwargs is None else kwargs,
        )
        other.options = make_options(self.options, options)
        other.id, other._made = other.options.id or self.id, self._made
        return other

    def __repr__(self) -> str:
        called = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return f"<Task {self.id} {called}>"


def _arguments(args: Any) -> tuple[Any, ...]:
    given: object = args
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise ValidationError(f"args must be a tuple of arguments, not {args!r}; write ({args!r},)")
    return tuple(args)


def _keywords(kwargs: Any) -> dict[str, Any]:
    if not isinstance(kwargs, Mapping):
        raise ValidationError(f"kwargs must be a mapping of names to arguments, not {kwargs!r}")
    return dict(cast("Mapping[str, Any]", kwargs))


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
        name: The name of the function that ran; it tells the type of the value.
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
    name: str | None = None


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
        name: The name of its function.
    """

    id: str
    function: Callable[..., Any]
    args: tuple[Any, ...] = field(default=(), repr=False)
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)
    eta: datetime | None = None
    attempt: int = 1
    queue: str = "default"
    name: str = ""
