"""One backend object on Redis serves the event loops of several threads, and leaves no connection behind."""

import asyncio
import threading
import time
import uuid

import pytest
from redis.asyncio import Redis

from sitq import SyncTaskQueue, TaskQueue, Worker
from sitq.backends.redis import RedisBackend
from sitq.exceptions import BackendError
from sitq.testing.servers import RedisServer

QUEUES: dict[str, TaskQueue] = {}


def child(number):
    return 2 * number


def parent(name, number):
    """Waits for another task, by a queue for code without an event loop."""
    with SyncTaskQueue(QUEUES[name]) as queue:
        return queue.submit(child, number).result(timeout=20) + 1


async def clients(server):
    async with Redis(port=server.port) as client:
        return len(await client.client_list())


async def only(server, most):
    """Whether no more than so many connections are left, as soon as the server has noticed their end."""
    deadline = time.monotonic() + 10
    while (there := await clients(server)) > most and time.monotonic() < deadline:  # noqa: ASYNC110 - a server
        await asyncio.sleep(0.01)
    return there <= most


async def test_a_sync_task_uses_the_queue_of_its_worker_and_leaves_no_connection(own_server):
    server = own_server(RedisServer)
    name = uuid.uuid4().hex
    async with TaskQueue(server.url()) as queue:
        QUEUES[name] = queue
        worker = Worker(queue.backend, max_concurrency=16)
        working = asyncio.create_task(worker.start())
        handles = [await queue.submit(parent, name, number) for number in range(6)]
        assert [await handle.result(timeout=30) for handle in handles] == [1, 3, 5, 7, 9, 11]
        await worker.stop()
        await working
        before = await clients(server)
        for _ in range(3):
            await asyncio.to_thread(lambda: asyncio.run(queue.backend.tally()))
        assert await only(server, before)
    assert await only(server, 1)


async def test_what_is_closed_closes_the_connections_of_all_event_loops(own_server):
    server = own_server(RedisServer)
    backend = RedisBackend(server.url())
    used, over = threading.Event(), threading.Event()

    async def elsewhere():
        listener = backend.listen(["queue/a"])
        await backend.tally()
        await listener.wait(10)  # its subscription is there
        used.set()
        await asyncio.to_thread(over.wait)
        listener.close()

    await backend.connect()
    other = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(elsewhere())))
    try:
        assert await asyncio.to_thread(used.wait, 20)
        assert await clients(server) > 2
        await backend.close()
        assert await only(server, 1)
    finally:
        over.set()
        await other


async def test_a_ready_client_serves_its_own_event_loop_alone_and_says_so(own_server):
    server = own_server(RedisServer)
    async with Redis(port=server.port) as client, RedisBackend(client) as backend:
        with pytest.raises(BackendError, match="belong to the event loop"):
            await asyncio.to_thread(lambda: asyncio.run(backend.tally()))
