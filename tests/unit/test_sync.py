import asyncio
import contextlib
import inspect
import subprocess
import sys
import threading

import pytest

from sitq import JSONSerializer, SyncTaskHandle, Task, TaskQueue
from sitq.backends.memory import MemoryBackend
from sitq.exceptions import (
    SyncTaskQueueError,
    TaskExecutionError,
    TaskQueueError,
    UnknownTaskError,
    ValidationError,
)
from sitq.flow import chain
from sitq.limits import ConcurrencyLimit
from sitq.queue.base import QueueSettings
from sitq.sync import SyncTaskQueue
from sitq.worker import Worker


def double(value):
    return 2 * value


def fail():
    raise ValueError("this is wrong")


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def queue(backend):
    with SyncTaskQueue(backend) as queue:
        yield queue


def work(backend):
    asyncio.run(Worker(backend).run(burst=True))


def test_a_value_comes_back_from_a_worker_in_another_event_loop(queue, backend):
    task_id = queue.enqueue(double, 2)
    work(backend)
    assert queue.get_result(task_id) == 4
    assert queue.deserialize_result(queue.get_outcome(task_id)) == 4


def test_it_takes_over_the_store_settings_and_functions_of_a_task_queue(backend):
    seen = []

    async def note(given, call_next):
        seen.append(given.function)
        return await call_next(given)

    declared = TaskQueue(backend, JSONSerializer(), queue="mails", middleware=[note])

    @declared.task(name="test_sync.declared", priority=7)
    def function(number: int) -> int:
        return number + 1

    with SyncTaskQueue(declared) as blocking:
        handle = blocking.submit(function, 1)
        info = handle.info()
        assert (info.queue, info.priority, seen) == ("mails", 7, [function])
        asyncio.run(Worker(backend, JSONSerializer(), queues=["mails"]).run(burst=True))
        assert handle.result(10) == 2
    assert not declared.closed
    with pytest.raises(ValidationError, match="give serializer=… to that one"):
        SyncTaskQueue(declared, JSONSerializer())
    with pytest.raises(ValidationError, match="give queue=… to that one"):
        SyncTaskQueue(declared, queue="other")


def test_a_value_is_waited_for(queue, backend):
    task_id = queue.enqueue(double, 2)
    worker = threading.Thread(target=work, args=(backend,))
    worker.start()
    assert queue.get_result(task_id, timeout=10) == 4
    worker.join()


def test_a_task_that_failed_raises_what_is_known_of_it(queue, backend):
    task_id = queue.enqueue(fail)
    work(backend)
    with pytest.raises(TaskExecutionError, match="failed: ValueError: this is wrong") as caught:
        queue.get_result(task_id)
    assert caught.value.error_type == "ValueError"
    assert caught.value.task_id == task_id
    assert "in fail" in caught.value.traceback


def test_a_cancelled_task_raises_with_its_status(queue):
    task_id = queue.enqueue(double, 2)
    assert queue.cancel(task_id, "no more") is True
    with pytest.raises(TaskExecutionError, match="cancelled: no more") as caught:
        queue.get_result(task_id)
    assert caught.value.error_type == "cancelled"


def test_what_is_not_there_in_time_is_none_or_an_error_and_an_unknown_task_is_an_error(queue):
    task_id = queue.enqueue(double, 2)
    assert queue.get_result(task_id, timeout=0) is None
    with pytest.raises(TimeoutError, match="has not ended within 0 s"):
        queue.get_result(task_id, timeout=0, raise_on_timeout=True)
    with pytest.raises(UnknownTaskError, match="there is no task nobody"):
        queue.get_result("nobody")


def test_batches_and_graphs_work_as_in_the_async_queue(queue, backend):
    members = chain(Task(double, (2,)), Task(double))
    batch = queue.batch(members, on_finish=fail, metadata={"k": 1}, id="b")
    assert batch.id == "b"
    assert queue.batch_info("b").pending == 2
    assert len(queue.graph(members[0], limit=10).nodes) == 4
    work(backend)
    info = batch.result(5)
    assert info == batch.info() == queue.batch_info("b")
    assert (info.completed, info.metadata) == (2, {"k": 1})
    assert batch.handles[-1].result() == 8
    assert batch.cancel("too late") == 0
    assert batch.callbacks["finish"].outcome().status == "failed"


