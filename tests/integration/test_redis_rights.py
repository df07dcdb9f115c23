"""The user that the page of the store describes can do all that producers and workers do, and no more."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from sitq import ConcurrencyLimit, Fair, RateLimit, Task, TaskQueue, Worker, chain, group
from sitq.backends.memory import MemoryBackend
from sitq.backends.redis import RedisBackend
from sitq.copying import copy_tasks
from sitq.exceptions import ConfigurationError, ConnectionError, QueueFullError  # noqa: A004
from sitq.testing.servers import RedisCluster, RedisServer

PAGE = Path(__file__).parents[2] / "docs/stores/redis.md"


def recipe(*, cluster=False):
    """The user that the docs tell to make, as a line of redis.conf."""
    rules = re.search(r"ACL SETUSER (.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[1].split()
    if cluster:
        rules += re.search(r"In a cluster it needs `(.*?)`", PAGE.read_text("utf-8"))[1].split()
    return "user " + " ".join(rules)


def double(number):
    return 2 * number


def add(*numbers):
    return sum(numbers)


async def work(queue, worker):
    """What becomes of tasks that use all that there is."""
    limits = [RateLimit(1000, key="r"), ConcurrencyLimit(2, key="c")]
    some = [
        Task(double, (number,), limits=limits, fair=Fair(f"tenant {number % 2}"), tags={"kind": "limited"})
        for number in range(6)
    ]
    ids = await queue.enqueue_many(some)
    flow = await queue.submit_many(chain(group(Task(double, (1,)), Task(double, (2,))), Task(sum)))
    once = await queue.options(unique="key", ttl=60).submit(double, 5)
    later = await queue.options(delay=3600).submit(double, 6)
    await queue.limit(RateLimit(10_000))
    with pytest.raises(QueueFullError):
        await queue.options(max_length=1).enqueue(double, 1)
    waiting = asyncio.create_task(flow[-1].result(timeout=20))
    await worker.run(burst=True)
    assert await waiting == 6
    assert await once.result(timeout=20) == 10
    assert [result.status for result in await queue.get_results(ids)] == ["success"] * 6
    assert len(await queue.tasks(state="completed", function=double, text="double")) >= 9
    await queue.pause("default")
    await queue.resume("default")
    await queue.change(later.id, priority=5)
    assert await queue.cancel(later.id)
    again = await queue.retry(ids[0])
    await worker.run(burst=True)
    assert (await queue.get_result(again, timeout=20)).status == "success"
    await queue.backend.tend()


@pytest.fixture(params=["redis_binaries", "old_redis_binaries"])
def server(own_server, request):
    return own_server(RedisServer, lines=[recipe()], binaries=request.getfixturevalue(request.param))


async def test_the_user_can_do_what_producers_and_workers_do(server):
    backend = RedisBackend(server.url(user="worker", password="secret"))
    async with TaskQueue(backend) as queue:
        await work(queue, Worker(backend))
        with Redis(port=server.port) as administrator:
            administrator.delete("{sitq}:children", "{sitq}:due")  # indexes, which are made anew
        await work(queue, Worker(backend))


async def test_the_user_can_copy_there_and_back(server):
    backend, before, after = (
        RedisBackend(server.url(user="worker", password="secret")),
        MemoryBackend(),
        MemoryBackend(),
    )
    async with TaskQueue(before) as first, TaskQueue(backend), TaskQueue(after) as last:
        parent = await first.submit(double, 1)
        child = await first.submit(add, parent, 1)
        await first.pause("emails")
        assert (await copy_tasks(before, backend)).moved == 2
        assert (await copy_tasks(backend, after)).moved == 2
        await Worker(after).run(burst=True)
        assert await last.handle(child.id).result(timeout=20) == 3
        assert await last.pauses()


def test_the_user_can_ask_the_doctor(server):
    command = [sys.executable, "-m", "sitq", "doctor", server.url(user="worker", password="secret")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert re.search(r"fine +version +Redis \d", done.stdout)
    assert "the server does not tell its settings" in done.stdout


async def test_the_user_can_do_no_more(server):
    with pytest.raises(ConfigurationError, match="does not let this user"):
        await RedisBackend(server.url(user="worker", password="secret"), namespace="other").connect()
    with pytest.raises(ConnectionError) as caught:
        await RedisBackend(server.url(user="worker", password="wrong")).connect()
    assert "wrong" not in str(caught.value)


async def test_in_a_cluster_the_user_needs_little_more(own_server):
    cluster = own_server(RedisCluster, lines=[recipe(cluster=True)])
    backend = RedisBackend(cluster.url(login="worker:secret@"))
    async with TaskQueue(backend, trust_store=True) as queue:
        await work(queue, Worker(backend, trust_store=True))
        assert "secret" not in repr(backend)
