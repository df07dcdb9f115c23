"""The stored record of a task: plain data that every layer shares and no layer owns.

Instants are integers of microseconds since the Unix epoch by the store's clock, durations are integers of
microseconds. `None` or the default means "not set".
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, Literal

import msgspec

SECOND: Final = 1_000_000
DAY: Final = 86_400 * SECOND
KEEP_FAILED: Final = 30 * DAY
"""How long the record of a task that failed or died stays by default."""
NEVER: Final = 253_402_300_799 * SECOND
"""The last representable instant, 9999-12-31T23:59:59Z: "held until somebody says otherwise"."""

ERRORS_KEPT: Final = 10
"""How many past failures a record keeps: the newest ones."""

PROGRESS_KEPT: Final = 20
"""How many progress notes a record keeps: the newest ones."""


class State(StrEnum):
    """Where a task is on its way. The terminal states have no way out."""

    BLOCKED = "blocked"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DEAD = "dead"


TERMINAL: Final = (State.COMPLETED, State.FAILED, State.CANCELLED, State.EXPIRED, State.DEAD)
"""The states without a way out, in the order in which `Edge.effects` speaks of them."""

WAITING: Final = (State.BLOCKED, State.QUEUED)
"""The states before a run."""

Effect = Literal["g", "a", "c", "f"]
"""What a parent's end does to a child: go, arm, cancel, fail (see `Edge`)."""

AFTER_SUCCESS: Final = "gcccc"
"""The usual edge: go when the parent completed, be cancelled when it ended in any other way."""

AFTER_ANY_END: Final = "ggggg"
"""The edge that ignores how the parent ended."""


