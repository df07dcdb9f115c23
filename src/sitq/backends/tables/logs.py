"""Logs: numbered events by topic, the newest ones."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sitq.backends.base import Event, log_topic
from sitq.backends.tables.database import Database
from sitq.backends.tables.work import Work

_events = msgspec.json.Decoder(list[tuple[int, int, str]]).decode


def append(work: Work, topic: str, events: Sequence[bytes], most: int) -> None:
    """Number and keep events, then forget all but the newest `most` of the topic."""
    if not events:
        return
    last = work.db.one("next_number", topic, len(events))
    first = last - len(events) + 1
    kept = [(topic, first + at, work.now, data) for at, data in enumerate(events) if first + at > last - most]
    work.db.insert("insert_event", kept)
    if last > most:
        work.db.run("drop_events", topic, last - most)
    work.topics.add(log_topic(topic))


def read(db: Database, topic: str, after: int, n: int) -> list[Event]:
    """The first `n` events with numbers above `after`."""
    return [
        Event(number, at, bytes.fromhex(data))
        for number, at, data in _events(db.one("events", topic, after, n))
    ]