def test_options_and_many_work_as_in_the_async_queue(queue):
    from sitq.core import Task  # noqa: PLC0415

    assert queue.options(id="mine", priority=5).enqueue(double, 2) == "mine"
    assert len(queue.enqueue_many([Task(double, (n,)) for n in range(3)])) == 3
    assert queue.stats() == {"default": {"queued": 4}}


def test_errors_are_those_of_the_async_queue(queue):
    with pytest.raises(ValidationError):
        queue.enqueue("double")
    with pytest.raises(ValidationError):
        queue.options(colour="blue")


def test_threads_may_share_it(queue):
    ids = []
    threads = [threading.Thread(target=lambda: ids.append(queue.enqueue(double, 1))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(set(ids)) == 8


def test_it_opens_itself_with_its_first_call_and_closes_once(backend):
    queue = SyncTaskQueue(backend)
    assert queue._bridge._thread is None
    queue.enqueue(double, 1)
    queue.close()
    queue.close()
    assert not queue._bridge._thread.is_alive()
    assert not backend.connected


async def test_inside_a_running_loop_it_refuses_with_the_remedy(backend):
    queue = SyncTaskQueue(backend)
    calls = [
        lambda: queue.enqueue(double, 1),
        lambda: queue.get_result("a"),
        lambda: queue.cancel("a"),
        queue.stats,
        queue.__enter__,
    ]
    for call in calls:
        with pytest.raises(SyncTaskQueueError, match="use TaskQueue and await"):
            call()


def test_after_close_it_refuses(backend):
    queue = SyncTaskQueue(backend)
    queue.close()
    with pytest.raises(SyncTaskQueueError, match="closed"):
        queue.enqueue(double, 1)


def test_closing_wakes_whoever_waits_in_another_thread(backend):
    queue = SyncTaskQueue(backend)
    task_id = queue.enqueue(double, 1)
    errors = []

    def wait():
        try:
            queue.get_result(task_id)
        except (SyncTaskQueueError, TaskQueueError) as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not queue._queue._sessions or not next(iter(queue._queue._sessions.values())).waiter._waits:
        threading.Event().wait(0.001)
    queue.close()
    thread.join(10)
    assert not thread.is_alive()
    assert "closed" in str(errors[0])


def test_closing_ends_a_call_that_is_stuck_in_the_store(backend, monkeypatch):
    queue = SyncTaskQueue(backend)
    queue.enqueue(double, 1)
    begun, errors = threading.Event(), []

    async def hang():
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(backend, "tally", hang)

    def call():
        try:
            queue.stats()
        except SyncTaskQueueError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert begun.wait(10)
    queue.close()
    thread.join(10)
    assert not thread.is_alive()
    assert "closed while this call was under way" in str(errors[0])


def test_the_loop_ends_although_the_store_cannot_be_closed(backend, monkeypatch):
    async def fail_to_shut():
        raise OSError("the disk burns")

    queue = SyncTaskQueue(backend)
    queue.enqueue(double, 1)
    monkeypatch.setattr(backend, "shut", fail_to_shut)
    with pytest.raises(OSError, match="burns"):
        queue.close()
    assert not queue._bridge._thread.is_alive()


ABANDONED = """
import asyncio, sys
from sitq import MemoryBackend, SyncTaskQueue, TaskQueue
from sitq.backends.sqlite import SQLiteBackend
def f(): pass
store = MemoryBackend() if sys.argv[1] == "memory" else SQLiteBackend(sys.argv[2])
if sys.argv[3] == "sync":
    queue = SyncTaskQueue(store)
    queue.enqueue(f)
else:
    queue = TaskQueue(store)
    async def main():
        await queue.enqueue(f)
        assert await queue.get_result(await queue.enqueue(f), timeout=0.01) is None
    asyncio.run(main())
"""


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("face", ["sync", "async"])
def test_an_abandoned_queue_neither_hangs_nor_warns_at_exit(tmp_path, store, face):
    command = [sys.executable, "-W", "error", "-c", ABANDONED, store, str(tmp_path / "a.db"), face]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


# -- the other faces of a queue ----------------------------------------------------------------------------


@pytest.fixture
def working(backend):
    """A worker in a thread of its own, while a block lasts."""

    @contextlib.contextmanager
    def work_along():
        over = threading.Event()

        async def run():
            async with Worker(backend, grace=1):
                await asyncio.to_thread(over.wait)

        thread = threading.Thread(target=asyncio.run, args=(run(),))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    return work_along


def test_a_handle_has_the_faces_of_the_async_one(queue, working):
    handle = queue.submit(double, 2)
    assert isinstance(handle, SyncTaskHandle)
    assert handle.peek().status == "pending"
    assert (handle.status(), handle.info().id, handle.progress()) == ("queued", handle.id, None)
    with pytest.raises(TimeoutError):
        handle.result(timeout=0.01)
    with working():
        assert handle.result(timeout=10) == 4
    assert handle.outcome().status == "success"
    assert handle.cancel() is False
    assert [each.status for each in handle.updates()] == ["success"]
    assert [each.ended for each in queue.updates(handle.id)] == [True]
    assert handle == queue.handle(handle.id)
    assert handle != handle.id
    assert len({handle, queue.handle(handle.id)}) == 1
    assert repr(handle) == f"<SyncTaskHandle {handle.id}>"


def test_a_failed_task_raises_of_a_handle_too(queue, working):
    with working(), pytest.raises(TaskExecutionError, match="this is wrong"):
        queue.submit(fail).result(timeout=10)


def test_a_handle_as_an_argument_is_the_value_of_its_task(queue, working):
    with working():
        assert queue.submit(double, queue.submit(double, 1)).result(timeout=10) == 4


def test_many_are_waited_for(queue, working):
    handles = queue.submit_many(Task(double, (n,)) for n in range(5))
    urgent = queue.options(priority=5).submit(double, 5)
    with working():
        assert queue.gather(*handles, urgent, timeout=10) == [0, 2, 4, 6, 8, 10]
    ended = list(queue.as_completed(handles, timeout=10))
    assert {each.result() for each in ended} == {0, 2, 4, 6, 8}
    assert all(any(each is one for one in handles) for each in ended)
    with pytest.raises(ValidationError, match="takes handles"):
        queue.gather("id")
    with pytest.raises(ValidationError, match="takes handles"):
        next(queue.as_completed(["id"]))


def test_an_iteration_that_is_left_early_leaves_nothing_behind(queue):
    handle = queue.submit(double, 1)
    for update in handle.updates():
        assert update.status == "queued"
        break
    updates = handle.updates()
    next(updates)
    updates.close()
    assert queue.stats() == {"default": {"queued": 1}}


def test_tasks_are_controlled_and_listed(queue):
    handles = queue.submit_many([Task(double, (n,), queue="emails") for n in range(4)])
    assert queue.change(handles[0], priority=5) is True
    assert queue.change(queue="emails", delay=60) == 4
    assert queue.cancel(handles[0], "no more") is True
    assert queue.cancel(handles[1:3]) == 2
    assert queue.cancel(state="queued", reason="no more") == 1
    new = queue.retry(handles[0])
    assert len(queue.retry(state="cancelled")) == 3
    assert queue.retry([handles[0]]) == [new]
    assert queue.task_info(new).retry_of == handles[0].id
    assert queue.purge("cancelled") == 4
    page = queue.tasks(state="queued", limit=2)
    assert len(page) == 2
    assert [each.id for each in queue.iter_tasks()] == [
        *(each.id for each in page),
        *(each.id for each in queue.tasks(after=page.after)),
    ]


def test_queues_are_paused_and_resumed(queue):
    queue.pause("emails", reason="why not")
    assert [(each.kind, each.name, each.reason) for each in queue.pauses()] == [
        ("queue", "emails", "why not")
    ]
    assert queue.resume("emails") is True
    assert queue.resume("emails") is False


def test_it_has_the_faces_of_the_async_queue():
    modules = ("submitting", "producing", "waiting", "control", "retrying", "pauses", "listing")
    faces = {
        name
        for kind in TaskQueue.__mro__
        if kind.__module__.removeprefix("sitq.queue.") in modules
        for name in vars(kind)
        if name[0] != "_"
    }
    assert "cancel" in faces
    assert faces <= {*dir(SyncTaskQueue)}


def test_its_settings_are_those_of_the_async_queue():
    every = {*inspect.signature(TaskQueue).parameters} - {"backend", "serializer"}
    assert {*QueueSettings.__annotations__} == every
    with pytest.raises(TypeError, match="que"):
        SyncTaskQueue("memory://", que="mails")


def test_a_queue_with_options_says_which(queue):
    assert repr(queue.options(tags=["a"], priority=1)).endswith("with priority, tags>")


def test_limits_of_a_queue_are_set_and_told():
    with SyncTaskQueue("memory://") as queue:
        queue.limit(ConcurrencyLimit(3))
        assert queue.limits() == [ConcurrencyLimit(3)]
        queue.limit()
        assert queue.limits() == []
