"""Handles: what a caller holds of a task, on a real store with a real worker."""

import asyncio
import builtins
import pickle

import pytest

from sitq import Task, TaskHandle, TaskQueue, task
from sitq.backends.base import DONE_TOPIC
from sitq.exceptions import (
    SerializationError,
    TaskCancelledError,
    TaskDeadError,
    TaskExecutionError,
    TaskExpiredError,
    TimeoutError,
    UnknownTaskError,
    ValidationError,
)
from sitq.move import Note, Settle
from sitq.record import Failure, Progress, State
from sitq.serialization import CloudpickleSerializer, JSONSerializer, MsgpackSerializer


@task(name="test_handles.double")
async def double(value):
    return 2 * value


def triple(value):
    return 3 * value


def fail(text):
    raise ValueError(text)


async def hold(path):
    while not path.exists():  # noqa: ASYNC110 - it may run in another loop than who lets it go
        await asyncio.sleep(0.005)
    return "let go"


async def end(backend, task_id, state, kind="raised", message=""):
    """End a waiting task as an operator would."""
    move = Settle(id=task_id, state=state, failure=Failure(kind=kind, message=message))
    assert await backend.apply([move]) == [True]


# -- the value ---------------------------------------------------------------------------------------------


async def test_a_handle_is_awaited_for_the_value_of_async_and_plain_functions(queue, working):
    async with working():
        handle = await queue.submit(double, 2)
        assert isinstance(handle, TaskHandle)
        assert await handle == 4
        assert await (await queue.submit(triple, value=2)) == 6


async def test_it_may_be_awaited_again_and_by_several(queue, working):
    handle = await queue.submit(double, 2)
    waiting = [asyncio.ensure_future(handle.result(timeout=10)) for _ in range(3)]
    async with working():
        assert await asyncio.gather(*waiting) == [4, 4, 4]
    assert await handle == 4


async def test_options_go_with_a_submit(queue, stored):
    handle = await queue.options(id="mine", priority=7).submit(double, 2)
    assert handle.id == "mine"
    assert (await stored("mine")).priority == 7


async def test_an_option_among_the_keywords_is_refused_unless_the_function_takes_it(queue):
    with pytest.raises(ValidationError, match="options"):
        await queue.submit(double, 2, priority=5)


async def test_time_that_is_over_raises_an_error_that_is_the_built_in_one_too(queue, working):
    handle = await queue.submit(double, 2)
    with pytest.raises(TimeoutError, match=r"not ended within 0\.01 s") as caught:
        await handle.result(timeout=0.01)
    assert isinstance(caught.value, builtins.TimeoutError)
    assert caught.value.task_id == handle.id
    async with working():
        assert await handle.result(timeout=10) == 4  # it went on


async def test_a_caller_that_is_cancelled_leaves_the_task_as_it_is(queue, working):
    handle = await queue.submit(double, 2)
    waiting = asyncio.ensure_future(handle.result())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with working():
        assert await handle.result(timeout=10) == 4


# -- ends without a value ----------------------------------------------------------------------------------


async def test_a_failed_task_raises_what_was_raised_in_the_worker(queue, working):
    async with working():
        handle = await queue.submit(fail, "this is wrong")
        with pytest.raises(TaskExecutionError, match="failed: ValueError: this is wrong") as caught:
            await handle
    error = caught.value
    assert type(error) is TaskExecutionError
    assert (error.error_type, error.error_message) == ("ValueError", "this is wrong")
    assert error.task_id == handle.id
    assert "in fail" in error.traceback
    assert any("in fail" in note for note in error.__notes__)


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (State.CANCELLED, TaskCancelledError),
        (State.EXPIRED, TaskExpiredError),
        (State.DEAD, TaskDeadError),
        (State.FAILED, TaskExecutionError),
    ],
)
async def test_each_other_end_has_an_error_of_its_own_kind(queue, backend, state, kind):
    handle = await queue.submit(double, 2)
    await end(backend, handle.id, state, message="so it is")
    with pytest.raises(TaskExecutionError, match=f"ended as {state.value}: so it is") as caught:
        await handle
    assert type(caught.value) is kind
    assert not isinstance(caught.value, asyncio.CancelledError)
    revived = pickle.loads(pickle.dumps(caught.value))
    assert (type(revived), str(revived), revived.error_type) == (kind, str(caught.value), state.value)


async def test_an_unknown_task_is_an_error(queue):
    handle = queue.handle("nobody")
    for ask in (
        handle.result,
        handle.outcome,
        handle.peek,
        handle.status,
        handle.info,
        handle.progress,
        handle.notes,
    ):
        with pytest.raises(UnknownTaskError, match="nobody") as raised:
            await ask()
        assert (raised.value.task_id, raised.value.operation is None) == ("nobody", False)
    with pytest.raises(UnknownTaskError, match="nobody"):
        await anext(handle.updates())
    assert await handle.cancel() is False


# -- the rest of its face ----------------------------------------------------------------------------------


