"""Two stores on one clock that are asked the same and must answer the same."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from sitq.backends.base import Answer, Backend, Filter, Lease, Renewal, Taken, Want
from sitq.backends.memory import MemoryBackend
from sitq.move import Move
from sitq.record import Failure, Record, State
from sitq.testing.conformance.harness import Harness, ManualClock

T = TypeVar("T")

WORDED_BY_STORES = frozenset({"crashed", "expired", "dependency"})
"""The failures whose message is the store's own."""


def comparable(record: Record | None) -> Record | None:
    """A record without what stores may say differently: the numbers of sequences, and wording."""
    if record is None:
        return None
    errors = tuple(map(_without_wording, record.errors))
    return msgspec.structs.replace(record, sequence=0, errors=errors)


def _without_wording(failure: Failure) -> Failure:
    return msgspec.structs.replace(failure, message="") if failure.kind in WORDED_BY_STORES else failure


class Pair:
    """The store under test and the memory store beside it."""

    def __init__(self, make: Callable[[Path, ManualClock], Harness]) -> None:
        self.clock = ManualClock()
        self._folder = tempfile.TemporaryDirectory(prefix="sitq-model-", ignore_cleanup_errors=True)
        self._runner = asyncio.Runner()
        self._harness = make(Path(self._folder.name), self.clock)
        assert self._harness.frozen, "the model needs a store whose clock can be stopped"
        self.tested = self._run(self._harness.open())
        self.oracle: Backend = MemoryBackend(clock=self.clock, max_payload=self.tested.traits.max_payload)
        self._run(self.oracle.connect())

    def close(self) -> None:
        """Let go of both."""
        try:
            self._run(self._harness.discard(self.tested))
            self._run(self.oracle.close())
        finally:
            self._runner.close()
            self._folder.cleanup()

    def reopen(self) -> None:
        """Close the store under test and open it again, if it is durable."""
        if self.tested.traits.durable:
            closed = self.tested
            self._run(closed.close())
            self.tested = self._run(self._harness.reopen(closed))

    def _run(self, call: Awaitable[T]) -> T:
        async def wait() -> T:
            return await call

        return self._runner.run(wait())

    def _both(
        self, ask: Callable[[Backend], Awaitable[T]], comparing: Callable[[T], object] = lambda x: x
    ) -> T:
        expected = self._run(ask(self.oracle))
        answer = self._run(ask(self.tested))
        assert comparing(answer) == comparing(expected)
        return expected

    def put(self, groups: Sequence[Sequence[Record]]) -> list[list[Answer]]:
        """Put groups of records."""
        return self._both(lambda backend: backend.put([[_copy(one) for one in group] for group in groups]))

    def take(self, want: Want) -> Taken:
        """Claim tasks. When to come back is each store's own guess."""
        return self._both(
            lambda backend: backend.take(want),
            lambda taken: ([comparable(record) for record in taken.records], taken.now),
        )

    def apply(self, moves: Sequence[Move]) -> list[bool]:
        """Carry out moves."""
        return self._both(lambda backend: backend.apply(moves))

    def renew(self, leases: Sequence[Lease], length: int) -> list[Renewal]:
        """Renew leases."""
        answers: list[list[Renewal]] = []
        for backend in (self.oracle, self.tested):
            channel = backend.lease_channel()
            try:
                answers.append(channel.renew(leases, length))
            finally:
                channel.close()
        assert answers[1] == answers[0]
        return answers[0]

    def swap(self, key: str, value: bytes | None, ttl: int | None, seen: bytes | None) -> bool:
        """Compare and set a cell."""
        return self._both(lambda backend: backend.swap(key, seen, value, ttl))

    def cell(self, key: str) -> bytes | None:
        """What a cell holds."""
        cells = self._both(lambda backend: backend.cells(key))
        return cells[0].value if cells else None

    def append(self, topic: str, events: Sequence[bytes], most: int) -> None:
        """Add to a log, and compare its newest entries."""
        self._both(lambda backend: backend.append(topic, events, most))
        self._both(lambda backend: backend.read(topic, 0, 1000), lambda log: log[-most:])

    def tend(self, budget: int) -> int:
        """Do upkeep."""
        return self._both(lambda backend: backend.tend(budget))

    def tally(self) -> dict[str, dict[State, int]]:
        """Count tasks."""
        return self._both(lambda backend: backend.tally(), _above_zero)

    def get(self, ids: Sequence[str]) -> list[Record | None]:
        """Read tasks."""
        return self._both(
            lambda backend: backend.get(ids), lambda records: [comparable(record) for record in records]
        )

    def scan(self, where: Filter, n: int) -> list[str]:
        """The ids that a whole scan finds, in its order."""
        return self._both(lambda backend: _scan(backend, where, n))


def _copy(record: Record) -> Record:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=Record)


def _above_zero(tally: dict[str, dict[State, int]]) -> dict[tuple[str, State], int]:
    return {(queue, state): n for queue, states in tally.items() for state, n in states.items() if n}


async def _scan(backend: Backend, where: Filter, n: int) -> list[str]:
    found: list[str] = []
    after: int | None = None
    while True:
        page = await backend.scan(where, after, n)
        found += _ids(page.records)
        if page.after is None:
            return found
        after = page.after


def _ids(records: Iterable[Record]) -> list[str]:
    return [record.id for record in records]
