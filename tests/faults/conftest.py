"""Stores on servers that tests may harm, and traffic that goes on while they do."""

import asyncio
import contextlib
import os
import time
from collections import defaultdict

import pytest

from sitq import Task, TaskQueue, Worker, current_task
from sitq.backends import open_backend
from sitq.exceptions import BackendError
from sitq.record import State
from sitq.testing.servers import PostgresServer, RedisServer

SERVERS = {
    "postgres": PostgresServer,
    # Each write is on the disk before it is acknowledged: what a killed server has said, it has done.
    "redis": lambda **more: RedisServer({"appendfsync": "always"}, **more),
}

RUNS: dict[str, list[tuple[str, int, float]]] = defaultdict(list)
"""By the name of the traffic: task, attempt and time of each start."""

OVER: dict[str, asyncio.Event] = {}
"""By the name of the traffic: until when its long tasks last."""


def started(traffic):
    now = current_task()
    RUNS[traffic].append((now.id, now.attempt, time.monotonic()))
    return now.attempt


async def tick(traffic):
    """A short wait, as most tasks are."""
    attempt = started(traffic)
    await asyncio.sleep(0.03)
    return attempt


async def last(traffic):
    """A task that goes on until the fault is over."""
    attempt = started(traffic)
    await OVER[traffic].wait()
    return attempt


@pytest.fixture(scope="module", params=sorted(SERVERS))
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def server(kind, request):
    """A server that only the tests of this file use, so that they may harm it."""
    binaries = request.getfixturevalue(f"{kind}_binaries")
    with SERVERS[kind](binaries=binaries) as server:
        yield server


@pytest.fixture
def namespace():
    """A part of the store that no other test uses."""
    return f"t{os.urandom(5).hex()}"


@pytest.fixture
def url_of(kind, namespace):
    """The URL of a store on a server, or behind a proxy."""

    def make(url, part=""):
        options = {"postgres": "&migrate=true", "redis": ""}
        return f"{url}?namespace={namespace}{part}{options[kind]}"

    return make


class Traffic:
    """Somebody who enqueues all the time, and a worker that runs it, over one way to the store.

    Attributes:
        name: Its own, and the first part of the ids of its tasks.
        longest: Seconds of the longest enqueue.
        refused: How often an enqueue failed, and was repeated.
    """

    def __init__(self, name, url, **settings):
        self.name = name
        self.queue = TaskQueue(open_backend(url))
        self.worker = Worker(open_backend(url), **({"max_concurrency": 2, "grace": 10} | settings))
        self.acked = []
        self.longest = 0.0
        self.refused = 0
        self._producing = False
        self._tasks = []

    async def __aenter__(self):
        OVER[self.name] = asyncio.Event()
        RUNS.pop(self.name, None)
        await self.queue.connect()
        await self.queue.options(id=f"{self.name}-long", priority=9).enqueue(last, self.name)
        self.acked.append(f"{self.name}-long")
        self._producing = True
        working = asyncio.create_task(self.worker.start())
        self._tasks = [working, asyncio.create_task(self._produce())]
        return self

    async def __aexit__(self, *_):
        OVER[self.name].set()
        self._producing = False
        await self.worker.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.queue.close()

    async def _produce(self):
        number = 0
        while self._producing:
            if len(self.acked) - len(RUNS[self.name]) > 60:
                await asyncio.sleep(0.01)
                continue
            ids = [f"{self.name}-{number + one}" for one in range(20)]
            await self.enqueue([Task(tick, (self.name,), id=task_id) for task_id in ids])
            number += len(ids)

    async def enqueue(self, tasks):
        """Enqueue as one who does not give up, and who gives the same ids each time."""
        while True:
            begun = time.monotonic()
            try:
                await self.queue.enqueue_many(tasks)
            except BackendError:
                self.refused += 1
                await asyncio.sleep(0.02)
            else:
                self.acked += [task.id for task in tasks]
                return
            finally:
                self.longest = max(self.longest, time.monotonic() - begun)

    def starts(self, since, until=float("inf")):
        """The instants of starts in a time."""
        return [at for _, _, at in RUNS[self.name] if since <= at < until]

    async def rate(self, seconds=1.0):
        """Starts per second, from now on."""
        begun = time.monotonic()
        await asyncio.sleep(seconds)
        return len(self.starts(begun)) / (time.monotonic() - begun)

    async def until(self, condition, seconds):
        """Wait for something; False if it did not come to be in time."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.01)
        return found

    async def fast_again(self, rate, since, seconds):
        """When it was first as fast as that for a second, or None."""

        def fast():
            starts = self.starts(since)
            wanted = max(1, round(rate))
            return next(
                (at for at, later in zip(starts, starts[wanted - 1 :], strict=False) if later - at <= 1.0), 0
            )

        return await self.until(fast, seconds) or None

    async def drained(self, backend, seconds=30.0):
        """What is wrong with the tasks, once nothing is enqueued any more and all has been run."""
        OVER[self.name].set()
        self._producing = False
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(self._tasks[1], seconds)
        deadline = time.monotonic() + seconds
        while True:
            records = await backend.get(self.acked)
            open_ = [record for record in records if record is not None and record.finished is None]
            if not open_ or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.05)
        runs = defaultdict(list)
        for task_id, attempt, _ in RUNS[self.name]:
            runs[task_id].append(attempt)
        wrong = []
        for task_id, record in zip(self.acked, records, strict=True):
            if record is None:
                wrong.append(f"{task_id} is lost")
            elif record.state is not State.COMPLETED or record.crashes:
                wrong.append(f"{task_id} is {record.state} after {record.crashes} crashes")
            # A claim that nobody heard of may have been an attempt as well, but never a run.
            elif len(runs[task_id]) != 1:
                wrong.append(f"{task_id} ran as {runs[task_id]}")
        return wrong


@pytest.fixture
def traffic(url_of):
    """Traffic over a way to the store: `async with traffic(proxy.url(server.url())) as busy`."""
    return lambda name, url, **settings: Traffic(name, url_of(url), **settings)


@pytest.fixture
async def look(server, url_of):
    """The store as it is, read past all proxies."""
    async with open_backend(url_of(server.url())) as backend:
        yield backend
