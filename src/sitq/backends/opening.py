"""Opening in a thread what somebody may stop waiting for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def opened(make: Callable[[], T], drop: Callable[[T], object]) -> T:
    """What a thread makes; it is dropped if the caller is cancelled before, even if the event loop ends then.

    Args:
        make: Makes it, in a thread.
        drop: Closes it, in a thread.
    """
    loop, turn = asyncio.get_running_loop(), threading.Lock()
    made: list[T] = []
    gone = False

    def run() -> T:
        one = make()
        with turn:
            made.append(one)
            left = gone
        if left:
            drop(one)
        return one

    opening = loop.run_in_executor(None, run)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_forget)
        with turn:
            gone = True
            left = [*made]
        for one in left:
            loop.run_in_executor(None, drop, one)
        raise


def _forget(opening: asyncio.Future[Any]) -> None:
    if not opening.cancelled():
        opening.exception()  # asyncio would complain that nobody has looked at it
