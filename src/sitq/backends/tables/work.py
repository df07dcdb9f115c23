"""One job inside a write transaction: what it has read, what it changes, and whom it has to tell.

A job reads what it is about in a few aggregated statements, decides on plain rows, and `flush` writes all
that changed in a few statements more. The number of steps does not depend on the number of tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import astuple

from sitq.backends.base import DONE_TOPIC, queue_topic
from sitq.backends.tables.counts import Counts
from sitq.backends.tables.database import Database
from sitq.backends.tables.heads import Head, Heads
from sitq.backends.tables.lanes import Lane, LaneKey, Lanes, encode
from sitq.backends.tables.pending import Pending
from sitq.backends.tables.row import (
    BLOCKED,
    QUEUED,
    READY,
    RUNNING,
    STAGES,
    STATES,
    Blocked,
    History,
    Read,
    Row,
    pack,
    reads_of,
    record_of,
    rows_of,
    tombstone,
)
from sitq.record import Limit, Record, State

if TYPE_CHECKING:
    from sitq.backends.tables.usual import Held

_names = msgspec.json.Decoder(list[str]).decode


class Work:
    """A job's view of the store."""

    def __init__(self, db: Database, lanes: Lanes, now: int, counts: Counts) -> None:
        self.db = db
        self.lanes = lanes
        self.now = now
        self.topics: set[str] = set()
        self.rows: dict[int, Row] = {}
        self.ids: dict[str, Row | None] = {}
        self._pending = Pending()
        self.new: list[Row] = []
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
        self._counts = counts
        self._heads = Heads()
        self._left: set[int] = set()

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

    def lane(self, row: Row | Blocked) -> Lane:
        """The lane of a row."""
        return self.lanes.get(self.db, row.lane)

    def lane_of(self, key: tuple[object, ...]) -> Lane:
        """The lane of this key, which `line_up` has been told of."""
        return self._lane_of[key]

    def waiting_in(self, queue: str) -> int:
        """How many tasks of the queue wait, those that this transaction placed among them."""
        return self._counts.waiting_in(self.db, queue)

    def running_more(self, queue: int) -> int:
        """How many more tasks of the queue run than is written, by what this transaction did."""
        return self._counts.running_more(queue)

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

    def place(self, row: Row, body: bytes) -> None:
        """Insert a task."""
        self.rows[row.sequence] = self.ids[row.id] = row
        self.bodies.append((row.sequence, body))
        self.new.append(row)
        self._count(row.queue, row.stage, 1)
        self._heads.count(row.lane, 1)
        if row.stage == READY:
            self._head(row)
        if row.stage != BLOCKED and row.lane not in self._told:
            self._told.add(row.lane)
            self.tell_queue(row)

    def came(self, lane: Lane, queued: int, blocked: int, head: Head | None) -> None:
        """Count tasks in that have been inserted.

        `head` is the negative priority and the sequence of the best ready one, if one is ready.
        """
        self._heads.count(lane.id, queued + blocked)
        if blocked:
            self._count(lane.queue, BLOCKED, blocked)
        if queued:
            self._count(lane.queue, QUEUED, queued)
            self.topics.add(queue_topic(lane.what.queue))
        if head is not None:
            self._heads.come(lane.id, head)

    def replace_body(self, row: Row, body: bytes) -> None:
        """Write a task's body anew."""
        self.flush_new()
        self.db.replace_body(row.sequence, body)

    def move(self, row: Row, stage: int) -> None:
        """Change a row's stage, and what is counted by it."""
        old = row.stage
        if STATES[old] is not STATES[stage]:
            self._count(row.queue, old, -1)
            self._count(row.queue, stage, 1)
        if old == READY:
            self._leave(row)
        row.stage = stage
        self.touch(row)
        if stage == READY:
            self._head(row)
        if old == RUNNING:
            self._left.add(row.queue)
            self._free(row)

    def send(self, row: Row, lane: Lane) -> None:
        """Let a waiting task be in another lane, and so perhaps in another queue."""
        self.flush_new()  # what is written here is written at once
        self.lanes.load(self.db, [row.lane])
        self._count(row.queue, row.stage, -1)
        self._heads.count(row.lane, -1)
        if row.stage == READY:
            self._leave(row)
        row.queue, row.lane = lane.queue, lane.id
        self.db.run("send", row.sequence, lane.queue, lane.id)
        self._count(row.queue, row.stage, 1)
        self._heads.count(row.lane, 1)
        if row.stage == READY:
            self._head(row)
        self.tell_queue(row)

    def touch(self, row: Row) -> None:
        """Write a row whose columns changed."""
        self._pending.rows[row.sequence] = row

    def lift(self, row: Row | Blocked) -> None:
        """Write a row of which a parent has ended."""
        self._pending.lifted[row.sequence] = row

    def let_go(self, row: Row | Blocked, stage: int) -> None:
        """Queue a blocked row of which nothing changes but what `lift` writes."""
        self._count(row.queue, BLOCKED, -1)
        self._count(row.queue, QUEUED, 1)
        row.stage = stage
        if stage == READY:
            self._head(row)

    def is_touched(self, row: Row) -> bool:
        """Whether columns of a row changed that are not written yet."""
        return row.sequence in self._pending.rows

    def keep_result(self, row: Row, result: bytes) -> None:
        """Write the result of a row that is written whole."""
        self._pending.results[row.sequence] = result

    def line_up_ready(self, items: Iterable[tuple[int, int, int]]) -> None:
        """Count queued tasks as ready, given their lane, priority and sequence."""
        for lane, priority, sequence in items:
            self._heads.come(lane, (-priority, sequence))

    def settle(self, row: Row, stage: int, result: bytes | None) -> None:
        """Let a running task end in the usual way, whose columns are written by a narrower statement."""
        self._count(row.queue, RUNNING, -1)
        self._count(row.queue, stage, 1)
        row.stage = stage
        self._pending.settled[row.sequence] = result
        self._left.add(row.queue)
        self._free(row)

    def settle_usual(self, tasks: Sequence[tuple[Held, bytes | None]]) -> set[str]:
        """Let running tasks complete whose columns are as their claim left them; their ids."""
        settled: set[str] = set()
        tied = [held.sequence for held, _ in tasks if held.tied]
        if tied:
            self.db.run("edges_over", encode(tied).decode())
        lanes: dict[int, int] = {}
        for held, result in tasks:
            settled.add(held.id)
            self._pending.usual[held.sequence] = result
            lanes[held.lane] = lanes.get(held.lane, 0) + 1
            if held.reply:
                self.topics.add(held.reply)
        self.topics.add(DONE_TOPIC)
        queues: dict[int, int] = {}
        for lane, count in self.lanes.of(self.db, lanes):
            queues[lane.queue] = queues.get(lane.queue, 0) + count
            if lane.what.keys:
                for key in set(lane.what.keys):
                    self.freed[key] = self.freed.get(key, 0) + count
        for queue, count in queues.items():
            self._left.add(queue)
            self._count(queue, RUNNING, -count)
            self._count(queue, STAGES[State.COMPLETED], count)
        return settled

    def reorder(self, row: Row, priority: int) -> None:
        """Change a waiting task's priority."""
        row.priority = priority
        self.touch(row)
        if row.stage == READY:
            self._heads.leave([row.lane])
            self._head(row)

    def started(self, queue: int, lanes: Iterable[int]) -> None:
        """Count ready tasks of a queue that have just been started, given the lane of each."""
        started = list(lanes)
        self._count(queue, READY, -len(started))
        self._count(queue, RUNNING, len(started))
        self._heads.leave(started)

    def forget(self, row: Row) -> None:
        """Count a row out that is being deleted."""
        self._count(row.queue, row.stage, -1)
        self._heads.count(row.lane, -1)
        if row.stage == READY:
            self._leave(row)
        self.steps = [step for step in self.steps if step[0] != row.sequence]
        self.rows.pop(row.sequence, None)
        self._pending.forget(row.sequence)
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
        self._pending.histories[row.sequence] = packed

    def tell_end(self, row: Row) -> None:
        """Wake those who wait for a task that ended."""
        self.topics.add(DONE_TOPIC)
        if row.reply:
            self.topics.add(row.reply)

    def tell_queue(self, row: Row | Blocked) -> None:
        """Wake those who wait for tasks of the row's queue."""
        self.topics.add(queue_topic(self.lane(row).what.queue))

    def _count(self, queue: int, stage: int, tasks: int) -> None:
        self._counts.add(queue, stage, tasks)

    def _leave(self, row: Row) -> None:
        # If that empties a lane which was to use what its keys have left, another one may use it.
        self._heads.leave([row.lane])
        for key in self.lane(row).what.keys:
            self.freed.setdefault(key, 0)

    def _head(self, row: Row | Blocked) -> None:
        self._heads.come(row.lane, (-row.priority, row.sequence))

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
        self._pending.write(db, self.rows, self.now)
        self.flush_lanes()
        if self.freed:
            freed, self.freed = self.freed, {}
            _free_keys(db, freed)
            self.mark(freed)
        if self._left:
            limited = db.one("limited_queues", encode(list(self._left)).decode())
            self._left.clear()
            if limited != "[]":
                self.topics.update(queue_topic(name) for name in _names(limited))

    def write_counts(self) -> None:
        """Write how many tasks there are of each kind, for a statement that reads it."""
        self._counts.write(self.db)

    def flush_new(self) -> None:
        """Write new tasks and their edges, as they are now."""
        if self.new:
            changed = self._pending
            rows = [(*astuple(row)[:-1], changed.histories.pop(row.sequence, None)) for row in self.new]
            self.db.place(rows, self.bodies)
            for row in self.new:
                changed.rows.pop(row.sequence, None)
                changed.lifted.pop(row.sequence, None)
            self.new, self.bodies = [], []
        if self.edges:
            self.db.insert("insert_edge", self.edges)
            self.edges = []

    def _flush_limits(self) -> None:
        rows = [(key, one.slots, one.rate, one.per, one.burst) for key, one in self.limits.items()]
        self.limits = {}
        changed = self.db.insert("store_limits", rows)
        if changed:
            self.mark([key for (key,) in changed])

    def flush_lanes(self) -> None:
        """Write what is known of the lanes whose tasks have changed."""
        self._heads.write(self.db)

    def mark(self, keys: Iterable[str]) -> None:
        """Say that keys may have capacity again for the lanes that they hold."""
        held = encode(list(keys)).decode()
        queues = self.db.one("queues_held", held)
        if queues != "[]":
            self.db.run("mark_keys", held)
            self.topics.update(queue_topic(queue) for queue in _names(queues))


def _free_keys(db: Database, freed: Mapping[str, int]) -> None:
    """Count tasks out that ran under these keys: one statement for all keys of which as many did."""
    alike: dict[int, list[str]] = {}
    for key, tasks in freed.items():
        if tasks:
            alike.setdefault(tasks, []).append(key)
    for tasks, keys in alike.items():
        db.run("free_keys", encode(keys).decode(), tasks)
