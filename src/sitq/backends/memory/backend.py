"""The memory backend: the contract's face on a store in this process."""

from __future__ import annotations

import os
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit
from weakref import WeakValueDictionary

from sitq.backends import rules
from sitq.backends.base import (
    LIMIT_QUEUE,
    PAUSE_QUEUE,
    Answer,
    Backend,
    Cell,
    Event,
    Filter,
    Lease,
    Page,
    Renewal,
    Taken,
    Traits,
    Want,
    log_topic,
    queue_topic,
)
from sitq.backends.hints import LocalListener
from sitq.backends.memory.admission import put_group
from sitq.backends.memory.cells import PAUSE
from sitq.backends.memory.changes import carry_out, renew
from sitq.backends.memory.claim import take
from sitq.backends.memory.store import Store, handed_out, pick
from sitq.backends.memory.upkeep import tend
from sitq.clock import Clock, wall_clock
from sitq.exceptions import BackendError, ValidationError
from sitq.move import Move
from sitq.record import Record, State


class Shared:
    """The hold of backends on a store: part of no cycle, as the store is, it goes with the last of them."""

    def __init__(self, store: Store) -> None:
        self.store = store


class MemoryBackend(Backend):
    """Tasks in the memory of this process; they end with it.

    The data belongs to the object and outlives `close`: connecting again finds it. Several threads and
    event loops may use one object at once: each operation is one short step under a lock.
    """

    _named: ClassVar[WeakValueDictionary[tuple[int, str, str], Shared]] = WeakValueDictionary()
    _naming: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self, *, namespace: str = "sitq", clock: Clock = wall_clock, max_payload: int = 1 << 20
    ) -> None:
        """Start with an empty store of its own; `max_payload` is in bytes."""
        self._start(Shared(Store(clock, max_payload)), namespace, "")

    def _start(self, shared: Shared, namespace: str, name: str) -> None:
        super().__init__()
        self.namespace = namespace
        self.name = name
        self.traits = Traits(
            durable=False, shared=False, local=True, pushes=True, max_payload=shared.store.max_payload
        )
        self._shared = shared
        self._store = shared.store

    @classmethod
    def named(
        cls,
        name: str,
        *,
        namespace: str = "sitq",
        clock: Clock = wall_clock,
        max_payload: int = 1 << 20,
    ) -> MemoryBackend:
        """A backend on the store that all in this process share who give this name and namespace.

        It lives as long as a backend object on it; the first one gives it its clock and largest payload.
        """
        key = (os.getpid(), namespace, name)  # a fork starts with stores of its own
        with cls._naming:
            shared = cls._named.get(key)
            if shared is None:
                shared = cls._named[key] = Shared(Store(clock, max_payload))
        backend = cls.__new__(cls)
        backend._start(shared, namespace, name)  # noqa: SLF001 - of its own class
        return backend

    def __repr__(self) -> str:
        options = "" if self.namespace == "sitq" else f"namespace={self.namespace!r}"
        if not self.name:
            return f"MemoryBackend({options})"
        return f"MemoryBackend.named({', '.join(filter(None, (repr(self.name), options)))})"

    async def open(self) -> None:
        """Nothing has to be opened."""

    async def shut(self) -> None:
        """Nothing has to be closed; the data stays."""

    async def put(self, groups: Sequence[Sequence[Record]]) -> list[list[Answer]]:
        """Store new tasks. Each group is stored whole or not at all, whatever happens to the others."""
        self.check()
        with self._store.writing() as now:
            return [put_group(self._store, group, now) for group in groups]

    async def take(self, want: Want) -> Taken:
        """Claim tasks: in one atomic step they become `running` with a new token and lease, `attempt` + 1."""
        self.check()
        with self._store.writing() as now:
            return take(self._store, want, now)

    def lease_channel(self) -> MemoryLeaseChannel:
        """Open a channel for renewals, for any thread."""
        self.check()
        return MemoryLeaseChannel(self, self._store)

    async def apply(self, moves: Sequence[Move]) -> list[bool]:
        """Carry out moves in order; each answers whether it was kept. A lost one changes nothing."""
        self.check()
        with self._store.writing() as now:
            return [carry_out(self._store, move, now) for move in moves]

    async def get(self, ids: Sequence[str]) -> list[Record | None]:
        """Read tasks by id; `None` for an unknown one."""
        self.check()
        with self._store.lock:
            return pick(self._store, ids)

    async def scan(self, where: Filter, after: int | None = None, n: int = 100) -> Page:
        """Read a page of at most `n` records, looking at no more than `10 * n + 1000`."""
        self.check()
        with self._store.lock:
            return scan(self._store, where, after, n)

    async def swap(self, key: str, seen: bytes | None, value: bytes | None, ttl: int | None = None) -> bool:
        """Compare and set a cell; whoever waits for a queue that it is about is woken."""
        self.check()
        with self._store.writing() as now:
            until = None if ttl is None else now + ttl
            kept = self._store.cells.swap(key, seen, value, until, now)
            if kept and key.startswith(PAUSE_QUEUE):
                self._store.topics.add(queue_topic(key.removeprefix(PAUSE_QUEUE)))
            elif kept and key.startswith(LIMIT_QUEUE):
                self._store.topics.add(queue_topic(key.removeprefix(LIMIT_QUEUE)))
            elif kept and key.startswith(PAUSE):
                self._store.topics.update(queue.topic for queue in self._store.queues.values())
            return kept

    async def cells(self, prefix: str) -> list[Cell]:
        """Read the cells whose key starts with `prefix`, in order of their keys."""
        self.check()
        with self._store.lock:
            return self._store.cells.under(prefix, self._store.clock())

    async def append(self, topic: str, events: Sequence[bytes], most: int = 10_000) -> None:
        """Add to a log, which keeps its newest `most` entries."""
        self.check()
        with self._store.writing() as now:
            self._store.logs.append(topic, events, most, now)
            self._store.topics.add(log_topic(topic))

    async def read(self, topic: str, after: int = 0, n: int = 100) -> list[Event]:
        """Read a log's entries with numbers above `after`, oldest first."""
        self.check()
        with self._store.lock:
            return self._store.logs.read(topic, after, n)

    def listen(self, topics: Iterable[str]) -> LocalListener:
        """Listen for hints on topics, for a waiter in the running event loop."""
        self.check()
        return self._store.hub.listen(topics)

    def observe(self, told: Callable[[Sequence[str]], None]) -> Callable[[], None]:
        """Be told the ids of tasks that the store itself let end."""
        return self._store.hub.observe(told)

    async def tend(self, budget: int = 1000) -> int:
        """Do upkeep on at most `budget` tasks."""
        self.check()
        with self._store.writing() as now:
            return tend(self._store, budget, now)

    async def tally(self) -> dict[str, dict[State, int]]:
        """Count tasks per queue and state; absent means none."""
        self.check()
        with self._store.lock:
            counts = {queue.name: queue.counts() for queue in self._store.queues.values()}
        return {name: states for name, states in counts.items() if states}


