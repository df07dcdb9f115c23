"""What the processes of a storm write down.

All instants are seconds of the monotonic clock, which the processes of a host share; `wall` is the time of
day.
"""

from __future__ import annotations

import time
from typing import Literal

import msgspec


def now() -> float:
    """The host's monotonic time."""
    return time.monotonic()


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag=str.lower):
    """Something that happened, as one process saw it."""

    at: float = msgspec.field(default_factory=now)
    wall: float = msgspec.field(default_factory=time.time)


class Born(Event, frozen=True, kw_only=True):
    """A process of the fleet is there."""

    pid: int
    parent: int = 0
    role: str = "worker"


class Invoked(Event, frozen=True, kw_only=True):
    """A producer is about to enqueue a task.

    Attributes:
        task: Its id, which the producer chose.
        expect: The states in which it may end.
        retries: How many retries of its budget it may use.
        lane: Tasks of a lane start in the order in which they were acknowledged; "" is none.
        limit: At most so many of `key` run at once; 0 is no such limit.
        rate: At most so many of `key` start in a second; 0 is no such limit.
        burst: How many of them may start at once after a while without one.
    """

    task: str
    expect: tuple[str, ...] = ("completed",)
    retries: int = 0
    lane: str = ""
    key: str = ""
    limit: int = 0
    rate: float = 0.0
    burst: int = 1


class Acked(Event, frozen=True, kw_only=True):
    """The store has acknowledged it."""

    task: str


class Refused(Event, frozen=True, kw_only=True):
    """The store has refused it: it must not be there."""

    task: str
    why: str = ""


class Started(Event, frozen=True, kw_only=True):
    """An attempt runs, says the task itself; `tick` is the instant of a schedule that it belongs to."""

    task: str
    attempt: int
    tick: str = ""


class Alone(Event, frozen=True, kw_only=True):
    """A worker is about to note that it runs a task alone: its death from now on counts against the task."""

    task: str


class Ended(Event, frozen=True, kw_only=True):
    """An attempt is about to end, says the task itself.

    Attributes:
        how: `returned`, `raised`, or `interrupted` from outside.
        value: What it returns: of this attempt and no other.
    """

    task: str
    attempt: int
    how: Literal["returned", "raised", "interrupted"] = "returned"
    value: str = ""


class Seen(Event, frozen=True, kw_only=True):
    """Somebody read the task from the store.

    Attributes:
        final: Whether it was read after all had ended.
    """

    task: str
    state: str
    attempt: int
    value: str = ""
    failures: int = 0
    final: bool = False


class Due(Event, frozen=True, kw_only=True):
    """A schedule was to fire at this instant."""

    tick: str


What = Literal["kill", "poison", "stop", "hold", "starved", "term", "lock", "full", "clock", "server"]


class Fault(Event, frozen=True, kw_only=True):
    """Harm is about to be done.

    Attributes:
        what: `kill` (by a signal), `poison` (by what the process itself is about to do), `stop` (suspended),
            `hold` (its interpreter's lock is held), `starved` (it found that it did not run), `term` (told to
            end), `lock` (suspended with the lock that all who write to the file need), `full` (the disk),
            `clock` (stepped) or `server` (killed, or suspended).
        pid: To whom; 0 is everyone. A `lock` is held by this process, and everyone suffers it.
        until: When it was over, if the writer knows.
        by: Seconds that a clock is stepped.
    """

    what: What
    pid: int = 0
    until: float | None = None
    by: float = 0.0


class Over(Event, frozen=True, kw_only=True):
    """A `stop`, `lock`, `full` or `server` is over."""

    what: What
    pid: int = 0


class Exited(Event, frozen=True, kw_only=True):
    """A process has ended, says its parent."""

    pid: int
    code: int


class Phase(Event, frozen=True, kw_only=True):
    """The storm goes on: `storm`, `part` (only a part of the fleet is well), `drained`, `healed`, `end`."""

    name: str


AnyEvent = (
    Born | Invoked | Acked | Refused | Started | Alone | Ended | Seen | Due | Fault | Over | Exited | Phase
)
