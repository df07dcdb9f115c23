"""Admission: how groups of new tasks are judged and stored, each whole or not at all."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Final

import msgspec

from sitq.backends import rules
from sitq.backends.base import Answer, Duplicate, Placed, Refused, Replaced
from sitq.backends.tables.ending import end, letters_of, lift, overdue_at, spread
from sitq.backends.tables.lanes import Lane, lane_key_of
from sitq.backends.tables.row import BLOCKED, ENDED, QUEUED, READY, RUNNING, Row, stride_of
from sitq.backends.tables.unique import holder_of, holds, load_holders, stand_behind, wanted
from sitq.backends.tables.work import Work
from sitq.record import AFTER_ANY_END, DAY, KEEP_FAILED, Edge, Record, State

pack_record: Final = msgspec.msgpack.Encoder().encode
Group = Sequence[tuple[Record, bytes]]
"""New tasks with their packed records."""


def put(work: Work, groups: Sequence[Group], most: int) -> list[list[Answer]]:
    """Judge groups one after another, and store each or nothing of it."""
    prepare(work, [record for group in groups for record, _ in group])
    return [put_group(work, group, most) for group in groups]


def all_plain(groups: Sequence[Group], most: int) -> bool:
    """Whether all records are plain, with payloads of at most `most` bytes."""
    # A generator would take longer than what it saves.
    return all([is_plain(record) and len(record.payload) <= most for group in groups for record, _ in group])  # noqa: C419


def is_plain(record: Record) -> bool:
    """Whether a record has none of the things that need a second look."""
    return record.fair is None and not record.edges and not record.limits and is_simple(record)


def is_simple(record: Record) -> bool:
    """Whether only its id, its size and its parents can speak against a record that is kept as most are."""
    return (
        record.unique is None
        and record.ttl is None
        and record.deadline is None
        and record.room is None
        and not record.milestone
        and record.keep == DAY
        and record.keep_failed == KEEP_FAILED
    )


def prepare(work: Work, records: Sequence[Record]) -> None:
    """Read what the records will be judged by."""
    ids = [record.id for record in records]
    ids += [edge.parent for record in records if record.edges for edge in record.edges]
    work.load_ids(ids)
    work.line_up([lane_key_of(record) for record in records])
    load_holders(work, [record.unique.key for record in records if record.unique])


def put_group(work: Work, group: Group, most: int) -> list[Answer]:
    """Judge a group, then store it or nothing of it."""
    draft = Draft(work, most)
    answers: list[Answer] = []
    for record, packed in group:
        answer = draft.judge(record, packed)
        if isinstance(answer, Refused):
            return draft.refuse([record for record, _ in group], answer)
        answers.append(answer)
    refusal = draft.judge_parents()
    if refusal is not None:
        return draft.refuse([record for record, _ in group], refusal)
    draft.commit()
    return answers


class Draft:
    """What a group would change: nothing is written before all of it has been judged."""

    def __init__(self, work: Work, most: int) -> None:
        self.work = work
        self.most = most
        self.fresh: dict[str, tuple[Record, bytes | None]] = {}
        self.keys: dict[str, str] = {}
        self.replaced: dict[str, Record] = {}
        self.tied = False

    def judge(self, record: Record, packed: bytes) -> Answer:
        """What becomes of a record, its parents left aside."""
        if self.work.ids.get(record.id) is not None or record.id in self.fresh:
            return Duplicate(record.id)
        if len(record.payload) > self.most:
            return Refused(record.id, "payload", str(len(record.payload)))
        new, body = record, packed
        if record.unique is not None:
            clash = self._clash(record)
            if isinstance(clash, Record):
                new, body = clash, pack_record(clash)
            elif clash is not None:
                return clash
        if record.room is not None and self._waiting_in(record.queue) >= record.room:
            return Refused(record.id, "full", record.queue)
        if record.unique is not None:
            self.keys[record.unique.key] = record.id
        if new.edges:
            self.tied = True
        self.fresh[record.id] = new, body
        return Placed(record.id)

    def judge_parents(self) -> Refused | None:
        """The refusal of the group for a parent that is not there or for a cycle."""
        if not self.tied:
            return None
        inside = False
        for record, _ in self.fresh.values():
            for edge in record.edges:
                if edge.parent in self.fresh:
                    inside = True
                elif self.work.ids.get(edge.parent) is None:
                    return Refused(record.id, "parent", edge.parent)
        cycle = rules.find_cycle([record for record, _ in self.fresh.values()]) if inside else None
        return None if cycle is None else Refused(cycle, "cycle", cycle)

    def refuse(self, records: Sequence[Record], refusal: Refused) -> list[Answer]:
        """The answers to a group of which one record is refused."""
        return rules.refused_group(records, refusal, lambda id: self.work.ids.get(id) is not None)

    def commit(self) -> None:
        """Store what was judged."""
        for id, changed in self.replaced.items():
            self._replace(id, changed)
        work = self.work
        rows = [self._place(record, packed) for record, packed in self.fresh.values()]
        for key, id in self.keys.items():
            stand_behind(work, key, id)
        for row in rows:
            if row.milestone and not self.fresh[row.id][0].edges:
                end(work, row, State.COMPLETED)
        if work.ended:
            spread(work)
        if self.tied:
            tie(work, list(zip(rows, [record for record, _ in self.fresh.values()], strict=True)))

    def _place(self, record: Record, packed: bytes | None) -> Row:
        work, lane = self.work, self.work.lane_of(lane_key_of(record))
        row = new_row(record, work.next_sequence(), lane, work.now)
        if packed is None:
            packed = pack_record(record)
        work.place(row, packed)
        if record.limits:
            for limit in record.limits:
                work.limits[limit.key] = limit
        return row

    # -- unique keys -----------------------------------------------------------------------------------------

    def _clash(self, new: Record) -> Answer | Record | None:
        """The answer to a newcomer, or the newcomer with one edge more, or None if nobody holds its key."""
        assert new.unique  # noqa: S101 - asked of no other
        holder = self._holder(new.unique.key)
        if holder is None:
            return None
        id, waiting, running, lane = holder
        match new.unique.clash:
            case "refuse":
                return Refused(new.id, "unique", id)
            case "replace" if waiting:
                if lane != (new.name, new.queue, new.python or ""):
                    return Refused(new.id, "unique", id)
                if "payload" in new.unique.fields and self._is_blocked(id):
                    return Refused(new.id, "unique", id)
                self._take_over(new, id)
                return Replaced(id)
            case "again" if running:
                changed = copy.copy(new)
                changed.edges = (*new.edges, Edge(id, AFTER_ANY_END))
                return changed
            case _:
                return Duplicate(id)

    def _holder(self, key: str) -> tuple[str, bool, bool, tuple[str, str, str]] | None:
        """Who holds the key: id, whether it waits, whether it runs, its function, queue and Python."""
        id = self.keys.get(key)
        if id is not None:
            return self._held_inside(id)
        row = holder_of(self.work, key)
        if row is None:
            return None
        changed = self.replaced.get(row.id)
        if changed is not None and not self._still_holds(row, changed):
            return None
        what = self.work.lane(row).what
        return row.id, row.stage < RUNNING, row.stage == RUNNING, (what.name, what.queue, what.python)

    def _held_inside(self, id: str) -> tuple[str, bool, bool, tuple[str, str, str]] | None:
        record = self.fresh[id][0]
        over = record.unique is None or (record.unique.scope == "window" and record.unique.window <= 0)
        return None if over else (id, True, False, (record.name, record.queue, record.python or ""))

    def _still_holds(self, row: Row, changed: Record) -> bool:
        probe = copy.copy(row)
        probe.wants = wanted(changed.unique)
        return holds(probe, self.work.now)

    def _is_blocked(self, id: str) -> bool:
        """Whether it waits for others, for whose ends new arguments would have to wait, too."""
        if id in self.fresh:
            return bool(self.fresh[id][0].edges)
        row = self.work.ids[id]
        return row is not None and row.stage == BLOCKED

    def _take_over(self, new: Record, id: str) -> None:
        assert new.unique  # noqa: S101 - asked of no other
        inside = id in self.fresh
        if inside:
            holder = copy.copy(self.fresh[id][0])
            self.fresh[id] = holder, None
            blocked = True
        else:
            row = self.work.ids[id]
            assert row is not None  # noqa: S101 - it was read as the holder of the key
            blocked = row.stage == BLOCKED
            if id not in self.replaced:
                self.replaced[id] = self.work.read_record(row)
            holder = self.replaced[id]
        if "payload" in new.unique.fields:
            rules.bring(new, holder)
        if "due" in new.unique.fields:  # of one that is not queued yet it is still to be computed
            holder.due = max(new.due, self.work.now) if blocked else rules.due_at(new, self.work.now)
            holder.delay = new.delay if blocked else 0
        holder.unique = new.unique

    def _replace(self, id: str, changed: Record) -> None:
        work = self.work
        row = work.ids[id]
        assert row is not None  # noqa: S101 - it was read as the holder of the key
        row.wants = wanted(changed.unique)
        row.delay = changed.delay or None
        work.touch(row)
        work.replace_body(row, pack_record(changed))
        if row.due != changed.due:
            change_due(work, row, changed.due)

    def _waiting_in(self, queue: str) -> int:
        inside = sum(record.queue == queue for record, _ in self.fresh.values())
        return self.work.waiting_in(queue) + inside


def tie(work: Work, placed: Sequence[tuple[Row, Record]]) -> None:
    """Note new tasks' edges, then let the ends of parents that ended before take effect, in order."""
    met: list[tuple[Row, Row, str]] = []
    for row, record in placed:
        letters = letters_of(record.edges)
        if not letters:
            continue
        row.parents = len(letters)
        row.unarmed = 1 if rules.needs_arming(record.edges) else None
        for id, effects in letters.items():
            parent = work.ids[id]
            assert parent is not None  # noqa: S101 - judged before: a task without its parent is refused
            work.edges.append((parent.sequence, row.sequence, effects, 0))
            if parent.stage >= ENDED:
                met.append((row, parent, effects))
    for row, parent, letter in met:
        if row.stage == BLOCKED:
            lift(work, row, parent.id, parent.state, letter)
            if work.ended:
                work.flush_new()  # the group's own edges are to be found
                spread(work)


