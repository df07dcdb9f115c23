"""Lanes: tasks that can only be started or passed over together, and what is known of them by number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from sitq.backends.tables.database import Database
from sitq.record import Record


class LaneKey(NamedTuple):
    """What the tasks of a lane have in common."""

    queue: str
    name: str
    python: str
    tenant: str | None
    keys: tuple[str, ...]


class Lane(NamedTuple):
    """A lane's numbers and what its tasks have in common. None of it ever changes."""

    id: int
    queue: int
    kind: int
    what: LaneKey


class StaleLaneError(Exception):
    """A lane that was known has been removed by another process: what was known is to be read again."""


_found = msgspec.json.Decoder(list[tuple[int, int, int, str, str, str, str | None, str]]).decode
_keys = msgspec.json.Decoder(tuple[str, ...]).decode
encode = msgspec.json.Encoder().encode
PLENTY = 100_000


def lane_key_of(record: Record) -> LaneKey:
    """The lane that a record belongs to."""
    # A list is made faster than a generator gives its items.
    keys = tuple([limit.key for limit in record.limits]) if record.limits else ()
    tenant = record.fair.key if record.fair else None
    return LaneKey(record.queue, record.name, record.python or "", tenant, keys)


def _as_json(keys: Iterable[LaneKey]) -> str:
    rows = [(key.queue, key.name, key.python, key.tenant, encode(key.keys).decode()) for key in keys]
    return encode(rows).decode()


class Lanes:
    """What this process knows of lanes. Their numbers are never used twice, so nothing here becomes wrong."""

    def __init__(self) -> None:
        self._by_key: dict[LaneKey, Lane] = {}
        self._by_id: dict[int, Lane] = {}

    def forget(self) -> None:
        """Forget all: after a rollback, or when a known lane was not found."""
        self._by_key.clear()
        self._by_id.clear()

    def make(self, db: Database, keys: Iterable[LaneKey]) -> dict[LaneKey, Lane]:
        """The lanes of the keys; the missing ones are made."""
        self._bound()
        keys = dict.fromkeys(keys)  # queues are numbered in the order in which they were met
        missing = [key for key in keys if key not in self._by_key]
        if missing:
            self._make(db, missing)
        return {key: self._by_key[key] for key in keys}

    def seek(self, db: Database, keys: Iterable[LaneKey]) -> dict[LaneKey, Lane] | None:
        """The lanes of the keys, or None if some are not there; none is made."""
        self._bound()
        keys = set(keys)
        missing = [key for key in keys if key not in self._by_key]
        if missing:
            self._remember(db.one("find_lanes", _as_json(missing)))
        found = {key: lane for key in keys if (lane := self._by_key.get(key))}
        return found if len(found) == len(keys) else None

    def _bound(self) -> None:
        if len(self._by_id) > PLENTY:  # one for each customer, perhaps: what is needed is read again
            self.forget()

    def _make(self, db: Database, missing: list[LaneKey]) -> None:
        what = _as_json(missing)
        db.run("make_queues", what)
        db.run("make_kinds", what)
        db.run("make_lanes", what)
        self._remember(db.one("find_lanes", what))
        limited = [(name, self._by_key[key].id) for key in missing for name in set(key.keys)]
        if limited:
            db.run("make_lane_keys", encode(limited).decode())

    def get(self, db: Database, id: int) -> Lane:
        """The lane with this number.

        Raises:
            StaleLaneError: It is gone.
        """
        lane = self._by_id.get(id)
        if lane is None:
            self.load(db, [id])
            lane = self._by_id.get(id)
            if lane is None:
                raise StaleLaneError
        return lane

    def of(self, db: Database, counts: Mapping[int, int]) -> Iterable[tuple[Lane, int]]:
        """The lanes with these numbers, each with what is counted of it."""
        self.load(db, counts)
        return [(self.get(db, one), count) for one, count in counts.items()]

    def load(self, db: Database, ids: Iterable[int]) -> None:
        """Read the lanes with these numbers that are not known yet."""
        missing = [one for one in set(ids) if one not in self._by_id]
        if missing:
            self._bound()
            self._remember(db.one("read_lanes", encode(missing).decode()))

    def _remember(self, found: str) -> None:
        for lane, queue, kind, queue_name, name, python, tenant, keys in _found(found):
            what = LaneKey(queue_name, name, python, tenant, _keys(keys))
            self._by_id[lane] = self._by_key[what] = Lane(lane, queue, kind, what)