class Edge(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A dependency on one parent; its effect is fixed when the child is enqueued, so that no store decides.

    `effects` has one letter for each state of `TERMINAL`, in that order:

    - `g` (go): this parent no longer holds the child back.
    - `a` (arm): the same, and the child is wanted. A child with an `a` in any of its edges is cancelled when
      its last parent ends and none armed it: so a batch's failure callback waits for all and runs only if
      one failed.
    - `c` (cancel): the child becomes `cancelled` at once.
    - `f` (fail): the child becomes `failed` at once.
    """

    parent: str
    effects: str = AFTER_SUCCESS


class Limit(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A fleet-wide limit on the tasks that name the same key; the figures placed last hold for the key.

    Attributes:
        key: What is limited, such as `queue:emails` or `customer:42`.
        slots: How many may run at once, counted from live leases. `None` is no such limit, 0 blocks.
        rate: How many may start in each `per`. `None` is no such limit, 0 blocks.
        per: Microseconds in which `rate` starts are allowed.
        burst: How many may start at once after a quiet time (GCRA's tolerance, at least 1).
    """

    key: str
    slots: int | None = None
    rate: int | None = None
    per: int = SECOND
    burst: int = 1


class Fair(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Whose turn a task takes: tenants of a queue share its starts in proportion to their weights."""

    key: str
    weight: float = 1.0


class Unique(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """At most one task holds the key.

    Attributes:
        key: The key, unique per namespace.
        scope: How long a task holds it: `waiting` (until it starts), `active` (until it ends), `window` (for
            `window` microseconds from its enqueue, whatever becomes of it).
        window: Length of the window in microseconds, counted from the record's `created`; only for that
            scope. The record is not purged before the window is over.
        clash: What a second `put` does: `keep` answers with the holder's id, `refuse` refuses, `replace`
            writes the fields named in `fields` into a waiting holder and keeps a running one, `again` keeps
            a waiting holder and after a running one queues one more.
        fields: What `replace` writes: `payload`, `due` or both.
    """

    key: str
    scope: Literal["waiting", "active", "window"] = "active"
    window: int = 0
    clash: Literal["keep", "refuse", "replace", "again"] = "keep"
    fields: tuple[Literal["payload", "due"], ...] = ("payload", "due")


class Failure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why an attempt, or the task, did not complete.

    Attributes:
        kind: `raised`, `timeout`, `crashed`, `cancelled`, `expired`, `dependency`, `unrunnable`,
            `unstorable`.
        type: The exception's type, `module.QualName`, or "".
        message: One readable sentence.
        traceback: The remote traceback as text, or "".
        attempt: The attempt that it belongs to; 0 if none ran.
        at: When, in microseconds.
        worker: Which worker, or "".
    """

    kind: str
    type: str = ""
    message: str = ""
    traceback: str = ""
    attempt: int = 0
    at: int = 0
    worker: str = ""


class Progress(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One note that a running task left about itself."""

    fraction: float | None = None
    message: str = ""
    at: int = 0


class Record(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """Everything a store knows of one task.

    A producer fills in the first part, `put` and `take` the second. A store hands out copies: writing to one
    changes nothing stored.
    """

    # What the producer says; it never changes, but for `due`, `priority` and `payload` while the task waits.
    id: str
    queue: str = "default"
    name: str = ""
    payload: bytes = b""
    payload_of: str | None = None
    """Whose payload it is, where another task's `replace` brought it: payloads are sealed for their task."""
    preview: str = ""
    priority: int = 0
    due: int = 0
    """Not before this instant. `put`, or the end of the last parent, makes it `max(due, now) + delay`."""
    delay: int = 0
    """Folded into `due` when the task becomes queued, and 0 from then on.

    A blocked task keeps it until then.
    """
    ttl: int | None = None
    """Ends as `expired` if not started this long after it became due."""
    deadline: int | None = None
    """Never started, first or again, after this instant: it ends as `expired`."""
    timeout: int | None = None
    retry: dict[str, Any] | None = None
    unique: Unique | None = None
    limits: tuple[Limit, ...] = ()
    fair: Fair | None = None
    edges: tuple[Edge, ...] = ()
    inputs: tuple[str, ...] = ()
    """The tasks whose values belong into its call, and the batch that it is of."""
    milestone: bool = False
    """Nothing is to be run: it completes, without a result, when its last parent let it go.

    Its `due` and `delay` do not matter. One without edges completes when it is put.
    """
    room: int | None = None
    """Refused as `full` if the queue already has this many tasks in `WAITING` states."""
    batch: str | None = None
    schedule: str | None = None
    instant: int | None = None
    retry_of: str | None = None
    executor: str | None = None
    tags: tuple[str, ...] = ()
    keep: int = DAY
    """How long the record stays after it completed, was cancelled or expired."""
    keep_failed: int = KEEP_FAILED
    """How long the record stays after it failed or died."""
    trace: dict[str, str] | None = None
    reply: str | None = None
    """The topic that is woken when the task ends (see `Backend.listen`)."""
    python: str | None = None
    """`major.minor` of the only interpreters that can read the payload; set where code travels by value."""
    version: int = 1

    # What the store says.
    state: State = State.QUEUED
    sequence: int = 0
    created: int = 0
    expires: int | None = None
    attempt: int = 0
    """Counts claims, only rises; 1 while the first one runs."""
    failures: int = 0
    """Counts the retries that were spent."""
    crashes: int = 0
    """Counts the leases that ran out under this task since an attempt of it last ended by itself."""
    alone: int = 0
    """Counts the runs alone that were begun since an attempt of it last ended or was handed back."""
    token: str | None = None
    """The fence: of the attempt that runs, or else of the last one."""
    owner: str | None = None
    """The worker that runs it; None in every state but `running`, as are `lease_until` and `stop`."""
    lease_until: int | None = None
    stop: str | None = None
    """Why it is to be cancelled, while it runs."""
    started: int | None = None
    """When the last attempt was claimed."""
    finished: int | None = None
    keep_until: int | None = None
    result: bytes | None = None
    errors: tuple[Failure, ...] = ()
    progress: tuple[Progress, ...] = ()
    ends: tuple[int, ...] = ()
    """How many parents ended in each state of `TERMINAL` while it was blocked, or had ended before.

    The one that ended it is among them. Empty as long as none has ended.
    """
    steps: dict[str, bytes] = msgspec.field(default_factory=dict[str, bytes])


def last_start(record: Record) -> int | None:
    """The instant after which the task must not be started, or None.

    A ttl is about the first start only, a deadline about each one.
    """
    if record.attempt or record.expires is None:
        return record.deadline
    if record.deadline is None:
        return record.expires
    return min(record.expires, record.deadline)


def kept_until(record: Record, state: State, now: int) -> int:
    """When a record that ends now in `state` may be purged."""
    failed = state is State.FAILED or state is State.DEAD  # identity: an enum member hashes slowly
    return now + (record.keep_failed if failed else record.keep)
