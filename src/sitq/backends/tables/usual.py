"""The usual way of a task, made short: a first attempt without anything unusual, which its holder completes.

What a claim reads of such a task is its body and little else, and what it came to know is kept in this
process until the task is settled: then the store is asked only whether all of it still holds, and for the
children that it lets go. Everything else takes the long way through whole rows. Both ways come to the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeGuard

import msgspec

from sitq.backends.tables.children import Tie, are_usual, lift_usual
from sitq.backends.tables.database import Database
from sitq.backends.tables.lanes import encode
from sitq.backends.tables.row import ends_of, unpacked
from sitq.move import Move, Release, Retry, Settle
from sitq.record import Record, State

if TYPE_CHECKING:
    from sitq.backends.tables.work import Work

_MOST: Final = 100_000
"""Tasks that are remembered at the most: those whose leases were lost are never settled here."""


class Fresh(msgspec.Struct, array_like=True, gc=False):
    """What a claim reads of a task at its first attempt; it is to be read whole if `size` is None."""

    sequence: int
    id: str
    queue: int
    lane: int
    priority: int
    due: int
    created: int
    size: int | None
    ends: str | None = None
    body: bytes = b""


class Held(NamedTuple):
    """What this process knows of a running task that it claimed itself."""

    id: str
    token: str
    sequence: int
    queue: int
    lane: int
    reply: str | None
    tied: bool = False
    """Whether it has parents."""


_fresh = msgspec.json.Decoder(list[Fresh]).decode
_sequences = msgspec.json.Decoder(list[int]).decode
_ties = msgspec.json.Decoder(list[Tie]).decode


def read_fresh(db: Database, sequences: Sequence[int]) -> list[Fresh]:
    """What is read of ready tasks first."""
    return with_bodies(*db.run("fresh_by_sequence", encode(sequences).decode()).fetchone())


def read_fresh_of(db: Database, lane: int, most: int) -> list[Fresh]:
    """The same of the first ready tasks of a lane."""
    return with_bodies(*db.run("fresh_of_lane", lane, most).fetchone())


def with_bodies(columns: str, bodies: bytes | None) -> list[Fresh]:
    """The tasks in JSON, each with its part of the bodies that follow one another."""
    found, at = _fresh(columns), 0
    for fresh in found:
        if fresh.size is not None and bodies is not None:
            fresh.body = bodies[at : at + fresh.size]
            at += fresh.size
    return found


def fresh_record(fresh: Fresh, token: str, owner: str, now: int, lease_until: int) -> Record:
    """The record of a task that has just been started.

    Raises:
        ValueError: The stored body cannot be read.
    """
    record = unpacked(fresh.body, fresh.id)
    record.state = State.RUNNING
    record.sequence = fresh.sequence
    record.priority = fresh.priority
    record.due = fresh.due
    record.delay = 0
    record.created = fresh.created
    record.attempt = 1
    record.token = token
    record.owner = owner
    record.lease_until = lease_until
    record.started = now
    record.ends = () if fresh.ends is None else ends_of(fresh.ends)
    return record


class Holding:
    """The tasks that this process claimed in the usual way and has not settled yet.

    Written by the loops that claim and read by the writer; each step is one operation on a dictionary.
    """

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}

    def remember(self, held: Held) -> None:
        """Note a task that was claimed."""
        if len(self._held) >= _MOST:
            self._held.clear()
        self._held[held.id] = held

    def of(self, move: Move) -> Held | None:
        """The task that a move lets complete, if this process claimed it in the usual way."""
        held = self._held.get(move.id)
        return held if held is not None and is_success(move, held.token) else None

    def forget(self, ids: Iterable[str]) -> None:
        """Forget tasks that have been settled."""
        for id in ids:
            self._held.pop(id, None)

    def settle(self, work: Work, moves: Sequence[Move]) -> set[str]:
        """Settle those of the tasks that are what they were, and answer which.

        Left to the long way is all that is not an attempt's plain success. So are parents whose ends mean
        more than most to a child, or might do so together with what takes the long way: that is done in its
        order.
        """
        if len({move.id for move in moves}) < len(moves) or any(follows(move) for move in moves):
            return set()  # what is said twice of a task, or follows a move, is judged in its order
        known: dict[str, dict[int, tuple[Held, bytes | None]]] = {}
        for move in moves:
            held = self._held.pop(move.id, None)
            if held is not None and is_success(move, held.token):
                known.setdefault(held.token, {})[held.sequence] = held, move.result
        still: dict[int, tuple[Held, bytes | None]] = {}
        ties: list[Tie] = []
        for token, tasks in known.items():
            running, edges = work.db.run("running_unchanged", encode(list(tasks)).decode(), token).fetchone()
            still.update((one, tasks[one]) for one in _sequences(running))
            if edges != "[]":
                ties += [tie for tie in _ties(edges) if tie.parent in still]
        if ties and (len(still) < len(moves) or not are_usual(ties)):
            for parent in {tie.parent for tie in ties}:
                del still[parent]
            ties = []
        if not still:
            return set()
        lift_usual(work, ties)
        return work.settle_usual(list(still.values()))


def follows(move: Move) -> bool:
    """Whether something is to be put in the step of a move."""
    return isinstance(move, Settle | Retry | Release) and bool(move.follow)


def is_success(move: Move, token: str) -> TypeGuard[Settle]:
    """Whether the move says that the attempt with this token succeeded, and no more than that."""
    return (
        type(move) is Settle
        and move.state is State.COMPLETED
        and move.token == token
        and move.failure is None
        and not move.follow
    )
