"""A rate is held and used up by many workers."""

import asyncio
import importlib
import re
import time

import pytest

from sitq import MemoryBackend, RateLimit, SQLiteBackend, Task, TaskQueue, Worker

RATE = 100
SECONDS = 10
WORKERS = 16

starts: list[float] = []


APP = """
import time
from pathlib import Path

from sitq import RateLimit, TaskQueue

folder = Path(__file__).parent
queue = TaskQueue(f"sqlite:///{folder / 'tasks.db'}")
traces = folder / "traces"


@queue.task(limits=RateLimit(100))
async def hit():
    with traces.open("a") as file:
        file.write(f"{time.time()}\\n")
"""


async def hit():
    starts.append(time.monotonic())


def in_ten_seconds(moments, begin=0):
    """How many there were in a second of the ten from `begin` seconds after the first."""
    return sum(begin <= moment - moments[0] < begin + SECONDS for moment in moments) / SECONDS


@pytest.mark.performance
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_sixteen_workers_start_what_a_rate_allows_and_no_more(kind, tmp_path):
    starts.clear()
    memory = MemoryBackend()

    def store():
        return memory if kind == "memory" else SQLiteBackend(tmp_path / "tasks.db")

    async with TaskQueue(store()) as queue:
        limit = RateLimit(RATE)
        await queue.enqueue_many([Task(hit, limits=limit) for _ in range(RATE * (SECONDS + 5))])
        workers = [Worker(store(), max_concurrency=4) for _ in range(WORKERS)]
        await asyncio.gather(*(worker.__aenter__() for worker in workers))
        await asyncio.sleep(SECONDS + 1)
        await asyncio.gather(*(worker.stop() for worker in workers))
    found = in_ten_seconds(sorted(starts))
    print(f"{WORKERS} workers on {kind}: {found:g} starts a second at a rate of {RATE}")
    assert 0.98 * RATE <= found <= 1.02 * RATE


@pytest.mark.performance
@pytest.mark.timeout(240)
async def test_sixteen_worker_processes_start_what_a_rate_allows_and_no_more(place):
    place.file.write_text(APP)
    app = importlib.reload(place.app)
    supervisor = place.start("worker", f"{place.name}:queue", f"--processes={WORKERS}", "--concurrency=4")
    await place.until(lambda: len(re.findall(r"sitq\.worker: working", place.log)) == WORKERS, 120)
    async with app.queue:
        await app.queue.enqueue_many([Task(app.hit) for _ in range(RATE * (2 * SECONDS + 5))])
        await place.until(app.traces.exists)
        await asyncio.sleep(2 * SECONDS + 1)
    supervisor.terminate()
    assert await place.exit_of(supervisor, 60) == 0
    moments = sorted(float(line) for line in app.traces.read_text().splitlines())
    rates = [in_ten_seconds(moments, begin) for begin in (0, SECONDS)]
    print(f"{WORKERS} processes: {rates} starts a second at a rate of {RATE}")
    assert max(rates) <= 1.02 * RATE
    assert max(rates) >= 0.98 * RATE  # in the better half, since the machine may have other things to do