class MemoryLeaseChannel:
    """Renewals under the store's lock, which nobody holds for long."""

    def __init__(self, backend: MemoryBackend, store: Store) -> None:
        self._backend = backend
        self._store: Store | None = store

    def renew(self, leases: Sequence[Lease], lease: int) -> list[Renewal]:
        """Make each lease last `lease` microseconds from now.

        Raises:
            BackendError: The channel or its backend is closed.
        """
        if self._store is None:
            raise BackendError(
                f"the lease channel of {self._backend!r} is closed: open a new one", operation="renew"
            )
        self._backend.check()
        with self._store.writing() as now:
            return renew(self._store, leases, lease, now)

    def close(self) -> None:
        """Let go of the store. Idempotent."""
        self._store = None


def scan(store: Store, where: Filter, after: int | None, n: int) -> Page:
    """The first `n` records behind `after` that the filter is about, as far as a bounded look finds them."""
    budget = 10 * n + 1000
    found: list[Record] = []
    order = store.order
    if where.parent is not None:
        order = [store.records[one].sequence for one in store.family.offspring.get(where.parent, ())]
    if where.newest_first:
        start = len(order) if after is None else bisect_left(order, after)
        sequences: Iterable[int] = (order[at] for at in range(start - 1, -1, -1))
    else:
        sequences = islice(order, bisect_right(order, after or 0), None)
    for sequence in sequences:
        record = store.by_sequence.get(sequence)
        if record is None:
            continue
        if len(found) >= n or budget == 0:
            return Page(found, after)
        budget -= 1
        after = sequence
        if rules.fits(record, where):
            found.append(handed_out(record))
    return Page(found, None)


def from_url(url: str) -> MemoryBackend:
    """The backend of `memory://` (a store of its own) or `memory://name` (shared in this process).

    Raises:
        ValidationError: The URL has a path or an unknown option.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    if parts.path.strip("/"):
        raise ValidationError(
            f"{url!r} has a path: a memory store has at most a name, as in memory://name", operation="open"
        )
    unknown = sorted(options.keys() - {"namespace"})
    if unknown:
        raise ValidationError(
            f"{url!r} has an unknown option {unknown[0]!r}: there is namespace=", operation="open"
        )
    namespace = options.get("namespace", "sitq")
    name = unquote(parts.netloc)
    return MemoryBackend.named(name, namespace=namespace) if name else MemoryBackend(namespace=namespace)
