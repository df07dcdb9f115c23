"""Reads: records by id and by page, counts; and what to do with a record that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sitq.backends import rules
from sitq.backends.base import Filter, Page
from sitq.backends.sqlite.connection import Connection
from sitq.backends.sqlite.ending import end, spread
from sitq.backends.sqlite.lanes import encode
from sitq.backends.sqlite.row import RUNNING, STATES, Read, reads_of, record_of, tombstone
from sitq.backends.sqlite.work import Work
from sitq.record import Record, State

_sequences = msgspec.json.Decoder(list[int]).decode
_tally = msgspec.json.Decoder(list[tuple[str, int, int]]).decode
_lane_names = msgspec.json.Decoder(list[tuple[int, int, int, str, str, str, str | None, str]]).decode


def bury(work: Work, token: str, corrupt: Sequence[tuple[int, str]]) -> None:
    """Put claimed tasks aside whose records cannot be read, so that they hold up nobody."""
    why = dict(corrupt)
    for row in work.load(why):
        if row.stage == RUNNING and row.token == token:
            end(work, row, State.DEAD, rules.corrupt_failure(why[row.sequence], work.now))
    spread(work)


def get(db: Connection, ids: Sequence[str]) -> list[Record]:
    """The records with these ids, those that there are."""
    if not ids:
        return []
    return _whole(db, reads_of(db.one("reads_by_sequence", db.one("sequences_of", encode(ids).decode()))))


def in_order(ids: Sequence[str], records: Sequence[Record]) -> list[Record | None]:
    """The records in the order of the ids; None for an unknown one."""
    found = {record.id: record for record in records}
    return [found.get(id) for id in ids]


def _whole(db: Connection, reads: Sequence[Read]) -> list[Record]:
    records: list[Record] = []
    for read in reads:
        try:
            records.append(record_of(read))
        except ValueError:
            _, _, _, queue, name, *_ = _lane_names(db.one("read_lanes", f"[{read.row.lane}]"))[0]
            records.append(tombstone(read.row, queue, name, read.result))
    return records


def scan(db: Connection, where: Filter, after: int, n: int) -> Page:
    """The first `n` records behind `after` that the filter is about, as far as a bounded look finds them."""
    budget = 10 * n + 1000
    name = "scan_running" if where.states == (State.RUNNING,) else "scan"
    found: list[Record] = []
    while budget > 0 and len(found) < n:
        step = min(budget, max(100, n))
        sequences = _sequences(db.one(name, after, step))
        for record in _whole(db, reads_of(db.one("reads_by_sequence", encode(sequences).decode()))):
            if len(found) >= n:
                return Page(found, after)
            after = record.sequence
            if rules.fits(record, where):
                found.append(record)
        if len(sequences) < step:
            return Page(found, None)
        budget -= step
    last = db.one(name, after, 1) == "[]"
    return Page(found, None if last else after)


def tally(db: Connection) -> dict[str, dict[State, int]]:
    """How many tasks each queue has in each state."""
    counts: dict[str, dict[State, int]] = {}
    for queue, state, tasks in _tally(db.one("tally")):
        counts.setdefault(queue, {})[STATES[state]] = tasks
    return counts
