import asyncio
import contextlib
import time

import pytest

from sitq.backends.memory import MemoryBackend
from sitq.backends.sqlite import SQLiteBackend
from sitq.queue import TaskQueue
from sitq.record import TERMINAL
from sitq.worker import Worker


@pytest.fixture(params=["memory", "sqlite"])
async def backend(request, tmp_path):
    """A connected store of the test's own."""
    store = MemoryBackend() if request.param == "memory" else SQLiteBackend(tmp_path / "tasks.db")
    async with store:
        yield store


@pytest.fixture
async def queue(backend):
    async with TaskQueue(backend) as queue:
        yield queue


@pytest.fixture
def working(backend):
    """Workers that work while a block lasts: `async with working(max_concurrency=2) as worker`."""

    @contextlib.asynccontextmanager
    async def work(store=None, **settings):
        worker = Worker(store or backend, **({"grace": 1.0} | settings))
        async with worker:
            yield worker

    return work


@pytest.fixture
def stored(backend):
    """A task's record, now."""

    async def get(task_id):
        (record,) = await backend.get([task_id])
        return record

    return get


@pytest.fixture
def eventually():
    """Wait, with a deadline, until a condition holds; answers with what it came to."""

    async def wait(condition, seconds=10.0):
        deadline = time.monotonic() + seconds
        while True:
            found = condition()
            found = await found if asyncio.iscoroutine(found) else found
            if found:
                return found
            assert time.monotonic() < deadline, "it never came to be"
            await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def ended(stored, eventually):
    """A task's record once it is terminal."""

    async def wait(task_id, seconds=10.0):
        async def terminal():
            record = await stored(task_id)
            return record if record is not None and record.state in TERMINAL else None

        return await eventually(terminal, seconds)

    return wait
