"""Bounded queues: refused when full, or patient."""

import asyncio

import pytest

from sitq import QueueFullError, ResourceExhaustionError, Task, TaskQueue, task
from sitq.exceptions import TaskQueueError, ValidationError


@task(name="test_bounded_queues.double")
async def double(value):
    return 2 * value


@pytest.fixture
async def small(backend):
    """A queue of at most two waiting tasks."""
    async with TaskQueue(backend, max_length=2) as queue:
        yield queue


@pytest.fixture
def puts(backend, monkeypatch):
    """The number of times that tasks were put."""
    put, made = backend.put, []

    async def counted(groups):
        made.append(len(groups))
        return await put(groups)

    monkeypatch.setattr(backend, "put", counted)
    return made


async def test_a_full_queue_refuses(small):
    await small.enqueue(double, 1)
    await small.enqueue(double, 2)
    with pytest.raises(QueueFullError, match="as many waiting tasks as max_length=2 allows") as caught:
        await small.enqueue(double, 3)
    assert isinstance(caught.value, ResourceExhaustionError)
    with pytest.raises(QueueFullError):
        await small.enqueue_many([Task(double, (3,))])
    assert await small.stats() == {"default": {"queued": 2}}


async def test_a_bound_is_that_of_the_own_queue_and_options_say_another(small):
    elsewhere = small.options(queue="other")
    for value in range(3):
        await elsewhere.enqueue(double, value)
    for value in range(4):
        await small.options(max_length=4).enqueue(double, value)
    with pytest.raises(QueueFullError):
        await elsewhere.options(max_length=3).enqueue(double, 4)


async def test_a_known_id_is_no_more_than_it_was(small):
    await small.options(id="mine").enqueue(double, 1)
    await small.enqueue(double, 2)
    assert await small.options(id="mine").enqueue(double, 1) == "mine"


async def test_running_tasks_leave_room(small, working, tmp_path, eventually):
    async def hold():
        (tmp_path / "started").touch()
        await asyncio.sleep(60)

    async with working(max_concurrency=1):
        running = await small.submit(hold)
        await eventually((tmp_path / "started").exists)
        await small.submit_many([Task(double, (1,)), Task(double, (2,))])
        with pytest.raises(QueueFullError):
            await small.enqueue(double, 3)
        await running.cancel()


async def test_a_patient_call_waits_until_there_is_room(small, working):
    patient = small.options(when_full="wait")
    first = [await patient.submit(double, value) for value in range(2)]
    waiting = [asyncio.ensure_future(patient.submit(double, value)) for value in range(2, 12)]
    done, _ = await asyncio.wait(waiting, timeout=0.05)
    assert not done
    async with working(max_concurrency=1):
        handles = await asyncio.wait_for(asyncio.gather(*waiting), 20)
        assert await small.gather(*first, *handles, timeout=10) == [2 * value for value in range(12)]
    times = [(await each.info()).created_at for each in handles]
    assert times == sorted(times)  # served in the order in which they came


async def test_a_queue_can_be_patient_for_all_of_its_tasks(backend, working):
    async with TaskQueue(backend, max_length=1, when_full="wait") as queue, working():
        handles = [await queue.submit(double, value) for value in range(10)]
        assert await queue.gather(*handles, timeout=10) == [2 * value for value in range(10)]
        many = await queue.enqueue_many([Task(double, (1,))])
        assert len(many) == 1
        for value in range(2):
            await queue.options(when_full="refuse", delay=100, max_length=2).enqueue(double, value)
        with pytest.raises(QueueFullError):
            await queue.options(when_full="refuse").enqueue(double, 1)


async def test_a_group_that_never_fits_does_not_wait_for_ever(small):
    with pytest.raises(QueueFullError, match="never fit"):
        await small.enqueue_many([Task(double, (value,), when_full="wait") for value in range(3)])


async def test_a_call_that_gives_up_leaves_the_line_to_the_others(small, working):
    patient = small.options(when_full="wait")
    await small.enqueue_many([Task(double, (1,)), Task(double, (2,))])
    first = asyncio.ensure_future(patient.submit(double, 3))
    second = asyncio.ensure_future(patient.submit(double, 4))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    async with working():
        assert await (await asyncio.wait_for(second, 10)).result(timeout=10) == 8
    assert sum((await small.stats())["default"].values()) == 3


async def test_closing_tells_those_who_wait_for_room_and_stores_nothing_of_theirs(backend):
    async with TaskQueue(backend) as other:
        small = TaskQueue(backend, max_length=1, when_full="wait")
        await small.enqueue(double, 1)
        waiting = [asyncio.ensure_future(small.enqueue(double, value)) for value in range(3)]
        await asyncio.wait(waiting, timeout=0.2)
        await small.close()
        came = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
        assert [str(each) for each in came if "closed while there was no room" in str(each)] == [
            *map(str, came)
        ]
        assert all(isinstance(each, TaskQueueError) for each in came)
        assert await other.stats() == {"default": {"queued": 1}}


async def test_waiting_is_no_hot_poll(backend, puts):
    async with TaskQueue(backend, max_length=1, when_full="wait") as queue:
        await queue.enqueue(double, 1)
        before = len(puts)
        waiting = [asyncio.ensure_future(queue.enqueue(double, value)) for value in range(50)]
        await asyncio.sleep(1.5)
        assert 50 <= sum(puts[before:]) <= 70  # each looked once, then the first of the line, now and then
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)


async def test_many_producers_together_do_not_exceed_the_bound(small):
    enqueues = [small.enqueue(double, value) for value in range(20)]
    came = await asyncio.gather(*enqueues, return_exceptions=True)
    assert sum(isinstance(each, QueueFullError) for each in came) == 18
    assert await small.stats() == {"default": {"queued": 2}}


@pytest.mark.parametrize("value", [0, -1, "x", 1.5])
def test_a_bound_is_a_whole_number_above_zero(backend, value):
    with pytest.raises(ValidationError, match="max_length"):
        TaskQueue(backend, max_length=value)
    with pytest.raises(ValidationError, match="max_length"):
        TaskQueue(backend).options(max_length=value)


def test_what_to_do_when_full_is_one_of_two(backend):
    with pytest.raises(ValidationError, match="when_full must be one of refuse, wait"):
        TaskQueue(backend, when_full="explode")
    with pytest.raises(ValidationError, match="when_full must be one of refuse, wait"):
        Task(double, (1,), when_full="explode")
