"""The reader: a thread with a connection of its own, so that reading never waits for writing."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any

from sitq.backends.sqlite.connection import Connection, patiently
from sitq.backends.sqlite.errors import translated
from sitq.exceptions import BackendError

Call = tuple[
    str,
    Callable[[Connection], Any],
    Callable[[Any, Exception | None], None],
    asyncio.AbstractEventLoop | None,
]


class Reader:
    """The thread, its connection, and its inbox."""

    def __init__(self, db: Connection, path: str) -> None:
        self.db = db
        self.path = path
        self._closed = False
        self._inbox: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sitq-sqlite-reader", daemon=True)
        self._thread.start()

    def submit(self, call: Call) -> None:
        """Have something read."""
        if self._closed:
            raise BackendError(f"the store in {self.path} is closed", operation=call[0])
        self._inbox.put(call)

    def stop(self, timeout: float | None = 10) -> None:
        """Do what is in the inbox, then end the thread. Idempotent."""
        if not self._closed:
            self._closed = True
            self._inbox.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while (call := self._inbox.get()) is not None:
                self._do(call)
        finally:
            self.db.close()

    def _do(self, call: Call) -> None:
        operation, action, answer, loop = call
        value, error = None, None
        try:
            value = patiently(lambda: action(self.db))
        except Exception as raised:  # noqa: BLE001 - it belongs to the caller
            error = translated(raised, self.path, operation)
        if loop is None:
            answer(value, error)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(answer, value, error)
