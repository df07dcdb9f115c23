"""What networks do to connections is found within 10 s, used again within 5 s of healing, and loses nothing.

Celery workers fell silent after a reconnect, for years: https://github.com/celery/celery/issues/8030,
https://github.com/celery/celery/issues/9054, https://github.com/celery/celery/issues/10205,
https://github.com/celery/celery/issues/4453. Sidekiq enqueued twice when the answer was late:
https://github.com/sidekiq/sidekiq/issues/3303.
"""

import asyncio
import contextlib
import os
import time

import pytest

from sitq import Task, TaskQueue
from sitq.backends import open_backend
from sitq.backends.base import Filter
from sitq.exceptions import BackendError
from sitq.record import Record, State
from sitq.testing.proxy import Proxy, Weather

FOUND = 10.0
USED = 5.0
SLACK = 3.0
"""Seconds more on a machine that has other things to do."""


async def reset(proxy):
    proxy.reset()


async def refused(proxy):
    proxy.refuse()
    proxy.reset()
    await asyncio.sleep(2)


async def black_hole(proxy):
    proxy.hold()
    await asyncio.sleep(3)


async def forgotten(proxy):
    proxy.hold(forget=True)


async def replies_end(proxy):
    proxy.half_close("replies")


async def requests_end(proxy):
    proxy.half_close("requests")


async def cut(proxy):
    for after in (1, 5, 30, 200):
        proxy.cut(after, times=5)
        await asyncio.sleep(0.5)


async def drip(proxy):
    proxy.weather = Weather(drip=1)
    await asyncio.sleep(2)


async def slow(proxy):
    proxy.weather = Weather(delay=0.05, jitter=0.2)
    await asyncio.sleep(2)


async def flapping(proxy):
    await asyncio.to_thread(proxy.flap, 10, 3.0)


FAULTS = [reset, refused, black_hole, forgotten, replies_end, requests_end, cut, drip, slow, flapping]


async def endure(fault, server, traffic, look):
    """What went wrong when this happened to somebody's connections."""
    with Proxy(server.port) as proxy:
        name = fault.__name__
        async with traffic(name, proxy.url(server.url())) as busy:
            result = asyncio.create_task(busy.queue.get_result(f"{name}-long"))
            if not await busy.until(lambda: len(busy.starts(0)) > 20, 20):
                return [f"{name}: it never began to work"]
            before = await busy.rate(1.5)
            struck = time.monotonic()
            await fault(proxy)
            proxy.heal()
            healed = time.monotonic()
            wrong = []
            # Whom nobody told that his connection is dead has to find out before.
            within = USED + SLACK + (FOUND if fault is forgotten else 0)
            again = await busy.fast_again(0.9 * before, healed, within)
            if again is None:
                wrong.append(f"{len(busy.starts(healed, healed + within))} starts in {within:g} s after it")
            if busy.longest > healed - struck + FOUND + SLACK:
                wrong.append(f"an enqueue took {busy.longest:.1f} s")
            wrong += await busy.drained(look)
            answer = await asyncio.wait_for(asyncio.shield(result), FOUND + SLACK)
            if answer is None or answer.status != "success":
                wrong.append(f"who waited for the long task got {answer}")
            return [f"{name}: {one}" for one in wrong]


@pytest.mark.timeout(90)
async def test_traffic_is_as_before_after_whatever_the_network_did(server, traffic, look):
    """All faults at once, each on a proxy, a producer and a worker of its own."""
    async with asyncio.TaskGroup() as group:
        found = [group.create_task(endure(fault, server, traffic, look)) for fault in FAULTS]
    assert not [one for each in found for one in each.result()[:5]]


async def work():
    """Not run here."""


MANY = 10_000
AT_ONCE = 100
"""How many enqueues wait at the same time, each for itself; the queue makes few calls of them."""


async def test_ten_thousand_enqueues_whose_answers_are_swallowed_make_no_task_twice_and_lose_none(
    server, traffic, look
):
    """The server does what each of them asks for, and the first answer to each is kept from it."""
    ids = [f"precious-{number:05d}" for number in range(MANY)]
    with Proxy(server.port) as proxy:
        async with traffic("swallow", proxy.url(server.url()), queues=["nobody"]) as busy:
            proxy.swallow_firsts(rb"precious-\d{5}")
            for first in range(0, MANY, AT_ONCE):
                some = [Task(work, id=task_id, queue="swallowed") for task_id in ids[first : first + AT_ONCE]]
                await asyncio.gather(*(busy.enqueue([task]) for task in some))
            assert proxy.kept_from == {task_id.encode() for task_id in ids}
            assert proxy.counts.swallowed >= MANY // AT_ONCE
        stored, after = [], None
        while True:
            page = await look.scan(Filter(name=f"{__name__}:work"), after, 1000)
            stored += [record.id for record in page.records]
            if (after := page.after) is None:
                break
    assert sorted(stored) == ids


ALONE = 10_000 if "SITQ_TEST_OUTAGE" in os.environ else 1_000


@pytest.mark.timeout(600)
async def test_each_call_whose_answer_is_swallowed_makes_no_task_twice(server, url_of, look, namespace):
    """One call of the store for each task, all ten thousand of them in `make outage`."""
    ids = [f"{namespace}-{number:05d}" for number in range(ALONE)]
    left = iter(ids)
    with Proxy(server.port) as proxy:
        async with contextlib.AsyncExitStack() as stack:
            stores = [open_backend(url_of(proxy.url(server.url()))) for _ in range(4)]
            for store in stores:
                await stack.enter_async_context(store)
            proxy.swallow_firsts(rb"%b-\d{5}" % namespace.encode())

            async def put(store):
                for task_id in left:
                    (answers,) = await store.put([[Record(id=task_id, name="work", queue="swallowed")]])
                    assert [answer.id for answer in answers] == [task_id]

            await asyncio.gather(*(put(store) for store in stores for _ in range(8)))
            assert proxy.kept_from == {task_id.encode() for task_id in ids}
            assert proxy.counts.swallowed >= ALONE // 8  # calls on one connection break it together
    assert await look.tally() == {"swallowed": {State.QUEUED: ALONE}}
    assert None not in await look.get(ids)


async def test_an_enqueue_into_a_black_hole_fails_within_ten_seconds_and_says_so(server, url_of):
    with Proxy(server.port) as proxy:
        async with TaskQueue(url_of(proxy.url(server.url()))) as queue:
            await queue.enqueue(work)
            proxy.hold()
            begun = time.monotonic()
            with pytest.raises(BackendError):
                await queue.enqueue(work)
            assert time.monotonic() - begun < FOUND + SLACK
            proxy.heal()
            assert await queue.enqueue(work)