async def test_what_takes_an_id_takes_a_handle_and_a_task_as_well(queue, working):
    task = Task(double, (2,))
    (handle,) = await queue.submit_many([task])
    async with working():
        assert (await queue.get_result(handle, timeout=10)).task_id == handle.id
    for one in (handle, task):
        assert (await queue.task_info(one)).id == handle.id
        assert [update.task_id async for update in queue.updates(one)] == [handle.id]
    assert [each.task_id for each in await queue.get_results([handle, task, handle.id])] == [handle.id] * 3


@pytest.mark.parametrize("given", ["an-id", None, 5, TaskHandle("an-id", TaskQueue("memory://"))])
async def test_results_are_asked_for_by_a_list(queue, given):
    with pytest.raises(ValidationError, match="get_results takes a list of task ids"):
        await queue.get_results(given)


async def test_peek_answers_at_once(queue, working):
    handle = await queue.submit(double, 2)
    assert (await handle.peek()).status == "pending"
    async with working():
        await handle
    result = await handle.peek()
    assert (result.status, queue.deserialize_result(result)) == ("success", 4)


async def test_the_status_is_the_state_until_it_is_the_end(queue, working, tmp_path, eventually):
    async def running():
        return await handle.status() == "running"

    handle = await queue.submit(hold, tmp_path / "go")
    assert await handle.status() == "queued"
    async with working():
        await eventually(running)
        (tmp_path / "go").touch()
        assert await handle == "let go"
    assert await handle.status() == "success"


async def test_a_waiting_task_is_cancelled_with_a_reason(queue):
    handle = await queue.submit(double, 2)
    assert await handle.cancel("no more") is True
    with pytest.raises(TaskCancelledError, match="no more"):
        await handle
    assert await handle.cancel() is False


async def test_the_newest_note_is_the_progress(queue, backend, working, tmp_path, eventually):
    async with working():
        handle = await queue.submit(hold, tmp_path / "go")
        await eventually(lambda: _running(backend, handle.id))
        assert await handle.progress() is None
        await note(backend, handle.id, 0.5, "half")
        progress = await handle.progress()
        assert (progress.fraction, progress.message) == (0.5, "half")
        for number in range(25):
            await note(backend, handle.id, None, str(number))
        assert [each.message for each in await handle.notes()] == [str(number) for number in range(5, 25)]
        (tmp_path / "go").touch()
        await handle
    assert (await handle.info()).notes == await handle.notes()


def test_handles_are_equal_by_id_and_light():
    queue = TaskQueue("memory://")
    one = queue.handle("a")
    assert one == TaskHandle("a", queue)
    assert len({one, TaskHandle("a", queue), TaskHandle("b", queue)}) == 2
    assert one != "a"
    assert repr(one) == "<TaskHandle a>"
    assert not hasattr(one, "__dict__")


@pytest.mark.parametrize("serializer", [CloudpickleSerializer(), JSONSerializer(), MsgpackSerializer()])
async def test_a_handle_as_an_argument_is_the_value_of_its_task(backend, working, serializer):
    async with TaskQueue(backend, serializer) as queue, working(serializer=serializer):
        four = await queue.submit(double, 2)
        assert await (await queue.submit(double, four)).result(timeout=10) == 8


async def test_a_handle_cannot_be_pickled_elsewhere(queue):
    with pytest.raises(SerializationError, match="travels only as an argument"):
        pickle.dumps(await queue.submit(double, 2))


# -- updates -----------------------------------------------------------------------------------------------


async def _running(backend, task_id):
    (record,) = await backend.get([task_id])
    return record if record.state is State.RUNNING else None


async def note(backend, task_id, fraction, message=""):
    (record,) = await backend.get([task_id])
    progress = Progress(fraction, message, at=record.started)
    assert await backend.apply([Note(id=task_id, token=record.token, progress=progress)]) == [True]


def told(updates):
    return [(each.status, each.progress and each.progress.fraction, each.ended) for each in updates]


async def watch(handle, seen):
    async for update in handle.updates():
        seen.append(update)


@pytest.fixture(params=["hints", "no hints"])
def hinted(request, backend, monkeypatch):
    """The store as it is, and one whose hints all get lost."""
    if request.param == "no hints":
        listen = backend.listen
        monkeypatch.setattr(backend, "listen", lambda topics: listen({"nothing"}))


@pytest.mark.usefixtures("hinted")
async def test_updates_tell_each_change_until_the_end(queue, backend, working, tmp_path, eventually):
    handle = await queue.submit(hold, tmp_path / "go")
    seen = []
    watching = asyncio.ensure_future(watch(handle, seen))
    await eventually(lambda: len(seen) == 1)
    async with working():
        await eventually(lambda: len(seen) == 2)
        await note(backend, handle.id, 0.25)
        await note(backend, handle.id, 0.5)
        await eventually(lambda: len(seen) == 4)
        (tmp_path / "go").touch()
        await asyncio.wait_for(watching, 10)
    assert told(seen) == [
        ("queued", None, False),
        ("running", None, False),
        ("running", 0.25, False),
        ("running", 0.5, False),
        ("success", 0.5, True),
    ]
    assert [each.attempt for each in seen] == [0, 1, 1, 1, 1]


