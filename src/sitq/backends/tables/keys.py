"""Limit keys in a claim: what they allow, which lanes they hold, and when those are to be looked at again.

A lane that is over a limit is held by the key: it leaves the open lanes, however many tasks wait in it, and
comes back when the key may have capacity. A mark says from when on that may be; every queue with lanes held
by a key has one for it. Of the lanes that a key holds, only as many come back as it has capacity for, the
best ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from sitq.backends.tables.choose import Candidate, Meter
from sitq.backends.tables.lanes import encode
from sitq.record import NEVER, Limit

if TYPE_CHECKING:
    from sitq.backends.tables.claim import Claim
    from sitq.backends.tables.look import QueueLook

MARKS = 100
"""How many keys that may have capacity again a claim looks at."""

TENANT = "\x1f"
"""Before a paused tenant's key, which may be a limit key as well; names have no such character."""

_names = msgspec.json.Decoder(list[str]).decode
_keys = msgspec.json.Decoder(tuple[str, ...]).decode
_meters = msgspec.json.Decoder(list[Meter]).decode


@lru_cache(maxsize=10_000)
def _named(keys: str) -> tuple[str, ...]:
    """The limit keys of a lane, each once."""
    return tuple(dict.fromkeys(_keys(keys)))


class KeyRing:
    """The limit keys that a claim on one queue has to do with."""

    def __init__(self, claim: Claim, queue: QueueLook) -> None:
        self.work = claim.work
        self.db = claim.work.db
        self.pauses = claim.pauses
        self.queue = queue
        self.meters: dict[str, Meter] = {}
        self.marked: set[str] = set()
        self.seen: set[str] = set()
        self.unfinished = False
        self._stored: set[str] = set()
        self._dirty: set[str] = set()

    def of(self, tenant: str | None, keys: str) -> tuple[str, ...]:
        """What may forbid a lane's start: its limit keys, and its tenant if that is paused."""
        named = _named(keys)
        if tenant is not None and self.pauses.any and self.pauses.key(tenant):
            return (*named, TENANT + tenant)
        return named

    def meters_of(self, candidates: Iterable[Candidate]) -> dict[str, Meter]:
        """What the candidates' keys allow."""
        names = {key for candidate in candidates for key in candidate.keys}
        new = names - self.meters.keys()
        self._load(new)
        if new:
            self.marked.update(_names(self.db.one("marks_of", self.queue.id, encode(list(new)).decode())))
        self._dirty |= names & self._stored
        return self.meters

    def see_due(self) -> None:
        """Take in the keys that may have capacity again."""
        due = _names(self.db.one("marks_due", self.queue.id, self.work.now, MARKS))
        self._load(set(due))
        self.marked.update(due)

    def _load(self, names: Iterable[str]) -> None:
        missing = {key for key in names if key not in self.meters}
        if not missing:
            return
        found = {
            meter.limit.key: meter for meter in _meters(self.db.one("read_keys", encode(missing).decode()))
        }
        self._stored.update(found)
        if len(found) < len(missing):
            found.update((key, Meter(Limit(key))) for key in missing - found.keys())
        if self.pauses.any:
            for key, meter in found.items():
                meter.paused = self.pauses.key(key.removeprefix(TENANT))
        self.meters.update(found)

    def hold(self, held: dict[int, str]) -> None:
        """Put lanes aside until their key may have capacity."""
        self.db.run("hold_lanes", encode(list(held.items())).decode())
        self.marked.update(held.values())

    def reopen(self, most: int, served: int) -> bool:
        """Let lanes come back that are held by keys which have capacity; False if there are none."""
        reopened = 0
        for key in self.marked - self.seen:
            meter = self.meters[key]
            if meter.opens() > self.work.now:
                continue
            self.seen.add(key)
            slots = meter.limit.slots
            room = most if slots is None else min(most, slots - meter.running)
            if served:
                self.db.run("bump_held", self.queue.id, key, served)
            reopened += self.db.run("reopen_lanes", self.queue.id, key, room).rowcount
        return reopened > 0

    def contested(self) -> frozenset[str]:
        """The keys that hold further lanes, perhaps, and have capacity."""
        return frozenset(key for key in self.marked if self.meters[key].opens() <= self.work.now)

    def store(self) -> None:
        """Write what the starts of this round used."""
        used = [self.meters[key] for key in self._dirty]
        rows = [(one.limit.key, one.limit.per, one.limit.burst, one.running, one.arrival) for one in used]
        self.db.insert("start_keys", rows)
        self._dirty = set()

    def leave_marks(self) -> int | None:
        """Say when the lanes still held are to be looked at again; answers with the first such instant."""
        if not self.marked:
            return None
        keys = encode(sorted(self.marked)).decode()
        holding = set(_names(self.db.one("holding", self.queue.id, keys)))
        marks = [(key, self._again(key)) for key in sorted(holding)]
        if marks:
            self.db.run("set_marks", self.queue.id, encode(marks).decode())
        gone = sorted(self.marked - holding)
        if gone:
            self.db.run("drop_marks", self.queue.id, encode(gone).decode())
        return min((at for _, at in marks), default=None)

    def _again(self, key: str) -> int:
        opens = self.meters[key].opens()
        if opens > self.work.now:
            return opens
        # What is held and could start is of functions that this worker leaves, and the best of it is open.
        return 0 if self.unfinished else NEVER
