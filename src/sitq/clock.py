"""The clock of a store that lives on this host."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Answers with microseconds since the Unix epoch."""


def wall_clock() -> int:
    """The host's time of day in microseconds since the Unix epoch."""
    return time.time_ns() // 1000
