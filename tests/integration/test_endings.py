"""How tasks end: cancelled, too late, and tried again."""

import asyncio
import threading
import time

import pytest

from sitq.backends.base import Filter
from sitq.context import current_task
from sitq.decorator import task
from sitq.keys import KeyRing
from sitq.move import Settle
from sitq.policy.retry import RetryPolicy
from sitq.queue import TaskQueue
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


async def test_a_running_async_task_is_cancelled_within_a_second(queue, working):
    took = []
    async with working(poll_interval=3600, lease=240):  # the next renewal is a minute away
        for _ in range(3):
            BEGUN["now"].clear()
            TOLD["now"].clear()
            task_id = await queue.enqueue(hang_and_clean_up)
            await begun()
            asked = time.monotonic()
            assert await queue.cancel(task_id, "no more") is True
            result = await queue.get_result(task_id, timeout=10)
            took.append(time.monotonic() - asked)
            assert (result.status, result.error) == ("cancelled", "no more")
            assert TOLD["now"].is_set()
    assert sorted(took)[1] <= 1.0, took


async def test_a_running_thread_hears_of_its_cancellation_within_a_second(queue, working):
    took = []
    async with working(poll_interval=3600, lease=240):
        for _ in range(3):
            BEGUN["now"].clear()
            TOLD["now"].clear()
            GATES["now"].clear()
            task_id = await queue.enqueue(hang_in_thread)
            await begun()
            asked = time.monotonic()
            assert await queue.cancel(task_id) is True
            assert await asyncio.to_thread(TOLD["now"].wait, 10)
            took.append(time.monotonic() - asked)
            assert (await queue.get_result(task_id, timeout=10)).status == "cancelled"
            GATES["now"].set()
    assert sorted(took)[1] <= 1.0, took


async def test_a_running_thread_is_told_and_its_task_is_cancelled_at_once(queue, working, eventually):
    task_id = await queue.enqueue(hang_in_thread)
    async with working(max_concurrency=1) as worker:
        await begun()
        await queue.cancel(task_id)
        assert (await queue.get_result(task_id, timeout=5)).status == "cancelled"
        assert await asyncio.to_thread(TOLD["now"].wait, 5)
        assert worker._shift._runs.busy == 1  # its thread keeps the slot
        GATES["now"].set()
        await eventually(lambda: worker._shift._runs.busy == 0)


# -- too late ----------------------------------------------------------------------------------------------


async def test_an_async_task_that_takes_too_long_fails(queue, working):
    task_id = await queue.options(timeout=0.02).enqueue(hang_and_clean_up)
    async with working():
        result = await queue.get_result(task_id, timeout=5)
    assert (result.status, result.error_type) == ("failed", "TimeoutError")
    assert result.error == "TimeoutError: it took longer than its time-out of 0.02 s"
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


# -- tried again, or not, by what was raised -----------------------------------------------------------------


class Declined(Exception):
    pass


class DeclinedForGood(Declined):
    pass


async def raises(what):
    RAN.append(1)
    if len(RAN) < 3:
        raise what
    return len(RAN)


def raises_in_thread(what):
    RAN.append(1)
    if len(RAN) < 3:
        raise what
    return len(RAN)


@pytest.mark.parametrize("function", [raises, raises_in_thread])
@pytest.mark.parametrize(
    "case",
    [
        (Declined("x"), State.COMPLETED, 3),
        (ConnectionResetError("x"), State.COMPLETED, 3),
        (DeclinedForGood("x"), State.FAILED, 1),
        (KeyError("x"), State.FAILED, 1),
    ],
)
async def test_a_policy_chooses_by_what_was_raised(queue, working, ended, function, case):
    what, state, runs = case
    policy = RetryPolicy(
        base=0.0, retry_on=[Declined, "OSError"], stop_on=[f"{__name__}.{DeclinedForGood.__qualname__}"]
    )
    task_id = await queue.options(retry=policy).enqueue(function, what)
    async with working():
        record = await ended(task_id)
    assert (record.state, len(RAN)) == (state, runs)


async def test_a_time_out_is_a_timeout_error_to_a_policy(queue, working, ended):
    patient = queue.options(timeout=0.01, retry=RetryPolicy(max_retries=1, base=0.0, retry_on=[TimeoutError]))
    hasty = queue.options(timeout=0.01, retry=RetryPolicy(base=0.0, stop_on=[TimeoutError]))
    ids = [await patient.enqueue(hang), await hasty.enqueue(hang)]
    async with working():
        assert [(await ended(each)).attempt for each in ids] == [2, 1]


# -- when the budget is spent --------------------------------------------------------------------------------


TOLD_OF: list[tuple[str, str]] = []


@task(name="endings.give-up")
def give_up(task_id, error):
    TOLD_OF.append((task_id, error))


async def test_when_the_budget_is_spent_a_function_is_told_which_task_it_was_and_why(queue, working, ended):
    TOLD_OF.clear()
    policy = RetryPolicy(max_retries=1, base=0.0, on_exhausted=give_up)
    task_id = await queue.options(retry=policy, priority=7).enqueue(fail_until, 99)
    async with working():
        await ended(task_id)
        (told,) = [
            each for each in (await queue.backend.scan(Filter(name="endings.give-up"))).records if each.name
        ]
        await ended(told.id)
    ((told_id, error),) = TOLD_OF
    assert (told_id, error) == (task_id, "ValueError: attempt 2")
    assert (told.queue, told.priority) == ("default", 7)


async def test_a_success_a_retry_and_a_cancellation_tell_nobody(queue, working, ended):
    policy = RetryPolicy(max_retries=3, base=0.0, on_exhausted=give_up)
    ids = [
        await queue.options(retry=policy).enqueue(fail_until, 3),
        await queue.options(retry=policy).enqueue(signal, Cancel("enough"), 99),
    ]
    async with working():
        for each in ids:
            await ended(each)
    assert (await queue.backend.scan(Filter(name="endings.give-up"))).records == []


@pytest.mark.usefixtures("older_producer")
async def test_the_task_that_is_told_is_stored_in_the_very_step_in_which_the_other_fails(queue, ended):
    """No kill between the two can lose it: it is one move."""
    seen = []
    apply = queue.backend.apply

    async def watched(moves):
        answers = await apply(moves)
        told = (await queue.backend.scan(Filter(name="endings.give-up"))).records
        seen.extend((move.state, len(told)) for move in moves if isinstance(move, Settle) and move.follow)
        return answers

    queue.backend.apply = watched
    task_id = await queue.options(retry=RetryPolicy(max_retries=0, on_exhausted=give_up)).enqueue(hang, 1)
    other = await queue.options(retry=RetryPolicy(max_retries=0, on_exhausted=give_up)).enqueue(fail_until, 9)
    await Worker(queue.backend).run(burst=True)
    assert seen == [(State.FAILED, 1)]
    assert (await ended(other)).state is State.FAILED
    assert (await ended(task_id)).state is State.DEAD


async def test_a_stranger_cannot_have_a_function_of_their_choice_signed(backend, ended, caplog):
    keys = KeyRing([("k", b"x" * 32)])
    async with TaskQueue(backend, keys=keys) as queue:
        policy = RetryPolicy(max_retries=0, on_exhausted="os:execl")
        task_id = await queue.options(retry=policy).enqueue(fail_until, 99)
        await Worker(backend, keys=keys).run(burst=True)
        assert (await ended(task_id)).state is State.FAILED
    assert (await backend.scan(Filter(name="os:execl"))).records == []
    assert "on_exhausted" in caplog.text
