"""Races of workers for what becomes startable at a known instant, such as the next start that a rate allows.

All workers learn the same instant. Whoever comes too late keeps back a little longer each time, so that few
workers serve a rate and the others look in now and then.
"""

from __future__ import annotations

from typing import Final

_FIRST: Final = 0.01
_LONGEST: Final = 0.1
_FAR: Final = 1_000_000


def keep_back(seconds: float, *, found: bool, promised: int | None, now: int, following: int | None) -> float:
    """How many seconds at most a worker comes later than the next instant that it knows.

    Args:
        seconds: What it was until now.
        found: Whether the last claim found something.
        promised: The instant that the claim before it had named.
        now: When the last claim was.
        following: The instant that it named.
    """
    if found or following is None or following - now > _FAR:
        return 0.0
    if promised is None or now < promised:
        return seconds
    return min(max(2 * seconds, _FIRST), _LONGEST)
