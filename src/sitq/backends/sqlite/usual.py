"""The usual way of a task, made short: a first attempt without anything unusual, which its holder completes.

What a claim reads of such a task is its body and little else, and what it came to know is kept in this
process until the task is settled: then the store is asked only whether all of it still holds. Everything else
takes the long way through whole rows. Both ways come to the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeGuard

import msgspec

from sitq.backends.sqlite.connection import Connection
from sitq.backends.sqlite.lanes import encode
from sitq.move import Move, Release, Retry, Settle
from sitq.record import Record, State

if TYPE_CHECKING:
    from sitq.backends.sqlite.work import Work

_MOST: Final = 100_000
"""Tasks that are remembered at the most: those whose leases were lost are never settled here."""


class Fresh(NamedTuple):
    """What a claim reads of a task at its first attempt that has nothing unusual."""

    sequence: int
    id: str
    queue: int
    lane: int
    priority: int
    due: int
    created: int
    body: str | None
    """In hexadecimal; None if the task is not of this kind."""


class Held(NamedTuple):
    """What this process knows of a running task that it claimed itself."""

    id: str
    token: str
    sequence: int
    queue: int
    lane: int
    reply: str | None


_fresh = msgspec.json.Decoder(list[Fresh]).decode
_sequences = msgspec.json.Decoder(list[int]).decode
_record = msgspec.msgpack.Decoder(Record).decode


def read_fresh(db: Connection, sequences: Sequence[int]) -> list[Fresh]:
    """What is read of ready tasks first; a task without a body here is to be read whole."""
    return _fresh(db.one("fresh_by_sequence", encode(sequences).decode()))


def fresh_record(fresh: Fresh, token: str, owner: str, now: int, lease_until: int) -> Record:
    """The record of a task that has just been started.

    Raises:
        ValueError: The stored body cannot be read.
    """
    try:
        record = _record(bytes.fromhex(fresh.body or ""))
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if record.id != fresh.id:
        raise ValueError(f"it is the body of {record.id}")
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

    def settle(self, work: Work, moves: Sequence[Move]) -> set[str]:
        """Settle those of the tasks that are what they were, and answer which.

        Left to the long way are tasks that others depend on, and all that is not an attempt's plain success.
        """
        if len({move.id for move in moves}) < len(moves) or any(_follows(move) for move in moves):
            return set()  # what is said twice of a task, or follows a move, is judged in its order
        known: dict[str, dict[int, tuple[Held, bytes | None]]] = {}
        for move in moves:
            held = self._held.pop(move.id, None)
            if held is not None and is_success(move, held.token):
                known.setdefault(held.token, {})[held.sequence] = held, move.result
        settled: set[str] = set()
        for token, tasks in known.items():
            still = _sequences(work.db.one("running_unchanged", encode(list(tasks)).decode(), token))
            if still:
                settled |= work.settle_usual([tasks[one] for one in still])
        return settled


def _follows(move: Move) -> bool:
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
