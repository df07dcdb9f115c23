"""A claim: which ready tasks may start, one after another by the contract's order."""

from __future__ import annotations

import heapq

from sitq.backends import rules
from sitq.backends.base import PAUSE_KEY, PAUSE_NAME, PAUSE_QUEUE, Taken, Want
from sitq.backends.memory.agenda import BITS, MASK
from sitq.backends.memory.lanes import Lane, Queue
from sitq.backends.memory.store import Store, handed_out
from sitq.backends.memory.upkeep import expire, expire_one, reclaim
from sitq.record import NEVER, Record, State

UPKEEP = 1000
"""How many tasks a claim brings up to date in each of its two ways before it starts others."""

Candidate = tuple[int, int, int, Lane]
"""Turn, entry in the lane, an order among equals, and the lane that would be served."""


def take(store: Store, want: Want, now: int) -> Taken:
    """Claim tasks, or answer a repeated claim."""
    again = store.claims.get(want.claim)
    if again:
        records = sorted(again.values(), key=lambda record: record.sequence)
        return Taken([handed_out(record) for record in records], now, now)
    if want.reclaim:
        reclaim(store, UPKEEP, now)
    queues = [store.queues[share.queue] for share in want.queues if share.queue in store.queues]
    expire(store, queues, UPKEEP, now)
    for queue in queues:
        queue.promote(now)
    return Claim(store, want, now).run()


class Claim:
    """One claim under way."""

    def __init__(self, store: Store, want: Want, now: int) -> None:
        self.store = store
        self.want = want
        self.now = now
        self.taken: list[Record] = []
        self.next = NEVER
        self._candidates: dict[str, list[Candidate]] = {}

    def run(self) -> Taken:
        """Fill the shares in order, then give what is left to the queues in order again."""
        for share in self.want.queues:
            self._fill(share.queue, share.most)
        for share in self.want.queues:
            self._fill(share.queue, self.want.limit)
        return Taken(self.taken, self.now, self._next())

    def _fill(self, name: str, most: int) -> None:
        most = min(most, self.want.limit - len(self.taken))
        queue = self.store.queues.get(name)
        if queue is None or most <= 0:
            return
        if name not in self._candidates:
            self._candidates[name] = self._look_at(queue)
        candidates = self._candidates[name]
        while most > 0 and candidates:
            turn, entry, order, lane = candidates[0]
            current = queue.turn_of(lane.tenant)
            if current != turn:  # its tenant was served through another lane: turns only rise
                heapq.heapreplace(candidates, (current, entry, order, lane))
                continue
            if lane.keys and not self._admits(queue, lane):
                heapq.heappop(candidates)
                continue
            self._start(queue, lane, turn)
            most -= 1
            head = self._head(queue, lane)
            if head is None:
                heapq.heappop(candidates)
            else:
                heapq.heapreplace(candidates, (queue.turn_of(lane.tenant), head, order, lane))

    def _look_at(self, queue: Queue) -> list[Candidate]:
        """The lanes of a queue that may start now."""
        if self.store.cells.may_pause:
            end = self.store.cells.pause_end(PAUSE_QUEUE + queue.name, self.now)
            if end > self.now:
                self.next = min(self.next, end)
                return []
        candidates: list[Candidate] = []
        for lane in list(queue.lanes.values()):
            head = self._head(queue, lane)
            if head is not None and self._admits(queue, lane):
                candidates.append((queue.turn_of(lane.tenant), head, len(candidates), lane))
        heapq.heapify(candidates)
        return candidates

    def _head(self, queue: Queue, lane: Lane) -> int | None:
        """The first entry of a lane that may be started; the lane is gone when there is none."""
        heap = lane.ready.heap
        while heap:
            entry = heap[0]
            record = self.store.by_sequence.get(entry & MASK)
            if record is None or record.state is not State.QUEUED or record.priority != -(entry >> BITS):
                heapq.heappop(heap)
            elif record.due > self.now:
                heapq.heappop(heap)  # another entry stands for its later due time
            elif self._is_overdue(record):
                heapq.heappop(heap)
                expire_one(self.store, record, self.now)
            else:
                return entry
        queue.lanes.pop(lane.key, None)
        return None

    def _is_overdue(self, record: Record) -> bool:
        if record.expires is None and record.deadline is None:
            return False
        overdue = rules.overdue_at(record)
        return overdue is not None and overdue <= self.now

    def _admits(self, queue: Queue, lane: Lane) -> bool:
        """Whether a lane may start a task now; otherwise remember when it may."""
        if lane.name in self.want.leave or (lane.python is not None and lane.python != self.want.python):
            return False
        opens = 0
        for key in lane.keys:
            meter = self.store.meters.by_key[key]
            end = meter.opens()
            if end == NEVER:
                meter.waiters.add(queue.name)
            opens = max(opens, end)
        if self.store.cells.may_pause:
            opens = max(opens, self._pause_end(lane))
        if opens <= self.now:
            return True
        self.next = min(self.next, opens)
        return False

    def _pause_end(self, lane: Lane) -> int:
        pauses = [PAUSE_NAME + lane.name, *(PAUSE_KEY + key for key in lane.keys)]
        if lane.tenant is not None:
            pauses.append(PAUSE_KEY + lane.tenant)
        return max(self.store.cells.pause_end(pause, self.now) for pause in pauses)

    def _start(self, queue: Queue, lane: Lane, turn: int) -> None:
        record = self.store.by_sequence[heapq.heappop(lane.ready.heap) & MASK]
        queue.served = turn
        queue.turns[lane.tenant] = turn + (rules.stride(record.fair.weight) if record.fair else rules.TURN)
        for key in lane.keys:
            self.store.meters.by_key[key].start(self.now)
        self.taken.append(self.store.start(record, queue, self.want, self.now))

    def _next(self) -> int | None:
        """When something more may become claimable."""
        if len(self.taken) >= self.want.limit:
            return self.now
        agendas = [
            self.store.queues[share.queue].scheduled
            for share in self.want.queues
            if share.queue in self.store.queues
        ]
        if self.want.reclaim:
            agendas.append(self.store.leases)
        instants = [first for agenda in agendas if (first := agenda.first()) is not None]
        instant = max(self.now, min(self.next, *instants)) if instants else self.next
        return None if instant >= NEVER else instant
