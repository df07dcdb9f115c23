"""The tasks that are run: on sitq and on the raw stores the same functions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from bench import tally

IO_SECONDS: Final = 0.01


async def noop() -> int:
    """Do nothing but be counted."""
    tally.here().tick()
    return 1


async def take(value: int) -> int:
    """Do nothing with the value of another task."""
    tally.here().tick()
    return value


async def io() -> int:
    """Wait for 10 ms, as for a server's answer."""
    counts = tally.here()
    counts.start()
    await asyncio.sleep(IO_SECONDS)
    counts.end()
    return 1


Body = Callable[[], Awaitable[int]]

BODIES: Final[dict[str, Body]] = {"noop": noop, "io": io}
