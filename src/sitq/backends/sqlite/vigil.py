"""The vigil: notices when a user's transaction ends that has placed tasks, and tells those who wait for them.

The user commits without a word to sitq, and nothing would open the log file so that others notice (see
`watch`). While such a transaction is open nobody else can commit. So a look at the version of the database
shows its commit, and a write lock that can be had shows that it has ended without one.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import Final

from sitq.backends.sqlite.connection import Connection

SOON: Final = 0.001
"""Seconds between the first looks: most commit as soon as they have enqueued."""

LATE: Final = 0.02


class Vigil:
    """A thread with a connection of its own, which rests while no transaction is open."""

    def __init__(self, db: Connection, tell: Callable[[], None]) -> None:
        """Start the thread; `tell` wakes whoever listens, here and in other processes."""
        self._db = db
        self._tell = tell
        self._turn = threading.Lock()
        self._seen = 0
        self._open = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sitq-sqlite-vigil", daemon=True)
        self._thread.start()

    def expect(self) -> None:
        """Watch for the end of the transaction that holds the write lock now."""
        with self._turn:
            if not self._open.is_set():
                self._seen = self._version()
                self._open.set()

    def stop(self, timeout: float | None = 2) -> None:
        """End the thread, whatever is open. Idempotent."""
        self._closed.set()
        self._open.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while self._open.wait() and not self._closed.is_set():
                pause = SOON
                while not self._look() and not self._closed.wait(pause):
                    pause = min(pause * 1.1, LATE)
        finally:
            self._db.close()

    def _look(self) -> bool:
        """Tell of a commit if there was one; whether no transaction is open any more."""
        with self._turn:
            over = self._can_lock()
            try:
                version = self._version()
            except sqlite3.Error:  # the file is just being recovered by another process
                return False
            changed, self._seen = version != self._seen, version
            if over:
                # A stop during this look is not to be hidden by it.
                self._open.clear()
                if self._closed.is_set():
                    self._open.set()
        if changed:
            self._tell()
        return over

    def _version(self) -> int:
        version: int = self._db.raw.execute("PRAGMA data_version").fetchone()[0]
        return version

    def _can_lock(self) -> bool:
        try:
            self._db.raw.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:
            return False
        self._db.rollback()
        return True
