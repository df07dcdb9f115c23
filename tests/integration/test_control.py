"""An operator's words: many at once, cancel, change, retry, purge, pause."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest

from sitq import KeyRing, MemoryBackend, SQLiteBackend, Task, TaskHandle, TaskQueue, task
from sitq.exceptions import (
    DependencyError,
    SerializationError,
    SignatureError,
    TaskExecutionError,
    UnknownTaskError,
    ValidationError,
)
from sitq.move import Settle
from sitq.record import SECOND, Failure, State


@task(name="test_control.double")
async def double(value):
    return 2 * value


@task(name="test_control.fail")
async def fail(text):
    raise ValueError(text)


async def end(backend, *ids, state=State.FAILED):
    """End waiting tasks as an operator would."""
    failure = Failure(kind="raised", message="no")
    assert all(await backend.apply([Settle(id=each, state=state, failure=failure) for each in ids]))


# -- many at once ------------------------------------------------------------------------------------------


async def test_ten_thousand_tasks_with_edges_go_in_at_once(backend, monkeypatch):
    calls = 0
    put = backend.put

    async def counted(groups):
        nonlocal calls
        calls += 1
        return await put(groups)

    monkeypatch.setattr(backend, "put", counted)
    tasks = [Task(double, (0,))]
    for number in range(1, 10_000):
        parents = [tasks[number // 2]] if number % 2 else [tasks[number // 2].id, tasks[0]]
        tasks.append(Task(double, (number,), depends_on=parents))
    async with TaskQueue(backend) as queue:
        assert await queue.enqueue_many(tasks) == [each.id for each in tasks]
        assert calls == 1
        assert await queue.stats() == {"default": {"queued": 1, "blocked": 9_999}}


async def test_one_bad_task_keeps_all_of_them_out(queue):
    with pytest.raises(DependencyError, match="nobody"):
        await queue.enqueue_many([Task(double, (1,)), Task(double, (2,), depends_on=["nobody"])])
    with pytest.raises(SerializationError):
        await queue.enqueue_many([Task(double, (1,)), Task(double, (threading.Lock(),))])
    assert await queue.stats() == {}


async def test_submit_many_returns_handles_in_order(queue, working):
    handles = await queue.submit_many(Task(double, (n,)) for n in range(5))
    assert all(isinstance(each, TaskHandle) for each in handles)
    async with working():
        assert await queue.gather(*handles, timeout=10) == [0, 2, 4, 6, 8]
    assert await queue.submit_many([]) == []


# -- cancel ------------------------------------------------------------------------------------------------


async def test_one_task_is_cancelled_by_id_handle_or_task(queue):
    handle = await queue.submit(double, 1)
    mine = Task(double, (2,))
    await queue.enqueue_many([mine])
    assert await queue.cancel(handle) is True
    assert await queue.cancel(handle.id) is False
    assert await queue.cancel(mine, "no more") is True
    assert (await queue.task_info(mine.id)).errors[-1].message == "no more"
    assert await queue.cancel("nobody") is False


async def test_several_are_cancelled_by_their_ids(queue):
    handles = await queue.submit_many([Task(double, (n,)) for n in range(3)])
    assert await queue.cancel([handles[0], handles[1].id, "nobody"]) == 2
    assert await queue.stats() == {"default": {"queued": 1, "cancelled": 2}}
    assert await queue.cancel([]) == 0


async def test_all_that_fulfil_a_condition_are_cancelled_and_no_others(queue):
    emails, later = queue.options(queue="emails"), queue.options(delay=100)
    await queue.enqueue_many([Task(double, (n,), queue="emails") for n in range(1200)])
    other = await later.submit(double, 1)
    running = await emails.submit(fail, "x")
    assert await queue.cancel(state="queued", queue="emails", function=double, reason="no more") == 1200
    assert await running.status() == "queued"
    assert await other.status() == "queued"
    assert await queue.cancel(function="test_control.fail") == 1
    assert await queue.cancel(queue="emails") == 0


async def test_a_filter_without_a_state_asks_running_tasks_to_stop_too(
    queue, working, eventually, tmp_path, stored
):
    async def hold():
        (tmp_path / "started").touch()
        await asyncio.sleep(60)

    async with working():
        handle = await queue.submit(hold)
        await eventually((tmp_path / "started").exists)
        assert await queue.cancel(state=["queued", "blocked"]) == 0
        assert await queue.cancel(text="hold") == 1
        assert (await handle.outcome(timeout=10)).status == "cancelled"


@pytest.mark.parametrize("method", ["cancel", "change", "retry"])
async def test_a_word_to_nobody_in_particular_is_refused(queue, method):
    more = {"priority": 1} if method == "change" else {}
    with pytest.raises(ValidationError, match="state="):
        await getattr(queue, method)(**more)
    with pytest.raises(ValidationError, match="not both"):
        await getattr(queue, method)("id", queue="emails", **more)
    with pytest.raises(ValidationError, match="there is no condition 'colour'"):
        await getattr(queue, method)(colour="red", **more)
    with pytest.raises(ValidationError, match="task id"):
        await getattr(queue, method)([5], **more)


@pytest.mark.parametrize("method", ["cancel", "change", "retry", "purge"])
async def test_a_condition_that_is_none_by_a_slip_takes_no_tasks_of_any(queue, method, stored):
    task_id = await queue.options(delay=60).enqueue(abs, 1)
    more = {"change": {"priority": 1}, "retry": {"state": "failed"}, "purge": {"state": "cancelled"}}
    with pytest.raises(ValidationError, match="batch is None, which would take tasks of any; give a value"):
        await getattr(queue, method)(batch=None, **more.get(method, {}))
    with pytest.raises(ValidationError, match="text is empty, which is in every task"):
        await getattr(queue, method)(text="", **more.get(method, {}))
    assert (await stored(task_id)).priority == 0
    assert len(await queue.tasks(batch=None, state="queued")) == 1  # in a listing nothing is lost by it


@pytest.mark.parametrize(
    ("method", "state"), [("cancel", "completed"), ("change", "running"), ("retry", "queued")]
)
async def test_a_word_about_states_that_it_cannot_change_is_refused(queue, method, state):
    more = {"priority": 1} if method == "change" else {}
    with pytest.raises(ValidationError, match=f"{state} is none of these"):
        await getattr(queue, method)(state=state, **more)
    with pytest.raises(ValidationError, match="a task that succeeded is completed"):
        await getattr(queue, method)(state="success", **more)


# -- change ------------------------------------------------------------------------------------------------


async def test_a_waiting_task_is_put_off_brought_forward_and_ranked(queue, stored, working):
    handle = await queue.submit(double, 1)
    eta = datetime.now(UTC) + timedelta(hours=1)
    assert await queue.change(handle, eta=eta, priority=9) is True
    info = await handle.info()
    assert (info.due_at, info.priority) == (eta, 9)
    assert await queue.change(handle.id, delay=timedelta(hours=2)) is True
    assert (await handle.info()).due_at > eta
    async with working():
        assert (await handle.peek()).status == "pending"
        assert await queue.change(handle, delay=0) is True
        assert await handle.result(timeout=10) == 2
    assert await queue.change(handle, priority=1) is False


async def test_many_are_changed_by_ids_and_by_condition(queue):
    handles = await queue.submit_many([Task(double, (n,), queue="emails") for n in range(3)])
    assert await queue.change(handles[:2], priority=5) == 2
    assert await queue.change(queue="emails", priority=7) == 3
    assert [(await each.info()).priority for each in handles] == [7, 7, 7]


async def test_a_change_of_nothing_or_of_two_times_is_refused(queue):
    with pytest.raises(ValidationError, match="something to change"):
        await queue.change("id")
    with pytest.raises(ValidationError, match="both say when"):
        await queue.change("id", eta=datetime.now(UTC), delay=5)
    with pytest.raises(ValidationError, match="time zone"):
        await queue.change("id", eta=datetime(2030, 1, 1))  # noqa: DTZ001 - that is the point


# -- retry -------------------------------------------------------------------------------------------------


async def test_a_retry_is_a_new_task_that_does_the_same(queue, backend, working, stored):
    handle = await queue.options(
        queue="emails", priority=5, timeout=30, retry=2, tags=["a"], ttl=60, delay=50, max_length=1
    ).submit(double, 21)
    await end(backend, handle.id)
    new = queue.handle(await queue.retry(handle))
    assert new.id != handle.id
    info, old = await new.info(), await handle.info()
    assert (info.retry_of, info.state) == (handle.id, State.QUEUED)
    assert (info.function, info.queue, info.priority, info.timeout, info.tags, info.preview) == (
        *("test_control.double", "emails", 5, 30, ("a",)),
        old.preview,
    )
    record = await stored(new.id)
    assert (record.ttl, record.retry) == (60 * SECOND, (await stored(handle.id)).retry)
    assert (record.failures, record.errors, record.room) == (0, (), None)
    async with working(queues=["emails"]):
        assert await new.result(timeout=10) == 42
    assert await handle.status() == "failed"


async def test_to_retry_twice_is_to_retry_once_until_that_one_has_ended(queue, backend):
    handle = await queue.submit(double, 1)
    await end(backend, handle.id)
    first = await queue.retry(handle)
    assert await queue.retry(handle) == first
    await end(backend, first)
    second = await queue.retry(handle)
    assert second not in {handle.id, first}
    assert (await queue.task_info(second)).retry_of == first
    assert await queue.retry([handle.id, first]) == [second, second]


async def test_all_that_failed_are_retried_once(queue, backend):
    ids = await queue.enqueue_many([Task(double, (n,), queue="emails") for n in range(600)])
    other = await queue.enqueue(double, 1)
    await end(backend, *ids, other)
    new = await queue.retry(state="failed", queue="emails")
    assert len({*new}) == 600
    assert {(await queue.task_info(each)).retry_of for each in new[:5]} == {*ids[:5]}
    assert await queue.retry(state="failed", queue="emails") == []
    assert await queue.retry(state=["failed", "dead"]) != []  # the one of the other queue
    assert (await queue.stats())["default"] == {"failed": 1, "queued": 1}


async def test_what_has_not_ended_or_is_unknown_is_not_retried(queue):
    with pytest.raises(UnknownTaskError, match="nobody"):
        await queue.retry("nobody")
    with pytest.raises(ValidationError, match="only what has ended"):
        await queue.retry(await queue.enqueue(double, 1))
    with pytest.raises(ValidationError, match="state"):
        await queue.retry(queue="emails")


async def test_a_retry_waits_for_parents_again_and_takes_their_values(queue, backend, working):
    parent = await queue.submit(double, 2)
    child = await queue.submit(double, parent)
    await child.cancel("by mistake")
    new = queue.handle(await queue.retry(child))
    assert (await new.info()).parents == (parent.id,)
    assert await new.status() == "blocked"
    async with working():
        assert await new.result(timeout=10) == 8


async def test_a_unique_key_holds_against_a_retry_too(queue, backend):
    unique = queue.options(unique="key")
    first = await unique.submit(double, 1)
    await end(backend, first.id)
    second = await unique.submit(double, 1)
    assert await queue.retry(first) == second.id
    windowed = await queue.options(id="w").submit(double, 1)
    assert windowed.id == "w"


KEYS = KeyRing([("new", b"n" * 32), ("old", b"o" * 32)])
OLD = KeyRing([("old", b"o" * 32)])


async def test_a_retry_verifies_and_signs_anew(backend, working):
    async with TaskQueue(backend, keys=OLD) as old, TaskQueue(backend, keys=KEYS) as new:
        task_id = await old.enqueue(double, 21)
        await end(backend, task_id)
        handle = new.handle(await new.retry(task_id))
        async with working(keys=KeyRing([("new", b"n" * 32)])):  # knows the new key only
            assert await handle.result(timeout=10) == 42


async def test_a_retry_of_what_is_signed_is_refused_without_a_key(backend):
    async with TaskQueue(backend, keys=OLD) as signing, TaskQueue(backend) as plain:
        ids = [await signing.enqueue(double, 1), await plain.enqueue(double, 2)]
        await end(backend, *ids)
        with pytest.raises(SignatureError, match="no key here"):
            await plain.retry(ids[0])
        with pytest.raises(SignatureError, match="no key here"):
            await plain.retry(state="failed")
        assert (await plain.stats())["default"] == {"failed": 2, "queued": 1}  # the other one was


async def test_a_retry_never_loads_the_payload(queue, backend, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "sprung").touch, ()

    task_id = await queue.enqueue(double, Trap())
    await end(backend, task_id)
    await queue.retry(task_id)
    await queue.task_info(task_id)
    assert len(await queue.tasks()) == 2
    assert not (tmp_path / "sprung").exists()


# -- purge -------------------------------------------------------------------------------------------------


async def test_records_of_ended_tasks_are_purged_by_state_and_age(queue, backend):
    ids = await queue.enqueue_many([Task(double, (n,)) for n in range(1200)])
    await end(backend, *ids[:1000])
    await end(backend, *ids[1000:1100], state=State.CANCELLED)
    assert await queue.purge("failed", older_than=3600) == 0
    assert await queue.purge("failed", queue="other") == 0
    assert await queue.purge("failed") == 1000
    assert await queue.purge(["failed", "cancelled"], function=double) == 100
    assert await queue.stats() == {"default": {"queued": 100}}


async def test_age_counts_from_the_end(tmp_path):
    clock = _Clock()
    async with MemoryBackend(clock=clock) as backend, TaskQueue(backend) as queue:
        clock.now -= 7200 * SECOND
        old = await queue.enqueue(double, 1)
        await end(backend, old)
        clock.now += 7200 * SECOND
        young = await queue.enqueue(double, 2)
        await end(backend, young)
        assert await queue.purge("failed", older_than=timedelta(hours=1)) == 1
        assert await queue.task_info(old) is None
        assert await queue.task_info(young) is not None


class _Clock:
    def __init__(self):
        self.now = int(datetime.now(UTC).timestamp() * SECOND)

    def __call__(self):
        return self.now


async def test_what_has_not_ended_and_what_is_depended_on_is_not_purged(queue, backend):
    with pytest.raises(ValidationError, match="state must be one of completed, failed"):
        await queue.purge("queued")
    parent = Task(double, (1,))
    child = Task(double, (2,), depends_on=[parent])
    other = Task(double, (3,))
    waits = Task(double, (4,), depends_on=[other, parent])
    await queue.enqueue_many([parent, child, other, waits])
    await end(backend, parent.id, state=State.COMPLETED)
    assert await queue.purge("completed") == 0
    assert await queue.cancel([child, waits]) == 2
    assert await queue.purge("completed") == 1


# -- pause -------------------------------------------------------------------------------------------------


async def test_a_paused_queue_waits_until_it_is_resumed(queue, working, eventually):
    await queue.pause("held", reason="the printer burns")
    async with working(queues=["held", "default"]):
        held = await queue.options(queue="held").submit(double, 1)
        free = await queue.submit(double, 2)
        assert await free.result(timeout=10) == 4
        assert await held.status() == "queued"
        (pause,) = await queue.pauses()
        assert (pause.kind, pause.name, pause.reason, pause.until) == (
            *("queue", "held", "the printer burns"),
            None,
        )
        assert abs(datetime.now(UTC) - pause.since) < timedelta(minutes=1)
        assert await queue.resume("held") is True
        assert await held.result(timeout=10) == 2
    assert await queue.resume("held") is False
    assert await queue.pauses() == []


async def test_a_function_and_a_key_are_paused_too(queue, working):
    await queue.pause(function=double)
    await queue.pause(key="customer:42")
    async with working():
        by_name = await queue.submit(double, 1)
        by_key = await queue.options(fair="customer:42").submit(fail, "x")
        free = await queue.submit(fail, "x")
        with pytest.raises(TaskExecutionError):
            await free.result(timeout=10)
        assert (await by_name.status(), await by_key.status()) == ("queued", "queued")
        assert [(each.kind, each.name) for each in await queue.pauses()] == [
            ("function", "test_control.double"),
            ("key", "customer:42"),
        ]
        assert await queue.resume(function="test_control.double")
        assert await queue.resume(key="customer:42")
        assert await by_name.result(timeout=10) == 2


async def test_a_pause_without_a_name_is_that_of_the_own_queue_and_ends_by_itself(backend, working):
    async with TaskQueue(backend, queue="emails") as queue, working(queues=["emails"], poll_interval=0.05):
        await queue.pause(until=0.3)
        (pause,) = await queue.pauses()
        assert (pause.kind, pause.name) == ("queue", "emails")
        assert timedelta(0) < pause.until - pause.since < timedelta(seconds=1)
        assert await (await queue.submit(double, 1)).result(timeout=10) == 2
        assert await queue.pauses() == []


async def test_a_pause_of_what_is_paused_has_the_new_end(queue):
    until = datetime.now(UTC) + timedelta(hours=1)
    await queue.pause("held")
    await asyncio.gather(*(queue.pause("held", until=until, reason=str(n)) for n in range(5)))
    (pause,) = await queue.pauses()
    assert abs(pause.until - until) < timedelta(seconds=30)


async def test_a_pause_of_two_things_or_into_the_past_is_refused(queue):
    with pytest.raises(ValidationError, match="name one of"):
        await queue.pause("held", key="x")
    with pytest.raises(ValidationError, match="is over"):
        await queue.pause("held", until=datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(ValidationError, match="longer than 0 s"):
        await queue.pause("held", until=0)


async def test_a_pause_that_somebody_else_wrote_is_listed(queue, backend):
    await backend.swap("pause/queue/held", None, b"\xff by hand")
    (pause,) = await queue.pauses()
    assert (pause.name, pause.reason) == ("held", "")
    assert await queue.resume("held")


async def test_a_queue_that_was_paused_is_so_for_the_workers_of_other_objects(tmp_path, working):
    one, other = SQLiteBackend(tmp_path / "one.db"), SQLiteBackend(tmp_path / "one.db")
    async with TaskQueue(one) as queue, working(other):
        await queue.pause()
        handle = await queue.submit(double, 1)
        assert (await handle.peek()).status == "pending"
        await queue.resume()
        assert await handle.result(timeout=10) == 2
