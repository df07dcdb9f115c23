"""Moves: the changes of stored state that policy decides and a backend carries out.

A move holds under a condition. With a `token` it is the word of one attempt: the task must be running under
that very token. Without one it is an operator's word, and holds in the states that the move allows. A
move whose condition does not hold is lost and changes nothing, its follow-ups included.

Saying the same word twice is no fault: an attempt's settle, retry or release that has already taken effect
under its token is kept again and changes nothing more, so a lost reply can be asked for anew, as long as the
record shows it: in the state that the word gave it, under that token, without a `crashed` failure of that
attempt but its own.

Follow-up records are put after the move took effect, each as a group of its own; what is refused is left out.
"""

from __future__ import annotations

import msgspec

from sitq.record import Failure, Progress, Record, State


class Settle(msgspec.Struct, frozen=True, kw_only=True):
    """The task ends in a terminal state. Its edges take effect and its slots are freed in the same step.

    Without a token it holds in the `WAITING` states.
    """

    id: str
    token: str | None = None
    state: State
    result: bytes | None = None
    failure: Failure | None = None
    """Appended to the record's errors."""
    follow: tuple[Record, ...] = ()
    """Put in the same step, idempotently by id; dropped with the move when it is lost."""


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt failed and the task queues again: one more failure, `crashes` and `alone` forgotten.

    A task that was asked to stop is cancelled instead, so that no acknowledged stop is lost; the rest of the
    move holds all the same. So it is with `Release`.
    """

    id: str
    token: str
    delay: int = 0
    """Microseconds from the store's now until it is due."""
    failure: Failure | None = None
    freeze: str | None = None
    """A limit key that nobody may start under until `delay` is over; a longer freeze of it stays."""
    follow: tuple[Record, ...] = ()


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt hands the task back unjudged: snoozed, interrupted, or not runnable here.

    No budget is spent.

    `crashes` stays and `alone` is forgotten, unless the move says otherwise: a process of the task's own that
    died is such a case, which a worker survives.
    """

    id: str
    token: str
    delay: int = 0
    freeze: str | None = None
    failure: Failure | None = None
    """Appended to the record's errors."""
    crashes: int | None = None
    """What `Record.crashes` is from now on."""
    alone: int = 0
    """What `Record.alone` is from now on."""
    follow: tuple[Record, ...] = ()


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something to remember while the attempt goes on."""

    id: str
    token: str
    progress: Progress | None = None
    step: tuple[str, bytes] | None = None
    """A name and the bytes kept under it; the first one wins."""
    alone: int | None = None
    """What `Record.alone` is from now on: the attempt is about to run alone.

    The count itself and not one more, so that a note that is said again after a lost answer counts once.
    """


class Lapse(msgspec.Struct, frozen=True, kw_only=True):
    """The holder is known to be dead: its lease ends now instead of later."""

    id: str
    token: str


class Cancel(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's stop: a waiting task is cancelled, a running one is asked to stop.

    Lost on a terminal one, and on a milestone, which ends with its parents.

    The first reason given to a running one stays; asking again is kept.
    """

    id: str
    reason: str = ""
    running: bool = True
    """Whether a running one is asked too; otherwise the move is lost on it."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A new due time (now, if that is past), priority or queue for a waiting task. Lost on every other.

    A ttl counts from the new due time, if the task was never started. In another queue it keeps its
    sequence, whether or not there is room, and its payload, which is sealed for the queue it was put in.
    """

    id: str
    due: int | None = None
    delay: int | None = None
    """Microseconds later than that, or than the store's now."""
    priority: int | None = None
    queue: str | None = None


class Restore(msgspec.Struct, frozen=True, kw_only=True):
    """The record of another store is stored as it is, the store's part included, under a new sequence.

    Lost if its id is known, if its payload is too large, if it is running, or if it is blocked and one of its
    parents is unknown.

    A blocked one waits for those of its parents that have not ended; those that have take effect at once,
    and count in `ends` besides those that it brings along. A queued one is due when it says, without a delay.
    Its parents, and those of one that has ended, are only there to be known. A unique key is taken if nobody
    holds it. No room is asked for.
    """

    id: str
    record: Record


class Delete(msgspec.Struct, frozen=True, kw_only=True):
    """The record is removed, with what it held. Lost on a running task.

    Lost, too, on one that a task which has not ended depends on, whether or not it still waits for it, unless
    `end` says as what its end counts for those that wait for it. A parent that had ended counts as before.
    """

    id: str
    end: State | None = None
    states: tuple[State, ...] | None = None
    """Only in these states; None is any but running."""


Move = Settle | Retry | Release | Note | Lapse | Cancel | Change | Restore | Delete
