"""How often and how long after a failure a task runs again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal, cast

import msgspec

from sitq import functions, validation
from sitq.exceptions import ValidationError
from sitq.policy import kinds
from sitq.record import SECOND

MOST_RETRIES = 10_000
MOST_DELAYS = 100
MOST_KINDS = 100

DEFAULT_RETRIES = 3
"""How many retries a policy has that does not say."""

DEFAULT_ASKED = 10
"""How many times `raise Retry` runs a task again that has no policy of its own."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a task that raised runs again. It travels with the task as data.

    Attributes:
        max_retries: How many more runs there are after the first one; by default 3, or as many as `delays`.
        backoff: How the delay grows from retry to retry: not at all, by `base`, or twofold.
        base: The first delay, in seconds.
        cap: The longest delay, in seconds.
        jitter: Whether the delay is drawn between half of it and all of it, so that tasks that failed
            together do not come back together ("equal jitter", Brooker 2015).
        delays: The delays themselves, in seconds, instead of `backoff`, `base` and `cap`; the last one is
            used again where there are more retries. They are not drawn unless `jitter` says so.
        retry_on: The exceptions to run again after, as classes or dotted names, subclasses included; all if
            left out. A group of exceptions is each of those in it, and a time-out is a `TimeoutError`.
        stop_on: The exceptions to give up after, even if `retry_on` names them, too.
        on_exhausted: The registered function that is enqueued, in the very step in which the task fails for
            good, with the task's id and its error as text; or its name. It waits in the task's queue.

    Raises:
        ValidationError: A value is not acceptable.
    """

    max_retries: int | None = None
    backoff: Literal["fixed", "linear", "exponential"] = "exponential"
    base: float = 1.0
    cap: float = 3600.0
    jitter: bool | None = None
    delays: Sequence[float] = ()
    retry_on: Sequence[type[BaseException] | str] | None = None
    stop_on: Sequence[type[BaseException] | str] = ()
    on_exhausted: Callable[[str, str], Any] | str | None = None

    def __post_init__(self) -> None:
        _set(self, delays=_delays(self.delays))
        _set(self, max_retries=_max_retries(self.max_retries, len(self.delays)))
        if self.jitter is None:
            _set(self, jitter=not self.delays)
        elif not isinstance(self.jitter, bool):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
            raise ValidationError(f"jitter must be True or False, not {self.jitter!r}")
        for name in ("base", "cap"):
            _set(self, **{name: validation.duration(getattr(self, name), name) / SECOND})
        if self.base > self.cap:
            raise ValidationError(
                f"base is {self.base:g} s, longer than the cap of {self.cap:g} s; raise cap, too"
            )
        if self.backoff not in ("fixed", "linear", "exponential"):
            raise ValidationError(f"backoff must be fixed, linear or exponential, not {self.backoff!r}")
        if self.retry_on is not None:
            _set(self, retry_on=_kinds(self.retry_on, "retry_on"))
        _set(self, stop_on=_kinds(self.stop_on, "stop_on"))
        if self.on_exhausted is not None:
            _set(self, on_exhausted=_registered(self.on_exhausted))


def _set(policy: RetryPolicy, **values: Any) -> None:
    for name, value in values.items():
        msgspec.structs.force_setattr(policy, name, value)


def _max_retries(given: int | None, delays: int) -> int:
    if given is None:
        return delays or DEFAULT_RETRIES
    return validation.whole_number(given, "max_retries", MOST_RETRIES)


def _delays(given: object) -> tuple[float, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ValidationError(f"delays must be a list of seconds, not {given!r}; write [{given!r}]")
    delays = tuple(validation.duration(each, "a delay") / SECOND for each in cast("Iterable[object]", given))
    if len(delays) > MOST_DELAYS:
        raise ValidationError(f"delays has {len(delays)} entries, more than {MOST_DELAYS}; use backoff")
    return delays


def _kinds(given: object, what: str) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ValidationError(f"{what} must be a list of exceptions, not {given!r}; put it into [ ]")
    found = tuple(kinds.checked(each, what) for each in cast("Iterable[object]", given))
    if len(found) > MOST_KINDS:
        raise ValidationError(f"{what} has {len(found)} entries, more than {MOST_KINDS}; name a common base")
    return found


def _registered(given: Callable[..., Any] | str) -> str:
    if isinstance(given, str):
        return validation.name(given, "name of the function on_exhausted")
    naming = functions.name_of(validation.function(given, "on_exhausted={}"))
    if not naming.registered or naming.by_value:
        raise ValidationError(
            f"on_exhausted is {naming.name}, which no worker finds by its name; decorate it with "
            f"@task(name=…), in a module that the workers import"
        )
    return naming.name


def as_data(policy: RetryPolicy | None) -> dict[str, Any] | None:
    """The policy as plain data for a record."""
    return None if policy is None else msgspec.to_builtins(policy)


def from_data(data: dict[str, Any] | None) -> RetryPolicy | None:
    """The policy that a record carries; None, too, if this version of sitq cannot read it."""
    if data is None:
        return None
    try:
        return RetryPolicy(**{name: value for name, value in data.items() if name in _FIELDS})
    except (ValidationError, TypeError):
        return None


_FIELDS: Final = frozenset(RetryPolicy.__struct_fields__)


def is_worth_it(policy: RetryPolicy | None, failed_with: Iterable[str]) -> bool:
    """Whether the policy lets a task run again after an exception.

    Args:
        policy: The task's policy.
        failed_with: The names of the exception's class and of its bases.
    """
    if policy is None or (policy.retry_on is None and not policy.stop_on):
        return True
    names = {*failed_with}
    if not names.isdisjoint(policy.stop_on):
        return False
    return policy.retry_on is None or not names.isdisjoint(policy.retry_on)


def next_delay(
    policy: RetryPolicy | None, failures: int, dice: Callable[[], float] = random.random
) -> int | None:
    """Microseconds until the next run after `failures` earlier retries, or None if there is none."""
    if policy is None or failures >= (policy.max_retries or 0):
        return None
    delay = _delay(policy, failures)
    if policy.jitter:
        delay *= 0.5 + dice() / 2
    return round(delay * SECOND)


def _delay(policy: RetryPolicy, failures: int) -> float:
    if policy.delays:
        return policy.delays[min(failures, len(policy.delays) - 1)]
    match policy.backoff:
        case "fixed":
            delay = policy.base
        case "linear":
            delay = policy.base * (failures + 1)
        case "exponential":
            delay = policy.base * 2.0 ** min(failures, 60)
    return min(delay, policy.cap)
