"""How a task is to be run, apart from what it is: validated once, spelt the same everywhere."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from sitq import validation
from sitq.exceptions import ValidationError
from sitq.policy.retry import MOST_RETRIES, RetryPolicy

Seconds = float | timedelta
"""A duration, as seconds or as a timedelta."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What `options(...)` and `Task(...)` take besides the call itself.

    Attributes:
        id: The caller's own id; enqueuing it again while its record lives changes nothing.
        queue: The queue to wait in; by default that of the `TaskQueue`.
        priority: From -100 to 100; higher ones run first.
        eta: An aware datetime before which the task does not start.
        delay: Seconds before which it does not start, by the store's clock.
        ttl: Seconds after it became due in which it must start, or else it ends as `expired`.
        deadline: An aware datetime after which it is not started any more, for the first time or again.
        timeout: Seconds that one attempt may take.
        retry: How many more times to run it when it raises, or a `RetryPolicy`.
        result_ttl: Seconds that its record stays after it ended without a failure.
        tags: Labels for people; sitq does nothing with them.
    """

    id: str | None = None
    queue: str | None = None
    priority: int = 0
    eta: int | None = None
    delay: int = 0
    ttl: int | None = None
    deadline: int | None = None
    timeout: int | None = None
    retry: RetryPolicy | None = None
    result_ttl: int | None = None
    tags: tuple[str, ...] = ()


NO_OPTIONS: Final = Options()


def make_options(base: Options, given: dict[str, Any]) -> Options:
    """The options with those given by name laid over them.

    Raises:
        ValidationError: An option is unknown (the nearest one is named) or its value is not acceptable.
    """
    if not given:
        return base
    clean: dict[str, Any] = {}
    for name, value in given.items():
        check = _CHECKS.get(name)
        if check is None:
            raise ValidationError(_unknown(name))
        clean[name] = None if value is None and name in _OPTIONAL else check(value)
    options = msgspec.structs.replace(base, **clean)
    if options.eta is not None and options.delay:
        raise ValidationError("eta and delay both say when to start; give one of them")
    return options


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, _CHECKS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(_CHECKS))}"
    return f"there is no option {name!r}; {hint}"


def _duration(what: str) -> Callable[[Any], int]:
    return lambda value: validation.duration(value, what)


def _positive_duration(what: str) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        length = validation.duration(value, what)
        if not length:
            raise ValidationError(f"{what} must be longer than 0 s; leave it out for no limit")
        return length

    return check


def _instant(what: str) -> Callable[[Any], int]:
    def check(value: datetime) -> int:
        return validation.instant(value, what)

    return check


def _tags(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise ValidationError(f"tags must be a list of names, not the text {value!r}; write [{value!r}]")
    if not isinstance(value, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
        raise ValidationError(f"tags must be a list of names, not {value!r}")
    return tuple(validation.name(tag, "tag") for tag in value)


def _retry(value: Any) -> RetryPolicy:
    if isinstance(value, RetryPolicy):
        return value
    if type(value) is int and value == 0:
        return RetryPolicy(max_retries=0)
    return RetryPolicy(max_retries=validation.positive_int(value, "retry", MOST_RETRIES))


_OPTIONAL: Final = {"id", "queue", "eta", "ttl", "deadline", "timeout", "retry", "result_ttl"}

_CHECKS: Final[dict[str, Callable[[Any], Any]]] = {
    "id": validation.task_id,
    "queue": validation.name,
    "priority": validation.priority,
    "eta": _instant("eta"),
    "delay": _duration("delay"),
    "ttl": _positive_duration("ttl"),
    "deadline": _instant("deadline"),
    "timeout": _positive_duration("timeout"),
    "retry": _retry,
    "result_ttl": _duration("result_ttl"),
    "tags": _tags,
}
