"""Instants: the clock of a store that lives on this host, and how users see them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], int]
"""Answers with microseconds since the Unix epoch."""


def wall_clock() -> int:
    """The host's time of day in microseconds since the Unix epoch."""
    return time.time_ns() // 1000


def moment(instant: int) -> datetime:
    """Microseconds since 1970 as an aware datetime in UTC."""
    return datetime.fromtimestamp(instant / 1_000_000, UTC)


def as_datetime(instant: int | None) -> datetime | None:
    """The same, of an instant that may be unknown."""
    return None if instant is None else moment(instant)
