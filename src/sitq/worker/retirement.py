"""When a worker has done its part and ends, so that a fresh process takes its place."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sitq import validation
from sitq.exceptions import ValidationError

_BETWEEN: Final = 0.5
"""Seconds between two looks at the memory."""

_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt]i?)?b?)?\s*", re.IGNORECASE)
_UNITS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_LARGEST: Final = 1 << 60


def size(given: object, what: str) -> int:
    """Bytes: a whole number of them, or text such as `200MiB`, `200MB` or `1.5 GiB`.

    Raises:
        ValidationError: It is no such size, or none at all.
    """
    if not isinstance(given, str):
        return validation.positive_int(given, what, _LARGEST)
    found = _SIZE.fullmatch(given)
    if found is None:
        raise ValidationError(
            f"{what} must be a size such as 200MiB, 1.5GB or a number of bytes, not {given!r}"
        )
    unit = (found[2] or "").lower()
    base = 1024 if unit.endswith("i") else 1000
    return validation.positive_int(round(float(found[1]) * base ** _UNITS[unit[:1]]), what, _LARGEST)


def resident() -> int:
    """Bytes of memory that this process occupies; where the system does not tell, the most it ever did."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        import resource  # noqa: PLC0415 - not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


class Retirement:
    """Counts what a worker claims, and looks at its memory now and then.

    Args:
        tasks: It ends when it has claimed so many.
        memory: It ends when its process occupies more bytes than that and it has claimed something.
        occupied: Answers with the bytes.
        clock: Answers with seconds.

    Attributes:
        why: The reason, once there is one.
    """

    def __init__(
        self,
        tasks: int | None,
        memory: int | None,
        occupied: Callable[[], int] = resident,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tasks = tasks
        self._memory = memory
        self._occupied = occupied
        self._clock = clock
        self._claimed = 0
        self._looked = float("-inf")
        self.why = ""

    def claimed(self, count: int) -> None:
        """So many tasks were claimed."""
        self._claimed += count

    def left(self, free: int) -> int:
        """How many of so many may still be claimed; none once there is a reason to end."""
        if self._tasks is not None:
            free = min(free, self._tasks - self._claimed)
            if self._claimed >= self._tasks:
                self.why = f"it has claimed {self._claimed:,} tasks"
        if self._memory is not None and self._claimed and not self.why:
            self._look(self._memory)
        return 0 if self.why else free

    def _look(self, memory: int) -> None:
        now = self._clock()
        if now - self._looked < _BETWEEN:
            return
        self._looked = now
        occupied = self._occupied()
        if occupied > memory:
            self.why = f"it occupies {occupied >> 20:,} MiB of memory"
