"""Meters: what limit keys have used of their slots and rates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sitq.backends import rules
from sitq.record import NEVER, Limit


class Meter:
    """The state of one limit key.

    Attributes:
        limit: The figures that hold: those placed last.
        arrival: The theoretical arrival time of its rate.
        frozen: Nobody starts before this instant.
        running: How many running tasks name the key.
        uses: How many tasks name it that have not ended.
        waiters: Queues in which a claim found tasks that only wait for news of this key.
    """

    __slots__ = ("arrival", "frozen", "limit", "running", "uses", "waiters")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.arrival = 0
        self.frozen = 0
        self.running = 0
        self.uses = 0
        self.waiters: set[str] = set()

    def opens(self) -> int:
        """From which instant on the next start is allowed; NEVER if only news can allow it."""
        limit = self.limit
        if limit.slots is not None and self.running >= limit.slots:
            return NEVER
        if limit.rate is None:
            return self.frozen
        return max(self.frozen, rules.first_start(limit, self.arrival)) if limit.rate > 0 else NEVER

    def start(self, now: int) -> None:
        """Count a start."""
        self.running += 1
        if self.limit.rate:
            self.arrival = rules.next_arrival(self.limit, self.arrival, now)


class Meters:
    """The meters of a store by key."""

    def __init__(self) -> None:
        self.by_key: dict[str, Meter] = {}
        self._of_queues: dict[str, Meter] = {}
        self._idle: set[str] = set()

    def of_queue(self, name: str, limit: Limit, running: int) -> Meter:
        """The meter of a queue's own limit."""
        meter = self._of_queues.setdefault(name, Meter(limit))
        meter.limit, meter.running = limit, running
        return meter

    def adopt(self, limits: Sequence[Limit]) -> set[str]:
        """Take over the figures of a task that was placed; answers with the queues for which that is news."""
        news: set[str] = set()
        for limit in _last_of_each(limits):
            meter = self.by_key.get(limit.key) or self._new(limit.key)
            if not meter.uses:
                self._idle.discard(limit.key)
            meter.uses += 1
            if meter.limit is not limit and meter.limit != limit:
                meter.limit = limit
                news |= meter.waiters
        return news

    def drop(self, limits: Sequence[Limit]) -> None:
        """Forget a task that has ended."""
        for limit in _last_of_each(limits):
            meter = self.by_key[limit.key]
            meter.uses -= 1
            if not meter.uses:
                self._idle.add(limit.key)

    def free(self, limits: Sequence[Limit]) -> set[str]:
        """Count a task out that runs no more; answers with the queues for which that is news."""
        news: set[str] = set()
        for limit in _last_of_each(limits):
            meter = self.by_key[limit.key]
            meter.running -= 1
            if meter.waiters:
                news |= meter.waiters
                meter.waiters.clear()
        return news

    def freeze(self, key: str, until: int) -> None:
        """Let nobody start under the key before `until`."""
        meter = self.by_key.get(key) or self._new(key)
        meter.frozen = max(meter.frozen, until)

    def sweep(self, now: int) -> None:
        """Forget the keys that no task names and whose past no longer matters."""
        for key in list(self._idle):
            meter = self.by_key[key]
            if meter.arrival <= now and meter.frozen <= now:
                del self.by_key[key]
                self._idle.discard(key)
        self._of_queues = {name: each for name, each in self._of_queues.items() if each.arrival > now}

    def _new(self, key: str) -> Meter:
        meter = self.by_key[key] = Meter(Limit(key))
        self._idle.add(key)
        return meter


def _last_of_each(limits: Sequence[Limit]) -> Iterable[Limit]:
    """The limits, of those of the same key only the last one."""
    return limits if len(limits) == 1 else {limit.key: limit for limit in limits}.values()
