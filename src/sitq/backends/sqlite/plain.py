"""New tasks that nothing can speak against: placed together, without a second look at each.

None of them can be refused, so that groups need not be kept apart. They may have limits, a tenant, and
parents that come before them in the same call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from sitq.backends import rules
from sitq.backends.base import Answer, Duplicate, Placed
from sitq.backends.tables.admission import is_simple
from sitq.backends.tables.ending import letters_of
from sitq.backends.tables.heads import Head
from sitq.backends.tables.lanes import Lane, LaneKey, encode, lane_key_of
from sitq.backends.tables.row import BLOCKED, QUEUED, READY, stride_of
from sitq.backends.tables.work import Work
from sitq.record import Record

Entry = tuple[Record, bytes]
"""A new task and its packed record."""

_Key = LaneKey | tuple[str, str, str | None]
"""What stands for the lane key of a task: for most, something shorter."""

_placed = msgspec.json.Decoder(tuple[int, set[str]]).decode


def are_plain(groups: Sequence[Sequence[Entry]], most: int) -> bool:
    """Whether nothing can speak against new tasks, with payloads of at most so many bytes."""
    tied = False
    for group in groups:
        for record, _ in group:
            if not is_simple(record) or len(record.payload) > most:
                return False
            if record.edges:
                tied = True
    return not tied or _come_in_order(groups)


def _come_in_order(groups: Sequence[Sequence[Entry]]) -> bool:
    """Whether each task comes after its parents, of which none is in the store yet."""
    ahead: set[str] = set()
    for group in groups:
        for record, _ in group:
            for edge in record.edges:
                if edge.parent not in ahead:
                    return False
            ahead.add(record.id)
    return True


class Arrivals:
    """What came into a lane."""

    __slots__ = ("blocked", "head", "lane", "queued")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.queued = 0
        self.blocked = 0
        self.head: Head | None = None


def put_plain(work: Work, groups: Sequence[Sequence[Entry]]) -> list[list[Answer]] | None:
    """Store new tasks, those whose id is not there yet; None if a parent among them is there already."""
    new = [entry for group in groups for entry in group]
    last, known = _placed(work.db.one("placed", encode([record.id for record, _ in new]).decode()))
    if known and any(edge.parent in known for record, _ in new for edge in record.edges):
        return None  # it may have ended
    answers: list[Answer] = [Placed(record.id) for record, _ in new]
    fresh: list[Entry] = new
    if known or len({answer.id for answer in answers}) < len(answers):
        fresh = []
        for number, entry in enumerate(new):
            id = entry[0].id
            if id in known:
                answers[number] = Duplicate(id)
            else:
                known.add(id)
                fresh.append(entry)
    if fresh:
        _insert(work, fresh, last)
    rest = iter(answers)
    return [[next(rest) for _ in group] for group in groups]


def _insert(work: Work, new: Sequence[Entry], last: int) -> None:
    """Store new tasks behind the last sequence."""
    now = work.now
    keys: list[_Key] = [
        lane_key_of(record) if record.limits or record.fair else (record.queue, record.name, record.python)
        for record, _ in new
    ]
    lanes = _line_up(work, keys)
    tied = any([record.edges or record.fair for record, _ in new])  # noqa: C419 - a generator takes longer
    sequences: dict[str, int] = {}
    tasks: list[Any] = []
    bodies: list[Any] = []
    for key, (record, packed) in zip(keys, new, strict=True):
        last += 1
        arrivals = lanes[key]
        lane = arrivals.lane
        due = record.due if record.due > now else now  # noqa: FURB136 - `max` is a call
        if record.edges:
            stage = BLOCKED
            arrivals.blocked += 1
        else:
            due += record.delay
            arrivals.queued += 1
            stage = READY if due <= now else QUEUED
            head = arrivals.head
            if stage == READY and (head is None or -record.priority < head[0]):
                arrivals.head = -record.priority, last
        tasks += (last, record.id, lane.queue, lane.id, stage, record.priority, due, now, record.reply)
        bodies += (last, packed)
        if tied:
            sequences[record.id] = last
            tasks += _ties(work, record, sequences)
        for limit in record.limits:
            work.limits[limit.key] = limit
    work.db.for_rows("insert_tied" if tied else "insert_plain", tasks, 13 if tied else 9)
    work.db.for_rows("insert_body", bodies, 2)
    for one in lanes.values():
        work.came(one.lane, one.queued, one.blocked, one.head)


def _ties(work: Work, record: Record, sequences: dict[str, int]) -> tuple[int | None, ...]:
    """What of a task's columns depends on its tenant and its parents, whose edges are noted."""
    stride = stride_of(record.fair)
    if not record.edges:
        return None, stride, None, None
    letters = letters_of(record.edges)
    child = sequences[record.id]
    work.edges += [(sequences[parent], child, effects, 0) for parent, effects in letters.items()]
    return record.delay or None, stride, len(letters), 1 if rules.needs_arming(record.edges) else None


def _line_up(work: Work, keys: Iterable[_Key]) -> dict[_Key, Arrivals]:
    found = {
        key: key if isinstance(key, LaneKey) else LaneKey(key[0], key[1], key[2] or "", None, ())
        for key in set(keys)
    }
    work.line_up(found.values())
    return {key: Arrivals(work.lane_of(lane)) for key, lane in found.items()}
