"""The usual ways, each in one call of a function of the server: plain tasks in, started, completed, read.

Nothing here talks to the server: each way says what is to be called, and what the answer means. So it does
not matter who makes the call, a thread or an event loop.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Generic, Protocol, Self, TypeGuard, TypeVar

import msgspec

from sitq.backends.base import DONE_TOPIC, Answer, Duplicate, Placed, Want, queue_topic
from sitq.backends.postgres import binary
from sitq.backends.postgres.binary import Call, Row
from sitq.backends.postgres.connection import Connection
from sitq.backends.tables.admission import Group
from sitq.backends.tables.brief import briefs_of
from sitq.backends.tables.lanes import Lane, LaneKey
from sitq.backends.tables.row import Read, reads_of
from sitq.backends.tables.usual import Fresh, Held, Holding, follows, with_bodies
from sitq.move import Move, Settle
from sitq.record import DAY, Record

T = TypeVar("T")
Kind = tuple[str, str, str | None]
"""Queue, function and Python of a plain task."""

_PLENTY = 10_000


class Said(msgspec.Struct, Generic[T]):
    """What a call did: its answer, whom it concerns, and which of them wait in other processes."""

    answer: T
    topics: Collection[str]
    heard: Sequence[str] | None


class Usual(Protocol[T]):
    """Something usual that is asked of the server."""

    def call(self, me: str, slot: int, now: int | None) -> Call | None:
        """What is to be called, or None if that takes more than one call.

        Args:
            me: This process.
            slot: Where the connection counts.
            now: The instant, or None if the server's clock says it.
        """
        ...

    def said(self, row: Row) -> Said[T] | None:
        """What the server's answer means, or None if it is to be done another way."""
        ...


class Places:
    """The numbers of plain lanes that this process has put tasks into. The server says when one is gone."""

    def __init__(self) -> None:
        self._lanes: dict[Kind, Lane] = {}

    def of(self, kinds: Collection[Kind]) -> dict[Kind, Lane] | None:
        """The lanes of tasks of these kinds, or None if some are not known."""
        known = self._lanes
        try:
            return {kind: known[kind] for kind in kinds}
        except KeyError:
            return None

    def remember(self, lanes: Mapping[Kind, Lane]) -> None:
        """Note lanes whose making has been committed."""
        if len(self._lanes) > _PLENTY:
            self._lanes = {}
        self._lanes.update(lanes)

    def forget(self) -> None:
        """Forget all, as one is gone."""
        self._lanes = {}


class Put:
    """New tasks are stored, those whose id is not there yet."""

    def __init__(self, groups: Sequence[Group], places: Places) -> None:
        self._groups = groups
        self._places = places
        new: dict[str, tuple[Record, bytes]] = {}
        for group in groups:
            for record, packed in group:
                new.setdefault(record.id, (record, packed))
        self._twice = len(new) < sum(map(len, groups))
        self._records = [record for record, _ in new.values()]
        self._bodies = [packed for _, packed in new.values()]
        self._kinds: list[Kind] = [(record.queue, record.name, record.python) for record in self._records]
        self.topics = {queue_topic(queue) for queue, _, _ in set(self._kinds)}

    def call(self, me: str, slot: int, now: int | None) -> Call | None:
        """What is to be called, if it is known where the tasks go."""
        lanes = self._places.of(set(self._kinds))
        return None if lanes is None else self._call(lanes, me, slot, now)

    def seek(self, db: Connection) -> bool:
        """Find out where the tasks go; whether there are lanes for all of them."""
        keys = {kind: LaneKey(kind[0], kind[1], kind[2] or "", None, ()) for kind in set(self._kinds)}
        found = db.lanes.seek(db, keys.values())
        if found is None:
            return False
        self._places.remember({kind: found[key] for kind, key in keys.items()})
        return True

    def _call(self, lanes: Mapping[Kind, Lane], me: str, slot: int, now: int | None) -> Call:
        records = self._records
        if len(lanes) == 1:
            (lane,) = lanes.values()
            queue_ids, lane_ids = [lane.queue] * len(records), [lane.id] * len(records)
        else:
            queue_ids = [lanes[kind].queue for kind in self._kinds]
            lane_ids = [lanes[kind].id for kind in self._kinds]
        values = (
            binary.texts([record.id for record in records]),
            binary.byteas(self._bodies),
            binary.bigints(queue_ids),
            binary.bigints(lane_ids),
            binary.bigints([record.priority for record in records]),
            binary.bigints([record.due for record in records]),
            binary.bigints([record.delay for record in records]),
            binary.texts([record.reply for record in records]),
            binary.smallint(slot),
            binary.texts(list(self.topics)),
            binary.text(me),
            binary.bigint(now),
        )
        return Call("place_plain", values)

    def said(self, row: Row) -> Said[list[list[Answer]]] | None:
        """Which tasks were placed; None if a lane is gone."""
        stale, known, heard = row
        if binary.is_true(stale):
            self._places.forget()
            return None
        if known is None and not self._twice:
            placed: list[list[Answer]] = [
                [Placed(record.id) for record, _ in group] for group in self._groups
            ]
            return Said(placed, self.topics, binary.texts_of(heard))
        taken = set(binary.texts_of(known))
        judged: list[list[Answer]] = []
        for group in self._groups:
            some: list[Answer] = []
            for record, _ in group:
                some.append(Duplicate(record.id) if record.id in taken else Placed(record.id))
                taken.add(record.id)
            judged.append(some)
        return Said(judged, self.topics, binary.texts_of(heard))

    @property
    def lane_keys(self) -> set[LaneKey]:
        """The lanes that the tasks go to."""
        return {LaneKey(queue, name, python or "", None, ()) for queue, name, python in set(self._kinds)}


