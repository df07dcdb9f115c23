"""The signals that stop a process."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Generator
from types import FrameType
from typing import Final

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def stop_signals(hear: Callable[[int], None]) -> Generator[None]:
    """Count SIGINT and SIGTERM together, and tell `hear` the number of each.

    `hear` runs in the signal handler: it may leave the process or hand on to the event loop, no more.
    This is no `loop.add_signal_handler`, as a blocked event loop would never call that.
    """
    count = 0

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        hear(count)

    before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
