"""Middleware: code around each attempt of a worker and each enqueue of a queue."""

import asyncio
import contextlib
import threading
from dataclasses import replace
from typing import Annotated

import pytest

from sitq import Cancel, Depends, Middleware, Retry, Snooze, Task, Unique, current_task
from sitq.exceptions import DuplicateTaskError, TaskQueueError, ValidationError, WorkerError
from sitq.queue import TaskQueue
from sitq.record import State

TRACE: list = []


@pytest.fixture(autouse=True)
def _afresh():
    TRACE.clear()


async def add_async(one, two=0):
    TRACE.append("run")
    return one + two


def add(one, two=0):
    TRACE.append("run")
    return one + two


def fail(text):
    raise ValueError(text)


def traced(name):
    async def middleware(task, call_next):
        TRACE.append(f"{name} in")
        try:
            return await call_next(task)
        finally:
            TRACE.append(f"{name} out")

    return middleware


@pytest.fixture
def result(queue):
    async def get(task_id):
        result = await queue.get_result(task_id, timeout=15)
        assert result is not None
        return queue.deserialize_result(result) if result.status == "success" else result

    return get


# -- around attempts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [add, add_async])
async def test_the_first_one_is_outermost(queue, working, result, function):
    async with working(middleware=[traced("a"), traced("b")]):
        assert await result(await queue.enqueue(function, 1, two=2)) == 3
    assert TRACE == ["a in", "b in", "run", "b out", "a out"]


async def test_it_sees_the_task_as_it_is_about_to_run(queue, working, result):
    seen = []

    async def look(task, call_next):
        seen.append((task, current_task().id, threading.current_thread() is threading.main_thread()))
        return await call_next(task)

    async with working(middleware=[look]):
        task_id = await queue.enqueue(add, 1, two=2)
        assert await result(task_id) == 3
    ((task, current, in_loop),) = seen
    assert (task.id, task.function, task.args, task.kwargs) == (task_id, add, (1,), {"two": 2})
    assert (task.attempt, task.queue, task.name, current, in_loop) == (
        1,
        "default",
        f"{__name__}:add",
        task_id,
        True,
    )
    assert task.eta is not None


async def test_it_may_change_arguments_and_result(queue, working, result):
    async def change(task, call_next):
        return 10 * await call_next(replace(task, args=(5,), kwargs={"two": 2}))

    async with working(middleware=[change]):
        assert await result(await queue.enqueue(add, 1)) == 70
        assert await result(await queue.enqueue(add_async, 1)) == 70


async def test_it_may_answer_for_the_function(queue, working, result):
    async def answer(task, call_next):
        return "cached"

    async with working(middleware=[answer]):
        assert await result(await queue.enqueue(add, 1)) == "cached"
    assert TRACE == []


async def test_it_sees_the_exception_and_may_turn_it_into_a_result_or_another(queue, working, result):
    async def turn(task, call_next):
        try:
            return await call_next(task)
        except ValueError as error:
            if str(error) == "harmless":
                return "all right"
            raise KeyError("turned") from error

    async with working(middleware=[turn]):
        assert await result(await queue.enqueue(fail, "harmless")) == "all right"
        failed = await result(await queue.enqueue(fail, "bad"))
    assert (failed.status, failed.error_type) == ("failed", "KeyError")
    assert "ValueError: bad" in failed.traceback


@pytest.mark.parametrize(
    ("signal", "state"),
    [(Cancel("not today"), State.CANCELLED), (Snooze(60), State.QUEUED), (Retry(60), State.QUEUED)],
)
async def test_it_may_say_how_the_task_goes_on(queue, working, stored, eventually, signal, state):  # noqa: PLR0917
    async def say(task, call_next):
        raise signal

    async with working(middleware=[say]):
        task_id = await queue.enqueue(add, 1)

        async def over():
            record = await stored(task_id)
            return record.attempt == 1 and record.state is not State.RUNNING

        await eventually(over)
    assert (await stored(task_id)).state is state
    assert TRACE == []


async def test_it_may_run_the_function_again(queue, working, result):
    async def twice(task, call_next):
        return await call_next(task) + await call_next(task)

    async with working(middleware=[twice]):
        assert await result(await queue.enqueue(add, 1)) == 2
    assert TRACE == ["run", "run"]


async def test_it_is_inside_of_the_timeout_and_sees_its_end(queue, working, ended):
    async def slow(task, call_next):
        try:
            await asyncio.sleep(60)
        finally:
            TRACE.append("out")

    async with working(middleware=[slow]):
        record = await ended(await queue.options(timeout=0.05).enqueue(add, 1))
    assert record.errors[-1].kind == "timeout"
    assert TRACE == ["out"]


async def resource():
    TRACE.append("provided")
    yield 1
    TRACE.append("cleaned up")


