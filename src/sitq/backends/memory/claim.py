"""A claim: which ready tasks may start, one after another by the contract's order."""

from __future__ import annotations

import heapq

from sitq.backends import rules
from sitq.backends.base import LIMIT_QUEUE, PAUSE_KEY, PAUSE_NAME, PAUSE_QUEUE, Taken, Want
from sitq.backends.memory.agenda import BITS, MASK
from sitq.backends.memory.lanes import Lane, Queue
from sitq.backends.memory.store import Store, handed_out
from sitq.backends.memory.upkeep import expire, expire_one, reclaim
from sitq.record import NEVER, Limit, Record, State

UPKEEP = 1000
"""How many tasks a claim brings up to date in each of its two ways before it starts others."""

Head = tuple[int, int, Lane]
"""The first entry of a lane, an order among equals, and the lane."""

Turn = tuple[int, int, int, list[Head]]
"""The turn of a tenant, the first of its entries, an order among equals, and its lanes as a heap."""


def take(store: Store, want: Want, now: int) -> Taken:
    """Claim tasks, or answer a repeated claim."""
    again = store.claims.get(want.claim)
    if again:
        records = sorted(again.running.values(), key=lambda record: record.sequence)
        return Taken([handed_out(record) for record in records], now, now)
    if want.reclaim:
        reclaim(store, UPKEEP, now)
    queues = [store.queues[share.queue] for share in want.queues if share.queue in store.queues]
    expire(store, queues, UPKEEP, now)
    for queue in queues:
        queue.promote(now)
    return Claim(store, want, now).run()


