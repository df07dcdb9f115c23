"""What a claim must know of the store before it starts, read in one statement."""

from __future__ import annotations

import msgspec

from sitq.backends.base import Want
from sitq.backends.rules import limit_in
from sitq.backends.tables.choose import Meter
from sitq.backends.tables.database import Database
from sitq.backends.tables.lanes import encode
from sitq.record import NEVER


class QueueLook(msgspec.Struct, array_like=True):
    """What a claim must know of a queue: instants are the first of their kind; it is `fair` with tenants."""

    id: int
    name: str
    served: int
    turn: int
    due: int | None
    overdue: int | None
    mark: int | None
    fair: bool
    kinds: list[tuple[int, str, str]]
    lanes: list[tuple[int, str | None, str]]
    own: tuple[str, int | None, int | None] | None = None
    """Of a limit of its own: the cell in hexadecimal digits, the arrival, and how many of its tasks run."""

    def meter(self, running: int = 0) -> Meter | None:
        """What its own limit allows, if it has one; `running` adds to the tasks that were seen to run."""
        if self.own is None:
            return None
        cell, arrival, seen = self.own
        limit = limit_in(bytes.fromhex(cell))
        return None if limit is None else Meter(limit, arrival or 0, running=(seen or 0) + running)

    def closed_until(self, now: int) -> int | None:
        """When its own limit may let a task start again; None if it does so now."""
        meter = self.meter()
        opens = now if meter is None else meter.opens()
        return opens if opens > now else None

    @property
    def only_lane(self) -> int | None:
        """The open lane, if there is only one and nothing could forbid a start in it."""
        if len(self.lanes) != 1:
            return None
        ((lane, tenant, keys),) = self.lanes
        return lane if tenant is None and keys == "[]" else None


class Look(msgspec.Struct, array_like=True):
    """What a claim must know before it starts."""

    claimed: list[int] | None
    lease: int | None
    pauses: list[tuple[str, int | None]]
    queues: list[QueueLook]


_look = msgspec.json.Decoder(Look).decode


def look_around(db: Database, want: Want, now: int) -> Look:
    """Read what a claim must know."""
    queues = encode(list(dict.fromkeys(share.queue for share in want.queues))).decode()
    return _look(db.one("look", queues, want.claim, now))


def is_idle(look: Look, want: Want, now: int) -> bool:
    """Whether there is nothing to claim and nothing to bring up to date."""
    if look.claimed is not None or (want.reclaim and passed(look.lease, now)):
        return False
    pauses = Pauses(look)
    return not any(
        passed(queue.due, now)
        or passed(queue.overdue, now)
        or (
            not pauses.queue(queue.name)
            and (passed(queue.mark, now) or eligible(queue, want, pauses))
            and (queue.own is None or queue.closed_until(now) is None)
        )
        for queue in look.queues
    )


def next_instant(look: Look, want: Want, now: int) -> int | None:
    """When something more may become claimable."""
    instants = [look.lease] if want.reclaim else []
    pauses = Pauses(look)
    for queue in look.queues:
        # What a key may allow again does not matter to a paused queue: its pause's end does.
        closed = None if queue.own is None else queue.closed_until(now)
        instants += [queue.due, None if pauses.queue(queue.name) else closed or queue.mark]
    if look.queues:
        instants += [until for _, until in look.pauses]
    known = [max(instant, now) for instant in instants if instant is not None and instant < NEVER]
    return min(known, default=None)


def passed(instant: int | None, now: int) -> bool:
    """Whether an instant has come."""
    return instant is not None and instant <= now


class Pauses:
    """What is paused, and until when; NEVER if only news can end it."""

    def __init__(self, look: Look) -> None:
        self._until = {key: NEVER if until is None else until for key, until in look.pauses}

    @property
    def any(self) -> bool:
        """Whether anything is paused."""
        return bool(self._until)

    def queue(self, name: str) -> int:
        """Until when a queue is paused; 0 if it is not."""
        return self._until.get("queue/" + name, 0)

    def name(self, name: str) -> int:
        """Until when a function is paused."""
        return self._until.get("name/" + name, 0)

    def key(self, key: str) -> int:
        """Until when a limit key or tenant is paused."""
        return self._until.get("key/" + key, 0)


def eligible(queue: QueueLook, want: Want, pauses: Pauses) -> list[int]:
    """The kinds of lanes that this worker may serve now."""
    return [
        kind
        for kind, name, python in queue.kinds
        if name not in want.leave and python in {"", want.python} and not pauses.name(name)
    ]
