"""What callers give, checked once, at the edge.

Each function returns the clean value or raises `ValidationError` saying what is wrong with it and what to do.
Behind the edge, names are safe text and times are whole microseconds.
"""

import inspect
import math
import operator
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, SupportsIndex, TypeVar

from sitq.exceptions import ValidationError

__all__ = [
    "MAX_DURATION",
    "MAX_INSTANT",
    "backend",
    "duration",
    "function",
    "instant",
    "name",
    "positive_int",
    "priority",
    "reason",
    "serializer",
    "task_id",
    "timeout",
]

T = TypeVar("T")
B = TypeVar("B")

MAX_INSTANT = 253_402_300_799_999_999
"""The last microsecond of the year 9999 since 1970, UTC."""

MAX_DURATION = 7_800 * 31_557_600 * 1_000_000
"""7800 years in microseconds: added to any now of this century it stays before the year 10000."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LONGEST_NAME = 255
_LONGEST_ID = 128
_LONGEST_REASON = 1_000
_PRIORITY = 100
_STORE_METHODS = ("put", "take", "apply")


def name(value: object, what: str = "queue") -> str:
    """A name in NFC, of 1 to 255 bytes in UTF-8, all of its characters printable.

    Args:
        value: The name.
        what: What it names, for the message.
    """
    if type(value) is str and value.isascii() and value.isprintable() and 0 < len(value) <= _LONGEST_NAME:
        return value
    return _text(value, what, _LONGEST_NAME)


def task_id(value: object) -> str:
    """A caller's own task id: like a name, of at most 128 bytes."""
    if type(value) is str and value.isascii() and value.isprintable() and 0 < len(value) <= _LONGEST_ID:
        return value
    return _text(value, "task id", _LONGEST_ID)


def _text(value: object, what: str, longest: int) -> str:
    if not isinstance(value, str):
        hint = "; pass it as text, for example str(value)" if what == "task id" else ""
        if inspect.iscoroutine(value):
            hint = "; await the call first"
        raise ValidationError(f"the {what} must be text, not {_show(value)}{hint}")
    if not value:
        raise ValidationError(f"the {what} is empty; it needs 1 to {longest} bytes")
    # NFC makes text at most three times shorter; anything longer is refused before it costs time.
    text = str.__str__(value)
    if len(text) <= 3 * longest:
        text = unicodedata.normalize("NFC", text)
        for character in text:
            if not character.isprintable():
                raise ValidationError(
                    f"the {what} {_show(text)} contains {character!a}, which is not printable; "
                    f"use letters, digits, spaces and signs"
                )
        if len(text.encode()) <= longest:
            return text
    raise ValidationError(f"the {what} {_show(text)} is longer than {longest} bytes in UTF-8; shorten it")


def function(value: object, given: str = "enqueue({}, …)") -> Callable[..., Any]:
    """A function that a task can run: anything callable.

    Args:
        value: The function.
        given: How it is passed, for the message.
    """
    if callable(value):
        return value
    if inspect.iscoroutine(value):
        called = value.__qualname__
        value.close()  # it will never be awaited, and a warning about that would only distract
        raise ValidationError(
            f"the function is a coroutine; pass the function, not its call: "
            f"{given.format(called)} instead of {given.replace(', …', '').format(f'{called}(…)')}"
        )
    if inspect.isawaitable(value):
        raise ValidationError(
            f"the function is {_show(value)}, which is already running; pass the function, not its call"
        )
    if isinstance(value, str):
        raise ValidationError(
            f"the function is the text {_show(value)}; pass the function itself, not its name"
        )
    raise ValidationError(
        f"the function is {_show(value)}, which cannot be called; pass the function, not its call"
    )


def instant(value: object, what: str = "eta") -> int:
    """An aware datetime from 1970 to 9999 as microseconds since 1970, UTC.

    Args:
        value: The datetime, in any time zone.
        what: Its name, for the message.
    """
    if not isinstance(value, datetime):
        hint = "; pass datetime.now(UTC) + timedelta(seconds=…), or use delay=" if _is_number(value) else ""
        raise ValidationError(f"{what} must be an aware datetime, not {_show(value)}{hint}")
    try:
        aware = value.utcoffset() is not None
        microseconds = (value - _EPOCH) // _MICROSECOND if aware else 0
    except Exception as error:
        raise ValidationError(f"{what} has a time zone that cannot tell its offset: {error!r}") from error
    if not aware:
        raise ValidationError(
            f"{what} {value.isoformat()} has no time zone; use datetime.now(UTC), "
            f"or give it one with .replace(tzinfo=UTC) or .astimezone()"
        )
    if not 0 <= microseconds <= MAX_INSTANT:
        raise ValidationError(f"{what} {value.isoformat()} is outside of the years 1970 to 9999, UTC")
    return microseconds


