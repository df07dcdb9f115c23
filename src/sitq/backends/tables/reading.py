"""Reads: records by id and by page, counts; and what to do with a record that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from sitq.backends import rules
from sitq.backends.base import Filter, Page, own_end_topic
from sitq.backends.tables.brief import read_briefly
from sitq.backends.tables.database import Database
from sitq.backends.tables.ending import end, spread
from sitq.backends.tables.lanes import encode
from sitq.backends.tables.row import RUNNING, STATES, Read, reads_of, record_of, tombstone
from sitq.backends.tables.work import Work
from sitq.record import Record, State

_looked = msgspec.json.Decoder(list[tuple[int, Any]]).decode
_tally = msgspec.json.Decoder(list[tuple[str, int, int]]).decode
_lane_names = msgspec.json.Decoder(list[tuple[int, int, int, str, str, str, str | None, str]]).decode

_HIGHEST: Final = (1 << 63) - 1
"""Above every sequence."""


def bury(work: Work, token: str, corrupt: Sequence[tuple[int, str]]) -> None:
    """Put claimed tasks aside whose records cannot be read, so that they hold up nobody."""
    why = dict(corrupt)
    for row in work.load(why):
        if row.stage == RUNNING and row.token == token:
            end(work, row, State.DEAD, rules.corrupt_failure(why[row.sequence], work.now))
            work.topics.add(own_end_topic(row.id))
    spread(work)


def get(db: Database, ids: Sequence[str]) -> list[Record]:
    """The records with these ids, those that there are."""
    if not ids:
        return []
    records, rest = read_briefly(db, ids)
    if rest:
        records += _whole(db, reads_of(db.one("reads_by_sequence", encode(rest).decode())))
    return records


def in_order(ids: Sequence[str], records: Sequence[Record]) -> list[Record | None]:
    """The records in the order of the ids; None for an unknown one."""
    found = {record.id: record for record in records}
    return [found.get(id) for id in ids]


def _whole(db: Database, reads: Sequence[Read]) -> list[Record]:
    records: list[Record] = []
    for read in reads:
        try:
            records.append(record_of(read))
        except ValueError:
            _, _, _, queue, name, *_ = _lane_names(db.one("read_lanes", f"[{read.row.lane}]"))[0]
            records.append(tombstone(read.row, queue, name, read.result))
    return records


def scan(db: Database, where: Filter, after: int | None, n: int) -> Page:
    """The first `n` records behind `after` that the filter is about, as far as a bounded look finds them."""
    budget = 10 * n + 1000
    name, about = _way(where)
    at = after if after is not None else _HIGHEST if where.newest_first else 0
    found: list[Record] = []
    while budget > 0 and len(found) < n:
        step = min(budget, max(100, n))
        looked = _looked(db.one(name, at, step, *about))
        likely = [sequence for sequence, stage in looked if _may_fit(stage, where)]
        for record in _whole(db, reads_of(db.one("reads_by_sequence", encode(likely).decode()))):
            if len(found) >= n:
                return Page(found, at)
            at = record.sequence
            if rules.fits(record, where):
                found.append(record)
        if len(looked) < step:
            return Page(found, None)
        at = looked[-1][0]
        budget -= step
    last = db.one(name, at, 1, *about) == "[]"
    return Page(found, None if last else at)


def _may_fit(stage: object, where: Filter) -> bool:
    """Whether a task in this stage may be one that is looked for, so that the others are not read."""
    if where.states is None or not isinstance(stage, int) or not 0 <= stage < len(STATES):
        return True
    return STATES[stage] in where.states


def _way(where: Filter) -> tuple[str, tuple[str, ...]]:
    """The statement that looks at the fewest tasks, and what it is to know."""
    down = "_down" if where.newest_first else ""
    if where.parent is not None:
        return "scan_children" + down, (where.parent,)
    return ("scan_running" if where.states == (State.RUNNING,) else "scan") + down, ()


def tally(db: Database) -> dict[str, dict[State, int]]:
    """How many tasks each queue has in each state."""
    counts: dict[str, dict[State, int]] = {}
    for queue, state, tasks in _tally(db.one("tally")):
        counts.setdefault(queue, {})[STATES[state]] = tasks
    return counts
