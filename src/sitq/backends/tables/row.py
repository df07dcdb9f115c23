"""A stored task as a transaction sees it: the columns that change, without the body."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from sitq.backends import rules
from sitq.record import Failure, Fair, Progress, Record, State

BLOCKED: Final = 0
QUEUED: Final = 1
READY: Final = 2
RUNNING: Final = 3
ENDED: Final = 4
"""The first of the terminal stages; they stand in the order of `State`."""

STATES: Final = (State.BLOCKED, State.QUEUED, State.QUEUED, *list(State)[2:])
"""What each stage is to the outside. A queued task is ready once it is due."""

STAGES: Final = {state: STATES.index(state) for state in State}

COUNTED: Final = tuple(STAGES[state] for state in STATES)
"""The stage that stands for the state of each stage in the tally: ready tasks are counted as queued ones."""


Stage = Annotated[int, msgspec.Meta(ge=0, lt=len(STATES))]
"""A number that means something: a negative one would be a state from the end of the list."""


class Row(msgspec.Struct, array_like=True):
    """The columns of a task in the order of the table. `None` stands for the record's default."""

    sequence: int
    id: str
    queue: int
    lane: int
    stage: Stage
    priority: int
    due: int
    delay: int | None
    created: int
    ttl: int | None
    deadline: int | None
    expires: int | None
    expire_at: int | None
    attempt: int = 0
    failures: int | None = None
    crashes: int | None = None
    alone: int | None = None
    token: str | None = None
    owner: str | None = None
    lease_until: int | None = None
    stop: str | None = None
    started: int | None = None
    finished: int | None = None
    keep_until: int | None = None
    keep: int | None = None
    keep_failed: int | None = None
    stride: int | None = None
    reply: str | None = None
    wants: str | None = None
    parents: int | None = None
    unarmed: int | None = None
    milestone: int | None = None
    ends: str | None = None
    """As a JSON array."""
    history: str | None = None
    """In hexadecimal, as it came out of the aggregated read."""

    @property
    def state(self) -> State:
        """The state that the outside sees."""
        return STATES[self.stage]


class Blocked(msgspec.Struct, array_like=True):
    """What of a blocked task is read to let it go when its parents complete."""

    sequence: int
    queue: int
    lane: int
    stage: int
    priority: int
    due: int
    parents: int | None
    unarmed: int | None
    ends: str | None
    is_plain: bool
    """Whether nothing but its own due time says when it starts, once its last parent lets it go."""


class Read(msgspec.Struct, array_like=True):
    """A row as far as a record needs it, with its blobs in hexadecimal."""

    row: Row
    steps: dict[str, str]
    result: str | None
    body: str | None


class History(msgspec.Struct, array_like=True):
    """What earlier attempts left."""

    errors: tuple[Failure, ...] = ()
    progress: tuple[Progress, ...] = ()


_history = msgspec.msgpack.Decoder(History)
_record = msgspec.msgpack.Decoder(Record)
pack = msgspec.msgpack.Encoder().encode
_ends = msgspec.json.Decoder(tuple[int, int, int, int, int]).decode
rows_of = msgspec.json.Decoder(list[Row]).decode
reads_of = msgspec.json.Decoder(list[Read]).decode


def stride_of(fair: Fair | None) -> int | None:
    """How far a start moves the turn of a task's tenant; None for the usual way."""
    return None if fair is None or fair.weight == 1 else rules.stride(fair.weight)


def history_of(row: Row) -> History:
    """The row's history; a damaged one is as good as none."""
    if not row.history:
        return History()
    try:
        return _history.decode(bytes.fromhex(row.history))
    except (msgspec.MsgspecError, ValueError):
        return History()


def ends_of(ends: str | None) -> tuple[int, ...]:
    """How many of a task's parents ended in each state; damaged counts are as good as none."""
    if ends is None:
        return ()
    try:
        return _ends(ends)
    except msgspec.MsgspecError:
        return ()


def unpacked(body: bytes, id: str) -> Record:
    """What the stored body of a task says.

    Raises:
        ValueError: It cannot be read, or is another task's.
    """
    try:
        record = _record.decode(body)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if record.id != id:
        raise ValueError(f"it is the body of {record.id}")
    return record


def record_of(read: Read) -> Record:
    """The record of a row.

    Raises:
        ValueError: The stored body cannot be read.
    """
    row = read.row
    record = unpacked(bytes.fromhex(read.body or ""), row.id)
    overlay(record, row)
    if read.result is not None:
        record.result = bytes.fromhex(read.result)
    if read.steps:
        record.steps = {name: bytes.fromhex(value) for name, value in read.steps.items()}
    return record


def overlay(record: Record, row: Row) -> None:
    """Write into a record what the store says of it."""
    record.state = STATES[row.stage]
    record.sequence = row.sequence
    record.priority = row.priority
    record.due = row.due
    record.delay = row.delay or 0
    record.created = row.created
    record.expires = row.expires
    record.attempt = row.attempt
    record.failures = row.failures or 0
    record.crashes = row.crashes or 0
    record.alone = row.alone or 0
    record.token = row.token
    record.owner = row.owner
    record.lease_until = row.lease_until
    record.stop = row.stop
    record.started = row.started
    record.finished = row.finished
    record.keep_until = row.keep_until
    record.result = None
    record.steps = {}
    past = history_of(row)
    record.ends = ends_of(row.ends)
    record.errors = past.errors
    record.progress = past.progress


def tombstone(row: Row, queue: str, name: str, result: str | None = None) -> Record:
    """What can be said of a task whose body cannot be read."""
    record = Record(id=row.id, queue=queue, name=name)
    overlay(record, row)
    record.result = None if result is None else bytes.fromhex(result)
    return record