def new_row(record: Record, sequence: int, lane: Lane, now: int) -> Row:
    """The columns of a new task: blocked if it has edges, queued otherwise."""
    row = Row(
        sequence, record.id, lane.queue, lane.id, BLOCKED, record.priority, max(record.due, now),
        record.delay or None, now, record.ttl, record.deadline, None, None,
        keep=None if record.keep == DAY else record.keep,
        keep_failed=None if record.keep_failed == KEEP_FAILED else record.keep_failed,
        stride=stride_of(record.fair),
        reply=record.reply,
        wants=None if record.unique is None else wanted(record.unique),
        milestone=1 if record.milestone else None,
    )  # fmt: skip
    if not record.edges and not record.milestone:
        if row.delay is not None:
            row.due += row.delay
            row.delay = None
        if row.ttl is not None:
            row.expires = row.due + row.ttl
        if row.expires is not None or row.deadline is not None:
            row.expire_at = overdue_at(row)
        row.stage = READY if row.due <= now else QUEUED
    return row


def change_due(work: Work, row: Row, due: int) -> None:
    """Give a waiting task another due time; its ttl counts from there, if it was never started."""
    row.due = due
    work.touch(row)
    if row.stage == BLOCKED:
        return
    if row.attempt == 0 and row.ttl is not None:
        row.expires = due + row.ttl
    row.expire_at = overdue_at(row)
    work.move(row, READY if due <= work.now else QUEUED)
    work.tell_queue(row)
