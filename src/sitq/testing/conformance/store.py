"""A store under test, with the words that the promises use."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeVar

import msgspec
import pytest

from sitq.backends.base import (
    Answer,
    Backend,
    Filter,
    Lease,
    LeaseChannel,
    Placed,
    Renewal,
    Share,
    Taken,
    Want,
)
from sitq.move import Move, Settle
from sitq.record import Failure, Record, State
from sitq.testing.conformance.harness import Harness

T = TypeVar("T")

LONG = 10_000
"""A lease, in units, that no test outlives."""

SKIP = "conformance: "
"""How the reason of each skip of the suite begins."""

_numbers = itertools.count(1)


def task(id: str = "", **fields: Any) -> Record:
    """A record as a producer makes it; with an id of its own if none is given."""
    fields.setdefault("name", "work")
    return Record(id=id or f"task-{next(_numbers)}", **fields)


def tasks(n: int, prefix: str = "t", **fields: Any) -> list[Record]:
    """Records alike but for their ids, which sort in their order."""
    return [task(f"{prefix}{number:05}", **fields) for number in range(n)]


def fresh_claim() -> str:
    """The id of a claim that nobody made before."""
    return f"claim-{next(_numbers)}"


class Store:
    """A backend and its harness. Spans of time are given in units of the harness."""

    def __init__(self, harness: Harness, backend: Backend) -> None:
        self.harness = harness
        self.backend = backend
        self.traits = backend.traits
        self._opened = [backend]
        self._name = type(backend).__name__

    # -- time ----------------------------------------------------------------------------------------------

    def span(self, units: float) -> int:
        """So many units, in microseconds."""
        return round(units * self.harness.unit * 1_000_000)

    async def advance(self, units: float) -> None:
        """Let so many units pass."""
        await self.harness.advance(self.backend, units * self.harness.unit)

    async def pass_microseconds(self, microseconds: int) -> None:
        """Let an exact time pass; only where the clock is frozen."""
        await self.harness.advance(self.backend, microseconds / 1_000_000)

    async def now(self) -> int:
        """The store's clock."""
        return (await self.claim(1, queues=("nobody's",), reclaim=False)).now

    # -- what the store can do -----------------------------------------------------------------------------

    def needs(self, trait: Literal["durable", "pushes"]) -> None:
        """Skip the test if the store does not claim the trait."""
        if not getattr(self.traits, trait):
            pytest.skip(f"{SKIP}{self._name} is not {trait}")

    def needs_second_object(self) -> None:
        """Skip the test if the harness cannot open a second object on the same data."""
        if not (self.traits.shared or self.harness.can_reopen):
            pytest.skip(f"{SKIP}{self._name} is not shared")

    def needs_frozen_clock(self) -> None:
        """Skip the test if the harness cannot stop the time."""
        if not self.harness.frozen:
            pytest.skip(f"{SKIP}the clock of {self._name} cannot be stopped")

    def needs_corruption(self) -> None:
        """Skip the test if the harness cannot damage a record."""
        if not self.harness.can_corrupt:
            pytest.skip(f"{SKIP}the harness of {self._name} cannot damage a record")

    async def reopened(self, namespace: str | None = None) -> Store:
        """One more object on the same store."""
        other = Store(self.harness, await self.harness.reopen(self.backend, namespace))
        self._opened.append(other.backend)
        return other

    async def discard(self) -> None:
        """Let go of everything that was opened."""
        for backend in reversed(self._opened):
            await self.harness.discard(backend)

    # -- writing -------------------------------------------------------------------------------------------

    async def put(self, *records: Record) -> list[Answer]:
        """Put records, each a group of its own."""
        return [answer for (answer,) in await self.backend.put([[record] for record in records])]

    async def put_group(self, *records: Record) -> list[Answer]:
        """Put records as one group."""
        (answers,) = await self.backend.put([records])
        return answers

    async def place(self, *records: Record) -> None:
        """Put records, each a group of its own; all must be placed."""
        assert await self.put(*records) == [Placed(record.id) for record in records]

    async def apply(self, move: Move) -> bool:
        """Carry out one move."""
        (kept,) = await self.backend.apply([move])
        return kept

    async def settle(
        self,
        record: Record,
        state: State = State.COMPLETED,
        result: bytes | None = None,
        message: str = "boom",
    ) -> bool:
        """Let an attempt end its task."""
        failure = None if state is State.COMPLETED else Failure(kind="raised", message=message)
        return await self.apply(
            Settle(id=record.id, token=record.token, state=state, result=result, failure=failure)
        )

    # -- claiming ------------------------------------------------------------------------------------------

    async def claim(
        self,
        limit: int = 1,
        *,
        queues: Sequence[str | Share] = ("default",),
        lease: float = LONG,
        claim: str = "",
        worker: str = "w1",
        python: str = "3.11",
        leave: Iterable[str] = (),
        reclaim: bool = True,
    ) -> Taken:
        """Claim tasks; the lease is in units."""
        return await self.backend.take(
            Want(
                claim=claim or fresh_claim(),
                worker=worker,
                queues=tuple(Share(one, limit) if isinstance(one, str) else one for one in queues),
                limit=limit,
                lease=self.span(lease),
                python=python,
                leave=frozenset(leave),
                reclaim=reclaim,
            )
        )

    async def take(self, limit: int = 1, **want: Any) -> list[Record]:
        """Claim tasks, and see the records."""
        return (await self.claim(limit, **want)).records

    async def take_ids(self, limit: int = 1, **want: Any) -> list[str]:
        """Claim tasks, and see the ids."""
        return [record.id for record in await self.take(limit, **want)]

    async def start(self, record: Record | None = None, **want: Any) -> Record:
        """Put a task, if one is given, and claim one, which must be there."""
        if record is not None:
            await self.place(record)
            want.setdefault("queues", (record.queue,))
        (taken,) = await self.take(1, **want)
        assert record is None or taken.id == record.id
        return taken

    async def reclaim(self) -> None:
        """Let the store look for leases that ran out, and claim nothing."""
        await self.claim(1, queues=("nobody's",))

    async def with_channel(self, use: Callable[[LeaseChannel], T]) -> T:
        """Use a lease channel in a thread, as its owner does."""

        def work() -> T:
            channel = self.backend.lease_channel()
            try:
                return use(channel)
            finally:
                channel.close()

        return await asyncio.to_thread(work)

    async def renew(self, *records: Record, lease: float = LONG) -> list[Renewal]:
        """Renew the leases of attempts."""
        leases = [Lease(record.id, record.token or "") for record in records]
        return await self.with_channel(lambda channel: channel.renew(leases, self.span(lease)))

    # -- reading -------------------------------------------------------------------------------------------

    async def find(self, id: str) -> Record | None:
        """The record, if there is one."""
        (record,) = await self.backend.get([id])
        return record

    async def get(self, id: str) -> Record:
        """The record, which must be there."""
        record = await self.find(id)
        assert record is not None, f"{id} is gone"
        return record

    async def state(self, id: str) -> State:
        """The state of a record that must be there."""
        return (await self.get(id)).state

    async def states(self, *ids: str) -> list[State | None]:
        """The states of records; None for one that is not there."""
        return [None if record is None else record.state for record in await self.backend.get(ids)]

    async def scan_all(self, where: Filter | None = None, n: int = 100) -> list[Record]:
        """Every record that the filter lets through, page by page."""
        found: list[Record] = []
        after: int | None = None
        for _ in range(10_000):
            page = await self.backend.scan(where or Filter(), after, n)
            assert len(page.records) <= n, "a page is longer than it was asked for"
            found += page.records
            if page.after is None:
                return found
            after = page.after
        raise AssertionError("the scan does not end")

    async def tally(self) -> dict[str, dict[State, int]]:
        """The counts above zero."""
        counts = {
            queue: {state: count for state, count in states.items() if count}
            for queue, states in (await self.backend.tally()).items()
        }
        return {queue: states for queue, states in counts.items() if states}

    async def tend(self) -> int:
        """Do upkeep until there is none left; answers how much there was."""
        done = 0
        while count := await self.backend.tend():
            done += count
        return done

    async def snapshot(self, *ids: str) -> bytes:
        """Records as bytes, to see whether something changed."""
        return msgspec.msgpack.encode(await self.backend.get(ids))
