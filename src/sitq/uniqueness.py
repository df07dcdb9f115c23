"""Uniqueness: at most one task of a key, and what becomes of a second one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final, Literal, get_args

import msgspec

from sitq import partition, validation
from sitq.exceptions import ValidationError
from sitq.parameters import Rule
from sitq.partition import Key
from sitq.record import SECOND

Scope = Literal["waiting", "active"]
Clash = Literal["keep", "raise", "replace", "again"]
Field = Literal["payload", "due"]

_FIELDS: Final[tuple[Field, ...]] = ("payload", "due")


class Unique(Rule, frozen=True):
    """At most one task holds the key. Producers that enqueue at the same instant make one task.

    Attributes:
        key: The key, the same for all functions that name it; or a function of the task's arguments that
            returns it (None: not unique). By default the function with all its arguments, or on a parameter
            the function with that argument.
        scope: How long a task holds it: while it is `waiting` (until it starts), or while it is `active`
            (until it ends). Without meaning where there is a `window`.
        window: Seconds from its enqueue for which a task holds the key, whatever becomes of it.
        clash: What enqueuing a second one does. `keep`: nothing, it returns the id of the first. `raise`: it
            raises `DuplicateTaskError` with that id. `replace`: it writes `fields` into the first one while
            that waits, and returns its id; once it runs, as `keep`. `again`: as `keep` while the first one
            waits; while that runs, one more is enqueued that starts after it.
        fields: What `replace` writes: the arguments (`payload`), the time of start (`due`), or both.
    """

    key: Key | None = None
    scope: Scope = "active"
    window: float | timedelta | None = None
    clash: Clash = "keep"
    fields: tuple[Field, ...] = _FIELDS
    delay: int = 0
    """Microseconds that the start waits for the next one; set by `debounce`."""

    def __post_init__(self) -> None:
        if self.key is not None:
            msgspec.structs.force_setattr(self, "key", partition.key(self.key, "unique"))
        _one_of(self.scope, get_args(Scope), "scope")
        _one_of(self.clash, get_args(Clash), "clash")
        if self.window is not None:
            window = validation.duration(self.window, "window")
            if not window:
                raise ValidationError("window must be longer than 0 s; leave it out for scope=…")
            msgspec.structs.force_setattr(self, "window", window / SECOND)
        given: Any = self.fields
        if not isinstance(given, Iterable):
            raise ValidationError(f"fields must be {' or '.join(_FIELDS)}, or both in a list, not {given!r}")
        every: Iterable[Any] = given  # pyright: ignore[reportUnknownVariableType] - the edge
        fields = (every,) if isinstance(every, str) else tuple(every)
        for field in fields:
            _one_of(field, _FIELDS, "fields")
        if not fields:
            raise ValidationError("fields is empty, so replacing would do nothing; use clash='keep'")
        msgspec.structs.force_setattr(self, "fields", fields)

    @property
    def length(self) -> int:
        """The window in microseconds; 0 if there is none."""
        return 0 if self.window is None else validation.duration(self.window, "window")


def debounce(seconds: float | timedelta, key: Key | None = None) -> Unique:
    """Start once nothing more came for so many seconds, with the arguments that came last.

    Each further enqueue takes over the waiting task's arguments and puts its start off anew. One that comes
    while the task runs makes a new task.

    Raises:
        ValidationError: `seconds` is not positive, or the key is not acceptable.
    """
    delay = validation.duration(seconds, "debounce")
    if not delay:
        raise ValidationError("debounce must be longer than 0 s")
    return Unique(key, scope="waiting", clash="replace", delay=delay)


def throttle(seconds: float | timedelta, key: Key | None = None) -> Unique:
    """Take at most one task in so many seconds: the first one; those after it return its id.

    Raises:
        ValidationError: `seconds` is not positive, or the key is not acceptable.
    """
    if not validation.duration(seconds, "throttle"):
        raise ValidationError("throttle must be longer than 0 s")
    return Unique(key, window=seconds)


def unique(value: Any) -> Unique:
    """Uniqueness as a user gives it: a `Unique`, a key, a function of the arguments, or True.

    Raises:
        ValidationError: It is none of them.
    """
    if isinstance(value, Unique):
        return value
    if value is True:
        return Unique()
    return Unique(partition.key(value, "unique"))


def _one_of(value: object, known: tuple[str, ...], what: str) -> None:
    if value not in known:
        raise ValidationError(f"{what} must be one of {', '.join(known)}, not {value!r}")
