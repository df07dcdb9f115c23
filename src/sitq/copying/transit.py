"""The queues of tasks on their way: nobody serves them, and no user can name one."""

from __future__ import annotations

from typing import Final

_SIGN: Final = "\x1ecopying/"
"""Begins with a character that no name of a queue may have."""


def aside(run: str, queue: str) -> str:
    """Where a task of this queue waits while it is moved by a run."""
    return f"{_SIGN}{run}/{queue}"


def is_aside(queue: str, run: str | None = None) -> bool:
    """Whether tasks of this queue are on their way, by a certain run or by any."""
    return queue.startswith(_SIGN if run is None else f"{_SIGN}{run}/")


def home(queue: str) -> str:
    """The queue that a task is really of."""
    return queue.removeprefix(_SIGN).partition("/")[2] if is_aside(queue) else queue
