"""Tasks that wait for long, and clocks that do not keep step."""

import asyncio
import time

import msgspec
import pytest

from sitq import RetryPolicy, TaskQueue, Worker
from sitq.backends import open_backend
from sitq.backends.base import Share, Want
from sitq.backends.memory import MemoryBackend
from sitq.functions import python_version
from sitq.ids import token
from sitq.record import DAY, SECOND, Record, State

RUNS: list[object] = []


async def note(what):
    RUNS.append(what)
    return what


async def fail_until(attempts):
    RUNS.append(attempts)
    if len(RUNS) < attempts:
        raise RuntimeError("not yet")
    return len(RUNS)


async def test_a_chain_of_retries_over_a_month_comes_to_its_end(make_backend):
    """arq: a chain of retries expired after a day, with the record that it wrote at its beginning.

    https://github.com/python-arq/arq/issues/320
    """
    RUNS.clear()
    later = 0
    backend = make_backend(clock=lambda: time.time_ns() // 1000 + later)
    async with backend, TaskQueue(backend) as queue:
        policy = RetryPolicy(max_retries=40, backoff="fixed", base=86_400, cap=86_400, jitter=False)
        task_id = await queue.options(retry=policy, result_ttl=86_400 * 7).enqueue(fail_until, 35)
        for _ in range(36):
            await Worker(backend).run(burst=True)
            await backend.tend()
            later += DAY + SECOND
        (record,) = await backend.get([task_id])
    assert record is not None
    assert (record.state, record.attempt, record.failures) == (State.COMPLETED, 35, 34)


async def test_delayed_tasks_are_on_time_after_the_store_was_closed(shared_url):
    """dramatiq: after a restart of the store delayed messages came hours late.

    https://github.com/Bogdanp/dramatiq/issues/527
    """
    async with TaskQueue(shared_url) as queue:
        ids = [await queue.options(delay=0.5).enqueue(note, number) for number in range(200)]
    async with TaskQueue(shared_url) as queue, Worker(queue.backend, max_concurrency=50):
        begun = time.monotonic()
        for task_id in ids:
            assert await queue.get_result(task_id, timeout=10)
        assert time.monotonic() - begun < 10


async def test_a_worker_that_wakes_too_early_looks_again_soon():
    """Bull: a timer that fired some milliseconds early ended a chain of repetitions.

    https://github.com/OptimalBits/bull/issues/747
    """
    begun = time.monotonic_ns()
    epoch = time.time_ns() // 1000

    def slow_clock() -> int:
        return epoch + (time.monotonic_ns() - begun) // 1000 * 6 // 10

    backend = MemoryBackend(clock=slow_clock)
    async with TaskQueue(backend) as queue, Worker(backend, poll_interval=3600):
        for delay in (0.05, 0.2, 0.4):
            task_id = await queue.options(delay=delay).enqueue(note, delay)
            assert await queue.get_result(task_id, timeout=10), "it sleeps until the next poll"


@pytest.mark.parametrize("make_backend", ["memory", "sqlite"], indirect=True)
async def test_clocks_that_step_back_lose_nothing(make_backend):
    """SAQ, arq, dramatiq: the clock of each worker decides, and clocks step."""
    now = [time.time_ns() // 1000]
    async with make_backend(clock=lambda: now[0]) as backend, TaskQueue(backend) as queue:
        ids = []
        for step in (0, -3600 * SECOND, 10 * SECOND, -DAY):
            now[0] += step
            ids.append(await queue.enqueue(note, step))
        now[0] += 2 * DAY
        await Worker(backend).run(burst=True)
        for task_id in ids:
            assert await queue.get_result(task_id, timeout=5)
    await asyncio.sleep(0)


@pytest.mark.parametrize("wrong", [-3600, 3600])
@pytest.mark.parametrize("kind", ["postgres", "redis"])
async def test_the_clock_of_a_server_decides_and_not_that_of_a_host(url_of, kind, wrong, monkeypatch):
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + wrong * 1_000_000_000)
    monkeypatch.setattr(time, "time", lambda: real() / 1e9 + wrong)
    async with open_backend(url_of(kind)) as store:
        await store.put([[Record(id="now", name="work"), Record(id="later", name="work", delay=60 * SECOND)]])
        want = Want(
            claim=token(),
            worker="w",
            queues=(Share("default", 9),),
            limit=9,
            lease=60 * SECOND,
            python=python_version(),
        )
        taken = await store.take(want)
        assert [record.id for record in taken.records] == ["now"]
        now = real() // 1000
        assert abs(taken.now - now) < 30 * SECOND
        assert abs(taken.records[0].lease_until - now - 60 * SECOND) < 30 * SECOND
        again = msgspec.structs.replace(want, claim=token(), worker="x")
        assert not (await store.take(again)).records
