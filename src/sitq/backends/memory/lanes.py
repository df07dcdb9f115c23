"""A queue's tasks that wait: the ready ones by lane, the others by the instant at which they are due."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

from sitq.backends import rules
from sitq.backends.base import queue_topic
from sitq.backends.memory.agenda import Agenda
from sitq.record import TERMINAL, Record, State

LaneKey = tuple[str, str, str | None, str | None, tuple[str, ...]]


class Lane:
    """Ready tasks that can only be started or passed over together, by priority and sequence."""

    __slots__ = ("key", "keys", "name", "python", "ready", "tenant")

    def __init__(self, key: LaneKey, ready: Agenda) -> None:
        self.key = key
        _, self.name, self.python, self.tenant, limits = key
        self.keys = tuple(dict.fromkeys(limits))
        self.ready = ready


class Queue:
    """What a store knows of one queue.

    Attributes:
        lanes: Those with ready tasks.
        scheduled: Queued tasks by their due time in the future.
        overdue: Queued tasks by the instant from which they are expired instead of ready.
        turns: The turn of each tenant's next start; a lower one than `served` means nothing.
        served: The turn of the last start.
        ended: How many tasks are in each state of `TERMINAL`.
    """

    def __init__(self, name: str, by_sequence: Mapping[int, Record]) -> None:
        self.name = name
        self.topic = queue_topic(name)
        self._records = by_sequence
        self.lanes: dict[LaneKey, Lane] = {}
        self.scheduled = Agenda(self._is_scheduled)
        self.overdue = Agenda(self._is_overdue)
        self.turns: dict[str | None, int] = {}
        self.served = 0
        self.blocked = 0
        self.queued = 0
        self.running = 0
        self.ended = [0] * len(TERMINAL)

    def line_up(self, record: Record, now: int) -> None:
        """Put a queued task in its place."""
        if record.due <= now:
            self._lane(rules.lane_key(record)).ready.push(-record.priority, record.sequence)
        else:
            self.scheduled.push(record.due, record.sequence)
        if record.expires is not None or record.deadline is not None:
            overdue = rules.overdue_at(record)
            if overdue is not None:
                self.overdue.push(overdue, record.sequence)

    def promote(self, now: int) -> None:
        """Let what has become due be ready."""
        while found := self.scheduled.pop_until(now):
            if self._is_scheduled(*found):
                record = self._records[found[1]]
                self._lane(rules.lane_key(record)).ready.push(-record.priority, record.sequence)

    def next_overdue(self, now: int) -> Record | None:
        """Remove and return the first task that is past its last start."""
        while found := self.overdue.pop_until(now):
            if self._is_overdue(*found):
                return self._records[found[1]]
        return None

    def turn_of(self, tenant: str | None) -> int:
        """The turn at which a task of the tenant would start."""
        return max(self.turns.get(tenant, 0), self.served)

    def rest(self) -> None:
        """Forget what only matters to tasks that have not ended, if there are none."""
        if not (self.blocked or self.queued or self.running):
            self.lanes.clear()
            self.scheduled.clear()
            self.overdue.clear()
            self.turns.clear()
            self.served = 0

    def counts(self) -> dict[State, int]:
        """How many tasks are in each state; absent means none."""
        counts = {State.BLOCKED: self.blocked, State.QUEUED: self.queued, State.RUNNING: self.running}
        counts.update(zip(TERMINAL, self.ended, strict=True))
        return {state: count for state, count in counts.items() if count}

    def _lane(self, key: LaneKey) -> Lane:
        lane = self.lanes.get(key)
        if lane is None:
            lane = self.lanes[key] = Lane(key, Agenda(self._is_ready))
        return lane

    # A claimed task leaves its lane, so an entry of the right priority is enough to stand for a queued one.
    def _is_ready(self, rank: int, sequence: int) -> bool:
        record = self._records.get(sequence)
        return self._waits_here(record) and record.priority == -rank

    def _is_scheduled(self, due: int, sequence: int) -> bool:
        record = self._records.get(sequence)
        return self._waits_here(record) and record.due == due

    def _is_overdue(self, instant: int, sequence: int) -> bool:
        record = self._records.get(sequence)
        return self._waits_here(record) and rules.overdue_at(record) == instant

    def _waits_here(self, record: Record | None) -> TypeGuard[Record]:
        """Whether a task is queued, and in this queue: one that was sent to another one left its entries."""
        return record is not None and record.state is State.QUEUED and record.queue == self.name
