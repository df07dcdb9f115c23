"""Tasks that go on after their time: when one is settled without its end, and when they hold every place."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Final

from sitq.record import SECOND
from sitq.worker.run import Run
from sitq.worker.time_limit import TimeLimit

CLEAN_UP: Final = 2.0
"""Seconds that an interrupted task gets for its clean-up, and the store for the last outcomes."""

logger = logging.getLogger("sitq.worker")


class Watch:
    """Tells of a run that has not ended though its time was over, and its clean-up too.

    Args:
        run: The run.
        limit: Cancels it when its time is over.
        told: Told once.
    """

    def __init__(self, run: Run, limit: TimeLimit, told: Callable[[Run], None]) -> None:
        self._run = run
        self._limit = limit
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._handle = self._again()

    def _again(self) -> asyncio.TimerHandle:
        now, due = self._loop.time(), self._limit.when()
        if due is None:  # its time has not begun
            due = now + (self._run.record.timeout or 0) / SECOND
        return self._loop.call_at(max(now, due) + CLEAN_UP, self._look)

    def _look(self) -> None:
        if self._limit.expired:
            self._told(self._run)
        else:
            self._handle = self._again()

    def end(self) -> None:
        """Tell nothing any more."""
        self._handle.cancel()


class Overstayers:
    """The runs that hold a place though their outcome is known: of threads, and of what cannot be cancelled.

    Args:
        places: How many places the worker has.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._runs: dict[Run, None] = {}
        self._warned = False

    @property
    def everywhere(self) -> bool:
        """Whether no place is left for anything else; from any thread."""
        return len(self._runs) >= self._places

    def add(self, run: Run) -> None:
        """One goes on; warns when it took the last place."""
        self._runs[run] = None
        if self.everywhere and not self._warned:
            self._warned = True
            names = Counter(each.record.name for each in self._runs)
            logger.warning(
                "%d of %d places are held by tasks that ran past their time: %s; "
                "nothing is claimed until one of them ends",
                len(self._runs),
                self._places,
                ", ".join(f"{count} of {name}" for name, count in names.most_common(5)),
            )

    def ended(self, run: Run) -> None:
        """One has ended at last."""
        self._runs.pop(run, None)
        if self._warned and not self.everywhere:
            self._warned = False
            logger.info("a place is free again that a task held past its time")
