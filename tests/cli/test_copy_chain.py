"""`sitq copy` from store to store while producers and workers go on, killed at any instant on the way."""

import asyncio
import contextlib
import itertools
import os
import random
import signal
import sys
import time
from collections import Counter

import psycopg
import pytest
import redis

from sitq import Task, TaskQueue, Worker, task
from sitq.backends import open_backend
from sitq.backends.base import Filter
from sitq.backends.memory import MemoryBackend
from sitq.copying import copy_tasks
from sitq.record import State

HOUR = 3600
LATER = 2_000
"""Tasks that nobody runs before they are at the end of the chain."""

LIVE = 120
"""Tasks that are enqueued at each store while it is copied."""

KILLS = 2
RAN: Counter[str] = Counter()


@task(name="test_copy_chain.note")
async def note(number: str) -> str:
    RAN[number] += 1
    return number


@pytest.fixture
def urls(tmp_path, postgres_url, redis_url):
    """SQLite, PostgreSQL and Redis, each with nothing in it."""
    namespace = f"chain_{os.urandom(6).hex()}"
    yield [
        f"sqlite:///{tmp_path}/tasks.db",
        f"{postgres_url}?namespace={namespace}&migrate=true",
        f"{redis_url}?namespace={namespace}",
    ]
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute(f"DROP SCHEMA IF EXISTS {namespace} CASCADE".encode())
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        client.unlink(*client.scan_iter(f"{{{namespace}}}:*", count=5000))


async def copy(source, destination, *options):
    command = (sys.executable, "-m", "sitq", "copy", source, destination, *options)
    quiet, errors = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=errors)


async def later_tasks(backend):
    """The ids of the tasks for later that are in a store and may start there."""
    found, after = set(), None
    while True:
        page = await backend.scan(Filter(), after, 500)
        found |= {
            one.id for one in page.records if one.id.startswith("later") and not one.queue.startswith("\x1e")
        }
        after = page.after
        if after is None:
            return found


async def waiting_in(backend):
    """How many tasks wait in a store."""
    return sum(states.get(State.QUEUED, 0) for states in (await backend.tally()).values())


async def copy_and_kill(source, destination, look, chance):
    """Kill a copy again and again when it has moved a few tasks; answers how often."""
    kills = 0
    while kills < KILLS:
        moved = await waiting_in(look)
        running = await copy(source, destination, "--no-wait")
        wanted = moved + chance.randrange(1, LATER // 10)
        while running.returncode is None and await waiting_in(look) < wanted:
            pass
        if running.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                running.send_signal(signal.SIGKILL)
        await running.communicate()
        if running.returncode != -signal.SIGKILL:
            break
        kills += 1
    return kills


@pytest.mark.timeout(240)
async def test_tasks_go_from_store_to_store_and_run_once_whatever_is_killed(urls):
    RAN.clear()
    chance = random.Random(7)
    later = {f"later{number}" for number in range(LATER)}
    live, kills = [], 0

    async def produce(queue, store):
        for number in range(LIVE):
            live.append(f"{store}-{number}")
            await queue.options(id=live[-1]).enqueue(note, live[-1])
            await asyncio.sleep(0.01)

    async with contextlib.AsyncExitStack() as stack:
        backends = [await stack.enter_async_context(open_backend(url)) for url in urls]
        last = await stack.enter_async_context(MemoryBackend())
        queues = [TaskQueue(backend) for backend in (*backends, last)]
        await queues[0].enqueue_many([Task(note, (one,), id=one, delay=HOUR) for one in sorted(later)])
        for backend in (*backends, last):
            await stack.enter_async_context(Worker(backend, poll_interval=0.1))
        for hop, (source, destination) in enumerate(itertools.pairwise(urls)):
            producing = asyncio.create_task(produce(queues[hop], hop))
            kills += await copy_and_kill(source, destination, backends[hop + 1], chance)
            here, there = [await later_tasks(one) for one in backends[hop : hop + 2]]
            assert not here & there  # none may start in both
            await producing
            running = await copy(source, destination)
            _, errors = await asyncio.wait_for(running.communicate(), 60)
            assert running.returncode == 0, errors
            assert not await later_tasks(backends[hop])
            assert await later_tasks(backends[hop + 1]) == later
        producing = asyncio.create_task(produce(queues[2], 2))
        for _ in range(2):  # the last one is in this process
            cut = asyncio.create_task(copy_tasks(backends[2], last, wait=False))
            await asyncio.sleep(chance.uniform(0.01, 0.1))
            cut.cancel()
            await asyncio.wait([cut])
        await producing
        await asyncio.wait_for(copy_tasks(backends[2], last), 60)
        assert await later_tasks(last) == later
        deadline = time.monotonic() + 30
        while len(RAN) < len(live):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        ended = [one for one in await last.get(live) if one is not None]
        waiting = await last.get(sorted(later))
    assert kills >= KILLS + 1  # a copy that is quick may have come to its end before
    assert Counter(live) == RAN  # each once
    assert {(one.state, one.attempt) for one in waiting} == {(State.QUEUED, 0)}
    assert {one.id for one in ended} == set(live)  # their results went along
    assert {one.state for one in ended} == {State.COMPLETED}
