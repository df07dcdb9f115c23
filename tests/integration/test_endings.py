"""How tasks end: cancelled, too late, and tried again."""

import asyncio
import threading

import pytest

from sitq.context import current_task
from sitq.policy.retry import RetryPolicy
from sitq.record import SECOND, State
from sitq.signals import Cancel, Retry, Snooze
from sitq.worker import Worker

BEGUN: dict[str, threading.Event] = {}
GATES: dict[str, threading.Event] = {}
TOLD: dict[str, threading.Event] = {}
RAN: list[int] = []


@pytest.fixture(autouse=True)
def _stage():
    for events in (BEGUN, GATES, TOLD):
        events["now"] = threading.Event()
    RAN.clear()
    yield
    GATES["now"].set()


async def hang():
    BEGUN["now"].set()
    await asyncio.Event().wait()


async def hang_and_clean_up():
    BEGUN["now"].set()
    try:
        await asyncio.Event().wait()
    finally:
        TOLD["now"].set()


def hang_in_thread():
    BEGUN["now"].set()
    while not GATES["now"].wait(0.002):
        if current_task().cancelled:
            TOLD["now"].set()


def add(one, two):
    return one + two


async def begun():
    assert await asyncio.to_thread(BEGUN["now"].wait, 10)


# -- cancelled ---------------------------------------------------------------------------------------------


async def test_a_waiting_task_that_is_cancelled_never_runs(queue, working):
    task_id = await queue.options(delay=3600).enqueue(add, 1, 2)
    async with working():
        assert await queue.cancel(task_id, "no more") is True
        result = await queue.get_result(task_id, timeout=5)
    assert (result.status, result.error) == ("cancelled", "no more")


async def test_a_running_async_task_is_cancelled_long_before_its_next_renewal(queue, working):
    task_id = await queue.enqueue(hang_and_clean_up)
    async with working(poll_interval=3600, lease=240):
        await begun()
        assert await queue.cancel(task_id, "no more") is True
        result = await queue.get_result(task_id, timeout=10)  # the next renewal is a minute away
    assert (result.status, result.error) == ("cancelled", "no more")
    assert TOLD["now"].is_set()


async def test_a_running_thread_is_told_and_its_task_is_cancelled_at_once(queue, working, eventually):
    task_id = await queue.enqueue(hang_in_thread)
    async with working(max_concurrency=1) as worker:
        await begun()
        await queue.cancel(task_id)
        assert (await queue.get_result(task_id, timeout=5)).status == "cancelled"
        assert await asyncio.to_thread(TOLD["now"].wait, 5)
        assert worker._shift._busy == 1  # its thread keeps the slot
        GATES["now"].set()
        await eventually(lambda: worker._shift._busy == 0)


# -- too late ----------------------------------------------------------------------------------------------


async def test_an_async_task_that_takes_too_long_fails(queue, working):
    task_id = await queue.options(timeout=0.02).enqueue(hang_and_clean_up)
    async with working():
        result = await queue.get_result(task_id, timeout=5)
    assert (result.status, result.error) == ("failed", "it took longer than its time-out of 0.02 s")
    assert TOLD["now"].is_set()


async def test_a_thread_that_takes_too_long_fails_at_once_and_keeps_its_slot_until_it_ends(
    queue, working, stored
):
    task_id = await queue.options(timeout=0.02).enqueue(hang_in_thread)
    async with working(max_concurrency=1):
        assert (await queue.get_result(task_id, timeout=5)).status == "failed"
        assert await asyncio.to_thread(TOLD["now"].wait, 5)
        other = await queue.enqueue(add, 1, 2)
        assert await queue.get_result(other, timeout=0.05) is None
        assert (await stored(other)).state is State.QUEUED
        GATES["now"].set()
        assert (await queue.get_result(other, timeout=5)).status == "success"


async def test_a_timeout_uses_the_retry_budget(queue, working, ended):
    policy = RetryPolicy(max_retries=2, base=0.0)
    task_id = await queue.options(timeout=0.01, retry=policy).enqueue(hang)
    async with working():
        record = await ended(task_id)
    assert (record.attempt, record.failures) == (3, 2)
    assert [error.kind for error in record.errors] == ["timeout"] * 3


