"""Restoring records of another store as they are, and sending waiting tasks to another queue."""

from __future__ import annotations

import copy

from sitq.backends.tables.admission import new_row, pack_record, tie
from sitq.backends.tables.ending import overdue_at, spread
from sitq.backends.tables.lanes import encode, lane_key_of
from sitq.backends.tables.row import BLOCKED, ENDED, QUEUED, READY, STAGES, History, Row
from sitq.backends.tables.unique import holder_of, holds, stand_behind
from sitq.backends.tables.work import Work
from sitq.record import Record, State


def restore(work: Work, record: Record, most: int) -> bool:
    """Store a record with all that another store knew of it; False if it cannot be.

    What it will be judged by has been prepared.
    """
    blocked = record.state is State.BLOCKED
    if (
        work.ids.get(record.id) is not None
        or record.state is State.RUNNING
        or len(record.payload) > most
        or (blocked and any(work.ids.get(edge.parent) is None for edge in record.edges))
    ):
        return False
    spread(work)  # ends before this move count for it as they do for others
    row = _row_of(work, record)
    if record.errors or record.progress:
        work.remember(row, History(record.errors, record.progress))
    work.place(row, pack_record(_producers_part(record)))
    if record.result is not None:
        work.keep_result(row, record.result)
    work.steps += [(row.sequence, name, value) for name, value in record.steps.items()]
    _note_limits(work, row, record)
    if record.unique is not None and holds(row, work.now) and holder_of(work, record.unique.key) is None:
        stand_behind(work, record.unique.key, row.id)
    if blocked:
        tie(work, [(row, record)])
    else:
        _note_parents(work, row, record)
        if row.stage >= ENDED:
            work.tell_end(row)
    work.flush_new()  # moves after this one are to find it, and what it depends on
    return True


def send(work: Work, row: Row, queue: str) -> None:
    """Let a waiting task wait in another queue."""
    if work.lane(row).what.queue == queue:
        return
    record = work.read_record(row)
    record.queue = queue
    key = lane_key_of(record)
    work.line_up([key])
    work.send(row, work.lane_of(key))
    work.replace_body(row, pack_record(_producers_part(record)))


def _row_of(work: Work, record: Record) -> Row:
    """The columns of a record as another store kept it."""
    row = new_row(record, work.next_sequence(), work.lane_of(lane_key_of(record)), work.now)
    row.created, row.expires, row.attempt = record.created, record.expires, record.attempt
    row.failures, row.crashes, row.alone = (
        record.failures or None,
        record.crashes or None,
        record.alone or None,
    )
    row.token, row.started = record.token, record.started
    row.finished, row.keep_until = record.finished, record.keep_until
    row.ends = encode(record.ends).decode() if record.ends else None
    row.expire_at = None
    if record.state is State.BLOCKED:
        row.stage = BLOCKED
        return row
    row.due, row.delay = record.due, record.delay or None
    if record.state is State.QUEUED:
        row.delay = None
        row.stage = READY if row.due <= work.now else QUEUED
        row.expire_at = overdue_at(row)
    else:
        row.stage = STAGES[record.state]
    return row


def _producers_part(record: Record) -> Record:
    """The record without what has columns and tables of its own."""
    part = copy.copy(record)
    part.state = State.QUEUED
    part.delay = 0 if record.state is State.QUEUED else record.delay
    part.errors = part.progress = part.ends = ()
    part.sequence = part.created = part.attempt = part.failures = part.crashes = part.alone = 0
    part.expires = part.token = part.owner = part.lease_until = part.stop = None
    part.started = part.finished = part.keep_until = part.result = None
    part.steps = {}
    return part


def _note_limits(work: Work, row: Row, record: Record) -> None:
    if row.stage < ENDED:
        for limit in record.limits:
            work.limits[limit.key] = limit


def _note_parents(work: Work, row: Row, record: Record) -> None:
    """Note the parents that are known of a task that waits for none of them."""
    known = {edge.parent: edge.effects for edge in record.edges if work.ids.get(edge.parent) is not None}
    if known or record.ends:
        row.parents = 0
        work.touch(row)
    done = int(row.stage >= ENDED)
    for id, effects in known.items():
        parent = work.ids[id]
        assert parent is not None  # noqa: S101 - it is among the known
        work.edges.append((parent.sequence, row.sequence, effects, done))
