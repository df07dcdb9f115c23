"""The options as keywords, for type checkers and editors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal, TypedDict

from sitq.fairness import Fair
from sitq.limits import AnyLimit
from sitq.parents import Parent
from sitq.policy.retry import RetryPolicy
from sitq.uniqueness import Unique

Seconds = float | timedelta
"""A duration, as seconds or as a timedelta."""

Executor = Literal["async", "thread", "process", "interpreter"]
"""Where a task runs."""

WhenFull = Literal["refuse", "wait"]
"""What an enqueue into a full queue does: it raises `QueueFullError`, or waits until there is room."""


class FunctionOptions(TypedDict, total=False):
    """What the decorators take: options for all tasks of a function."""

    queue: str | None
    priority: int
    eta: datetime | None
    delay: Seconds
    ttl: Seconds | None
    deadline: datetime | None
    timeout: Seconds | None
    retry: int | Sequence[Seconds] | RetryPolicy | None
    unique: str | bool | Unique | Callable[..., object] | None
    limits: AnyLimit | Iterable[AnyLimit] | None
    fair: str | Fair | Callable[..., object] | None
    max_length: int | None
    when_full: WhenFull | None
    result_ttl: Seconds | None
    executor: Executor | None
    tags: Iterable[str] | None


class GivenOptions(FunctionOptions, total=False):
    """What `options(…)` and `Task(…)` take."""

    id: str | None
    depends_on: str | Parent | Iterable[str | Parent] | None
