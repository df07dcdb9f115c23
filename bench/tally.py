"""The tally: counts and instants of a worker's tasks, in memory that two processes share.

The monotonic clock is the same in all processes of a machine, so the measuring process sees when the first
task of the worker process started and when the last one ended, at little cost and without a server.
"""

from __future__ import annotations

import mmap
import time
from pathlib import Path
from typing import Final

_FIRST_START, _LAST_START, _LAST_END, _STARTED, _ENDED, _CALLS = range(6)
_BYTES: Final = 4096


class Tally:
    """What has been counted in a file. One process counts, any number reads.

    Each field is one aligned machine word, and a count is written after its instant: who reads the count and
    then the instant gets one that is at least as new.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_BYTES))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _BYTES)
        self._cells = memoryview(self._memory).cast("d")
        self._count_started = 0
        self._count_ended = 0
        self._count_calls = 0
        self.path = path

    def tick(self) -> None:
        """Count a task that starts and ends at once."""
        cells, now = self._cells, time.monotonic()
        if not self._count_started:
            cells[_FIRST_START] = now
        self._count_started += 1
        self._count_ended += 1
        cells[_LAST_START] = cells[_LAST_END] = now
        cells[_STARTED] = self._count_started
        cells[_ENDED] = self._count_ended

    def start(self) -> None:
        """Count a task that starts."""
        cells, now = self._cells, time.monotonic()
        if not self._count_started:
            cells[_FIRST_START] = now
        self._count_started += 1
        cells[_LAST_START] = now
        cells[_STARTED] = self._count_started

    def end(self) -> None:
        """Count a task that ends."""
        self._count_ended += 1
        self._cells[_LAST_END] = time.monotonic()
        self._cells[_ENDED] = self._count_ended

    def call(self) -> None:
        """Count a call to the store."""
        self._count_calls += 1
        self._cells[_CALLS] = self._count_calls

    @property
    def started(self) -> int:
        """How many tasks have started."""
        return int(self._cells[_STARTED])

    @property
    def ended(self) -> int:
        """How many tasks have ended."""
        return int(self._cells[_ENDED])

    @property
    def calls(self) -> int:
        """How many calls to the store were made."""
        return int(self._cells[_CALLS])

    @property
    def last_start(self) -> float:
        """The monotonic instant of the last start."""
        return self._cells[_LAST_START]

    @property
    def seconds(self) -> float:
        """From the first start to the last end."""
        return self._cells[_LAST_END] - self._cells[_FIRST_START]


_here: list[Tally] = []


def use(tally: Tally) -> None:
    """Make this the tally of the tasks that run in this process."""
    _here[:] = [tally]


def here() -> Tally:
    """The tally of the tasks that run in this process."""
    return _here[0]
