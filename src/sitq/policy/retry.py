"""How often and how long after a failure a task runs again."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from sitq import validation
from sitq.exceptions import ValidationError
from sitq.record import SECOND

MOST_RETRIES = 10_000

DEFAULT_ASKED = 10
"""How many times `raise Retry` runs a task again that has no policy of its own."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a task that raised runs again. It travels with the task as data.

    Attributes:
        max_retries: How many more runs there are after the first one.
        backoff: How the delay grows from retry to retry: not at all, by `base`, or twofold.
        base: The first delay, in seconds.
        cap: The longest delay, in seconds.
        jitter: Whether the delay is drawn between half of it and all of it, so that tasks that failed
            together do not come back together ("equal jitter", Brooker 2015).
    """

    max_retries: int = 3
    backoff: Literal["fixed", "linear", "exponential"] = "exponential"
    base: float = 1.0
    cap: float = 3600.0
    jitter: bool = True

    def __post_init__(self) -> None:
        if type(self.max_retries) is not int or self.max_retries:
            validation.positive_int(self.max_retries, "max_retries", MOST_RETRIES)
        for name in ("base", "cap"):
            seconds = validation.duration(getattr(self, name), name) / SECOND
            msgspec.structs.force_setattr(self, name, seconds)
        if self.base > self.cap:
            raise ValidationError(
                f"base is {self.base:g} s, longer than the cap of {self.cap:g} s; raise cap, too"
            )
        if self.backoff not in ("fixed", "linear", "exponential"):
            raise ValidationError(f"backoff must be fixed, linear or exponential, not {self.backoff!r}")


def as_data(policy: RetryPolicy | None) -> dict[str, Any] | None:
    """The policy as plain data for a record."""
    return None if policy is None else msgspec.to_builtins(policy)


def from_data(data: dict[str, Any] | None) -> RetryPolicy | None:
    """The policy that a record carries; None, too, if this version of sitq cannot read it."""
    try:
        return None if data is None else msgspec.convert(data, RetryPolicy)
    except msgspec.ValidationError:
        return None


def next_delay(
    policy: RetryPolicy | None, failures: int, dice: Callable[[], float] = random.random
) -> int | None:
    """Microseconds until the next run after `failures` earlier retries, or None if there is none."""
    if policy is None or failures >= policy.max_retries:
        return None
    match policy.backoff:
        case "fixed":
            delay = policy.base
        case "linear":
            delay = policy.base * (failures + 1)
        case "exponential":
            delay = policy.base * 2.0 ** min(failures, 60)
    delay = min(delay, policy.cap)
    if policy.jitter:
        delay *= 0.5 + dice() / 2
    return round(delay * SECOND)
