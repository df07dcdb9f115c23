"""What a running task raises to say how it is to go on.

A signal is an instruction and no error, hence no `SitqError`: `except SitqError` around a call of a queue
inside a task must not swallow it. It is an `Exception` all the same, so that `finally`, context managers and
executors treat it like any other way out of a function; code with a broad `except Exception` has to let
`Signal` pass.
"""

from datetime import timedelta

from sitq import validation
from sitq.exceptions import ValidationError

__all__ = ["Cancel", "Retry", "Signal", "Snooze", "Throttled"]


class Signal(Exception):
    """What every signal is."""


class Retry(Signal):
    """Run the task again, using one retry of its budget.

    Args:
        after: Seconds until then; by default what the task's retry policy says.
        reason: Why, for the record of the attempt.

    Raises:
        ValidationError: `after` is negative or not finite.
    """

    def __init__(self, after: float | timedelta | None = None, reason: str = "") -> None:
        super().__init__(after, reason)
        self.after = None if after is None else _seconds(after, "after")
        self.reason = _text(reason)

    def __str__(self) -> str:
        return self.reason or ("retry" if self.after is None else f"retry after {self.after:g} s")


class Snooze(Signal):
    """Run the task again later, without using its retry budget.

    Args:
        seconds: Time until then.

    Raises:
        ValidationError: `seconds` is negative or not finite.
    """

    def __init__(self, seconds: float | timedelta) -> None:
        super().__init__(seconds)
        self.seconds = _seconds(seconds, "seconds")

    def __str__(self) -> str:
        return f"snooze for {self.seconds:g} s"


class Cancel(Signal):
    """End the task as cancelled.

    Args:
        reason: Why, for its record.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = _text(reason)

    def __str__(self) -> str:
        return self.reason or "cancelled by itself"


class Throttled(Signal):
    """Run the task again later and hold back all tasks under the same limit key until then.

    Uses no retry budget.

    Args:
        retry_after: Seconds until then.
        key: The limit key to hold back; by default the one of the task's first limit. A task without limits
            holds back only itself.

    Raises:
        ValidationError: `retry_after` is negative or not finite, or the key is no name.
    """

    def __init__(self, retry_after: float | timedelta, key: str | None = None) -> None:
        super().__init__(retry_after, key)
        self.retry_after = _seconds(retry_after, "retry_after")
        self.key = None if key is None else validation.name(key, "limit key")

    def __str__(self) -> str:
        return f"throttled for {self.retry_after:g} s"


def _seconds(value: float | timedelta, what: str) -> float:
    return validation.duration(value, what) / 1_000_000


def _text(reason: object) -> str:
    if isinstance(reason, str):
        return reason
    raise ValidationError(f"reason must be text, not {type(reason).__name__}")