async def test_updates_of_a_task_that_has_ended_are_its_end(queue):
    handle = await queue.submit(double, 2)
    await handle.cancel()
    assert told([update async for update in handle.updates()]) == [("cancelled", None, True)]


async def test_updates_wait_for_hints_and_not_in_a_hurry(queue, backend, monkeypatch):
    """A watched task that does not change costs four reads a second."""
    handle = await queue.submit(double, 2)
    reads = 0
    get = backend.get

    async def count(ids):
        nonlocal reads
        reads += 1
        return await get(ids)

    monkeypatch.setattr(backend, "get", count)
    watching = asyncio.ensure_future(watch(handle, []))
    await asyncio.sleep(1)
    watching.cancel()
    assert reads <= 8


# -- several -----------------------------------------------------------------------------------------------


async def test_gather_returns_values_in_order(queue, working):
    handles = [await queue.submit(double, n) for n in range(20)]
    async with working():
        assert await queue.gather(*handles) == [2 * n for n in range(20)]
    assert await queue.gather() == []


async def test_gather_raises_the_first_error_or_returns_all(queue, working):
    handles = [await queue.submit(double, 1), await queue.submit(fail, "no"), await queue.submit(double, 3)]
    async with working():
        with pytest.raises(TaskExecutionError, match="ValueError: no"):
            await queue.gather(*handles)
        values = await queue.gather(*handles, return_exceptions=True)
    assert (values[0], values[2]) == (2, 6)
    assert isinstance(values[1], TaskExecutionError)


async def test_gather_does_not_wait_for_others_once_one_failed(queue):
    waits, other = await queue.submit(double, 1), await queue.submit(double, 2)
    await other.cancel()
    with pytest.raises(TaskCancelledError):
        await queue.gather(waits, other)
    assert (await waits.peek()).status == "pending"
    await asyncio.sleep(0)
    assert (await queue._session()).waiter._waits == {}  # nobody waits for it any more


async def test_gather_has_a_timeout(queue):
    with pytest.raises(TimeoutError):
        await queue.gather(await queue.submit(double, 1), timeout=0.01)


async def test_ids_in_place_of_handles_are_told_where_handles_come_from(queue):
    with pytest.raises(ValidationError, match=r"queue\.handle\(task_id\)"):
        await queue.gather("some-id")
    with pytest.raises(ValidationError, match=r"queue\.handle\(task_id\)"):
        await anext(queue.as_completed(["some-id"]))


async def test_as_completed_takes_a_list(queue):
    with pytest.raises(ValidationError, match="as_completed takes a list of handles, not 5"):
        await anext(queue.as_completed(5))


async def test_as_completed_hands_out_handles_in_the_order_of_their_ends(queue, working):
    handles = [await queue.options(priority=n).submit(double, n) for n in range(10)]
    async with working(max_concurrency=1):
        came = [await each async for each in queue.as_completed([*handles, handles[0]], timeout=10)]
    assert came == [2 * n for n in reversed(range(10))]


async def test_as_completed_hands_out_failures_too(queue, working):
    handles = [await queue.submit(fail, "no"), queue.handle("nobody")]
    async with working():
        came = {handle.id async for handle in queue.as_completed(handles)}
    assert came == {each.id for each in handles}
    with pytest.raises(TaskExecutionError):
        await handles[0]


async def test_as_completed_raises_when_its_time_is_over(queue):
    handles = [await queue.submit(double, 1), await queue.submit(double, 2)]
    await handles[1].cancel()
    coming = queue.as_completed(handles, timeout=0.2)
    assert await anext(coming) == handles[1]
    with pytest.raises(TimeoutError, match="1 of the tasks"):
        await anext(coming)


async def test_waiting_for_a_thousand_is_one_subscription(backend, working, monkeypatch):
    """Not a thousand polls: one listener, and far fewer reads than tasks."""
    calls = {"get": 0, "listen": 0}
    get, listen = backend.get, backend.listen

    async def counted_get(ids):
        calls["get"] += 1
        return await get(ids)

    def counted_listen(topics):
        calls["listen"] += DONE_TOPIC in topics
        return listen(topics)

    async with TaskQueue(backend) as fresh:
        handles = await fresh.submit_many([Task(double, (n,)) for n in range(1000)])
        monkeypatch.setattr(backend, "get", counted_get)
        monkeypatch.setattr(backend, "listen", counted_listen)
        waiting = asyncio.ensure_future(fresh.gather(*handles, timeout=50))
        async with working(max_concurrency=100):
            values = await waiting
        assert values == [2 * n for n in range(1000)]
        assert calls["get"] < 500
        assert calls["listen"] == 1
        before = dict(calls)
        assert [await each async for each in fresh.as_completed(handles)] == values
        assert calls == before  # what has ended is known
