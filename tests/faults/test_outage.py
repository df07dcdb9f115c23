"""A store that is away for longer than leases last takes no running task from a live worker.

`make outage` lets it be away for a minute, with the leases of production.
"""

import asyncio
import os
import time

import pytest

from sitq import TaskQueue, Worker, current_task
from sitq.backends import open_backend
from sitq.record import State
from sitq.testing.proxy import Proxy

AWAY = float(os.environ.get("SITQ_TEST_OUTAGE", "3"))
LEASE = min(10.0, AWAY / 2.5)

RUNS: list[str] = []
OVER: dict[str, asyncio.Event] = {}


async def hold(name):
    RUNS.append(current_task().id)
    await OVER[name].wait()
    return current_task().attempt


async def held(proxies, server):
    for proxy in proxies:
        proxy.hold()
    await asyncio.sleep(AWAY)
    for proxy in proxies:
        proxy.heal()
        await asyncio.sleep(LEASE / 8)  # one is back before the others


async def unreachable(proxies, server):
    for proxy in proxies:
        proxy.refuse()
        proxy.reset()
    await asyncio.sleep(AWAY)
    for proxy in proxies:
        proxy.heal()
        await asyncio.sleep(LEASE / 8)


async def stands_still(proxies, server):
    server.suspend()
    await asyncio.sleep(AWAY)
    server.resume()


async def killed(proxies, server):
    server.kill()
    await asyncio.sleep(AWAY)
    await asyncio.to_thread(server.start)


KINDS = [held, stands_still, killed]
if "SITQ_TEST_OUTAGE" in os.environ:
    KINDS.append(unreachable)  # takes its time, and is like the others


@pytest.mark.timeout(60 + 2 * AWAY)
@pytest.mark.parametrize("outage", KINDS)
async def test_no_running_task_of_a_live_worker_is_started_again_after_an_outage(
    outage, server, url_of, namespace
):
    RUNS.clear()
    OVER[namespace] = asyncio.Event()
    with Proxy(server.port) as one, Proxy(server.port) as two, Proxy(server.port) as three:
        proxies = (one, two, three)
        workers = [
            Worker(url_of(proxy.url(server.url())), max_concurrency=10, lease=LEASE, poll_interval=0.2)
            for proxy in proxies
        ]
        async with TaskQueue(url_of(server.url())) as queue:
            ids = [await queue.enqueue(hold, namespace) for _ in range(20)]
            working = [asyncio.create_task(worker.start()) for worker in workers]
            deadline = time.monotonic() + 15
            while len(RUNS) < len(ids):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)
            await outage(proxies, server)
            await asyncio.sleep(2 * LEASE)  # all have had the time to take what is not theirs
            OVER[namespace].set()
            async with open_backend(url_of(server.url())) as look:
                deadline = time.monotonic() + 20
                while True:
                    records = await look.get(ids)
                    if all(record.finished for record in records) or time.monotonic() > deadline:
                        break
                    await asyncio.sleep(0.05)
        for worker in workers:
            await worker.stop()
        await asyncio.gather(*working)
    assert {(record.state, record.attempt, record.crashes) for record in records} == {(State.COMPLETED, 1, 0)}
    assert sorted(RUNS) == sorted(ids)
