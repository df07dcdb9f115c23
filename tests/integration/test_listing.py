"""A look at what is in the store: pages of tasks, each at a glance."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from sitq import ConcurrencyLimit, Task, TaskPage, task
from sitq.exceptions import ValidationError
from sitq.move import Note
from sitq.record import Progress, State


@task(name="test_listing.double")
async def double(value, password=None):
    return 2 * value


@task(name="test_listing.fail")
async def fail(text):
    raise ValueError(text)


def ids(page):
    return [each.id for each in page]


@pytest.fixture
async def some(queue):
    """Six tasks, in their order."""
    tasks = [
        Task(double, (1,), id="one", queue="emails"),
        Task(double, (2,), id="two"),
        Task(fail, ("needle",), id="three"),
        Task(double, (4,), id="four", depends_on=["two"]),
        Task(double, (5,), id="five", queue="emails"),
        Task(fail, ("x",), id="six", delay=100),
    ]
    return await queue.enqueue_many(tasks)


async def test_the_newest_tasks_come_first_unless_asked_otherwise(queue, some):
    assert ids(await queue.tasks()) == some[::-1]
    assert ids(await queue.tasks(newest_first=False)) == some
    assert [each.id async for each in queue.iter_tasks()] == some[::-1]
    assert [each.id async for each in queue.iter_tasks(newest_first=False)] == some


@pytest.mark.usefixtures("some")
async def test_conditions_select(queue):
    async def found(**where):
        page = await queue.tasks(newest_first=False, **where)
        assert [each.id async for each in queue.iter_tasks(newest_first=False, **where)] == ids(page)
        return ids(page)

    await queue.cancel("five")
    assert await found(state="cancelled") == ["five"]
    assert await found(state=["blocked", State.CANCELLED]) == ["four", "five"]
    assert await found(queue="emails") == ["one", "five"]
    assert await found(function=fail) == ["three", "six"]
    assert await found(function="test_listing.fail", text="NEEDLE") == ["three"]
    assert await found(batch="none") == []
    assert await found(worker="none") == []
    assert await found(older_than=3600) == []
    assert await found(created_before=datetime.now(UTC) + timedelta(hours=1), queue="emails") == [
        "one",
        "five",
    ]
    assert await found(finished_before=datetime.now(UTC) + timedelta(hours=1)) == ["five"]


@pytest.mark.parametrize("newest_first", [True, False])
async def test_pages_fit_together_while_tasks_come_and_go(queue, newest_first):
    old = await queue.enqueue_many([Task(double, (n,)) for n in range(25)])
    seen, after = [], None
    while True:
        page = await queue.tasks(limit=7, after=after, newest_first=newest_first)
        assert len(page) <= 7
        seen += ids(page)
        await queue.enqueue(double, 1)
        if len(seen) > 40 or (after := page.after) is None:
            break
    assert [each for each in seen if each in old] == (old[::-1] if newest_first else old)


async def test_a_rare_task_is_found_behind_thousands(queue):
    await queue.enqueue(fail, "needle")
    await queue.enqueue_many([Task(double, (n,)) for n in range(5000)])
    assert [each.function for each in await queue.tasks(limit=1, text="needle")] == ["test_listing.fail"]


async def test_a_page_says_where_the_next_one_begins(queue, some):
    page = await queue.tasks(limit=4)
    assert isinstance(page, TaskPage)
    assert ids(page) == some[:1:-1]
    assert ids(page.tasks) == ids(page)
    assert (await queue.tasks(limit=4, after=page.after)).after is None


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"state": "done"}, "state must be one of blocked"),
        ({"state": "success"}, "a task that succeeded is completed"),
        ({"state": 5}, "state must be a state"),
        ({"limit": 0}, "limit must be from 1 to 1000"),
        ({"after": "x"}, "after must be a whole number"),
        ({"queue": ""}, "empty"),
        ({"function": 5}, "cannot be called"),
        ({"text": 5}, "text must be text"),
        ({"older_than": -1}, "older_than"),
        ({"created_before": 5}, "created_before must be an aware datetime"),
        ({"older_than": 5, "created_before": datetime.now(UTC)}, "both say how old"),
        ({"colour": "red"}, "there is no condition 'colour'; there are: state, queue"),
    ],
)
async def test_a_condition_that_makes_no_sense_is_refused(queue, where, message):
    with pytest.raises(ValidationError, match=message):
        await queue.tasks(**where)


async def test_a_task_at_a_glance(queue, backend, working, eventually):
    async def hold(password):
        await asyncio.sleep(60)
        raise ValueError(password)

    begun = datetime.now(UTC) - timedelta(seconds=1)
    limited = queue.options(
        priority=3,
        timeout=30.5,
        tags=["a", "b"],
        ttl=100,
        limits=[ConcurrencyLimit(2, key="door")],
        unique="key",
    )
    async with working(worker_id="the-worker"):
        handle = await limited.submit(hold, password="hunter2")
        await eventually(lambda: _running(queue, handle.id))
        (record,) = await backend.get([handle.id])
        progress = Progress(0.5, "half", at=record.started)
        await backend.apply([Note(id=handle.id, token=record.token, progress=progress)])
        await queue.cancel(handle, "enough")
        info = await handle.info()
        await handle.outcome(timeout=10)
    assert (info.id, info.queue, info.state, info.priority) == (handle.id, "default", "running", 3)
    assert "hold" in info.function
    assert "hunter2" not in info.preview
    assert (info.attempts, info.failures, info.crashes, info.errors) == (1, 0, 0, ())
    assert (info.progress.fraction, info.progress.message) == (0.5, "half")
    assert (info.timeout, info.tags, info.limits, info.unique) == (30.5, ("a", "b"), ("door",), "key")
    assert (info.worker, info.stop) == ("the-worker", "enough")
    assert begun < info.created_at <= info.started_at < datetime.now(UTC)
    assert info.expires_at - info.due_at == timedelta(seconds=100)
    assert (info.finished_at, info.deadline_at, info.kept_until) == (None, None, None)
    assert (info.batch, info.schedule, info.retry_of, info.parents) == (None, None, None, ())
    ended = await handle.info()
    assert ended.finished_at is not None
    assert ended.kept_until > ended.finished_at


async def _running(queue, task_id):
    return (await queue.task_info(task_id)).state is State.RUNNING


async def test_a_failure_is_told_with_its_traceback(queue, working):
    async with working():
        handle = await queue.submit(fail, "this is wrong")
        await handle.outcome(timeout=10)
    (failure,) = (await handle.info()).errors
    assert (failure.kind, failure.type, failure.message) == ("raised", "ValueError", "this is wrong")
    assert (failure.attempt, bool(failure.worker)) == (1, True)
    assert "in fail" in failure.traceback
    assert failure.at <= datetime.now(UTC)


async def test_a_blocked_task_has_parents_and_no_due_time(queue, some):
    info = await queue.task_info(some[3])
    assert (info.state, info.parents, info.due_at) == ("blocked", ("two",), None)
    assert await queue.task_info("nobody") is None
