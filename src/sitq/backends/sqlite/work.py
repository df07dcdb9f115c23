"""One job inside a write transaction: what it has read, what it changes, and whom it has to tell.

A job reads what it is about in a few aggregated statements, decides on plain rows, and `flush` writes all
that changed in a few statements more. The number of steps does not depend on the number of tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import astuple

from sitq.backends.base import DONE_TOPIC, queue_topic
from sitq.backends.sqlite.connection import Connection
from sitq.backends.sqlite.lanes import Lane, LaneKey, Lanes, StaleLaneError, encode
from sitq.backends.sqlite.row import (
    BLOCKED,
    COUNTED,
    QUEUED,
    READY,
    RUNNING,
    STAGES,
    STATES,
    History,
    Read,
    Row,
    pack,
    reads_of,
    record_of,
    rows_of,
    tombstone,
)
from sitq.record import DAY, Limit, Record, State

if TYPE_CHECKING:
    from sitq.backends.sqlite.usual import Held

_edges = msgspec.json.Decoder(list[tuple[int, int, str]]).decode
_names = msgspec.json.Decoder(list[str]).decode


class Work:
    """A job's view of the store."""

    def __init__(self, db: Connection, lanes: Lanes, now: int) -> None:
        self.db = db
        self.lanes = lanes
        self.now = now
        self.topics: set[str] = set()
        self.rows: dict[int, Row] = {}
        self.ids: dict[str, Row | None] = {}
        self.dirty: dict[int, Row] = {}
        self.settled: dict[int, bytes | None] = {}
        self._usual: dict[int, bytes | None] = {}
        self.histories: dict[int, bytes] = {}
        self.results: dict[int, bytes] = {}
        self.new: list[Row] = []
        self.plain: list[Row] = []
        self.bodies: list[tuple[int, bytes]] = []
        self.steps: list[tuple[int, str, bytes]] = []
        self.edges: list[tuple[int, int, str, int]] = []
        self.freed: dict[str, int] = {}
        self.ended: list[Row] = []
        self.limits: dict[str, Limit] = {}
        self.holders: dict[str, str | None] = {}
        self.taken_keys: dict[str, str] = {}
        self._lane_of: dict[tuple[object, ...], Lane] = {}
        self._told: set[int] = set()
        self._last = 0
        self._waiting: dict[str, tuple[int, int]] = {}
        self._counts: dict[tuple[int, int], int] = {}
        self._tasks: dict[int, int] = {}
        self._heads: dict[int, tuple[int, int]] = {}
        self._lower: set[int] = set()

    # -- reading ---------------------------------------------------------------------------------------------

    def load_ids(self, ids: Iterable[str]) -> None:
        """Read the tasks with these ids, those that are not known yet."""
        missing = [one for one in dict.fromkeys(ids) if one not in self.ids]
        if missing:
            found = rows_of(self.db.one("rows_by_id", encode(missing).decode()))
            self.ids.update(dict.fromkeys(missing))
            self.adopt(found)

    def load(self, sequences: Iterable[int]) -> list[Row]:
        """Read the tasks with these sequences; one that is gone is missing."""
        wanted = list(dict.fromkeys(sequences))
        missing = [one for one in wanted if one not in self.rows]
        if missing:
            self.adopt(rows_of(self.db.one("rows_by_sequence", encode(missing).decode())))
        return [self.rows[one] for one in wanted if one in self.rows]

    def adopt(self, rows: Sequence[Row]) -> None:
        """Take in rows that were read."""
        for row in rows:
            if row.sequence not in self.rows:
                self.rows[row.sequence] = self.ids[row.id] = row

    def read(self, sequences: Sequence[int]) -> list[Read]:
        """Read tasks whole."""
        return reads_of(self.db.one("reads_by_sequence", encode(sequences).decode()))

    def read_record(self, row: Row) -> Record:
        """The record of a stored task; what can be said of it if its body cannot be read."""
        self.flush_new()
        (read,) = self.read([row.sequence])
        read.row = row
        try:
            return record_of(read)
        except ValueError:
            what = self.lane(row).what
            return tombstone(row, what.queue, what.name)

    def lane(self, row: Row) -> Lane:
        """The lane of a row."""
        return self.lanes.get(self.db, row.lane)

    def lane_of(self, key: tuple[object, ...]) -> Lane:
        """The lane of this key, which `line_up` has been told of."""
        return self._lane_of[key]

    def waiting_in(self, queue: str) -> int:
        """How many tasks of the queue wait, those that this job placed among them."""
        if queue not in self._waiting:
            self._waiting[queue] = self.db.run("waiting_in", queue).fetchone() or (0, 0)
        number, stored = self._waiting[queue]
        return stored + sum(self._counts.get((number, state), 0) for state in (BLOCKED, QUEUED))

    # -- changing --------------------------------------------------------------------------------------------

    def line_up(self, keys: Iterable[LaneKey]) -> None:
        """Make the lanes that new tasks will be in."""
        for key, lane in self.lanes.make(self.db, keys).items():
            self._lane_of[key] = lane

    def next_sequence(self) -> int:
        """A new task's sequence. They have no gaps, so a group that is refused takes none."""
        if not self._last:
            self._last = self.db.one("get_sequence")
        self._last += 1
        return self._last

    def place(self, row: Row, body: bytes, *, plain: bool = False) -> None:
        """Insert a task; a `plain` one has nothing but the columns that every task has."""
        self.rows[row.sequence] = self.ids[row.id] = row
        self.bodies.append((row.sequence, body))
        (self.plain if plain else self.new).append(row)
        self._count(row.queue, row.stage, 1)
        self._tasks[row.lane] = self._tasks.get(row.lane, 0) + 1
        if row.stage == READY:
            self._best(row.lane, (-row.priority, row.sequence))
        if row.stage != BLOCKED and row.lane not in self._told:
            self._told.add(row.lane)
            self.tell_queue(row)

    def replace_body(self, row: Row, body: bytes) -> None:
        """Write a task's body anew."""
        self.flush_new()
        one = [row.sequence]
        self.db.run("drop_bodies", encode(one).decode())
        self.db.insert("insert_body", [(row.sequence, body)])

    def move(self, row: Row, stage: int) -> None:
        """Change a row's stage, and what is counted by it."""
        old = row.stage
        if STATES[old] is not STATES[stage]:
            self._count(row.queue, old, -1)
            self._count(row.queue, stage, 1)
        if old == READY:
            self._leave(row)
        row.stage = stage
        self.dirty[row.sequence] = row
        if stage == READY:
            self._head(row)
        if old == RUNNING:
            self._free(row)

    def line_up_ready(self, items: Iterable[tuple[int, int, int]]) -> None:
        """Count queued tasks as ready, given their lane, priority and sequence."""
        for lane, priority, sequence in items:
            self._best(lane, (-priority, sequence))

    def settle(self, row: Row, stage: int, result: bytes | None) -> None:
        """Let a running task end in the usual way, whose columns are written by a narrower statement."""
        self._count(row.queue, RUNNING, -1)
        self._count(row.queue, stage, 1)
        row.stage = stage
        self.settled[row.sequence] = result
        self._free(row)

    def settle_usual(self, tasks: Sequence[tuple[Held, bytes | None]]) -> set[str]:
        """Let running tasks complete whose columns are as their claim left them; which of them did.

        Those that others depend on are left out.
        """
        sequences = [held.sequence for held, _ in tasks]
        parents = {
            parent for parent, *_ in _edges(self.db.one("edges_of_parents", encode(sequences).decode()))
        }
        settled: set[str] = set()
        lanes: dict[tuple[int, int], int] = {}
        for held, result in tasks:
            if held.sequence in parents:
                continue
            settled.add(held.id)
            self._usual[held.sequence] = result
            lane = held.queue, held.lane
            lanes[lane] = lanes.get(lane, 0) + 1
            if held.reply:
                self.topics.add(held.reply)
        self.topics.add(DONE_TOPIC)
        for (queue, number), count in lanes.items():
            self._count(queue, RUNNING, -count)
            self._count(queue, STAGES[State.COMPLETED], count)
            for key in set(self.lanes.get(self.db, number).what.keys):
                self.freed[key] = self.freed.get(key, 0) + count
        return settled

    def reorder(self, row: Row, priority: int) -> None:
        """Change a waiting task's priority."""
        row.priority = priority
        self.dirty[row.sequence] = row
        if row.stage == READY:
            self._lower.add(row.lane)
            self._head(row)

    def started(self, queue: int, lanes: Iterable[int]) -> None:
        """Count ready tasks of a queue that have just been started, given the lane of each."""
        started = list(lanes)
        self._count(queue, READY, -len(started))
        self._count(queue, RUNNING, len(started))
        self._lower.update(started)

    def forget(self, row: Row) -> None:
        """Count a row out that is being deleted."""
        self._count(row.queue, row.stage, -1)
        self._tasks[row.lane] = self._tasks.get(row.lane, 0) - 1
        if row.stage == READY:
            self._leave(row)
        self.steps = [step for step in self.steps if step[0] != row.sequence]
        for rows in (self.rows, self.dirty):
            rows.pop(row.sequence, None)
        for blobs in (self.histories, self.results):
            blobs.pop(row.sequence, None)
        self.settled.pop(row.sequence, None)
        self.ids[row.id] = None

    def drop(self, sequences: Sequence[int], keys: Sequence[tuple[str, str]]) -> None:
        """Delete tasks, given their sequences and unique keys with their ids, and all that is theirs."""
        self.db.run("keep_sequence")
        gone = encode(sequences).decode()
        for name in ("delete_tasks", "drop_bodies", "delete_steps", "delete_edges_of_children"):
            self.db.run(name, gone)
        if keys:
            self.db.run("drop_uniques", encode(keys).decode())
        for key, id in keys:
            if self.holders.get(key) == id:
                self.holders[key] = None
                self.taken_keys.pop(key, None)

    def remember(self, row: Row, history: History) -> None:
        """Write a row's history."""
        packed = pack(history)
        row.history = packed.hex()
        self.histories[row.sequence] = packed

    def tell_end(self, row: Row) -> None:
        """Wake those who wait for a task that ended."""
        self.topics.add(DONE_TOPIC)
        if row.reply:
            self.topics.add(row.reply)

    def tell_queue(self, row: Row) -> None:
        """Wake those who wait for tasks of the row's queue."""
        self.topics.add(queue_topic(self.lane(row).what.queue))

    def _count(self, queue: int, stage: int, tasks: int) -> None:
        key = queue, COUNTED[stage]
        self._counts[key] = self._counts.get(key, 0) + tasks

    def _leave(self, row: Row) -> None:
        # If that empties a lane which was to use what its keys have left, another one may use it.
        self._lower.add(row.lane)
        for key in self.lane(row).what.keys:
            self.freed.setdefault(key, 0)

    def _head(self, row: Row) -> None:
        self._best(row.lane, (-row.priority, row.sequence))

    def _best(self, lane: int, head: tuple[int, int]) -> None:
        known = self._heads.get(lane)
        if known is None or head < known:
            self._heads[lane] = head

    def _free(self, row: Row) -> None:
        for key in set(self.lane(row).what.keys):
            self.freed[key] = self.freed.get(key, 0) + 1

    # -- writing ---------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write all that changed."""
        db = self.db
        if self.limits:
            self._flush_limits()
        self.flush_new()
        if self.taken_keys:
            db.insert("insert_unique", list(self.taken_keys.items()))
            self.taken_keys = {}
        if self.steps:
            db.insert("insert_step", self.steps)
            self.steps = []
        self._flush_rows()
        self.flush_lanes()
        if self._counts:
            changed = [(*key, tasks) for key, tasks in self._counts.items() if tasks]
            db.run("count", encode(changed).decode())
            self._counts = {}
            self._waiting = {}
        if self.freed:
            freed, self.freed = self.freed, {}
            db.run("free_keys", encode(list(freed.items())).decode())
            self.mark(freed)

    def flush_new(self) -> None:
        """Write new tasks and their edges, as they are now."""
        if self.plain:
            self._flush_plain()
        if self.new:
            rows = [(*astuple(row)[:-1], self._new_history(row)) for row in self.new]
            self.db.insert("insert_task", rows)
            for row in self.new:
                self.dirty.pop(row.sequence, None)
            self.new = []
        if self.bodies:
            self.db.insert("insert_body", self.bodies)
            self.bodies = []
        if self.edges:
            self.db.insert("insert_edge", self.edges)
            self.edges = []

    def _flush_plain(self) -> None:
        """Write tasks with few columns: most of the time of an insert goes by their number."""
        if self.dirty:  # one of them may have changed since: that needs all columns
            self.new += self.plain
        else:
            rows = [
                (
                    row.sequence,
                    row.id,
                    row.queue,
                    row.lane,
                    row.stage,
                    row.priority,
                    row.due,
                    row.created,
                    row.reply,
                )
                for row in self.plain
            ]
            self.db.insert("insert_plain", rows)
        self.plain = []

    def _flush_limits(self) -> None:
        rows = [(key, one.slots, one.rate, one.per, one.burst) for key, one in self.limits.items()]
        figures = encode(rows).decode()
        self.limits = {}
        changed = self.db.one("keys_changed", figures)
        self.db.run("store_limits", figures)
        if changed != "[]":
            self.mark(_names(changed))

    def _new_history(self, row: Row) -> bytes | None:
        return self.histories.pop(row.sequence, None)

    def _flush_rows(self) -> None:
        for one in self.settled.keys() & self.dirty.keys():  # the wide statement writes it whole
            result = self.settled.pop(one)
            if result is not None:
                self.results[one] = result
        if self.settled or self._usual:
            self._flush_settled()
        if self.dirty:
            self.db.run("store", encode([_stored(row) for row in self.dirty.values()]).decode())
            self.dirty = {}
        self._flush_blobs("store_history", self.histories)
        self._flush_blobs("store_result", self.results)

    def _flush_blobs(self, name: str, values: dict[int, bytes]) -> None:
        if values:
            rows: list[tuple[int, int, int]] = []
            blob = bytearray(b"\0")
            for one, value in values.items():
                rows.append((one, len(blob) + 1, len(value)))
                blob += value
            self.db.run(name, encode(rows).decode(), bytes(blob))
            values.clear()

    def _flush_settled(self) -> None:
        alike: dict[tuple[int, int | None], list[int]] = {}
        for one in self.settled:
            row = self.rows[one]
            alike.setdefault((row.stage, row.keep_until), []).append(one)
        if self._usual:
            alike.setdefault((STAGES[State.COMPLETED], self.now + DAY), []).extend(self._usual)
            self.settled |= self._usual
        for (stage, keep_until), sequences in alike.items():
            places, blob = packed([self.settled[one] for one in sequences])
            self.db.run("settle", encode(sequences).decode(), places, blob, stage, keep_until, self.now)
        self.settled, self._usual = {}, {}

    def flush_lanes(self) -> None:
        """Write what is known of the lanes whose tasks have changed."""
        raised: dict[int, tuple[int, int | None, int | None]] = {
            lane: (0, -best[0], best[1]) for lane, best in self._heads.items()
        }
        for lane, more in self._tasks.items():
            _, priority, sequence = raised.get(lane, (0, None, None))
            raised[lane] = more, priority, sequence
        if raised:
            rows = [(lane, *change) for lane, change in raised.items()]
            self._heads, self._tasks = {}, {}
            if self.db.run("raise_lanes", encode(rows).decode()).rowcount != len(rows):
                raise StaleLaneError
        if self._lower:
            self.db.run("lower_lanes", encode(sorted(self._lower)).decode())
            self._lower = set()

    def mark(self, keys: Iterable[str]) -> None:
        """Say that keys may have capacity again for the lanes that they hold."""
        held = encode(list(keys)).decode()
        queues = self.db.one("queues_held", held)
        if queues != "[]":
            self.db.run("mark_keys", held)
            self.topics.update(queue_topic(queue) for queue in _names(queues))


def packed(values: Sequence[bytes | None]) -> tuple[bytes, bytes]:
    """Values as one blob, and where each one stands in it: ten digits of its start and ten of its length.

    A start of 0 is no value. A statement finds these faster than numbers inside JSON, which it would parse
    again for each of them (5 of 10 µs of a settle with SQLite 3.40).
    """
    places: list[bytes] = []
    at = 2  # of an empty blob, substr makes NULL
    for value in values:
        if value is None:
            places.append(_NOWHERE)
        else:
            places.append(b"%010d%010d" % (at, len(value)))
            at += len(value)
    return b"".join(places), b"\0" + b"".join([value for value in values if value is not None])


_NOWHERE = b"0" * 20


def _stored(row: Row) -> tuple[Any, ...]:
    return (
        row.sequence, row.stage, row.priority, row.due, row.delay, row.expires, row.expire_at,
        row.attempt, row.failures, row.crashes, row.alone, row.token, row.owner, row.lease_until, row.stop,
        row.started, row.finished, row.keep_until, row.reply, row.wants, row.parents, row.unarmed,
    )  # fmt: skip
