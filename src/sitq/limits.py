"""Limits that hold for the whole fleet: how many tasks start in a time, and how many run at once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

import msgspec

from sitq import partition, validation
from sitq.exceptions import ValidationError
from sitq.parameters import Rule
from sitq.partition import Key
from sitq.record import SECOND

_FASTEST: Final = 100_000
"""Starts a second: the spacing of starts is counted in whole microseconds, so faster rates would be wrong."""

_SLOW: Final = SECOND // 10
"""From so many microseconds between two starts on, a late one makes no difference."""

_LATE: Final = SECOND // 20
"""How late a start may come without a loss."""

_MOST: Final = 1_000_000_000
_MOST_LIMITS: Final = 16


class RateLimit(Rule, frozen=True):
    """At most so many starts in a time, evenly spaced, for all tasks of the same key in all workers.

    Retries count as starts. Of tasks that name the same key, the figures enqueued last hold.

    Attributes:
        rate: How many tasks may start in each `per`. 0 blocks, None lifts the limit.
        per: Seconds, or a timedelta.
        key: What is limited, such as `customer:42`, or a function of the task's arguments that returns it
            (None: no limit for that call). By default the function, or on a parameter the function with that
            argument.
        burst: How many may start at once after a quiet time. With 1 there are never more than `rate` starts
            in any `per`. By default it is 1 below ten starts a second, and above that as many more as make up
            for a start that comes 50 milliseconds late.
    """

    rate: int | None
    per: float | timedelta = 1.0
    key: Key | None = None
    burst: int | None = None

    def __post_init__(self) -> None:
        if self.rate is not None:
            _figure(self.rate, "the rate")
        per = validation.duration(self.per, "per")
        if not per:
            raise ValidationError("per must be longer than 0 s")
        if self.rate and self.rate * SECOND > per * _FASTEST:
            raise ValidationError(
                f"a rate of {self.rate} per {per / SECOND:g} s is too fast to be limited; "
                f"at most {_FASTEST:,} a second are, and None is no limit"
            )
        msgspec.structs.force_setattr(self, "per", per / SECOND)
        if self.key is not None:
            msgspec.structs.force_setattr(self, "key", partition.key(self.key, "a rate limit"))
        if self.burst is not None:
            validation.positive_int(self.burst, "burst", _MOST)

    @property
    def period(self) -> int:
        """`per` in microseconds."""
        return validation.duration(self.per, "per")

    @property
    def tolerance(self) -> int:
        """GCRA's burst: as given, or so many starts that one which comes late does not lose its place."""
        interval = self.period // self.rate if self.rate else 0
        if self.burst is not None or not 0 < interval < _SLOW:
            return self.burst or 1
        return 1 + max(1, _LATE // interval)


class ConcurrencyLimit(Rule, frozen=True):
    """At most so many tasks of the same key run at once in all workers.

    A slot is free again as soon as its task ended, and at the latest when the lease of a dead worker ran out.

    Attributes:
        slots: How many tasks may run. 0 blocks, None lifts the limit.
        key: As of a `RateLimit`.
    """

    slots: int | None
    key: Key | None = None

    def __post_init__(self) -> None:
        if self.slots is not None:
            _figure(self.slots, "the number of slots")
        if self.key is not None:
            msgspec.structs.force_setattr(self, "key", partition.key(self.key, "a concurrency limit"))


AnyLimit = RateLimit | ConcurrencyLimit


def limits(value: Any) -> tuple[AnyLimit, ...]:
    """A list of limits, or one alone.

    Raises:
        ValidationError: One of them is something else, or there are more than 16.
    """
    if isinstance(value, AnyLimit):
        return (value,)
    if value is None:
        return ()
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ValidationError(
            f"limits must be a list of limits, not {value!r}; write [RateLimit(100, per=60)]"
        )
    found: list[AnyLimit] = []
    for each in value:  # pyright: ignore[reportUnknownVariableType] - the edge
        if not isinstance(each, AnyLimit):
            raise ValidationError(
                f"a limit must be a RateLimit or a ConcurrencyLimit, not {each!r}; "
                f"write RateLimit(100, per=60) or ConcurrencyLimit(5)"
            )
        found.append(each)
    if len(found) > _MOST_LIMITS:
        raise ValidationError(f"there are {len(found)} limits; a task takes at most {_MOST_LIMITS}")
    return tuple(found)


def _figure(value: object, what: str) -> None:
    if isinstance(value, str):
        raise ValidationError(
            f"{what} must be a whole number, not {value!r}; RateLimit(10, per=60) is 10 in a minute"
        )
    if type(value) is not int or not 0 <= value <= _MOST:
        raise ValidationError(
            f"{what} must be a whole number up to {_MOST:,}, not {value!r}; 0 blocks, None lifts it"
        )
