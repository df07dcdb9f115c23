"""Notices, from a thread, that the event loop does not run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Mapping
from typing import Final

from sitq import context
from sitq.worker.run import Run

LOOK: Final = 1.0
"""Seconds between two looks."""

_BLOCKED: Final = 1.0
"""Seconds without an answer of the event loop that are worth a warning."""

_HELD_UP: Final = 3.0
"""Seconds between two looks after which the looking thread did not run either, so nothing is known."""

_MOST: Final = 3
"""So many tasks are named, where it is not known which one it is."""

# pyright: reportPrivateUsage=false
# There is no other way to see where a thread is than `sys._current_frames`.

logger = logging.getLogger("sitq.worker")


class LoopWatch:
    """Watches the event loop that it is made in. Warns once for each time that it is blocked.

    Args:
        runs: What runs there.
    """

    def __init__(self, runs: Mapping[str, Run]) -> None:
        self._runs = runs
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._asked: float | None = None
        self._looked = time.monotonic()
        self._warned = False

    def look(self) -> None:
        """Ask it for a sign of life, or warn that it owes one; in a thread, every second or so."""
        now = time.monotonic()
        held_up, self._looked = now - self._looked > _HELD_UP, now
        asked = self._asked
        if asked is None:
            self._asked = now
            with contextlib.suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(self._answer)
        elif held_up and not self._warned:
            self._asked = now
        elif now - asked >= _BLOCKED and not self._warned:
            self._warned = True
            logger.warning(
                "the event loop has been blocked for %.1f s; running: %s; "
                "what blocks belongs into a plain function, which runs in a thread",
                now - asked,
                self._running(),
            )

    def _answer(self) -> None:
        asked, self._asked = self._asked, None
        if self._warned:
            self._warned = False
            logger.info("the event loop runs again, after %.1f s", time.monotonic() - (asked or 0))

    def _running(self) -> str:
        """What it is at, with the line of code."""
        task = asyncio.current_task(self._loop)
        runs = [run for run in list(self._runs.values()) if run.thread is None]
        found = [run.context for run in runs if task is not None and run.task is task]
        if not found and task is not None and sys.version_info >= (3, 12):
            inner = task.get_context().get(context.current)  # an asyncio task that a task of ours began
            found = [] if inner is None else [inner]
        # Without a name for it any of them may be it.
        names = [f"task {each.id} of {each.name}" for each in found or [run.context for run in runs]]
        name = " or ".join([*names[:_MOST], *["others"] * (len(names) > _MOST)]) or "no task"
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - there is no other way to see it
        return name if frame is None else f"{name}, at {frame.f_code.co_filename}:{frame.f_lineno}"
