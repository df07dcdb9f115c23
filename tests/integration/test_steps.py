"""Durable steps, progress, and time that is extended: what a task says about itself while it runs."""

import asyncio
import threading
import time

import pytest

from sitq.backends.base import Share, Want
from sitq.context import current_task
from sitq.exceptions import ConnectionError, ValidationError, WorkerError  # noqa: A004
from sitq.keys import KeyRing
from sitq.move import Lapse, Note
from sitq.policy.retry import RetryPolicy
from sitq.queue import TaskQueue
from sitq.record import State
from sitq.worker import Worker

DONE: list[str] = []
BEGUN: dict[str, threading.Event] = {}
GATE: dict[str, threading.Event] = {}
AT_ONCE = RetryPolicy(max_retries=3, base=0.0)


@pytest.fixture(autouse=True)
def _stage():
    DONE.clear()
    BEGUN["now"], GATE["now"] = threading.Event(), threading.Event()
    yield
    GATE["now"].set()


async def begun():
    assert await asyncio.to_thread(BEGUN["now"].wait, 5)


# -- steps -------------------------------------------------------------------------------------------------


async def charge(card, amount=1):
    DONE.append(f"charge {card}")
    await asyncio.sleep(0)
    return {"card": card, "amount": amount}


def charge_now(card, amount=1):
    DONE.append(f"charge {card}")
    return {"card": card, "amount": amount}


async def order(step, times=3):
    paid = await current_task().once("charge", step, "visa", amount=5)
    if current_task().attempt < times:
        raise OSError("the mail server is away")
    return paid


async def called_too_early():
    try:
        await current_task().once("charge", charge("visa"))
    except ValidationError as error:
        return str(error)


async def test_a_step_that_was_called_instead_of_passed_is_told_how_to_be_passed(queue, working):
    async with working():
        text = await (await queue.submit(called_too_early))
    assert text.endswith("once(name, charge, …) instead of once(name, charge(…))")
    assert DONE == []


def order_in_thread(step, times=3):
    paid = current_task().once_sync("charge", step, "visa", amount=5)
    if current_task().attempt < times:
        raise OSError("the mail server is away")
    return paid


@pytest.mark.parametrize(
    ("function", "step"), [(order, charge), (order, charge_now), (order_in_thread, charge_now)]
)
async def test_a_step_that_was_done_is_skipped_by_the_attempts_after_it(queue, working, function, step):
    task_id = await queue.options(retry=AT_ONCE).enqueue(function, step)
    async with working():
        result = await queue.get_result(task_id, timeout=10)
    assert queue.deserialize_result(result) == {"card": "visa", "amount": 5}
    assert DONE == ["charge visa"]


async def goes_on():
    await current_task().once("charge", charge, "visa")
    BEGUN["now"].set()
    await asyncio.to_thread(GATE["now"].wait, 5)


async def test_a_step_is_kept_before_the_task_goes_on(queue, working, stored):
    task_id = await queue.enqueue(goes_on)
    async with working():
        await begun()
        assert "charge" in (await stored(task_id)).steps
        GATE["now"].set()


async def fails_once(name):
    DONE.append(name)
    if len(DONE) == 1:
        raise OSError("declined")
    return len(DONE)


async def retries_a_step():
    return await current_task().once("step", fails_once, "x")


async def test_a_step_that_raises_is_not_kept(queue, working, ended):
    task_id = await queue.options(retry=AT_ONCE).enqueue(retries_a_step)
    async with working():
        record = await ended(task_id)
    assert (record.state, record.attempt, DONE) == (State.COMPLETED, 2, ["x", "x"])


async def many_steps(n):
    values = await asyncio.gather(*(current_task().once(f"step {i}", _number, i) for i in range(n)))
    again = await current_task().once("step 0", _number, 99)
    return sum(values), again


def _number(value):
    DONE.append("")
    return value


async def test_many_steps_at_once_are_few_calls_of_the_store(queue, working):
    calls = []
    apply = queue.backend.apply

    async def counted(moves):
        calls.append(len(moves))
        return await apply(moves)

    queue.backend.apply = counted
    task_id = await queue.enqueue(many_steps, 100)
    async with working():
        result = await queue.get_result(task_id, timeout=10)
    assert queue.deserialize_result(result) == (4950, 0)
    assert len(DONE) == 100
    assert len(calls) < 20


async def lets_a_lock_go():
    return await current_task().once("lock", threading.Lock)


async def test_a_step_whose_value_cannot_be_kept_is_not_done_again(queue, working, ended):
    task_id = await queue.options(retry=AT_ONCE).enqueue(lets_a_lock_go)
    async with working():
        record = await ended(task_id)
    assert (record.state, record.attempt, record.errors[0].kind) == (State.FAILED, 1, "unstorable")
    assert "step lock" in record.errors[0].message


async def too_many():
    await current_task().once("one", _number, 1)
    await current_task().once("two", _number, 2)
    with pytest.raises(ValidationError, match="2 steps"):
        await current_task().once("three", _number, 3)


