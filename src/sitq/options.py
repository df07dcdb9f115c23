"""How a task is to be run, apart from what it is: validated once, spelt the same everywhere."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast, get_args

import msgspec

from sitq import functions, parents, validation
from sitq.exceptions import ValidationError
from sitq.fairness import Fair, fair
from sitq.keywords import Executor, WhenFull
from sitq.limits import AnyLimit, limits
from sitq.policy.retry import MOST_RETRIES, RetryPolicy
from sitq.record import Edge
from sitq.uniqueness import Unique, unique

INTERPRETERS: Final = (3, 14)
"""The first Python that has a pool of interpreters."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What `options(...)`, the decorators and `Task(...)` take besides the call itself.

    Attributes:
        id: The caller's own id; enqueuing it again while its record lives changes nothing.
        queue: The queue to wait in; by default that of the `TaskQueue`.
        priority: From -100 to 100; higher ones run first.
        eta: An aware datetime before which the task does not start.
        delay: Seconds before which it does not start, by the store's clock.
        ttl: Seconds after it became due in which it must start, or else it ends as `expired`.
        deadline: An aware datetime after which it is not started any more, for the first time or again.
            What a running task enqueues has that one's deadline, unless its own is earlier.
        timeout: Seconds that one attempt may take.
        retry: How many more times to run it when it raises, the delays between its runs, or a `RetryPolicy`.
        depends_on: What it waits for: ids, `Task` objects, handles, or `After` one of them.
        unique: At most one task of a key: text, a `Unique`, or True for its function and arguments.
        limits: Limits of rate and concurrency that it is under, see `RateLimit` and `ConcurrencyLimit`.
        fair: The tenant whose turn it takes: text or a `Fair`.
        max_length: Refused if so many tasks wait in its queue.
        when_full: `refuse`, or `wait`: the call then waits until there is room. By default as the `TaskQueue`
            says.
        result_ttl: Seconds that its record stays after it ended without a failure.
        executor: Where it runs: `async` (in the worker's event loop), `thread`, `process` or `interpreter`;
            by default async functions in the event loop and all others in a thread.
        tags: Labels for people; sitq does nothing with them.
        batch: The batch that it belongs to; `TaskQueue.batch` says it.
        given: The names of the options that were given; the others give way to those of the function.
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
    depends_on: tuple[Edge, ...] = ()
    unique: Unique | None = None
    limits: tuple[AnyLimit, ...] = ()
    fair: Fair | None = None
    max_length: int | None = None
    when_full: WhenFull | None = None
    result_ttl: int | None = None
    executor: Executor | None = None
    tags: tuple[str, ...] = ()
    batch: str | None = None
    given: frozenset[str] = frozenset()


NO_OPTIONS: Final = Options()


def make_options(base: Options, given: Mapping[str, Any]) -> Options:
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
    if clean.get("eta") is not None and clean.get("delay"):
        raise ValidationError("eta and delay both say when to start; give one of them")
    return _lay(base, clean)


def overlay(base: Options, over: Options) -> Options:
    """The options of a function with those of one call laid over them."""
    if not base.given or not over.given:
        return over if over.given else base
    return _lay(base, {name: getattr(over, name) for name in over.given})


def _lay(base: Options, clean: dict[str, Any]) -> Options:
    if clean.get("eta") is not None:  # the later word about the start counts
        clean.setdefault("delay", 0)
    elif clean.get("delay"):
        clean.setdefault("eta", None)
    options = msgspec.structs.replace(base, **clean, given=base.given.union(clean))
    if options.unique is not None and options.unique.delay and (options.delay or options.eta is not None):
        raise ValidationError("debounce says when to start; leave out eta and delay")
    return options


def _unknown(name: str) -> str:
    if name in _OF_FUNCTIONS:
        return f"{name} belongs to the function and not to one call; give it to @task({name}=…)"
    near = _ELSEWHERE.get(name) or next(
        iter(difflib.get_close_matches(name, (*_CHECKS, *_OF_FUNCTIONS), n=1)), None
    )
    hint = f"did you mean {near}?" if near else f"there are: {', '.join(sorted(_CHECKS))}"
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


def _tags(value: Iterable[str] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        raise ValidationError(f"tags must be a list of names, not the text {value!r}; write [{value!r}]")
    if not isinstance(value, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
        raise ValidationError(f"tags must be a list of names, not {value!r}; write ['name']")
    return tuple(validation.name(tag, "tag") for tag in value)


def _retry(value: Any) -> RetryPolicy:
    if isinstance(value, RetryPolicy):
        return value
    if isinstance(value, list | tuple):
        return RetryPolicy(delays=cast("Sequence[float]", value))
    return RetryPolicy(max_retries=validation.whole_number(value, "retry", MOST_RETRIES))


def _unique(value: Any) -> Unique | None:
    return None if value is False else unique(value)


def _executor(value: Any) -> Any:
    if value not in get_args(Executor):
        raise ValidationError(f"executor must be one of {', '.join(get_args(Executor))}, not {value!r}")
    if value == "interpreter" and sys.version_info < INTERPRETERS:
        raise ValidationError(
            f"executor='interpreter' needs Python {'.'.join(map(str, INTERPRETERS))}, and this is "
            f"{functions.python_version()}; use executor='process'"
        )
    return value


def max_length(value: Any) -> int:
    """How many tasks may wait in a queue."""
    return validation.positive_int(value, "max_length", _LONGEST_QUEUE)


def when_full(value: Any) -> WhenFull:
    """What to do when so many wait."""
    if value in get_args(WhenFull):
        return cast("WhenFull", value)
    raise ValidationError(f"when_full must be one of {', '.join(get_args(WhenFull))}, not {value!r}")


_LONGEST_QUEUE: Final = 1_000_000_000
_OF_FUNCTIONS: Final = ("name", "aliases")
_ELSEWHERE: Final = {
    "_defer_by": "delay",
    "_defer_until": "eta",
    "_expires": "ttl",
    "_job_id": "id",
    "_queue_name": "queue",
    "after": "depends_on",
    "at": "eta",
    "autoretry_for": "retry",
    "concurrency": "limits",
    "countdown": "delay",
    "default_retry_delay": "retry",
    "defer_by": "delay",
    "defer_until": "eta",
    "dependencies": "depends_on",
    "enqueue_at": "eta",
    "enqueue_in": "delay",
    "expires": "ttl",
    "idempotency_key": "unique",
    "in_": "delay",
    "job_id": "id",
    "job_key": "unique",
    "job_timeout": "timeout",
    "keep_result": "result_ttl",
    "labels": "tags",
    "lock": "unique",
    "max_age": "ttl",
    "max_attempts": "retry",
    "max_concurrency": "limits",
    "max_retries": "retry",
    "max_tries": "retry",
    "meta": "tags",
    "min_backoff": "retry",
    "pool": "executor",
    "queue_name": "queue",
    "queueing_lock": "unique",
    "rate_limit": "limits",
    "result_expires": "result_ttl",
    "retries": "retry",
    "retry_backoff": "retry",
    "run_at": "eta",
    "schedule_at": "eta",
    "soft_time_limit": "timeout",
    "task_id": "id",
    "tenant": "fair",
    "throttle": "limits",
    "time_limit": "timeout",
    "time_to_live": "ttl",
    "unique_key": "unique",
}
"""What other task queues call an option, where the letters do not lead to it."""
_OPTIONAL: Final = {
    *("id", "queue", "eta", "ttl", "deadline", "timeout", "retry", "unique", "fair", "max_length"),
    "when_full",
    *("result_ttl", "executor"),
}

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
    "depends_on": parents.edges_of,
    "unique": _unique,
    "limits": limits,
    "fair": fair,
    "max_length": max_length,
    "when_full": when_full,
    "result_ttl": _duration("result_ttl"),
    "executor": _executor,
    "tags": _tags,
}

OPTION_NAMES: Final = frozenset(_CHECKS)
"""What `options(...)` takes."""