async def wants(value: Annotated[int, Depends(resource)]):
    return value


async def test_it_is_outside_of_the_providers(queue, working, result):
    async with working(middleware=[traced("a")]):
        assert await result(await queue.enqueue(wants)) == 1
    assert TRACE == ["a in", "provided", "cleaned up", "a out"]


@pytest.mark.usefixtures("older_producer")
async def test_arguments_that_do_not_fit_are_still_no_failure_to_be_tried_again(queue, working, result):
    async with working(middleware=[traced("a")]):
        refused = await result(await queue.options(retry=3).enqueue(add, 1, 2, 3))
    assert refused.status == "dead"


def type_error(number):
    raise TypeError(f"{number} is wrong")


@pytest.mark.usefixtures("older_producer")
async def test_what_fits_is_judged_by_the_arguments_that_reach_the_function(queue, working, result):
    async def take_out(task, call_next):
        return await call_next(replace(task, kwargs={}))

    async with working(middleware=[take_out]):
        assert await result(await queue.enqueue(add, 1, extra=2)) == 1
        assert (await result(await queue.enqueue(type_error, 1, extra=2))).status == "failed"
        assert (await result(await queue.enqueue(add, extra=2))).status == "dead"


@pytest.mark.parametrize("given", [None, "task", {"function": fail}, {"id": "other"}])
async def test_call_next_with_something_else_is_a_failure_that_says_so(queue, working, result, given):
    async def wrong(task, call_next):
        return await call_next(replace(task, **given) if isinstance(given, dict) else given)

    async with working(middleware=[wrong]):
        failed = await result(await queue.enqueue(add, 1))
    assert failed.error_type == f"{WorkerError.__module__}.WorkerError"
    assert "call_next" in failed.error


# -- around enqueues ---------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def queue_with(backend, *middleware, **settings):
    async with TaskQueue(backend, middleware=middleware, **settings) as queue:
        yield queue


@pytest.mark.parametrize("how", ["enqueue", "options", "submit", "many", "many at once"])
async def test_every_way_in_passes_through_it_outermost_first(backend, stored, how):
    async with queue_with(backend, traced("a"), traced("b")) as queue:
        match how:
            case "enqueue":
                ids = [await queue.enqueue(add, 1)]
            case "options":
                ids = [await queue.options(priority=1).enqueue(add, 1)]
            case "submit":
                ids = [(await queue.submit(add, 1)).id]
            case "many":
                ids = await queue.enqueue_many([Task(add, (1,))])
            case _:
                ids = await queue.enqueue_many([Task(add, (number,)) for number in range(3)])
    assert sorted(TRACE) == sorted(["a in", "b in", "b out", "a out"] * len(ids))
    assert [TRACE[0], TRACE[-1]] == ["a in", "a out"]
    for task_id in ids:
        assert (await stored(task_id)).state is State.QUEUED


async def test_it_may_change_arguments_and_options(backend, stored, working, result):
    async def change(task, call_next):
        assert (task.args, task.options.priority) == ((1,), 3)
        return await call_next(task.replace(args=(2,), kwargs={"two": 5}, queue="other", priority=7))

    async with queue_with(backend, change) as queue:
        task_id = await queue.options(id="mine", priority=3).enqueue(add, 1)
    record = await stored(task_id)
    assert (record.id, record.queue, record.priority) == ("mine", "other", 7)
    async with working(queues=["other"]):
        assert await result(task_id) == 7


async def test_call_next_answers_once_the_store_has_the_task(backend, stored):
    async def look(task, call_next):
        assert await stored(task.id) is None
        task_id = await call_next(task)
        assert task_id == task.id
        assert await stored(task_id) is not None
        return task_id

    async with queue_with(backend, look) as queue:
        await queue.enqueue(add, 1)
        await queue.enqueue_many([Task(add, (1,)), Task(add, (2,))])


async def refuse_twos(task, call_next):
    if task.args == (2,):
        raise ValidationError("no twos")
    return await call_next(task)


async def test_it_refuses_by_raising(backend):
    async with queue_with(backend, refuse_twos) as queue:
        with pytest.raises(ValidationError, match="no twos"):
            await queue.enqueue(add, 2)
        assert await queue.stats() == {}


async def test_one_refusal_refuses_the_whole_group(backend):
    async with queue_with(backend, traced("a"), refuse_twos) as queue:
        with pytest.raises(ValidationError, match="no twos"):
            await queue.enqueue_many([Task(add, (number,)) for number in range(5)])
        assert await queue.stats() == {}
        assert TRACE.count("a out") == 5
        assert len(await queue.enqueue_many([Task(add, (number,)) for number in (0, 1, 3)])) == 3


