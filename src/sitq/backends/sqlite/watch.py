"""The watch: notices what other processes commit to the file, for those who listen in this one.

Whoever commits something that others wait for opens the log file afterwards (`ring`), and Linux tells of it
(inotify). Elsewhere the version of the database is asked for, often after something happened and rarely when
nothing does. Both only say that something was committed.

The writes of a commit would tell too much and too early: there are dozens, and what they say is visible only
when the last of them has been synchronised. Touching a file would cost the next commit a write of the file
system's journal (100 µs with ext4); and the database itself must not be opened, as closing a file takes the
process's locks on it away.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

IN_OPEN: Final = 0x20
PAUSE: Final = 0.002
"""Seconds after a wake-up in which there is no other: a busy store would keep its listeners busy, too."""

SOON: Final = 0.001
LATE: Final = 0.05


def ring(path: str) -> None:
    """Tell those who watch the file, here and in other processes, that there is news."""
    with contextlib.suppress(OSError):  # a hint
        os.close(os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)))


class Inotify:
    """Tells when one file is opened.

    Raises:
        OSError: The system has no inotify, or has no more of it to give.
    """

    def __init__(self, path: str) -> None:
        if not sys.platform.startswith("linux"):
            raise OSError("there is no inotify")
        libc = ctypes.CDLL(None, use_errno=True)
        self.file = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.file < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        if libc.inotify_add_watch(self.file, os.fsencode(path), IN_OPEN) < 0:
            error = ctypes.get_errno()
            os.close(self.file)
            raise OSError(error, "inotify_add_watch")

    def drain(self) -> None:
        """Forget what has been told."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.file, 65536):
                pass

    def close(self) -> None:
        """Stop telling."""
        os.close(self.file)


class Watch:
    """A thread that looks for foreign commits while somebody listens."""

    def __init__(
        self, path: str, foreign: Callable[[], bool], tell: Callable[[], None], quiet: Callable[[], bool]
    ) -> None:
        """Start the thread.

        Args:
            path: The write-ahead log.
            foreign: Says whether another process committed since it was last asked.
            tell: Wakes whoever listens.
            quiet: Says whether nobody listens.
        """
        self._foreign = foreign
        self._tell = tell
        self._quiet = quiet
        self._closed = False
        self._wake_reader, self._wake_writer = (
            os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        )
        try:
            target = partial(self._sleep, Inotify(path))
        except OSError:
            target = partial(self._poll)
        self._thread = threading.Thread(target=target, name="sitq-sqlite-watch", daemon=True)
        self._thread.start()

    def stop(self, timeout: float | None = 2) -> None:
        """End the thread. Idempotent."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):
            os.write(self._wake_writer, b"x")
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        if (
            not self._thread.is_alive()
        ):  # not in the thread: a number that is free again may be another file's
            os.close(self._wake_reader)
            os.close(self._wake_writer)

    def listen(self) -> None:
        """Somebody listens: look at once, whatever was going on before."""
        if self._closed:
            return
        with contextlib.suppress(OSError):
            os.write(self._wake_writer, b"x")

    def _sleep(self, bell: Inotify) -> None:
        events = select.poll()
        events.register(bell.file, select.POLLIN)
        events.register(self._wake_reader, select.POLLIN)
        try:
            while not self._closed:
                if self._quiet():
                    select.select([self._wake_reader], [], [])
                else:
                    events.poll()
                bell.drain()
                self._forget_wakes()
                if self._look():
                    time.sleep(PAUSE)
        finally:
            bell.close()

    def _poll(self) -> None:
        pause = SOON
        while not self._closed:
            ready, _, _ = select.select([self._wake_reader], [], [], 3600 if self._quiet() else pause)
            if ready:
                self._forget_wakes()
            pause = SOON if self._look() or ready else min(pause * 1.5, LATE)

    def _look(self) -> bool:
        if self._closed or self._quiet():
            return False
        try:
            found = self._foreign()
        except sqlite3.Error:  # the writer will meet it too, and tell its callers
            return False
        if found:
            self._tell()
        return found

    def _forget_wakes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_reader, 4096)
