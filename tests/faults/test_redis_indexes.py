"""A Redis store whose indexes get lost, one by one or all: they are made anew from the records."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from sitq.backends.base import Filter, Lease, Placed, Share, Want
from sitq.backends.redis import RedisBackend
from sitq.move import Settle
from sitq.record import Edge, Fair, Limit, Record, State, Unique
from sitq.testing.conformance import ManualClock

pytestmark = pytest.mark.asyncio

CELLS = ("cells", "logs", "log:log")
"""What is kept for its own sake and cannot be made anew."""


class Lost:
    """A store with tasks in every state, and what it says of them."""

    def __init__(self, url: str) -> None:
        self.clock = ManualClock()
        self.namespace = f"lost-{uuid.uuid4().hex[:12]}"
        self.backend = RedisBackend(url, namespace=self.namespace, clock=self.clock)
        self.client: Any = Redis.from_url(url)

    async def fill(self) -> None:
        limit, fair = (Limit("key", slots=1),), Fair("tenant")
        records = [
            Record(id="done", name="f"),
            Record(id="running", name="f", limits=limit, unique=Unique("held", clash="refuse")),
            Record(id="held", name="f", limits=limit),
            Record(id="fair", name="f", fair=fair, queue="fair"),
            Record(id="later", name="f", delay=1_000_000, ttl=10),
            Record(id="late", name="f", deadline=self.clock() + 2_000_000, delay=500_000),
            Record(id="child", name="f", edges=(Edge("running"),)),
        ]
        assert await self.backend.put([[one] for one in records]) == [[Placed(one.id)] for one in records]
        (done,) = await self.take(1)
        await self.settle(done)
        (running,) = await self.take(5)
        assert running.id == "running"
        await self.backend.swap("cell", None, b"value")
        await self.backend.append("log", [b"entry"])

    async def take(self, limit: int, *queues: str, lease: int = 10_000_000) -> list[Record]:
        shares = tuple(Share(queue, limit) for queue in queues or ("default",))
        want = Want(
            claim=uuid.uuid4().hex, worker="w", queues=shares, limit=limit, lease=lease, python="3.11"
        )
        taken = await self.backend.take(want)
        if not taken.records and taken.next == taken.now:  # it says that a claim finds more now
            taken = await self.backend.take(want)
        return taken.records

    async def settle(self, record: Record) -> None:
        assert await self.backend.apply(
            [Settle(id=record.id, token=record.token, state=State.COMPLETED)]
        ) == [True]

    async def keys(self) -> list[str]:
        prefix = f"{{{self.namespace}}}:"
        return sorted(
            [key.decode().removeprefix(prefix) async for key in self.client.scan_iter(prefix + "*")]
        )

    async def indexes(self) -> list[str]:
        return [key for key in await self.keys() if key not in CELLS and not key.startswith("t:")]

    async def lose(self, *names: str) -> None:
        assert await self.client.delete(*(f"{{{self.namespace}}}:{name}" for name in names)) == len(names)

    async def live_on(self) -> list[object]:
        """Everything that an index is for; each answer as it would be if nothing had been lost."""
        backend, said = self.backend, list[object]()
        said.append(await backend.tally())
        said.append([one.id for one in (await backend.scan(Filter())).records])
        said.append([one.id for one in (await backend.scan(Filter(parent="running"))).records])
        said.append(
            await backend.put([[Record(id="again", name="f", unique=Unique("held", clash="refuse"))]])
        )
        said.append([one.id for one in await self.take(9, "default", "fair")])
        (running,) = await backend.get(["running"])
        assert running is not None
        channel = backend.lease_channel()
        said.append(channel.renew([Lease("running", running.token or "")], 10_000_000))
        channel.close()
        await self.settle(running)
        said.append([one.id for one in await self.take(1)])
        self.clock.advance(1_000_000)
        said.append([one.id for one in await self.take(9)])
        self.clock.advance(20_000_000)
        said.append([(one.id, one.crashes) for one in await self.take(9, "default", "fair")])
        said.append([(one.id, one.state) for one in (await backend.scan(Filter())).records])
        self.clock.advance(40 * 86_400_000_000)
        await backend.take(Want(claim="x", worker="w", queues=(), limit=1, lease=1, python="3.11"))
        while await backend.tend():
            pass
        said.extend((await backend.tally(), await backend.cells(""), await backend.read("log")))
        return said


@pytest_asyncio.fixture
async def lost(redis_url: str) -> AsyncIterator[Lost]:
    store = Lost(redis_url)
    async with store.backend, store.client:
        await store.fill()
        yield store
        keys = await store.keys()
        await store.client.unlink(*(f"{{{store.namespace}}}:{key}" for key in keys))


@pytest_asyncio.fixture
async def expected(redis_url: str) -> AsyncIterator[list[object]]:
    store = Lost(redis_url)
    async with store.backend, store.client:
        await store.fill()
        yield await store.live_on()
        await store.client.unlink(*(f"{{{store.namespace}}}:{key}" for key in await store.keys()))


async def test_each_index_can_be_lost(redis_url: str, lost: Lost, expected: list[object]) -> None:
    names = await lost.indexes()
    assert len(names) > 15
    for name in names:
        store = Lost(redis_url)
        async with store.backend, store.client:
            await store.fill()
            if name.startswith("turns:"):
                continue  # turns are no index: without them the tenants begin anew
            await store.lose(name)
            assert _plain(await store.live_on()) == _plain(expected), name
            await store.client.unlink(*(f"{{{store.namespace}}}:{key}" for key in await store.keys()))


async def test_all_indexes_can_be_lost_at_once(lost: Lost, expected: list[object]) -> None:
    await lost.lose(*await lost.indexes())
    assert _plain(await lost.live_on()) == _plain(expected)


async def test_tasks_put_after_the_loss_take_nothing_from_those_before(lost: Lost) -> None:
    ready = [name for name in await lost.indexes() if name.startswith("ready:4:fair")]
    await lost.lose(*ready)
    await lost.backend.put([[Record(id="newer", name="f", fair=Fair("tenant"), queue="fair")]])
    assert [one.id for one in await lost.take(9, "fair")] == ["fair", "newer"]


@pytest.mark.parametrize("priority", [0, 1])
async def test_plain_tasks_put_after_the_loss_take_nothing_from_those_before(
    lost: Lost, priority: int
) -> None:
    await lost.backend.put([[Record(id=id, name="f", queue="plain")] for id in ("one", "two")])
    ready = [name for name in await lost.indexes() if name.startswith("ready:5:plain")]
    await lost.lose(*ready)
    await lost.backend.put([[Record(id="newer", name="f", queue="plain", priority=priority)]])
    assert {one.id for one in await lost.take(9, "plain")} == {"one", "two", "newer"}


async def test_renewals_go_on_while_indexes_are_missing(lost: Lost) -> None:
    (running,) = await lost.backend.get(["running"])
    assert running is not None
    await lost.lose("lease")
    channel = lost.backend.lease_channel()
    assert [one.answer for one in channel.renew([Lease("running", running.token or "")], 90_000_000)] == [
        "kept"
    ]
    channel.close()
    lost.clock.advance(60_000_000)
    assert "running" not in [one.id for one in await lost.take(9)]


def _plain(said: list[object]) -> bytes:
    return msgspec.json.encode(said, order="sorted")
