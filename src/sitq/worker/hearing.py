"""Signals that are heard although the event loop is blocked."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sys
import threading
import time
from typing import Final

from sitq.worker.exits import Exit

_SOON: Final = 0.5
"""Seconds in which an event loop that runs has taken notice of a signal."""

_LAST: Final = 1.0
"""Seconds that it gets for the second one."""

logger = logging.getLogger("sitq.worker")


class Hearing:
    """A thread that notices when the event loop does not hear a signal, and at the second ends the process.

    For a process without a supervisor, which would kill one that does not listen.
    """

    def __init__(self) -> None:
        # Its `put` may be called in a signal handler, which a condition's lock could hang in.
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._noticed = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="sitq-signals", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._signals.put(0)

    def hear(self, count: int) -> None:
        """A signal came, the `count`th; in the signal handler."""
        self._signals.put(count)

    def notice(self, count: int) -> None:
        """The event loop has heard of it."""
        with self._changed:
            self._noticed = count
            self._changed.notify()

    def _run(self) -> None:
        first: float | None = None
        while count := self._signals.get():
            first = first or time.monotonic()
            since = first if not self._noticed else time.monotonic()
            if self._is_noticed(count, since + (_SOON if count == 1 else _LAST)):
                continue
            if count == 1:
                logger.warning(
                    "a signal came, but the event loop is blocked: "
                    "the worker stops when that ends, and at once at a second signal"
                )
            else:
                logger.warning(
                    "stopping at once, as a second signal came and the event loop is blocked: "
                    "running tasks start again when their leases have run out"
                )
                for stream in (sys.stdout, sys.stderr):
                    with contextlib.suppress(Exception):
                        stream.flush()
                os._exit(Exit.AT_ONCE)

    def _is_noticed(self, count: int, by: float) -> bool:
        with self._changed:
            return self._changed.wait_for(
                lambda: self._noticed >= count, timeout=max(0.0, by - time.monotonic())
            )