class Claim:
    """One claim under way.

    While it lasts nothing else makes a difference: turns only rise, limits only tighten, and a lane that may
    not start any more is out of it.
    """

    def __init__(self, store: Store, want: Want, now: int) -> None:
        self.store = store
        self.want = want
        self.now = now
        self.taken: list[Record] = []
        self.next = NEVER
        self._turns: dict[str, list[Turn]] = {}

    def run(self) -> Taken:
        """Fill the shares in order, then give what is left to the queues in order again."""
        for share in self.want.queues:
            self._fill(share.queue, share.most)
        for share in self.want.queues:
            self._fill(share.queue, self.want.limit)
        return Taken(self.taken, self.now, self._next())

    def _fill(self, name: str, most: int) -> None:
        queue = self.store.queues.get(name)
        goal = min(len(self.taken) + most, self.want.limit)
        if queue is None or goal <= len(self.taken):
            return
        if name not in self._turns:
            self._turns[name] = self._look_at(queue)
        turns = self._turns[name]
        limit = self._limit_of(queue) if turns and self.store.cells.may_limit else None
        if limit is None:
            self._start(queue, turns, goal)
            return
        own = self.store.meters.of_queue(name, limit, queue.running)
        begun = len(self.taken)
        self._start(queue, turns, begun + rules.room(limit, own.arrival, own.running, self.now, goal - begun))
        for _ in range(len(self.taken) - begun):
            own.start(self.now)
        if turns:
            self.next = min(self.next, max(self.now, own.opens()))

    def _limit_of(self, queue: Queue) -> Limit | None:
        return rules.limit_in(self.store.cells.value(LIMIT_QUEUE + queue.name, self.now))

    def _start(self, queue: Queue, turns: list[Turn], goal: int) -> None:
        while turns and len(self.taken) < goal:
            turn, _, order, lanes = turns[0]
            if len(turns) == 1:
                while lanes and len(self.taken) < goal:
                    following = min(lanes[1:3])[0] if len(lanes) > 1 else None
                    turn = self._serve(queue, lanes, turn, goal, following)
            else:
                self._serve(queue, lanes, turn, len(self.taken) + 1)
            if lanes:
                turn = queue.turn_of(lanes[0][-1].tenant)
                heapq.heapreplace(turns, (turn, lanes[0][0], order, lanes))
            else:
                heapq.heappop(turns)

    def _serve(
        self, queue: Queue, lanes: list[Head], turn: int, goal: int, following: int | None = None
    ) -> int:
        """Start tasks of a tenant's first lane up to the goal, as long as they come before another entry.

        Nothing but that one, if there is one, may come before them. Answers with the tenant's next turn.
        """
        head: int | None
        head, order, lane = lanes[0]
        while head is not None and len(self.taken) < goal and (following is None or head < following):
            if lane.keys and not self._is_open(queue, lane):
                head = None  # the tenant's next lane may come after those of others
                break
            record = self.store.by_sequence[head & MASK]
            lane.ready.pop()
            for key in lane.keys:
                self.store.meters.by_key[key].start(self.now)
            self.taken.append(self.store.start(record, queue, self.want, self.now))
            queue.served = turn
            turn += rules.stride(record.fair.weight) if record.fair else rules.TURN
            queue.turns[lane.tenant] = turn
            head = self._head(queue, lane)
        if head is None:
            heapq.heappop(lanes)
        else:
            heapq.heapreplace(lanes, (head, order, lane))
        return turn

    def _look_at(self, queue: Queue) -> list[Turn]:
        """The lanes of a queue that the worker may serve, by tenant; their limits are asked at each start."""
        if self.store.cells.may_pause:
            end = self.store.cells.pause_end(PAUSE_QUEUE + queue.name, self.now)
            if end > self.now:
                self.next = min(self.next, end)
                return []
        tenants: dict[str | None, list[Head]] = {}
        for order, lane in enumerate(list(queue.lanes.values())):
            head = self._head(queue, lane)
            if head is not None and self._may_serve(queue, lane):
                tenants.setdefault(lane.tenant, []).append((head, order, lane))
        turns: list[Turn] = []
        for tenant, lanes in tenants.items():
            heapq.heapify(lanes)
            turns.append((queue.turn_of(tenant), lanes[0][0], len(turns), lanes))
        heapq.heapify(turns)
        return turns

    def _head(self, queue: Queue, lane: Lane) -> int | None:
        """The first entry of a lane that may be started; the lane is gone when there is none."""
        ready, now = lane.ready, self.now
        while (entry := ready.peek()) is not None:
            record = self.store.by_sequence.get(entry & MASK)
            if (
                record is not None
                and record.state is State.QUEUED
                and record.queue == queue.name  # or it was sent to another one
                and record.priority == -(entry >> BITS)
                and record.due <= now  # if not, another entry stands for its later due time
            ):
                if record.expires is None and record.deadline is None:
                    return entry
                overdue = rules.overdue_at(record)
                if overdue is None or overdue > now:
                    return entry
                ready.pop()
                expire_one(self.store, record, now)
            else:
                ready.pop()
        queue.lanes.pop(lane.key, None)
        return None

    def _may_serve(self, queue: Queue, lane: Lane) -> bool:
        """Whether the worker knows the tasks of a lane, and no pause holds them back."""
        if lane.name in self.want.leave or (lane.python is not None and lane.python != self.want.python):
            return False
        if self.store.cells.may_pause and (end := self._pause_end(lane)) > self.now:
            self.next = min(self.next, max(end, self._opens(queue, lane)))
            return False
        return True

    def _is_open(self, queue: Queue, lane: Lane) -> bool:
        """Whether its limits let a lane start a task now; otherwise remember when they do."""
        opens = self._opens(queue, lane)
        if opens <= self.now:
            return True
        self.next = min(self.next, opens)
        return False

    def _opens(self, queue: Queue, lane: Lane) -> int:
        """From which instant on its limits let a lane start a task; NEVER if only news can allow it."""
        opens = 0
        for key in lane.keys:
            meter = self.store.meters.by_key[key]
            end = meter.opens()
            if end == NEVER:
                meter.waiters.add(queue.name)
            opens = max(opens, end)
        return opens

    def _pause_end(self, lane: Lane) -> int:
        pauses = [PAUSE_NAME + lane.name, *(PAUSE_KEY + key for key in lane.keys)]
        if lane.tenant is not None:
            pauses.append(PAUSE_KEY + lane.tenant)
        return max(self.store.cells.pause_end(pause, self.now) for pause in pauses)

    def _next(self) -> int | None:
        """When something more may become claimable."""
        if len(self.taken) >= self.want.limit:
            return self.now
        queues = [self.store.queues.get(share.queue) for share in self.want.queues]
        agendas = [queue.scheduled for queue in queues if queue]
        if self.want.reclaim:
            agendas.append(self.store.leases)
        instants = [first for agenda in agendas if (first := agenda.first()) is not None]
        instant = max(self.now, min(self.next, *instants)) if instants else self.next
        return None if instant >= NEVER else instant