async def test_a_task_has_a_bounded_number_of_steps(queue, working, ended, monkeypatch):
    monkeypatch.setattr("sitq.worker.desk._MOST_STEPS", 2)
    task_id = await queue.enqueue(too_many)
    async with working():
        assert (await ended(task_id)).state is State.COMPLETED


async def wrong_ways():
    task = current_task()
    with pytest.raises(WorkerError, match="await once"):
        task.once_sync("a", _number, 1)
    with pytest.raises(ValidationError, match="name of the step"):
        await task.once("", _number, 1)
    with pytest.raises(ValidationError):
        await task.once("a", 5)
    with pytest.raises(ValidationError, match="fraction"):
        task.progress(1.5)
    with pytest.raises(ValidationError, match="message"):
        task.progress(0.5, 3)
    with pytest.raises(ValidationError, match="1,001 characters"):
        task.progress(None, "x" * 1001)
    with pytest.raises(ValidationError):
        task.extend(-1)
    return await asyncio.to_thread(async_step_in_thread)


def async_step_in_thread():
    with pytest.raises(ValidationError, match="async"):
        current_task().once_sync("a", charge, 1)


async def test_mistakes_are_told_where_they_are_made(queue, working, ended):
    task_id = await queue.enqueue(wrong_ways)
    async with working():
        record = await ended(task_id)
    assert record.errors == ()


async def test_steps_are_signed_and_those_of_a_stranger_are_refused(backend, working, ended):
    keys = KeyRing([("k", b"x" * 32)])
    async with TaskQueue(backend, keys=keys) as queue:
        first = await queue.options(retry=AT_ONCE).enqueue(order, charge)
        async with working(keys=keys):
            record = await ended(first)
        assert (record.state, DONE) == (State.COMPLETED, ["charge visa"])
        forged = await queue.options(retry=AT_ONCE).enqueue(order, charge)
        (taken,) = await _claim(backend)
        note = Note(id=forged, token=taken.token, step=("charge", record.steps["charge"]))
        assert await backend.apply([note, Lapse(id=forged, token=taken.token)]) == [True, True]
        async with working(keys=keys):
            record = await ended(forged)
    assert (record.state, DONE) == (State.FAILED, ["charge visa"])
    assert "SignatureError" in record.errors[-1].type


async def _claim(backend, limit=1):
    want = Want(
        claim="other", worker="other", queues=(Share("default", limit),), limit=limit, lease=10**7, python="0"
    )
    return (await backend.take(want)).records


# -- a lost lease ------------------------------------------------------------------------------------------


async def steps_late():
    BEGUN["now"].set()
    await asyncio.to_thread(GATE["now"].wait, 5)
    try:
        await current_task().once("late", _number, 1)
    finally:
        DONE.append("after")
    DONE.append("went on")


def steps_late_in_thread():
    BEGUN["now"].set()
    GATE["now"].wait(5)
    try:
        current_task().once_sync("late", _number, 1)
    finally:
        DONE.append("after")
    DONE.append("went on")


@pytest.mark.parametrize("function", [steps_late, steps_late_in_thread])
async def test_an_attempt_that_lost_its_lease_cannot_keep_a_step_and_ends(
    queue, working, stored, eventually, function
):
    task_id = await queue.enqueue(function)
    async with working(lease=240, max_concurrency=1) as worker:
        await begun()
        record = await stored(task_id)

        async def freed():  # again and again, as the worker may just be renewing the lease
            await queue.backend.apply([Lapse(id=task_id, token=record.token)])
            return await _claim(queue.backend)

        (taken,) = await eventually(freed)
        assert taken.id == task_id
        GATE["now"].set()
        await eventually(lambda: worker._shift._runs.busy == 0)
    record = await stored(task_id)
    assert (record.state, record.owner, record.steps) == (State.RUNNING, "other", {})
    assert DONE == ["", "after"]


async def test_a_store_that_is_away_holds_a_step_up_and_loses_none(queue, working):
    failing = [ConnectionError("away")] * 2
    apply = queue.backend.apply

    async def flaky(moves):
        if failing and any(isinstance(move, Note) for move in moves):
            raise failing.pop()
        return await apply(moves)

    queue.backend.apply = flaky
    task_id = await queue.options(retry=AT_ONCE).enqueue(order, charge)
    async with working():
        result = await queue.get_result(task_id, timeout=10)
    assert result.status == "success"
    assert DONE == ["charge visa"]
    assert not failing


async def cancelled_in_a_step():
    await current_task().once("step", _cancelled_just_then)


async def _cancelled_just_then():
    DONE.append("")
    asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
    return 1


async def test_what_is_done_is_kept_even_if_the_task_is_cancelled_just_then(queue, working, ended):
    task_id = await queue.enqueue(cancelled_in_a_step)
    async with working():
        record = await ended(task_id)
    assert record.state is State.FAILED
    assert list(record.steps) == ["step"]


# -- progress ----------------------------------------------------------------------------------------------


async def reports(times):
    for n in range(times):
        current_task().progress(n / times, f"step {n}")
    current_task().progress(1, "done")


def reports_in_thread(times):
    for n in range(times):
        current_task().progress(n / times, f"step {n}")
    current_task().progress(1.0, "done")


