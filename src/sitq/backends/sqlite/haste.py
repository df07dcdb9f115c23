"""Getting back the interpreter's lock soon, while a write transaction is open."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Generator
from typing import Final

INTERVAL: Final = 0.0001
"""Seconds after which a thread that computes gives way to the writer."""

_lock = threading.Lock()
_open = 0
_usual = 0.005


@contextlib.contextmanager
def haste() -> Generator[None]:
    """Let threads that compute give way sooner for as long as this lasts.

    Each step of a statement lets go of the interpreter's lock. A thread that computes has to be asked for it
    back, and CPython asks after `sys.getswitchinterval()`, 5 ms by default: with a dozen steps in a write
    transaction, one busy thread would keep every other process from writing for 60 ms.
    """
    begin()
    try:
        yield
    finally:
        end()


def begin() -> None:
    """Let threads that compute give way sooner until `end` is called as often as this, from any thread."""
    global _open, _usual  # noqa: PLW0603 - the interval is the process's own
    with _lock:
        if not _open:
            _usual = sys.getswitchinterval()
            sys.setswitchinterval(min(INTERVAL, _usual))
        _open += 1


def end() -> None:
    """Take one `begin` back."""
    global _open  # noqa: PLW0603 - as above
    with _lock:
        if not _open:  # it was begun in the parent of this fork
            return
        _open -= 1
        if not _open:
            sys.setswitchinterval(_usual)


def _forget() -> None:
    """In a forked child no thread of the parent goes on, in a transaction or outside."""
    global _lock, _open  # noqa: PLW0603 - as above
    _lock = threading.Lock()
    if _open:
        _open = 0
        sys.setswitchinterval(_usual)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
