"""Unique keys: which task stands behind one, and whether it still holds it.

Behind a key stands the task that took it last. What its state says decides whether it holds the key, so that
nothing has to be written when a task starts or ends.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from sitq.backends.tables.lanes import encode
from sitq.backends.tables.row import ENDED, RUNNING, Row
from sitq.backends.tables.work import Work
from sitq.record import Unique

_LETTERS = {"waiting": "w", "active": "a", "window": "x"}
_pairs = msgspec.json.Decoder(list[tuple[str, str]]).decode


def wanted(unique: Unique | None) -> str | None:
    """A unique key with its scope, as one column."""
    return None if unique is None else f"{_LETTERS[unique.scope]}{unique.window}:{unique.key}"


def key_of(row: Row) -> str | None:
    """The unique key that a task was enqueued with."""
    return None if row.wants is None else row.wants.partition(":")[2]


def window_end(row: Row) -> int:
    """When a window's key is free; 0 for other scopes."""
    if not row.wants or row.wants[0] != "x":
        return 0
    return row.created + int(row.wants[1 : row.wants.index(":")])


def holds(row: Row, now: int) -> bool:
    """Whether a task that stands behind its key still holds it."""
    match row.wants and row.wants[0]:
        case "w":
            return row.stage < RUNNING
        case "a":
            return row.stage < ENDED
        case "x":
            return now < window_end(row)
        case _:
            return False


def load_holders(work: Work, keys: Iterable[str]) -> None:
    """Read who stands behind keys, and those tasks."""
    missing = [key for key in dict.fromkeys(keys) if key not in work.holders]
    if missing:
        work.holders.update(dict.fromkeys(missing))
        work.holders.update(_pairs(work.db.one("read_uniques", encode(missing).decode())))
        work.load_ids(holder for key in missing if (holder := work.holders[key]) is not None)


def holder_of(work: Work, key: str) -> Row | None:
    """The task that holds a key."""
    if key not in work.holders:
        load_holders(work, [key])
    behind = work.holders[key]
    row = None if behind is None else work.ids.get(behind)
    return row if row is not None and key_of(row) == key and holds(row, work.now) else None


def stand_behind(work: Work, key: str, id: str) -> None:
    """Let a task be the one behind a key."""
    work.holders[key] = id
    work.taken_keys[key] = id


def take_back(work: Work, row: Row) -> None:
    """Let a task that waits again hold its key again, if nobody else does."""
    if row.wants and row.wants[0] == "w":
        key = row.wants.partition(":")[2]
        if holder_of(work, key) is None:
            stand_behind(work, key, row.id)