Claimed = tuple[list[Read | Fresh], int, int | None]
"""What was claimed, the time, and when there may be more."""


class Take:
    """Tasks are claimed, if that has to do with plain lanes only."""

    def __init__(self, want: Want) -> None:
        self._want = want

    def call(self, me: str, slot: int, now: int | None) -> Call:  # noqa: ARG002
        """What is to be called."""
        want = self._want
        values = (
            binary.text(want.claim),
            binary.text(want.worker),
            binary.texts([share.queue for share in want.queues]),
            binary.bigints([share.most for share in want.queues]),
            binary.bigint(want.limit),
            binary.bigint(want.lease),
            binary.text(want.python),
            binary.texts(list(want.leave)),
            binary.boolean(want.reclaim),
            binary.smallint(slot),
            binary.bigint(now),
        )
        return Call("start_plain", values)

    def said(self, row: Row) -> Said[Claimed] | None:
        """What was claimed; None if nothing was, as it has to go the long way."""
        slow, at, following, tasks, bodies = row
        if binary.is_true(slow):
            return None
        fresh = [] if tasks is None else with_bodies(tasks.decode(), bodies)
        return Said(([*fresh], binary.number_of(at) or 0, binary.number_of(following)), (), None)


def whole(db: Connection, reads: Sequence[Read | Fresh]) -> list[Read | Fresh]:
    """Started tasks, with those read whole that need it."""
    wanted = [one.sequence for one in reads if is_partial(one)]
    if not wanted:
        return [*reads]
    found = reads_of(db.one("reads_by_sequence", msgspec.json.encode(wanted).decode()))
    read = {one.row.sequence: one for one in found}
    return [read[one.sequence] if is_partial(one) else one for one in reads]


def is_partial(one: Read | Fresh) -> TypeGuard[Fresh]:
    """Whether a started task is still to be read whole."""
    return isinstance(one, Fresh) and one.size is None


class Complete:
    """Tasks complete whose holder is this process. What did not apply is answered with False."""

    def __init__(self, moves: Sequence[Move], held: Sequence[Held]) -> None:
        self._held = held
        self._results = {
            one.sequence: move.result if isinstance(move, Settle) else None
            for one, move in zip(held, moves, strict=True)
        }

    @classmethod
    def of(cls, moves: Sequence[Move], holding: Holding) -> Self | None:
        """What there is to do, if the moves say nothing else."""
        held = [one for one in map(holding.of, moves) if one is not None]
        if len(held) < len(moves) or len({one.id for one in held}) < len(moves):
            return None
        return None if any(follows(move) for move in moves) else cls(moves, held)

    def call(self, me: str, slot: int, now: int | None) -> Call:
        """What is to be called."""
        # Rows are locked in the order of their sequences.
        held = sorted(self._held, key=lambda one: one.sequence)
        values = (
            binary.bigints([one.sequence for one in held]),
            binary.texts([one.token for one in held]),
            binary.byteas([self._results[one.sequence] for one in held]),
            binary.bigint(DAY),
            binary.smallint(slot),
            binary.texts(list(self._topics())),
            binary.text(me),
            binary.bigint(now),
        )
        return Call("settle_plain", values)

    def said(self, row: Row) -> Said[list[bool]]:
        """Which of them did."""
        settled, limited, heard = row
        done = set(binary.numbers_of(settled))
        topics = self._topics() if done else set[str]()
        topics.update(queue_topic(name) for name in binary.texts_of(limited))
        return Said(
            [one.sequence in done for one in self._held], topics, binary.texts_of(heard) if done else None
        )

    def _topics(self) -> set[str]:
        return {DONE_TOPIC, *(one.reply for one in self._held if one.reply)}


class Get:
    """Tasks are read of which there is little to tell."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = set(ids)

    def call(self, me: str, slot: int, now: int | None) -> Call:  # noqa: ARG002
        """What is to be called."""
        return Call("briefs_by_id", (binary.jsonb(msgspec.json.encode(list(self._ids))),))

    def said(self, row: Row) -> Said[list[Record]] | None:
        """The records; None if there is more to tell of some of them, or some are not there."""
        columns, bodies, results = row
        records, rest = briefs_of((columns or b"[]").decode(), bodies, results)
        return None if rest or len(records) < len(self._ids) else Said(records, (), None)
