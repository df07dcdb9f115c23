"""What a job changes of lanes: how many tasks they have, and which of the ready ones is the best."""

from __future__ import annotations

from collections.abc import Iterable

from sitq.backends.tables.database import Database
from sitq.backends.tables.lanes import StaleLaneError, encode

Head = tuple[int, int]
"""The negative priority and the sequence of a ready task: the least one starts first."""


class Heads:
    """Changes of lanes that are still to be written."""

    def __init__(self) -> None:
        self._tasks: dict[int, int] = {}
        self._best: dict[int, Head] = {}
        self._left: set[int] = set()

    def count(self, lane: int, tasks: int) -> None:
        """Count tasks of the lane in, or out with a number below 0."""
        self._tasks[lane] = self._tasks.get(lane, 0) + tasks

    def come(self, lane: int, head: Head) -> None:
        """A task of the lane is ready."""
        known = self._best.get(lane)
        if known is None or head < known:
            self._best[lane] = head

    def leave(self, lanes: Iterable[int]) -> None:
        """Ready tasks of these lanes are not ready any more."""
        self._left.update(lanes)

    def write(self, db: Database) -> None:
        """Write what changed.

        Raises:
            StaleLaneError: One of the lanes is gone.
        """
        if self._best or self._tasks:
            self._raise(db)
        if self._left:
            db.run("lower_lanes", encode(sorted(self._left)).decode())
            self._left = set()

    def _raise(self, db: Database) -> None:
        raised: dict[int, tuple[int, int | None, int | None]] = {
            lane: (0, -best[0], best[1]) for lane, best in self._best.items()
        }
        for lane, more in self._tasks.items():
            _, priority, sequence = raised.get(lane, (0, None, None))
            raised[lane] = more, priority, sequence
        self._best, self._tasks = {}, {}
        rows = [(lane, *change) for lane, change in raised.items()]
        if len(rows) == 1:
            found = db.run("join_lane", *rows[0]).rowcount or db.run("raise_lane", *rows[0]).rowcount
        else:
            found = db.run("raise_lanes", encode(rows).decode()).rowcount
        if found != len(rows):
            raise StaleLaneError
