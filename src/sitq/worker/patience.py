"""Patience with a store that may never answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def within(seconds: float, awaitable: Awaitable[T], otherwise: T) -> T:
    """What comes of an awaitable within so many seconds, or else something else.

    It is cancelled then, and not waited for: it may not even end when it is cancelled.
    """
    task = asyncio.ensure_future(awaitable)
    try:
        done, _ = await asyncio.wait([task], timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if done:
        return task.result()
    task.cancel()
    task.add_done_callback(_forget)
    return otherwise


def _forget(task: asyncio.Future[T]) -> None:
    if not task.cancelled():
        task.exception()  # asyncio would complain that nobody has looked at it
