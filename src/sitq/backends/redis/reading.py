"""Records from the fields of a task's hash (see rows.lua)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from sitq.record import AFTER_ANY_END, Edge, Failure, Progress, Record, State

LETTERS: Final[dict[State, str]] = {
    State.BLOCKED: "b",
    State.QUEUED: "q",
    State.RUNNING: "r",
    State.COMPLETED: "c",
    State.FAILED: "f",
    State.CANCELLED: "x",
    State.EXPIRED: "e",
    State.DEAD: "d",
}
"""What scripts call the states."""

STATES: Final = {letter: state for state, letter in LETTERS.items()}


class Row(msgspec.Struct):
    """What the store says of a task, as far as its record shows it."""

    seq: int
    lane: str
    state: str
    priority: int
    due: int
    created: int
    delay: int | None = None
    expires: int | None = None
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    alone: int = 0
    token: str | None = None
    owner: str | None = None
    lease: int | None = None
    stop: str | None = None
    started: int | None = None
    finished: int | None = None
    kept: int | None = None
    behind: str | None = None
    ends: tuple[int, ...] = ()
    errors: int = 0
    notes: int = 0
    moved: bool = False


_row = msgspec.msgpack.Decoder(Row).decode
_record = msgspec.msgpack.Decoder(Record).decode
_errors = msgspec.msgpack.Decoder(tuple[Failure, ...]).decode
_notes = msgspec.msgpack.Decoder(tuple[Progress, ...]).decode
Fields = Mapping[bytes, bytes]


class DamageError(ValueError):
    """A stored record cannot be read; the text says why."""


def claimed(id: bytes, row: bytes, rest: bytes | Sequence[bytes] | Fields) -> Record:
    """The record of a claimed task: of its row and body alone, or of all its fields.

    Raises:
        DamageError: It cannot be read.
    """
    if isinstance(rest, bytes | None):
        record = _body(id.decode(), rest)
        overlay(record, _row(row))
        return record
    return record_of(id.decode(), {**fields_of(rest), b"w": row})


def fields_of(answer: Sequence[bytes] | Fields) -> Fields:
    """The fields of a hash, by whatever protocol they came."""
    if isinstance(answer, Mapping):
        return answer
    return dict(zip(answer[::2], answer[1::2], strict=True))


def record_of(id: str, fields: Fields) -> Record:
    """The record of a task.

    Raises:
        DamageError: It cannot be read.
    """
    record = _body(id, fields.get(b"b"))
    try:
        row = _row(fields[b"w"])
        overlay(record, row)
        if row.behind is not None:
            record.edges = (*record.edges, Edge(row.behind, AFTER_ANY_END))
        _see_more(record, row, fields)
    except (msgspec.MsgspecError, ValueError, KeyError) as error:
        raise DamageError(str(error)) from error
    return record


def read(id: str, fields: Fields) -> Record | None:
    """The record of a task, what can be said of one that cannot be read, or None if there is none."""
    if not fields:
        return None
    try:
        return record_of(id, fields)
    except DamageError:
        return tombstone(id, fields)


def tombstone(id: str, fields: Fields) -> Record:
    """What can be said of a task whose record cannot be read."""
    record = Record(id=id, state=State.DEAD)
    try:
        row = _row(fields[b"w"])
    except (msgspec.MsgspecError, ValueError, KeyError):
        return record
    record.queue, record.name = _names(row.lane)
    overlay(record, row)
    record.errors = _list(_errors, fields.get(b"e"), row.errors)
    record.result = fields.get(b"r")
    return record


def overlay(record: Record, row: Row) -> None:
    """Write into a record what the store says of it."""
    record.state = STATES[row.state]
    if row.moved:
        record.queue, _ = _names(row.lane)
    record.sequence = row.seq
    record.priority = row.priority
    record.due = row.due
    record.delay = row.delay or 0
    record.created = row.created
    record.expires = row.expires
    record.attempt = row.attempt
    record.failures = row.failures
    record.crashes = row.crashes
    record.alone = row.alone
    record.token = row.token
    record.owner = row.owner
    record.lease_until = row.lease
    record.stop = row.stop
    record.started = row.started
    record.finished = row.finished
    record.keep_until = row.kept
    record.ends = row.ends
    record.result = None
    record.errors = ()
    record.progress = ()
    record.steps = {}


def _body(id: str, packed: bytes | None) -> Record:
    try:
        record = _record(packed or b"")
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DamageError(str(error)) from error
    if record.id != id:
        raise DamageError(f"it is the record of {record.id}")
    return record


def _see_more(record: Record, row: Row, fields: Fields) -> None:
    record.errors = _list(_errors, fields.get(b"e"), row.errors)
    record.progress = _list(_notes, fields.get(b"g"), row.notes)
    record.result = fields.get(b"r")
    record.steps = {name[2:].decode(): value for name, value in fields.items() if name.startswith(b"s:")}
    if b"p" in fields:
        source = _record(fields[b"p"])
        record.payload, record.preview, record.payload_of = source.payload, source.preview, source.id
    if b"u" in fields:
        record.unique = _record(fields[b"u"]).unique


def _list(decode: Any, packed: bytes | None, number: int) -> Any:
    """Values that stand one behind the other; damaged ones are as good as none."""
    if not packed or not number:
        return ()
    try:
        return decode(b"\xdc" + number.to_bytes(2, "big") + packed)
    except msgspec.MsgspecError:
        return ()


def _names(lane: str) -> tuple[str, str]:
    """The queue and the function that a lane's name begins with."""
    rest = lane.encode()
    names: list[str] = []
    for _ in range(2):
        size, _, rest = rest.partition(b":")
        names.append(rest[: int(size)].decode())
        rest = rest[int(size) :]
    return names[0], names[1]
