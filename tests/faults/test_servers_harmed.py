"""Servers that die, start again or stand still: what ran goes on, its outcome lands, and nothing is lost.

https://github.com/celery/celery/issues/9054, https://github.com/nats-io/nats.py/issues/504,
https://github.com/Bogdanp/dramatiq/issues/527
"""

import asyncio
import time

import pytest

from sitq import Task, TaskQueue, Worker, current_task
from sitq.backends import open_backend

USED = 5.0
SLACK = 3.0


async def killed(server):
    server.kill()
    await asyncio.sleep(0.5)
    await asyncio.to_thread(server.start)


async def restarted(server):
    await asyncio.to_thread(server.restart)


async def stands_still(server):
    server.suspend()
    await asyncio.sleep(3)
    server.resume()


@pytest.mark.parametrize("harm", [killed, restarted, stands_still])
async def test_traffic_is_as_before_after_whatever_happened_to_the_server(harm, server, traffic, url_of):
    async with traffic(harm.__name__, server.url()) as busy:
        result = asyncio.create_task(busy.queue.get_result(f"{busy.name}-long"))
        assert await busy.until(lambda: len(busy.starts(0)) > 20, 20)
        before = await busy.rate(1.5)
        await harm(server)
        healed = time.monotonic()
        assert await busy.fast_again(0.9 * before, healed, USED + SLACK), (
            f"{len(busy.starts(healed))} starts since, {before:.0f}/s before"
        )
        async with open_backend(url_of(server.url())) as look:
            assert await busy.drained(look) == []
        assert (await asyncio.wait_for(result, 13)).status == "success"


async def due():
    return current_task().attempt


async def test_tasks_for_later_start_in_time_though_the_server_was_restarted_meanwhile(server, url_of):
    """They were hours late at a peer: https://github.com/Bogdanp/dramatiq/issues/527."""
    url = url_of(server.url())
    async with TaskQueue(url) as queue:
        ids = await queue.enqueue_many([Task(due, delay=3 + one / 250) for one in range(500)])
        put = time.monotonic()
        await asyncio.to_thread(server.restart)
        async with Worker(url, max_concurrency=50):
            for task_id in ids:
                result = await queue.get_result(task_id, timeout=20)
                assert result is not None
                assert queue.deserialize_result(result) == 1
        assert time.monotonic() - put < 3 + 2 + USED + SLACK
