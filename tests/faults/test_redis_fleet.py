"""The Redis store on more than one server: a cluster of three nodes, and a master behind a Sentinel."""

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from redis import Redis
from redis.asyncio import RedisCluster as ClusterClient

from sitq import TaskQueue, Worker
from sitq.backends.base import Lease, Placed, Share, Want
from sitq.backends.redis import RedisBackend
from sitq.exceptions import BackendError, ConnectionError, TaskDeadError  # noqa: A004 - the API's own word
from sitq.handle import TaskHandle
from sitq.move import Settle
from sitq.record import Record, State
from sitq.testing.proxy import Proxy
from sitq.testing.servers import RedisCluster, RedisServer, free_port

Start = Callable[..., Any]

FOUND = 10.0
USED = 5.0
SLACK = 3.0
"""Seconds more on a machine that has other things to do."""

OVER: dict[str, asyncio.Event] = {}
"""Until when tasks last, by the names that they were given."""


async def double(number: int) -> int:
    return 2 * number


async def hold(name: str) -> str:
    await OVER[name].wait()
    return name


async def live(backend: RedisBackend, id: str) -> None:
    """A task's whole life, hints and renewals included."""
    listener = backend.listen([f"queue/{id}"])
    await asyncio.sleep(0.3)
    assert await backend.put([[Record(id=id, name="f", queue=id)]]) == [[Placed(id)]]
    assert await listener.wait(10)
    listener.close()
    want = Want(claim=f"c-{id}", worker="w", queues=(Share(id, 1),), limit=1, lease=60_000_000, python="3.11")
    (record,) = (await backend.take(want)).records
    channel = backend.lease_channel()
    renewed = await asyncio.to_thread(channel.renew, [Lease(id, record.token or "")], 60_000_000)
    assert [one.answer for one in renewed] == ["kept"]
    await asyncio.to_thread(channel.close)
    assert await backend.apply([Settle(id=id, token=record.token, state=State.COMPLETED)]) == [True]
    assert (await backend.tally())[id] == {State.COMPLETED: 1}


def until(is_so: Callable[[], bool], within: float = 30.0) -> None:
    deadline = time.monotonic() + within
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def cluster(own_server: Start) -> RedisCluster:
    """Three nodes that share the slots."""
    # Each write is on the disk before it is acknowledged: what a killed node has said, it has done.
    started: RedisCluster = own_server(RedisCluster, {"appendfsync": "always"})
    return started


@pytest.mark.asyncio
async def test_every_script_is_accepted_by_a_cluster(cluster: RedisCluster) -> None:
    for namespace in ("sitq", "a", "b", "c", "d"):  # they fall on different nodes
        async with RedisBackend(cluster.url(), namespace=namespace) as backend:
            await live(backend, "q")
            assert await backend.swap("cell", None, b"x")
            assert [cell.value for cell in await backend.cells("")] == [b"x"]
            await backend.append("log", [b"x"])
            assert len(await backend.read("log")) == 1
            assert await backend.tend() == 0
    sizes = [Redis(port=node.port).dbsize() for node in cluster.nodes]
    assert sum(size > 0 for size in sizes) > 1


@pytest.mark.asyncio
async def test_a_ready_client_of_a_cluster_is_taken(cluster: RedisCluster) -> None:
    async with (
        ClusterClient(host="127.0.0.1", port=cluster.nodes[2].port) as client,
        RedisBackend(client) as backend,
    ):
        await live(backend, "q")


@pytest.fixture
def sentinel(
    own_server: Start, redis_binaries: Path, tmp_path: Path
) -> Iterator[tuple[int, list[RedisServer]]]:
    """A master with a replica, and a Sentinel that watches them."""
    master = own_server(RedisServer)
    replica = own_server(
        RedisServer, {"replicaof": f"127.0.0.1 {master.port}", "repl-diskless-sync-delay": 0}
    )
    with Redis(port=replica.port) as client:
        until(lambda: client.info("replication")["master_link_status"] == "up")
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n"
    )
    process = subprocess.Popen(
        [redis_binaries / "redis-server", config, "--sentinel"], stdout=subprocess.DEVNULL
    )
    try:
        with Redis(port=port) as client:
            until(lambda: _replicas(client) == 1)
        yield port, [master, replica]
    finally:
        process.terminate()
        process.wait()


def _replicas(client: Redis) -> int:
    try:
        return len(client.sentinel_slaves("main"))
    except Exception:  # noqa: BLE001 - it is not there yet
        return 0


@pytest.mark.asyncio
async def test_the_new_master_is_used_after_a_failover(sentinel: tuple[int, list[RedisServer]]) -> None:
    port, (master, replica) = sentinel
    async with RedisBackend(f"redis+sentinel://127.0.0.1:{port}/main/0") as backend:
        await live(backend, "before")
        with Redis(port=master.port) as client:
            client.wait(1, 5000)
        await asyncio.to_thread(master.kill)
        deadline = time.monotonic() + 40
        while True:
            try:
                await backend.put([[Record(id="during", name="f", queue="during")]])
                break
            except BackendError:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.2)
        (found,) = await backend.get(["before"])
        assert found is not None
        assert found.state is State.COMPLETED
        await live(backend, "after")
        with Redis(port=replica.port) as client:
            assert client.role()[0] in {"master", b"master"}


