import asyncio
import subprocess
import sys
import threading

import pytest

from sitq.backends.memory import MemoryBackend
from sitq.exceptions import SyncTaskQueueError, TaskExecutionError, TaskQueueError, ValidationError
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


def test_what_is_not_there_in_time_is_none_and_so_is_an_unknown_task(queue):
    assert queue.get_result(queue.enqueue(double, 2), timeout=0) is None
    assert queue.get_result("nobody") is None


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
    assert queue._thread is None
    queue.enqueue(double, 1)
    queue.close()
    queue.close()
    assert not queue._thread.is_alive()
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
    assert not queue._thread.is_alive()


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
