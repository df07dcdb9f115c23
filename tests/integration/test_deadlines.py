"""Deadlines: nothing is started after them, and what a task enqueues has the same."""

from datetime import UTC, datetime, timedelta

from sitq import SyncTaskQueue, Task, TaskQueue, current_task
from sitq.record import SECOND, State

children = {}


def _later(seconds):
    return datetime.now(UTC) + timedelta(seconds=seconds)


def _instant(moment):
    return round(moment.timestamp() * SECOND)


async def test_what_a_task_enqueues_inherits_its_deadline_unless_its_own_is_earlier(
    queue, working, ended, stored
):
    mine, earlier, later = _later(60), _later(30), _later(90)

    async def parent():
        assert current_task().deadline == mine
        inner = TaskQueue(queue.backend)
        return [
            await inner.enqueue(abs, 1),
            await inner.options(deadline=earlier, delay=9).enqueue(abs, 1),
            await inner.options(deadline=later, delay=9).enqueue(abs, 1),
            *await inner.enqueue_many([Task(abs, (1,), delay=9)]),
        ]

    children["parent"] = parent
    async with working():
        task_id = await queue.options(deadline=mine).enqueue(_run, "parent")
        await ended(task_id)
        ids = queue.deserialize_result(await queue.get_result(task_id))
        found = [(await stored(each)).deadline for each in ids]
    assert found == [_instant(mine), _instant(earlier), _instant(mine), _instant(mine)]


async def _run(name):
    return await children[name]()


def _in_thread():
    with SyncTaskQueue(children["store"]) as queue:
        return queue.options(delay=9).enqueue(abs, 1)


async def test_a_thread_hands_its_deadline_on_too(queue, working, ended, stored):
    children["store"] = queue.backend
    mine = _later(60)
    async with working():
        task_id = await queue.options(deadline=mine).enqueue(_in_thread)
        await ended(task_id)
        child = queue.deserialize_result(await queue.get_result(task_id))
    assert (await stored(child)).deadline == _instant(mine)


async def test_what_nobody_enqueued_from_a_task_has_no_deadline(queue, stored):
    assert (await stored(await queue.enqueue(abs, 1))).deadline is None


async def _fail():
    raise ValueError("again")


async def test_a_retry_that_could_not_start_in_time_is_not_made(queue, working, ended):
    async with working():
        task_id = await queue.options(deadline=_later(20), retry=[60]).enqueue(_fail)
        record = await ended(task_id)
    assert (record.state, record.attempt) == (State.FAILED, 1)


async def test_a_retry_that_might_still_run_at_the_deadline_is_not_made(queue, working, ended):
    async with working():
        late, early = [
            await queue.options(deadline=_later(60), timeout=timeout, retry=[0.01]).enqueue(_fail)
            for timeout in (600, 1)
        ]
        assert (await ended(late)).attempt == 1
        assert (await ended(early)).attempt == 2


async def test_a_task_that_depends_on_one_with_a_deadline_has_none_of_it(queue, working, ended):
    async with working():
        parent = await queue.options(deadline=_later(60)).submit(abs, -1)
        child = await queue.submit(abs, parent)
        assert await child == 1
        assert (await child.info()).deadline_at is None
