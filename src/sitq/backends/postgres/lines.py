"""The lines of a backend: which event loop has which."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

from sitq.backends.postgres.connection import Connection
from sitq.backends.postgres.line import Line, abandon

logger = logging.getLogger("sitq.backends.postgres")

USUAL: Final = ("place_plain", "start_plain", "settle_plain", "briefs_by_id", "tell")
"""What is called on a line."""

PAUSE: Final = 1.0
"""Seconds before another line is opened after one could not be."""


class Lines:
    """Up to so many lines, for whichever event loops ask first.

    A line is opened beside the work, and a loop that has none is no worse off than with threads alone.

    Args:
        connect: Makes a connection.
        most: How many there may be; none behind a pooler, whose sessions are not this process's own.
    """

    def __init__(self, connect: Callable[[], Connection], most: int) -> None:
        self.most = most
        self._connect = connect
        self._turn = threading.Lock()
        self._lines: tuple[Line, ...] = ()
        self._opening = 0
        self._coming: set[Connection] = set()
        """Connections that an event loop was told to adopt; it may end before it does."""
        self._again = 0.0
        self._closed = False
        self._process = os.getpid()

    def idle(self) -> Line | None:
        """An idle line of the running event loop, if it has one."""
        loop = asyncio.get_running_loop()
        for line in self._lines:
            if line.loop is loop and line.idle:
                return line
        if len(self._lines) + self._opening < self.most or any(line.loop.is_closed() for line in self._lines):
            self._open_soon(loop)
        return None

    def adopt(self, loop: asyncio.AbstractEventLoop, db: Connection) -> None:
        """Use a connection that is already there, in the loop that runs."""
        try:
            line = Line(loop, db, self._forget)
        except NotImplementedError:  # on Windows, with the loop that is the default there
            self.most = 0
            db.close()
            return
        with self._turn:
            self._lines = (*self._lines, line)
        if self._closed:
            line.retire()

    def close(self) -> list[Line]:
        """Close all lines, each once it has the answer to what it was asked; from any thread. Idempotent."""
        with self._turn:
            self._closed = True
            self.most = 0
            lines = self._lines
            coming = self._coming.copy()
            self._coming.clear()
        if os.getpid() == self._process:  # what a parent process opened is not the fork's to close
            for line in lines:
                abandon(line)
            for db in coming:
                db.close()
        return [*lines]

    def _forget(self, gone: Line) -> None:
        with self._turn:
            self._lines = tuple(line for line in self._lines if line is not gone)

    def _open_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._turn:
            left = [line for line in self._lines if line.loop.is_closed()]
            self._lines = tuple(line for line in self._lines if line not in left)
            if len(self._lines) + self._opening >= self.most or time.monotonic() < self._again:
                return
            self._opening += 1
        for line in left:
            line.abandon()
        threading.Thread(target=self._open, args=(loop,), name="sitq-postgres-line", daemon=True).start()

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            db = self._connect()
        except Exception as error:  # noqa: BLE001 - threads do the work, or say what is wrong
            logger.debug("no line could be opened: %s", error)
            self._again = time.monotonic() + PAUSE
            self._opened()
            return

        def adopt() -> None:
            self._opened()
            with self._turn:
                is_left = db in self._coming
                self._coming.discard(db)
            if is_left:
                self.adopt(loop, db)

        try:
            db.prepare(USUAL)
            with self._turn:
                if self._closed:
                    raise RuntimeError("the store was closed meanwhile")  # noqa: TRY301 - as if the loop were
                self._coming.add(db)
            loop.call_soon_threadsafe(adopt)
        except Exception as error:  # noqa: BLE001 - as above, or the loop is closed
            logger.debug("no line could be opened: %s", error)
            self._again = time.monotonic() + PAUSE
            self._opened()
            with self._turn:
                self._coming.discard(db)
            db.close()

    def _opened(self) -> None:
        with self._turn:
            self._opening -= 1
