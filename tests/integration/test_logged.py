"""What the log says of tasks that go wrong: nothing that holds up a worker is silent."""

import asyncio
import contextlib
import logging
import threading
import time

import pytest

from sitq import current_task
from sitq.worker.vitals import report


@pytest.fixture(autouse=True)
def _heard(caplog):
    caplog.set_level(logging.DEBUG, logger="sitq.worker")


def _lines(caplog, part):
    return [each for each in caplog.records if part in each.getMessage()]


def fail_once():
    if current_task().attempt == 1:
        raise OSError("no")


async def add(a, b):
    return a + b


async def test_retries_starts_and_successes_are_told(queue, working, ended, caplog):
    async with working():
        task_id = await queue.options(retry=2).enqueue(fail_once)
        assert (await ended(task_id)).state == "completed"
    (retry,) = _lines(caplog, "attempt 1 of ")
    assert retry.levelno == logging.INFO
    assert "fail_once failed: OSError: no; again in " in retry.getMessage()
    assert (retry.task_id, retry.queue) == (task_id, "default")
    starts = _lines(caplog, f"task {task_id} of ")
    assert [each.levelno for each in starts] == [logging.DEBUG] * 3
    assert "starts, attempt 1" in starts[0].getMessage()
    assert "completed in attempt 2 in 0." in starts[2].getMessage()


async def test_plain_tasks_are_not_told_above_debug(queue, working, ended, caplog):
    caplog.set_level(logging.INFO, logger="sitq.worker")
    async with working():
        task_id = await queue.enqueue(add, 1, 2)
        await ended(task_id)
    assert not _lines(caplog, task_id)


stubborn: list[asyncio.Event] = []


@pytest.fixture(autouse=True)
def _no_stubborn_ones():
    stubborn.clear()


async def swallow():
    """Go on whatever is said."""
    over = asyncio.Event()
    stubborn.append(over)
    while not over.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await over.wait()


def let_all_end():
    for each in stubborn:
        each.set()


class TestSwallowedCancellation:
    async def test_a_time_out_counts_all_the_same(self, queue, working, ended, eventually, caplog):
        async with working(max_concurrency=2) as worker:
            task_id = await queue.options(timeout=0.1, retry=1).enqueue(swallow)
            record = await ended(task_id, 20)
            last = record.errors[-1]
            assert (record.state, last.kind, last.type) == ("failed", "timeout", "TimeoutError")
            assert len(record.errors) == 2
            goes_on = _lines(caplog, "goes on though it was cancelled")
            assert len(goes_on) == 2
            assert {each.levelno for each in goes_on} == {logging.WARNING}
            assert task_id in goes_on[0].getMessage()
            assert worker.vitals().stuck
            let_all_end()
            await eventually(lambda: not worker.vitals().stuck)
            assert await queue.get_result(await queue.enqueue(add, 1, 2), timeout=10)

    async def test_a_cancellation_counts_all_the_same(self, queue, working, ended, eventually, caplog):
        async with working(lease=1.0) as worker:
            task_id = await queue.enqueue(swallow)
            await eventually(lambda: stubborn)
            await queue.cancel(task_id)
            assert (await ended(task_id, 20)).state == "cancelled"
            assert _lines(caplog, "goes on though it was cancelled")
            assert not worker.vitals().stuck
            let_all_end()

    async def test_a_task_that_ends_within_its_clean_up_time_is_not_told(self, queue, working, ended, caplog):
        async def tidy():
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.2)

        async with working():
            task_id = await queue.options(timeout=0.1).enqueue(tidy)
            assert (await ended(task_id)).state == "failed"
        assert not _lines(caplog, "goes on")


release = threading.Event()


def linger():
    release.wait(60)


async def test_threads_that_hold_every_place_are_told_once_and_the_probe_says_so(
    queue, working, ended, eventually, caplog
):
    release.clear()
    try:
        async with working(max_concurrency=2) as worker:
            first = [await queue.options(timeout=0.05).enqueue(linger) for _ in range(2)]
            for task_id in first:
                await ended(task_id)
            (line,) = await eventually(lambda: _lines(caplog, "2 of 2 places are held"))
            assert line.levelno == logging.WARNING
            assert "linger" in line.getMessage()
            well, body = report(worker.vitals())
            assert (well, body["status"], body["stuck"]) == (False, "stuck", True)
            release.set()
            await eventually(lambda: report(worker.vitals())[0])
            assert await queue.get_result(await queue.enqueue(add, 1, 2), timeout=10)
    finally:
        release.set()
    assert len(_lines(caplog, "places are held")) == 1


async def block():
    async def inner():
        time.sleep(3.5)  # noqa: ASYNC251 - it is the mistake in question

    await asyncio.create_task(inner())


async def test_a_blocked_event_loop_is_told_once_with_the_task_that_blocks_it(queue, working, ended, caplog):
    async with working():
        task_id = await queue.enqueue(block)
        await ended(task_id)
    (line,) = _lines(caplog, "the event loop has been blocked for ")
    assert line.levelno == logging.WARNING
    assert f"task {task_id} of " in line.getMessage()
    assert "test_logged.py:" in line.getMessage()
    assert _lines(caplog, "the event loop runs again, after ")
