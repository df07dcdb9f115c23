"""Limits that hold for all workers of a store, by the options that set them."""

import asyncio
import subprocess
import sys
import time
from typing import Annotated

import pytest

from sitq import ConcurrencyLimit, RateLimit, SQLiteBackend, Task, TaskQueue, Throttled, Worker, current_task
from sitq.backends.base import Filter
from sitq.exceptions import ValidationError
from sitq.record import State

starts: list[tuple[str, float]] = []
running: dict[str, int] = {}
most: dict[str, int] = {}


@pytest.fixture(autouse=True)
def _fresh():
    starts.clear()
    running.clear()
    most.clear()


async def hit(name="x"):
    starts.append((name, time.monotonic()))


async def hold(key: Annotated[str, ConcurrencyLimit(1)], seconds=0.02):
    running[key] = running.get(key, 0) + 1
    most[key] = max(most.get(key, 0), running[key])
    most["all"] = max(most.get("all", 0), sum(running.values()))
    await asyncio.sleep(seconds)
    running[key] -= 1


async def wide(seconds=0.02):
    await hold("wide", seconds)


async def throttled_once():
    if current_task().attempt == 1:
        raise Throttled(retry_after=0.5)
    await hit("throttled")


async def all_done(queue, eventually, n, seconds=30.0):
    async def done():
        counts = await queue.stats()
        return sum(states.get("completed", 0) for states in counts.values()) >= n

    await eventually(done, seconds)


async def test_a_rate_holds_over_all_workers_and_is_used_up(queue, working, eventually, backend):
    limited = [Task(hit, limits=RateLimit(50)) for _ in range(60)]
    await queue.enqueue_many(limited)
    async with working(max_concurrency=4), working(), working(), working():
        await all_done(queue, eventually, 60)
    times = sorted(moment for _, moment in starts)
    # GCRA: in any time no more than the rate and the burst; the few milliseconds are from claim to start.
    burst = RateLimit(50).tolerance
    for first, begun in enumerate(times):
        for last in range(first + 1, len(times)):
            assert last - first + 1 <= burst + 1 + 50 * (times[last] - begun + 0.25)
    assert times[-1] - times[0] >= (60 - burst - 1) / 50 - 0.25


async def test_one_at_a_time_for_each_value_of_an_argument(queue, working, eventually):
    await queue.enqueue_many([Task(hold, (key,)) for _ in range(8) for key in "abc"])
    async with working(max_concurrency=8), working(max_concurrency=8):
        await all_done(queue, eventually, 24)
    assert [most[key] for key in "abc"] == [1, 1, 1]
    assert most["all"] > 1


async def test_slots_of_a_function_and_of_a_key_hold_across_workers(queue, working, eventually):
    limits = [ConcurrencyLimit(2)]
    await queue.enqueue_many([Task(wide, limits=limits) for _ in range(12)])
    async with working(max_concurrency=5), working(max_concurrency=5):
        await all_done(queue, eventually, 12)
    assert most["wide"] == 2


async def test_a_queue_has_limits_of_its_own_whoever_enqueues(queue, working, eventually, backend):
    await queue.limit(ConcurrencyLimit(2), RateLimit(1000, per=1), queue="narrow")
    assert await queue.limits("narrow") == [RateLimit(1000, per=1, burst=51), ConcurrencyLimit(2)]
    assert await queue.limits() == []
    async with TaskQueue(backend, queue="narrow") as other:  # that knows nothing of it
        await other.enqueue_many([Task(wide) for _ in range(10)])
    await queue.options(queue="narrow").enqueue(wide)
    async with working(queues=["narrow"]), working(queues=["narrow"]):
        await all_done(queue, eventually, 11)
    assert most["wide"] <= 2
    await queue.limit(queue="narrow")
    assert await queue.limits("narrow") == []


