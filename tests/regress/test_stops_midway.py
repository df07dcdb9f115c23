"""Stops in the middle of everything: nothing is lost, nothing ends twice, and a worker can start again."""

import asyncio
import random
import threading

import pytest

from sitq import Worker
from sitq.exceptions import ConnectionError as StoreAwayError
from sitq.record import State

RUNS: list[object] = []


async def note(what, seconds=0.0):
    RUNS.append(what)
    await asyncio.sleep(seconds)
    return what


async def test_a_stop_at_any_instant_loses_nothing(queue, backend, working, stored):
    """Celery, kombu: what had been fetched and not yet begun was lost at a warm shutdown.

    https://github.com/celery/celery/issues/4354
    https://github.com/celery/celery/issues/7950
    https://github.com/celery/kombu/issues/305
    """
    dice = random.Random(5)
    ids = [await queue.enqueue(note, number, 0.002) for number in range(300)]
    for _ in range(40):
        worker = Worker(backend, max_concurrency=5, grace=dice.choice([0.0, 5.0]))
        working_on = asyncio.create_task(worker.run())
        await asyncio.sleep(dice.random() * 0.03)
        await worker.stop()
        await working_on
        counts = await backend.tally()
        assert State.RUNNING not in counts["default"], "a lease outlived its worker"
    async with working(max_concurrency=20):
        for task_id in ids:
            assert await queue.get_result(task_id, timeout=20)
    for task_id in ids:
        record = await stored(task_id)
        assert (record.state, record.crashes, record.failures) == (State.COMPLETED, 0, 0)


async def test_leases_are_renewed_until_the_last_task_of_a_stop_has_ended(queue, backend, working, stored):
    """Solid Queue: heartbeats stopped before the drain, so jobs were both finished and failed.

    https://github.com/rails/solid_queue/issues/589
    https://github.com/rails/solid_queue/issues/568
    """
    RUNS.clear()
    slow = Worker(backend, lease=0.3, grace=20)
    working_on = asyncio.create_task(slow.run())
    task_id = await queue.enqueue(note, "slow", 2.0)
    while (await stored(task_id)).state is State.QUEUED:  # noqa: ASYNC110 - by another worker
        await asyncio.sleep(0.01)
    async with working(lease=0.3):
        await slow.stop()
        await working_on
    record = await stored(task_id)
    assert RUNS == ["slow"]
    assert (record.state, record.attempt, record.crashes) == (State.COMPLETED, 1, 0)


@pytest.mark.parametrize("step", ["open", "lease_channel", "listen"])
async def test_a_worker_that_could_not_start_can_start_later(make_backend, step):
    """River: a client that had been started halfway could not be started again.

    https://github.com/riverqueue/river/pull/1187
    """
    backend = make_backend()
    original = getattr(backend, step)
    tries = []

    def fail(*_, **__):
        tries.append(step)
        raise StoreAwayError(f"{step} does not work yet")

    worker = Worker(backend)
    setattr(backend, step, fail)
    if step == "lease_channel":  # its thread asks again by itself
        working_on = asyncio.create_task(worker.run())
        await asyncio.sleep(0.05)
        await worker.stop()
        await working_on
    else:
        with pytest.raises(StoreAwayError):
            await worker.run()
        assert not [thread for thread in threading.enumerate() if thread.name == "sitq-leases"]
    setattr(backend, step, original)
    await worker.run(burst=True)
    assert backend._users == 0
    assert not backend.connected