async def test_what_did_not_start_in_time_has_expired(queue, working, eventually, ended):
    task_id = await queue.options(ttl=0.01).enqueue(add, 1, 2)
    await asyncio.sleep(0.02)
    async with working():
        record = await ended(task_id)
    assert (record.state, record.attempt) == (State.EXPIRED, 0)


# -- tried again -------------------------------------------------------------------------------------------


async def fail_until(times):
    RAN.append(current_task().attempt)
    if len(RAN) < times:
        raise ValueError(f"attempt {len(RAN)}")
    return len(RAN)


async def test_without_a_policy_a_failure_is_the_end(queue):
    task_id = await queue.enqueue(fail_until, 2)
    await Worker(queue.backend).run(burst=True)
    result = await queue.get_result(task_id, timeout=0)
    assert (result.status, result.error, result.error_type) == (
        "failed",
        "ValueError: attempt 1",
        "ValueError",
    )
    assert "in fail_until" in result.traceback


async def test_a_task_that_fails_runs_again_until_it_returns(queue, working, ended):
    task_id = await queue.options(retry=RetryPolicy(max_retries=5, base=0.0)).enqueue(fail_until, 3)
    async with working():
        record = await ended(task_id)
    assert (record.state, record.attempt, record.failures) == (State.COMPLETED, 3, 2)
    assert RAN == [1, 2, 3]
    assert [error.message for error in record.errors] == ["attempt 1", "attempt 2"]


@pytest.mark.parametrize("retries", [1, 3])
async def test_so_many_more_runs_and_not_one_more(queue, working, ended, retries):
    task_id = await queue.options(retry=RetryPolicy(max_retries=retries, base=0.0)).enqueue(fail_until, 99)
    async with working():
        record = await ended(task_id)
    assert (record.state, len(RAN), record.failures) == (State.FAILED, retries + 1, retries)


async def test_a_retry_waits_as_long_as_its_policy_says(queue, working, eventually, stored):
    policy = RetryPolicy(max_retries=3, base=3600.0, jitter=False)
    task_id = await queue.options(retry=policy).enqueue(fail_until, 99)
    async with working():

        async def went_back():
            record = await stored(task_id)
            return record if record.failures == 1 else None

        record = await eventually(went_back)
    wait = record.due - record.errors[0].at
    assert 3590 * SECOND < wait < 3610 * SECOND


async def signal(what, times=2):
    RAN.append(1)
    if len(RAN) < times:
        raise what
    return len(RAN)


def signal_in_thread(what):
    RAN.append(1)
    if len(RAN) < 2:
        raise what
    return len(RAN)


@pytest.mark.parametrize("function", [signal, signal_in_thread])
async def test_a_snooze_runs_it_again_and_spends_nothing(queue, working, ended, function):
    task_id = await queue.enqueue(function, Snooze(0))
    async with working():
        record = await ended(task_id)
    assert (record.state, record.attempt, record.failures, record.errors) == (State.COMPLETED, 2, 0, ())


@pytest.mark.parametrize("function", [signal, signal_in_thread])
async def test_a_retry_that_was_asked_for_spends_one(queue, working, ended, function):
    task_id = await queue.enqueue(function, Retry(after=0, reason="busy"))
    async with working():
        record = await ended(task_id)
    assert (record.state, record.failures, record.errors[0].message) == (State.COMPLETED, 1, "busy")


@pytest.mark.parametrize("function", [signal, signal_in_thread])
async def test_a_task_can_cancel_itself(queue, working, ended, function):
    task_id = await queue.options(retry=5).enqueue(function, Cancel("enough"))
    async with working():
        record = await ended(task_id)
    assert (record.state, record.errors[-1].message) == (State.CANCELLED, "enough")


async def test_asking_without_a_policy_ends_after_ten(queue, working, ended):
    task_id = await queue.enqueue(signal, Retry(after=0), 99)
    async with working():
        record = await ended(task_id)
    assert (record.state, len(RAN), record.failures) == (State.FAILED, 11, 10)
