"""Records by id, each read by the shorter way that will do for it: few columns, body and result as they are.

Tasks of which more is to be told, such as failures or steps, are left to the long way through whole rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from sitq.backends.tables.database import Database
from sitq.backends.tables.lanes import encode
from sitq.backends.tables.row import STATES, Stage, ends_of, unpacked
from sitq.record import Record


class Brief(msgspec.Struct, array_like=True, gc=False):
    """What is read of a task of which no more is to be told; `size` is None for any other.

    Its queue and lane are read so that damage in them is noticed.
    """

    sequence: int
    id: str
    queue: int
    lane: int
    stage: Stage
    priority: int
    due: int
    created: int
    attempt: int
    token: str | None
    started: int | None
    finished: int | None
    keep_until: int | None
    ends: str | None
    size: int | None
    result: int | None
    """How long its result is, or None without one."""


_briefs = msgspec.json.Decoder(list[Brief]).decode


def read_briefly(db: Database, ids: Sequence[str]) -> tuple[list[Record], list[int]]:
    """The records of the tasks with these ids, and the sequences of those that are to be read whole."""
    return briefs_of(*db.run("briefs_by_id", encode(ids).decode()).fetchone())


def briefs_of(columns: str, bodies: Any, results: Any) -> tuple[list[Record], list[int]]:
    """The same of what was read: columns in JSON, and bodies and results that follow one another."""
    records: list[Record] = []
    rest: list[int] = []
    at = result_at = 0
    for brief in _briefs(columns):
        if brief.size is None:
            rest.append(brief.sequence)
            continue
        body = bodies[at : at + brief.size]
        at += brief.size
        result = None
        if brief.result is not None:
            result = b"" if results is None else results[result_at : result_at + brief.result]
            result_at += brief.result
        try:
            records.append(_record(brief, body, result))
        except ValueError:
            rest.append(brief.sequence)
    return records, rest


def _record(brief: Brief, body: bytes, result: bytes | None) -> Record:
    record = unpacked(body, brief.id)
    record.state = STATES[brief.stage]
    record.sequence = brief.sequence
    record.priority = brief.priority
    record.due = brief.due
    record.delay = 0
    record.created = brief.created
    record.attempt = brief.attempt
    record.token = brief.token
    record.started = brief.started
    record.finished = brief.finished
    record.keep_until = brief.keep_until
    record.result = result
    record.ends = ends_of(brief.ends)
    # What a producer says of the rest does not count.
    record.expires = record.owner = record.lease_until = record.stop = None
    record.failures = record.crashes = record.alone = 0
    record.errors = ()
    record.progress = ()
    record.steps = {}
    return record