@pytest.mark.parametrize("function", [reports, reports_in_thread])
async def test_ten_thousand_notes_are_few_calls_and_the_last_one_lands(queue, working, ended, function):
    notes = []
    apply = queue.backend.apply

    async def counted(moves):
        notes.extend(move for move in moves if isinstance(move, Note))
        return await apply(moves)

    queue.backend.apply = counted
    task_id = await queue.enqueue(function, 10_000)
    async with working():
        record = await ended(task_id)
    assert record.state is State.COMPLETED
    assert (record.progress[-1].fraction, record.progress[-1].message) == (1.0, "done")
    assert record.created <= record.progress[-1].at <= record.finished
    assert len(notes) < 200


async def reports_and_waits():
    current_task().progress(0.25)
    BEGUN["now"].set()
    await asyncio.to_thread(GATE["now"].wait, 5)


async def test_progress_can_be_read_while_the_task_runs(queue, working, stored, eventually):
    task_id = await queue.enqueue(reports_and_waits)

    async def seen():
        return [each.fraction for each in (await stored(task_id)).progress]

    async with working():
        await begun()
        assert await eventually(seen) == [0.25]
        GATE["now"].set()


async def reports_from_another_thread():
    task = current_task()
    await asyncio.get_running_loop().run_in_executor(None, lambda: task.progress(0.5, "\ud800"))


async def test_a_thread_that_was_handed_the_task_may_report_for_it(queue, working, ended):
    task_id = await queue.enqueue(reports_from_another_thread)
    async with working():
        record = await ended(task_id)
    assert [(each.fraction, each.message) for each in record.progress] == [(0.5, "\\ud800")]


async def fails_with_progress():
    current_task().progress(0.5, "half way")
    raise OSError("no")


async def test_progress_of_an_attempt_that_failed_is_kept_too(queue, working, ended):
    task_id = await queue.options(retry=AT_ONCE).enqueue(fails_with_progress)
    async with working():
        record = await ended(task_id)
    assert [each.message for each in record.progress] == ["half way"] * 4


async def test_progress_that_cannot_be_written_harms_nobody(queue, working, ended):
    apply = queue.backend.apply

    async def flaky(moves):
        if any(isinstance(move, Note) for move in moves):
            raise ConnectionError("away")
        return await apply(moves)

    queue.backend.apply = flaky
    task_id = await queue.enqueue(reports, 3)
    async with working():
        record = await ended(task_id)
    assert (record.state, record.progress) == (State.COMPLETED, ())


# -- time --------------------------------------------------------------------------------------------------


async def takes_longer():
    current_task().extend(60)
    await asyncio.sleep(0.1)
    return "in time"


def takes_longer_in_thread():
    current_task().extend(60)
    time.sleep(0.1)
    return "in time"


@pytest.mark.parametrize("function", [takes_longer, takes_longer_in_thread])
async def test_a_task_can_extend_its_time(queue, working, function):
    task_id = await queue.options(timeout=0.05).enqueue(function)
    async with working():
        result = await queue.get_result(task_id, timeout=10)
    assert queue.deserialize_result(result) == "in time"


async def takes_too_long_all_the_same(seconds):
    current_task().extend(seconds)
    current_task().extend(seconds)
    await asyncio.Event().wait()


async def test_a_time_out_says_how_long_it_was_in_the_end(queue, working):
    task_id = await queue.options(timeout=0.01).enqueue(takes_too_long_all_the_same, 0.02)
    async with working():
        result = await queue.get_result(task_id, timeout=10)
    assert result.error == "TimeoutError: it took longer than its time-out of 0.05 s"


def asks_why():
    while not current_task().cancelled:
        time.sleep(0.002)
    DONE.append(current_task().cancel_reason)


async def is_told_why():
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError as error:
        DONE.extend([current_task().cancel_reason, *error.args])
        raise


async def test_a_task_is_told_why_it_is_to_stop(queue, working, eventually, stored):
    ids = [await queue.enqueue(asks_why), await queue.enqueue(is_told_why)]
    async with working():
        for each in ids:

            async def runs(task_id=each):
                return (await stored(task_id)).state is State.RUNNING

            await eventually(runs)
            assert await queue.cancel(each, "the customer left")
            await queue.get_result(each, timeout=10)
        await eventually(lambda: len(DONE) == 3)
    assert DONE == ["the customer left"] * 3


async def test_a_time_out_and_a_stop_of_the_worker_are_reasons_too(queue, eventually):
    await queue.options(timeout=0.01).enqueue(asks_why)
    async with Worker(queue.backend, grace=0):
        await eventually(lambda: DONE)
        await queue.enqueue(is_told_why)
        await asyncio.sleep(0.05)
    assert DONE[0] == "it took longer than its time-out of 0.01 s"
    assert DONE[1:] in ([], ["the worker stops"] * 2)


async def test_outside_of_a_worker_nothing_can_be_said():
    from sitq.context import CurrentTask  # noqa: PLC0415

    with pytest.raises(WorkerError, match="not run by a worker"):
        CurrentTask("a", "f", "q", 1).progress(0.5)