@pytest.mark.asyncio
async def test_sentinels_that_are_away_are_found_at_once() -> None:
    backend = RedisBackend(f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{free_port()}/main/0")
    started = time.monotonic()
    with pytest.raises(ConnectionError, match="cannot be reached"):
        await backend.connect()
    assert time.monotonic() - started < SLACK


@pytest.mark.asyncio
async def test_a_sentinel_or_a_node_on_this_host_does_not_vouch_for_other_servers(
    cluster: RedisCluster, sentinel: tuple[int, list[RedisServer]]
) -> None:
    """They say where the master is, which may be anywhere, so unsigned pickles are refused."""
    port, (master, _) = sentinel
    for url in (cluster.url(), f"redis+sentinel://127.0.0.1:{port}/main/0"):
        async with TaskQueue(url) as queue:
            handle = await queue.submit(double, 2)
            await Worker(url).run(burst=True)
            with pytest.raises(TaskDeadError, match="not signed"):
                await handle.result(timeout=20)
    assert RedisBackend(master.url()).traits.local


class Busy:
    """A worker with two tasks that go on, and somebody who wants more."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.queue = TaskQueue(url, trust_store=True)
        self.worker = Worker(url, trust_store=True, max_concurrency=4)
        self.held: list[TaskHandle[str]] = []

    async def __aenter__(self) -> Self:
        OVER.update(short=asyncio.Event(), long=asyncio.Event())
        await self.queue.connect()
        self.working = asyncio.create_task(self.worker.start())
        self.held = [await self.queue.submit(hold, name) for name in ("short", "long")]
        assert await (await self.queue.submit(double, 1)).result(timeout=20) == 2
        return self

    async def __aexit__(self, *_: object) -> None:
        for over in OVER.values():
            over.set()
        await self.worker.stop()
        await self.working
        await self.queue.close()

    async def refusals(self, seconds: float) -> None:
        """Enqueue for so long, and see that the errors are sitq's own."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with pytest.raises(ConnectionError):
                await self.queue.enqueue(double, 2)
            await asyncio.sleep(0.1)

    async def is_served_again(self) -> None:
        """See that in a few seconds tasks are taken, run and renewed, and that nothing ran twice."""
        healed = time.monotonic()
        while True:
            try:
                handle = await self.queue.submit(double, 21)
                break
            except ConnectionError:
                assert time.monotonic() - healed < USED + SLACK
                await asyncio.sleep(0.05)
        assert await handle.result(timeout=USED + SLACK) == 42
        assert time.monotonic() - healed < USED + SLACK
        assert await self.held[0].result(timeout=USED + SLACK) == "short"
        until = await self.lease()
        while await self.lease() == until:
            assert time.monotonic() - healed < USED + SLACK + 2.5
            await asyncio.sleep(0.05)
        OVER["long"].set()
        assert await self.held[1].result(timeout=20) == "long"
        records = await self.queue.backend.get([one.id for one in self.held])
        assert [record and record.attempt for record in records] == [1, 1]
        assert not self.working.done()

    async def lease(self) -> int | None:
        (record,) = await self.queue.backend.get([self.held[1].id])
        assert record is not None
        return record.lease_until


@pytest.mark.asyncio
async def test_a_worker_outlives_the_outage_of_a_whole_cluster(cluster: RedisCluster) -> None:
    async with Busy(cluster.url()) as busy:
        await asyncio.to_thread(cluster.kill)
        OVER["short"].set()  # its outcome has to wait
        await busy.refusals(4)
        with pytest.raises(ConnectionError, match="cannot be used now"):
            await RedisBackend(cluster.url()).connect()
        await asyncio.to_thread(cluster.start)
        await busy.is_served_again()


@pytest.mark.asyncio
async def test_a_cluster_that_stands_still_is_found_within_ten_seconds(cluster: RedisCluster) -> None:
    async with RedisBackend(cluster.url()) as backend:
        for node in cluster.nodes:
            node.suspend()
        for _ in range(2):  # the second time it is asked where the slots are
            started = time.monotonic()
            with pytest.raises(ConnectionError):
                await backend.tally()
            assert time.monotonic() - started < FOUND + SLACK
        for node in cluster.nodes:
            node.resume()
        deadline = time.monotonic() + 20
        while True:
            try:
                assert await backend.tally() == {}
                break
            except ConnectionError:
                assert time.monotonic() < deadline


@pytest.mark.asyncio
@pytest.mark.parametrize("binaries", ["redis_binaries", "old_redis_binaries"])
async def test_a_server_that_became_a_replica_is_left_for_the_new_master(
    own_server: Start, request: pytest.FixtureRequest, binaries: str
) -> None:
    """As at a hosted service: the old master keeps its connections, and the name leads to the new one."""
    found = request.getfixturevalue(binaries)
    old = own_server(RedisServer, {"repl-diskless-sync-delay": 0}, binaries=found)
    new = own_server(RedisServer, {"replicaof": f"127.0.0.1 {old.port}"}, binaries=found)
    with Redis(port=old.port) as first, Redis(port=new.port) as second, Proxy(old.port) as proxy:
        until(lambda: second.info("replication")["master_link_status"] == "up")
        async with Busy(proxy.url(old.url())) as busy:
            first.wait(1, 5000)
            second.replicaof("NO", "ONE")
            first.replicaof("127.0.0.1", new.port)
            await busy.refusals(0.5)
            OVER["short"].set()
            proxy.target = new.port
            await busy.is_served_again()
