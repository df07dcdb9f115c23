"""Cells: small named values that are compared and set, and vanish by themselves."""

from __future__ import annotations

import msgspec

from sitq.backends.base import LIMIT_QUEUE, PAUSE_KEY, PAUSE_QUEUE, Cell, queue_topic
from sitq.backends.tables.database import Database
from sitq.backends.tables.keys import TENANT
from sitq.backends.tables.work import Work

PAUSE = "pause/"
SURROGATES = 0xD800
BEHIND_SURROGATES = 0xE000
_cells = msgspec.json.Decoder(list[tuple[str, str, int | None]]).decode
_names = msgspec.json.Decoder(list[str]).decode


def swap(work: Work, key: str, seen: bytes | None, value: bytes | None, ttl: int | None) -> bool:
    """Set the cell to `value` if it holds `seen`."""
    db, now = work.db, work.now
    row = db.run("get_cell", key).fetchone()
    held = None if row is None or (row[1] is not None and row[1] <= now) else row[0]
    if held != seen:
        return False
    if value is None:
        db.run("drop_cell", key)
    else:
        db.run("set_cell", key, value, None if ttl is None else now + ttl)
    if key.startswith(LIMIT_QUEUE):
        work.topics.add(queue_topic(key.removeprefix(LIMIT_QUEUE)))
    elif key.startswith(PAUSE):
        _tell(work, key)
    return True


def _tell(work: Work, key: str) -> None:
    """A pause came or went: claims are to look again."""
    if key.startswith(PAUSE_KEY):
        name = key.removeprefix(PAUSE_KEY)
        work.mark([name, TENANT + name])
    if key.startswith(PAUSE_QUEUE):
        work.topics.add(queue_topic(key.removeprefix(PAUSE_QUEUE)))
    else:
        work.topics.update(queue_topic(name) for name in _names(work.db.one("queue_names")))


def under(db: Database, prefix: str, now: int) -> list[Cell]:
    """The cells whose key starts with `prefix`, in order of their keys."""
    found = _cells(db.one("cells", prefix, _after(prefix), now))
    return [Cell(key, bytes.fromhex(value), until) for key, value, until in found]


def _after(prefix: str) -> str | None:
    """The least string that is greater than all that start with the prefix, or None."""
    head = prefix.rstrip(chr(0x10FFFF))
    if not head:
        return None
    following = ord(head[-1]) + 1
    return head[:-1] + chr(BEHIND_SURROGATES if following == SURROGATES else following)