def duration(value: object, what: str) -> int:
    """Seconds or a timedelta, finite and not negative, as microseconds.

    Args:
        value: The duration; at most 7800 years.
        what: Its name, for the message.
    """
    if isinstance(value, float):
        if 0 <= value <= MAX_DURATION / 1_000_000:  # false for NaN
            return round(value * 1_000_000)
    elif isinstance(value, timedelta):
        if timedelta(0) <= value <= _LONGEST:
            return value // _MICROSECOND
    elif isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value <= MAX_DURATION // 1_000_000:
            return int(value) * 1_000_000
    else:
        raise ValidationError(f"{what} must be a number of seconds or a timedelta, not {_show(value)}")
    raise ValidationError(f"{what} must be finite, not negative and at most 7800 years, not {_show(value)}")


_LONGEST = timedelta(microseconds=MAX_DURATION)


def timeout(value: object, what: str = "timeout") -> float | None:
    """A duration as seconds, or None for no limit."""
    if value is None:
        return None
    if isinstance(value, float) and value == math.inf:
        raise ValidationError(f"{what} is infinite; use None for no limit")
    return duration(value, what) / 1_000_000


def priority(value: object) -> int:
    """A whole number from -100 to 100; higher ones run first."""
    number = _whole(value, "priority")
    if -_PRIORITY <= number <= _PRIORITY:
        return number
    raise ValidationError(f"priority must be from -{_PRIORITY} to {_PRIORITY}, not {_show(value)}")


def reason(value: object) -> str:
    """Why somebody did something, in at most 1,000 characters."""
    if not isinstance(value, str):
        raise ValidationError(f"reason must be text, not {type(value).__name__}")
    if len(value) > _LONGEST_REASON:
        raise ValidationError(f"reason has {len(value):,} characters; at most {_LONGEST_REASON:,} are kept")
    return value.encode("utf-8", "backslashreplace").decode()


def positive_int(value: object, what: str, most: int) -> int:
    """A whole number from 1 to `most`."""
    return whole_number(value, what, most, least=1)


def whole_number(value: object, what: str, most: int, *, least: int = 0) -> int:
    """A whole number from `least` to `most`."""
    number = _whole(value, what)
    if least <= number <= most:
        return number
    raise ValidationError(f"{what} must be from {least} to {most}, not {_show(value)}")


def instance(value: object, kind: type[T], what: str) -> T:
    """An object of a class."""
    if isinstance(value, kind):
        return value
    raise ValidationError(f"{what} must be a {kind.__name__}, not {_show(value)}; write {kind.__name__}(…)")


def backend(value: B) -> B:
    """A backend, opened or not; what is plainly something else is refused with a hint."""
    if isinstance(value, str):
        if "://" in value:
            # The URL may hold a password, so it is not repeated.
            raise ValidationError("a backend is needed, not a URL; open the URL with TaskQueue(url)")
        if "=" in value:  # as above
            raise ValidationError(
                "a backend is needed, not a conninfo or the like; TaskQueue takes a URL, and "
                "PostgresBackend(conninfo) libpq's key=value pairs"
            )
        raise ValidationError(
            f"a backend is needed, not the text {_show(value)}; "
            f"a file is opened with SQLiteBackend({_show(value)}), "
            f"a queue's name goes to TaskQueue(backend, queue=…) or .options(queue=…)"
        )
    if isinstance(value, type):
        raise ValidationError(f"a backend is needed, not its class; pass {value.__name__}(…)")
    inner = getattr(value, "backend", None)
    if inner is not None:
        raise ValidationError(f"a backend is needed, not {_show(value)}; pass its .backend")
    missing = [method for method in _STORE_METHODS if not hasattr(value, method)]
    if missing:
        raise ValidationError(
            f"a backend is needed, such as SQLiteBackend('tasks.db'), not {_show(value)}, "
            f"which has no {' and no '.join(missing)}"
        )
    return value


def serializer(value: B) -> B:
    """A serializer; a queue's name in its place is told where it belongs."""
    if isinstance(value, str):
        raise ValidationError(
            f"a serializer is needed, not the text {_show(value)}; the name of a queue goes to queue=…"
        )
    if isinstance(value, type) or not (hasattr(value, "dumps") and hasattr(value, "loads")):
        kind = value.__name__ if isinstance(value, type) else _show(value)
        raise ValidationError(
            f"a serializer is needed, with dumps() and loads(), such as JSONSerializer(), not {kind}"
        )
    return value


def _whole(value: object, what: str) -> int:
    if type(value) is int:
        return value
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        return int(operator.index(value))
    raise ValidationError(f"{what} must be a whole number, not {_show(value)}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _show(value: object) -> str:
    """The value if it is short and plain, else its type; ASCII, since it may be what made it unacceptable."""
    if isinstance(value, str):
        text = str.__str__(value)
        return ascii(text if len(text) <= 64 else text[:64] + "...")  # noqa: PLR2004 - enough to recognise it
    if value is None or type(value) in (bool, float):
        return repr(value)
    if type(value) is int:
        return repr(value) if value.bit_length() <= 64 else f"a number of {value.bit_length()} bits"  # noqa: PLR2004
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g} s"
    kind = type(value).__qualname__
    return f"{'an' if kind[:1] in 'aeiouAEIOU' else 'a'} {kind}"
