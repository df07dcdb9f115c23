"""How many tasks each queue has in each state: added up during a transaction, written once at its end."""

from __future__ import annotations

from sitq.backends.tables.database import Database
from sitq.backends.tables.lanes import encode
from sitq.backends.tables.row import BLOCKED, COUNTED, QUEUED, RUNNING


class Counts:
    """What a transaction has changed of the counts so far."""

    def __init__(self) -> None:
        self._changed: dict[tuple[int, int], int] = {}
        self._stored: dict[str, tuple[int, int]] = {}

    def add(self, queue: int, stage: int, tasks: int) -> None:
        """Count tasks in, or out with a number below 0."""
        key = queue, COUNTED[stage]
        self._changed[key] = self._changed.get(key, 0) + tasks

    def running_more(self, queue: int) -> int:
        """How many more tasks of the queue run than is written."""
        return self._changed.get((queue, RUNNING), 0)

    def waiting_in(self, db: Database, queue: str) -> int:
        """How many tasks of the queue wait, those that this transaction placed among them."""
        if queue not in self._stored:
            self._stored[queue] = db.run("waiting_in", queue).fetchone() or (0, 0)
        number, stored = self._stored[queue]
        return stored + sum(self._changed.get((number, state), 0) for state in (BLOCKED, QUEUED))

    def write(self, db: Database) -> None:
        """Write what changed since this was last called."""
        changed = [(*key, tasks) for key, tasks in self._changed.items() if tasks]
        self._changed, self._stored = {}, {}
        if len(changed) == 1 and db.run("count_one", *changed[0]).rowcount == 1:
            return
        if changed:
            db.run("count", encode(changed).decode())
