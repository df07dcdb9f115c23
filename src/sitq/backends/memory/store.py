"""The store's rows and indexes, and the steps from one state to the next that keep them in agreement.

Everything here runs under the store's lock and is plain synchronous code.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence

from sitq.backends import rules
from sitq.backends.base import DONE_TOPIC, Want, own_end_topic, queue_topic
from sitq.backends.hints import Hub
from sitq.backends.memory.agenda import Agenda
from sitq.backends.memory.cells import Cells
from sitq.backends.memory.family import Family
from sitq.backends.memory.lanes import Queue
from sitq.backends.memory.logs import Logs
from sitq.backends.memory.meters import Meters
from sitq.clock import Clock
from sitq.record import ERRORS_KEPT, TERMINAL, Failure, Record, State, kept_until

NO_STEPS: dict[str, bytes] = {}
"""Shared by all stored records without steps; stored dictionaries are replaced, never written to."""


class Claimed:
    """The tasks that run under one token."""

    __slots__ = ("number", "running", "token")

    def __init__(self, token: str, number: int) -> None:
        self.token = token
        self.number = number
        self.running: dict[str, Record] = {}


class Store:
    """The data of one memory store, shared by all backends that are connected to it.

    Attributes:
        records: Every task by id.
        by_sequence: The same, by sequence and in that order.
        order: All sequences in order, purged ones among them until they are too many.
        claims: Running tasks by their token, which all tasks of a claim share.
        keys: By unique key, the id of the task that took it last; whether it holds it, its record tells.
        leases: Claims by an instant at or before the first end of a lease that is left of them.
        retention: Terminal tasks by the instant from which they may be purged.
        topics: What is to be hinted when the lock is released.
    """

    def __init__(self, clock: Clock, max_payload: int) -> None:
        self.clock = clock
        self.max_payload = max_payload
        self.lock = threading.Lock()
        self.hub = Hub()
        self.records: dict[str, Record] = {}
        self.by_sequence: dict[int, Record] = {}
        self.order: list[int] = []
        self.queues: dict[str, Queue] = {}
        self.claims: dict[str, Claimed] = {}
        self.numbered: dict[int, Claimed] = {}
        self.keys: dict[str, str] = {}
        self.leases = Agenda(self._is_lease)
        self.retention = Agenda(self._is_kept)
        self.family = Family()
        self.meters = Meters()
        self.cells = Cells()
        self.logs = Logs()
        self.topics: set[str] = set()
        self._last_sequence = 0
        self._last_claim = 0

    @contextlib.contextmanager
    def writing(self) -> Generator[int, None, None]:
        """Hold the lock for one step at the instant that is yielded, then pass on its hints."""
        topics: set[str] = set()
        try:
            with self.lock:
                self.topics = topics
                yield self.clock()
        finally:
            self.hub.hint(topics)

    # -- the way in and out --------------------------------------------------------------------------------

    def place(self, record: Record, now: int) -> None:
        """Store a new task: blocked if it has edges, queued otherwise."""
        self.enter(record)
        if record.unique:
            self.keys[record.unique.key] = record.id
        if record.edges:
            self.block(record, now)
        elif record.milestone:
            self._complete(record, now)
        else:
            self._queue_first(record, now)

    def enter(self, record: Record) -> None:
        """Give a task its sequence, by which it is found from now on."""
        self._last_sequence += 1
        record.sequence = self._last_sequence
        self.records[record.id] = record
        self.by_sequence[record.sequence] = record
        self.order.append(record.sequence)
        if record.limits and record.state not in TERMINAL:
            news = self.meters.adopt(record.limits)
            if news:
                self._hint_queues(news)

    def block(self, record: Record, now: int) -> None:
        """Let a new task wait for all of its parents."""
        record.state = State.BLOCKED
        record.due = max(record.due, now)
        self.family.join(record)
        self.queue(record.queue).blocked += 1

    def line_up_restored(self, record: Record, now: int) -> None:
        """Let a task wait for its time that has been queued elsewhere."""
        self.family.note(record, self.records.keys(), ended=False)
        queue = self.queue(record.queue)
        queue.queued += 1
        queue.line_up(record, now)
        self.topics.add(queue.topic)

    def keep(self, record: Record) -> None:
        """Keep a task that has ended elsewhere."""
        self.family.note(record, self.records.keys(), ended=True)
        self.queue(record.queue).ended[TERMINAL.index(record.state)] += 1
        self.retention.push(self._purge_at(record), record.sequence)
        self._hint_end(record)

    def send(self, record: Record, name: str, now: int) -> None:
        """Let a waiting task wait in another queue; what the old one has of it counts for nothing there."""
        old, new = self.queue(record.queue), self.queue(name)
        record.queue = name
        if record.state is State.BLOCKED:
            old.blocked -= 1
            new.blocked += 1
            return
        old.queued -= 1
        new.queued += 1
        new.line_up(record, now)
        self.topics.add(new.topic)

    def remove(self, record: Record, end: State | None, now: int) -> None:
        """Forget a task that does not run; `end` is as what its end counts for those that wait for it."""
        ended = record.state in TERMINAL
        if ended:
            self.queue(record.queue).ended[TERMINAL.index(record.state)] -= 1
        else:
            self._leave(record)
            self._forget_ties(record)
            self._hint_end(record)
        self._release_key(record)
        self.family.forget(record)
        del self.records[record.id], self.by_sequence[record.sequence]
        if len(self.order) > 2 * len(self.records) + 1000:
            self.order[:] = self.by_sequence
        if record.id in self.family.children:
            if end is not None and not ended:  # it counts as what it was
                self._spread(record.id, end, now)
            self.family.children.pop(record.id, None)

    # -- from state to state -------------------------------------------------------------------------------

    def start(self, record: Record, queue: Queue, want: Want, now: int) -> Record:
        """Let a ready task run, and hand out a copy."""
        queue.queued -= 1
        queue.running += 1
        record.state = State.RUNNING
        record.attempt += 1
        record.token = want.claim
        record.owner = want.worker
        record.lease_until = now + want.lease
        record.started = now
        claim = self.claims.get(want.claim) or self._new_claim(want, now)
        claim.running[record.id] = record
        return handed_out(record)

    def shorten(self, record: Record, until: int) -> None:
        """Let a lease end earlier; a later end need only be written down, for the agenda may be early."""
        record.lease_until = until
        self.leases.push(until, self.claims[record.token or ""].number)

    def requeue(self, record: Record, due: int, now: int) -> None:
        """Let a running task wait again; it takes a `waiting` unique key back if nobody has it."""
        self._leave(record)
        record.state = State.QUEUED
        record.due = due
        queue = self.queue(record.queue)
        queue.queued += 1
        queue.line_up(record, now)
        self.topics.add(queue.topic)
        unique = record.unique
        if unique and unique.scope == "waiting" and self.key_holder(unique.key, now) is None:
            self.keys[unique.key] = record.id

    def end(self, record: Record, state: State, now: int, failure: Failure | None = None) -> None:
        """Let a task end, and its end take effect on those that depend on it."""
        self._end_alone(record, state, now, failure)
        if record.id in self.family.children:
            self._spread(record.id, state, now)

    def meet_ended_parents(self, children: Iterable[Record], now: int) -> None:
        """Let the ends of parents that ended before tasks were placed take effect on them, in order."""
        ended = [
            (child, parent)
            for child in children
            for id in dict.fromkeys([edge.parent for edge in child.edges])
            if (parent := self.records[id]).state in TERMINAL
        ]
        for child, parent in ended:  # a parent that ends with one of these meets its children by itself
            if child.state is State.BLOCKED:
                after = self._lift(child, parent.id, parent.state, now)
                if after in TERMINAL:
                    self._spread(child.id, after, now)

    def line_up_anew(self, record: Record, due: int, now: int) -> None:
        """Give a waiting task another due time; its ttl counts from there, if it was never started."""
        record.due = due
        if record.state is State.QUEUED:
            if record.attempt == 0 and record.ttl is not None:
                record.expires = due + record.ttl
            self._line_up(record, now)

    def reorder(self, record: Record, priority: int, now: int) -> None:
        """Give a waiting task another priority."""
        record.priority = priority
        if record.state is State.QUEUED:
            self._line_up(record, now)

    # -- questions -----------------------------------------------------------------------------------------

    def queue(self, name: str) -> Queue:
        """The queue of this name, made when it is needed."""
        queue = self.queues.get(name)
        if queue is None:
            queue = self.queues[name] = Queue(name, self.by_sequence)
        return queue

    def key_holder(self, key: str, now: int) -> Record | None:
        """The task that holds the unique key."""
        holder = self.records.get(self.keys.get(key, ""))
        return holder if holder is not None and rules.holds_key(holder, now) else None

    def may_be_purged(self, record: Record, now: int) -> bool:
        """Whether a terminal task is past its time, needed by nobody, and holds no unique key."""
        return (
            record.keep_until is not None
            and self._purge_at(record) <= now
            and record.id not in self.family.children
        )

    # -- the parts of a step -------------------------------------------------------------------------------

    def _queue_first(self, record: Record, now: int) -> None:
        record.state = State.QUEUED
        record.due = rules.due_at(record, now)
        record.delay = 0
        if record.ttl is not None:
            record.expires = record.due + record.ttl
        queue = self.queue(record.queue)
        queue.queued += 1
        queue.line_up(record, now)
        self.topics.add(queue.topic)

    def _complete(self, record: Record, now: int) -> None:
        """Let a milestone without parents end where it is placed."""
        record.state = State.BLOCKED
        record.due = max(record.due, now)
        self.family.join(record)
        self.queue(record.queue).blocked += 1
        self._end_alone(record, State.COMPLETED, now, None)

    def _line_up(self, record: Record, now: int) -> None:
        queue = self.queue(record.queue)
        queue.line_up(record, now)
        self.topics.add(queue.topic)

    def _new_claim(self, want: Want, now: int) -> Claimed:
        self._last_claim += 1
        claim = Claimed(want.claim, self._last_claim)
        self.claims[claim.token] = self.numbered[claim.number] = claim
        self.leases.push(now + want.lease, claim.number)
        return claim

    def _leave(self, record: Record) -> None:
        """Take a task out of what its state means, before it gets another."""
        queue = self.queues[record.queue]
        if record.state is State.RUNNING:
            queue.running -= 1
            claim = self.claims[record.token or ""]
            del claim.running[record.id]
            if not claim.running:
                del self.claims[claim.token], self.numbered[claim.number]
            record.owner = record.lease_until = record.stop = None
            if self.cells.may_limit:
                self.topics.add(queue.topic)
            if record.limits:
                news = self.meters.free(record.limits)
                if news:
                    self._hint_queues(news)
        elif record.state is State.QUEUED:
            queue.queued -= 1
        else:
            queue.blocked -= 1
            self.family.let_go(record)

    def _end_alone(self, record: Record, state: State, now: int, failure: Failure | None) -> None:
        self._leave(record)
        record.state = state
        record.finished = now
        record.keep_until = kept_until(record, state, now)
        if failure is not None:
            record.errors = rules.newest(record.errors, failure, ERRORS_KEPT)
        self.queues[record.queue].ended[TERMINAL.index(state)] += 1
        if record.unique is None:
            self.retention.push(record.keep_until, record.sequence)
        else:
            self.retention.push(self._purge_at(record), record.sequence)
            if record.unique.scope != "window":
                self._release_key(record)
        if record.limits or record.edges:
            self._forget_ties(record)
        self.topics.add(DONE_TOPIC)
        if record.reply is not None:
            self.topics.add(record.reply)

    def _forget_ties(self, record: Record) -> None:
        """Forget what only a task that has not ended counts for: its limit keys, its edges."""
        if record.limits:
            self.meters.drop(record.limits)
        if not record.edges:
            return
        for parent in self.family.part(record):
            freed = self.records.get(parent)
            if freed is not None and freed.state in TERMINAL:
                self.retention.push(self._purge_at(freed), freed.sequence)

    def _spread(self, parent: str, state: State, now: int) -> None:
        """Let an end take effect on the children, and theirs on theirs."""
        ended = deque([(parent, state)])
        while ended:
            parent, state = ended.popleft()
            for child in tuple(self.family.children.get(parent, ())):
                record = self.records[child]
                if record.state is State.BLOCKED:
                    after = self._lift(record, parent, state, now)
                    if after in TERMINAL:
                        ended.append((child, after))

    def _lift(self, child: Record, parent: str, state: State, now: int) -> State:
        after, failure = self.family.lift(child, parent, state, now)
        if after is State.QUEUED and child.milestone:
            after = State.COMPLETED
            self._end_alone(child, after, now, None)
        elif after is State.QUEUED:
            self._leave(child)
            self._queue_first(child, now)
        elif after is not State.BLOCKED:
            self._end_alone(child, after, now, failure)
        if after in TERMINAL:
            self.topics.add(own_end_topic(child.id))
        return after

    def _release_key(self, record: Record) -> None:
        if record.unique and self.keys.get(record.unique.key) == record.id:
            del self.keys[record.unique.key]

    def _hint_end(self, record: Record) -> None:
        self.topics.add(DONE_TOPIC)
        if record.reply is not None:
            self.topics.add(record.reply)

    def _hint_queues(self, names: set[str]) -> None:
        self.topics.update(map(queue_topic, names))

    def _purge_at(self, record: Record) -> int:
        instant = record.keep_until or 0
        unique = record.unique
        if unique and unique.scope == "window" and self.keys.get(unique.key) == record.id:
            return max(instant, record.created + unique.window)
        return instant

    def _is_lease(self, _instant: int, number: int) -> bool:
        return number in self.numbered

    def _is_kept(self, _instant: int, sequence: int) -> bool:
        return sequence in self.by_sequence


# `copy.copy` looks this up anew each time, which takes as long again.
_copy: Callable[[Record], Record] = Record.__copy__  # type: ignore[attr-defined]


def handed_out(record: Record) -> Record:
    """A copy that its holder may write to."""
    copied = _copy(record)
    copied.steps = dict(record.steps) if record.steps else {}
    if record.retry is not None:
        copied.retry = dict(record.retry)
    if record.trace is not None:
        copied.trace = dict(record.trace)
    return copied


def taken_in(record: Record, now: int) -> Record:
    """A copy of what a producer says, as a task that is new now."""
    new = handed_out(record)
    new.created = now
    new.expires = new.token = new.owner = new.lease_until = new.stop = None
    new.started = new.finished = new.keep_until = new.result = None
    new.attempt = new.failures = new.crashes = new.alone = 0
    new.errors = ()
    new.progress = ()
    new.steps = NO_STEPS
    if new.ends:
        new.ends = ()
    return new


def pick(store: Store, ids: Sequence[str]) -> list[Record | None]:
    """Copies of the tasks with these ids."""
    found = (store.records.get(each) for each in ids)
    return [None if record is None else handed_out(record) for record in found]
