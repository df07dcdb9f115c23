"""The checkpointer: moves the write-ahead log into the database beside the commits, not within them."""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Final, Literal

from sitq.backends.sqlite.connection import Connection

PAGES: Final = 1000
"""About how many pages a process writes between two checkpoints: 4 MiB of log."""


class Checkpointer:
    """A thread that checkpoints after so many pages were written, on a connection of its own.

    While others go on writing, such a checkpoint never catches up with them. So the writer is asked to do the
    small rest between two transactions: then the log starts anew in the room that its file has. A commit that
    makes the file longer takes half as long again, since the file system's journal has to be written for it.
    """

    def __init__(self, connect: Callable[[], Connection], restart: Callable[[], None]) -> None:
        self._connect = connect
        self._restart = restart
        self._pages = 0
        self._waits = False
        self._thread: threading.Thread | None = None
        self._inbox: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def wrote(self, rows: int) -> None:
        """A transaction that changed so many rows was committed. Called by the writer's thread."""
        self._pages += 6 + rows // 3
        if self._pages < PAGES or self._waits:
            return
        self._pages = 0
        self._waits = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sitq-sqlite-checkpoint", daemon=True)
            self._thread.start()
        self._inbox.put("checkpoint")

    def stop(self, timeout: float | None = 5) -> None:
        """End the thread. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._inbox.put(None)
            if threading.current_thread() is not thread:
                thread.join(timeout)

    def _run(self) -> None:
        try:
            db = self._connect()
        except (sqlite3.Error, OSError):
            self._thread, self._waits = None, False  # the next commits try again
            return
        with contextlib.closing(db):
            while self._inbox.get():
                self._waits = False
                checkpoint(db, "PASSIVE")
                self._restart()


def checkpoint(db: Connection, mode: Literal["PASSIVE", "RESTART"]) -> None:
    """Checkpoint once, as far as that goes without waiting for anybody."""
    with contextlib.suppress(sqlite3.Error):  # busy, or a full disk: the log waits
        db.raw.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
