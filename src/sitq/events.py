"""Events: what happened to tasks and workers, one for each fact, as data; and who wants to hear of it."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, TypeVar, get_args, overload

import msgspec

from sitq.exceptions import ValidationError

__all__ = ["KINDS", "EventKind", "Listeners", "TaskEvent"]

EventKind = Literal[
    "enqueued",
    "deduplicated",
    "replaced",
    "started",
    "succeeded",
    "failed",
    "retried",
    "snoozed",
    "throttled",
    "handed_back",
    "lost",
    "crashed",
    "stopping",
    "cancelled",
    "expired",
    "dead",
    "deleted",
    "changed",
    "paused",
    "resumed",
    "worker_started",
    "worker_stopped",
    "gap",
]

KINDS: Final[tuple[EventKind, ...]] = get_args(EventKind)
"""Every kind of event."""

STREAM: Final = "events"
"""The log of the contract that the durable stream is kept in."""

MOST_KEPT: Final = 10_000_000


class TaskEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened, told after the store had taken it.

    Attributes:
        kind: What happened.
        at: When, by the clock of who tells it.
        task_id: The task, or "" if it is not about one.
        name: The name of its function; of a pause, the function that is paused.
        queue: Its queue; of a pause, the queue that is paused.
        attempt: The number of the attempt, 0 before the first.
        worker: The worker that tells it, or "".
        seconds: How long the attempt took, if it ended.
        delay: Seconds until the task is due again, if it queued again.
        error: Why it did not succeed, in one sentence.
        error_type: The exception's type, as `module.QualName`, or "".
        key: Of a pause, the limit's or tenant's key that is paused.
        reason: What somebody gave as a reason.
        missed: How many events are missing here; only of a `gap`.
        cursor: Its place in the durable stream, to go on after it; 0 outside of the stream.
    """

    kind: EventKind
    at: datetime
    task_id: str = ""
    name: str = ""
    queue: str = ""
    attempt: int = 0
    worker: str = ""
    seconds: float | None = None
    delay: float | None = None
    error: str | None = None
    error_type: str = ""
    key: str = ""
    reason: str = ""
    missed: int = 0
    cursor: int = 0


EventListener = Callable[[TaskEvent], Awaitable[Any] | None]
"""A function or an async function that is told of events."""

L = TypeVar("L", bound=EventListener)

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(TaskEvent)


def to_bytes(event: TaskEvent) -> bytes:
    """The event as an entry of the stream."""
    return _encoder.encode(event)


def from_bytes(data: bytes, cursor: int) -> TaskEvent | None:
    """The event in an entry of the stream; None if this version of sitq cannot read it."""
    try:
        return msgspec.structs.replace(_decoder.decode(data), cursor=cursor)
    except msgspec.MsgspecError:
        return None


class Heard(NamedTuple):
    """A listener and what it wants to hear."""

    listener: EventListener
    kinds: frozenset[str]


class Listeners:
    """Who wants to hear of a queue's or worker's events.

    Attributes:
        active: Whether anybody does, a stream included. What happens is not even put into words otherwise.
        keep: How many events the durable stream keeps; 0 writes none.
        heard: The listeners, replaced as a whole on each change.
    """

    def __init__(self, keep: int = 0) -> None:
        if type(keep) is not int or not 0 <= keep <= MOST_KEPT:
            raise ValidationError(
                f"keep_events must be a whole number from 0 to {MOST_KEPT:,}, not {keep!r}; 0 keeps none"
            )
        self.keep = keep
        self.active = keep > 0
        self.heard: tuple[Heard, ...] = ()
        self._turn = threading.Lock()

    def add(self, listener: EventListener, kinds: tuple[str, ...]) -> None:
        """Tell a listener from now on."""
        if not callable(listener):
            raise ValidationError(f"a listener must be a function that takes a TaskEvent, not {listener!r}")
        try:
            inspect.signature(listener).bind(None)
        except TypeError as error:
            label = getattr(listener, "__qualname__", repr(listener))
            raise ValidationError(f"the listener {label} does not take one event: {error}") from error
        except ValueError:  # a built-in without a signature
            pass
        with self._turn:
            self.heard = (*self.heard, Heard(listener, frozenset(checked_kinds(kinds))))
            self.active = True

    def remove(self, listener: EventListener) -> None:
        """Tell a listener no more. Without effect if it was not told."""
        with self._turn:
            self.heard = tuple(each for each in self.heard if each.listener != listener)
            self.active = bool(self.heard) or self.keep > 0

    @overload
    def on(self, listener: L, /) -> L: ...
    @overload
    def on(self, *kinds: EventKind) -> Callable[[L], L]: ...
    def on(self, *given: Any) -> Any:
        """What the method `on` of queues and workers does."""
        if len(given) == 1 and not isinstance(given[0], str):
            self.add(given[0], ())
            return given[0]
        kinds = checked_kinds(given)

        def decorate(listener: L) -> L:
            self.add(listener, kinds)
            return listener

        return decorate


def checked_kinds(kinds: tuple[Any, ...]) -> tuple[str, ...]:
    """The kinds, if there are such.

    Raises:
        ValidationError: One is unknown.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ValidationError(f"there is no kind of event {kind!r}; there are: {', '.join(KINDS)}")
    return kinds