async def test_a_queue_that_is_blocked_goes_on_when_its_limit_is_lifted(queue, working, ended, stored):
    await queue.limit(RateLimit(0))
    task_id = await queue.enqueue(hit)
    async with working():
        done = await queue.options(queue="default").enqueue(hit)
        assert (await stored(done)).state is State.QUEUED
        await queue.limit()
        assert (await ended(task_id)).state is State.COMPLETED


@pytest.mark.parametrize(
    "limits",
    [
        [RateLimit(1), RateLimit(2)],
        [ConcurrencyLimit(1), ConcurrencyLimit(2)],
        [ConcurrencyLimit(1, key="k")],
    ],
)
async def test_limits_of_a_queue_are_one_of_each_kind_and_have_no_key(queue, limits):
    with pytest.raises(ValidationError, match=r"one limit of each kind|leave their key out"):
        await queue.limit(*limits)


async def test_none_lifts_a_limit_also_for_those_that_wait(queue, working, ended):
    blocked = await queue.options(limits=RateLimit(0, key="k")).enqueue(hit)
    async with working():
        await queue.options(limits=RateLimit(None, key="k")).enqueue(hit)
        assert (await ended(blocked)).state is State.COMPLETED


async def test_throttled_holds_its_key_back_for_everyone_and_nothing_else(queue, working, ended, eventually):
    api = queue.options(limits=RateLimit(1000, key="api"))
    first = await api.enqueue(throttled_once)
    async with working(max_concurrency=1), working(max_concurrency=1):
        thrown = time.monotonic()

        async def is_back():
            (record,) = await queue.backend.get([first])
            return record.state is State.QUEUED and record.attempt == 1

        await eventually(is_back)
        second = await api.enqueue(hit, "second")
        free = await queue.enqueue(hit, "free")
        for task_id in (first, second, free):
            record = await ended(task_id)
            assert (record.state, record.failures) == (State.COMPLETED, 0)
    at = dict(starts)
    assert at["second"] >= thrown + 0.5
    assert at["throttled"] >= thrown + 0.5
    assert at["free"] < at["second"]


async def throttle_other():
    if current_task().attempt == 1:
        raise Throttled(retry_after=30, key="other")


async def test_throttled_can_name_the_key(queue, working, eventually, stored):
    await queue.enqueue(throttle_other)
    async with working():

        async def frozen():
            held = await queue.options(limits=ConcurrencyLimit(9, key="other")).enqueue(hit)
            await asyncio.sleep(0.05)
            return (await stored(held)).state is State.QUEUED

        await eventually(frozen)


async def test_the_slot_of_a_killed_worker_is_free_again(tmp_path, eventually):
    script = tmp_path / "killed.py"
    script.write_text(
        "import asyncio, sys\n"
        "from sitq import Worker, SQLiteBackend\n"
        "asyncio.run(Worker(SQLiteBackend(sys.argv[1]), lease=1.0).start())\n"
    )
    module = tmp_path / "killed_tasks.py"
    module.write_text(
        "import asyncio\nHERE = False\nasync def stay():\n    await asyncio.sleep(0 if HERE else 60)\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        import killed_tasks  # noqa: PLC0415

        killed_tasks.HERE = True
        async with SQLiteBackend(tmp_path / "tasks.db") as store, TaskQueue(store) as queue:
            slot = queue.options(limits=ConcurrencyLimit(1, key="k"))
            first, second = await slot.enqueue(killed_tasks.stay), await slot.enqueue(killed_tasks.stay)
            command = [sys.executable, str(script), str(tmp_path / "tasks.db")]
            process = subprocess.Popen(command, cwd=tmp_path)  # noqa: ASYNC220 - this loop has time
            try:

                async def runs():
                    page = await store.scan(Filter(states=(State.RUNNING,)))
                    return [record.id for record in page.records]

                assert await eventually(runs, 20) == [first]
            finally:
                process.kill()
                process.wait()
            async with Worker(store, lease=1.0):
                for task_id in (first, second):
                    result = await queue.get_result(task_id, timeout=20)
                    assert result is not None
                    assert result.status == "success"
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("killed_tasks", None)