async def test_each_sees_the_refusal_of_the_store(backend):
    seen = []

    async def look(task, call_next):
        try:
            return await call_next(task)
        except DuplicateTaskError as error:
            seen.append(error)
            raise

    unique = Unique("k", clash="raise")
    async with queue_with(backend, look) as queue:
        await queue.enqueue_many([Task(add, (1,), unique=unique)])
        with pytest.raises(DuplicateTaskError):
            await queue.enqueue_many([Task(add, (2,), unique=unique), Task(add, (3,))])
    assert len(seen) == 2


async def test_it_may_leave_a_task_out_of_its_group(backend, stored):
    async def drop_twos(task, call_next):
        return "dropped" if task.args == (2,) else await call_next(task)

    async with queue_with(backend, drop_twos) as queue:
        ids = await queue.enqueue_many([Task(add, (number,)) for number in (1, 2, 3)])
        assert ids[1] == "dropped"
        assert await queue.stats() == {"default": {"queued": 2}}
        assert [(await stored(each)).state for each in (ids[0], ids[2])] == [State.QUEUED] * 2


async def forgets(task, call_next):
    await call_next(task)


@pytest.mark.usefixtures("older_producer")
async def test_one_that_forgets_to_answer_is_told_so(backend):
    async with queue_with(backend, forgets) as queue:
        for call in (queue.enqueue(add, 1), queue.enqueue_many([Task(add), Task(add)])):
            with pytest.raises(TaskQueueError, match="return await call_next"):
                await call


@pytest.mark.usefixtures("older_producer")
async def test_it_may_try_again_what_the_store_refused_but_not_within_a_group(backend):
    async def twice(task, call_next):
        await call_next(task)
        return await call_next(task)

    async with queue_with(backend, twice) as queue:
        task_id = await queue.enqueue(add, 1)
        assert await queue.stats() == {"default": {"queued": 1}}
        with pytest.raises(TaskQueueError, match="twice"):
            await queue.enqueue_many([Task(add), Task(add)])
    assert task_id


async def test_a_caller_that_gives_up_leaves_nothing_behind(backend):
    async def never(task, call_next):
        try:
            await asyncio.Event().wait()
        finally:
            TRACE.append("left")

    async with queue_with(backend, never) as queue:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await queue.enqueue_many([Task(add), Task(add)])
        await asyncio.sleep(0)
        assert TRACE == ["left", "left"]
        assert await queue.stats() == {}


# -- both sides --------------------------------------------------------------------------------------------


class Both(Middleware):
    async def enqueue(self, task, call_next):
        TRACE.append("enqueue")
        return await call_next(task)

    async def attempt(self, task, call_next):
        TRACE.append("attempt")
        return await call_next(task)


class OneSide(Middleware):
    async def attempt(self, task, call_next):
        TRACE.append("one side")
        return await call_next(task)


async def test_an_object_has_both_sides(backend, working, result):
    async with queue_with(backend, Both(), OneSide()) as queue, working(middleware=[Both(), OneSide()]):
        assert await result(await queue.enqueue(add, 1)) == 1
    assert TRACE == ["enqueue", "attempt", "one side", "run"]
    assert len(queue._around) == 1  # the side that an object has not costs nothing


class TakesOut(Middleware):
    async def attempt(self, task, call_next):
        kwargs = dict(task.kwargs)
        TRACE.append(kwargs.pop("tenant"))
        return await call_next(replace(task, kwargs=kwargs))


@pytest.mark.parametrize("many", [False, True])
async def test_an_object_may_take_out_arguments_that_its_queue_lets_in(backend, working, result, many):
    async with queue_with(backend, TakesOut()) as queue, working(middleware=[TakesOut()]):
        call = Task(add, (1,), {"tenant": "a"})
        (task_id,) = await queue.enqueue_many([call]) if many else [await queue.enqueue(add, 1, tenant="a")]
        assert await result(task_id) == 1
    assert TRACE == ["a", "run"]


async def test_a_queue_that_knows_of_no_middleware_refuses_what_the_function_does_not_take(queue):
    with pytest.raises(ValidationError, match="unexpected keyword argument 'tenant'"):
        await queue.enqueue(add, 1, tenant="a")


def not_async(task, call_next):
    return call_next(task)


async def too_few(task):
    return task


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([not_async], "no async function"),
        ([too_few], r"\(task, call_next\)"),
        ([Both], r"Both\(\)"),
        ([3], "no async function"),
        ("name", "list of async functions"),
        (3, "list of async functions"),
    ],
)
async def test_what_is_no_middleware_is_refused(backend, working, given, text):
    with pytest.raises(ValidationError, match=text):
        TaskQueue(backend, middleware=given)
    with pytest.raises(ValidationError, match=text):
        async with working(middleware=given):
            pass
