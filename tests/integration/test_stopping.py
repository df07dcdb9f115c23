"""How a worker stops, and who may share a store."""

import asyncio
import contextlib
import threading
import time

import pytest

from sitq.backends.sqlite import SQLiteBackend
from sitq.context import current_task
from sitq.core import Task
from sitq.queue import TaskQueue
from sitq.record import State
from sitq.sync import SyncTaskQueue
from sitq.worker import Worker


class Stage:
    """Where a test meets its running tasks."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        self.ran: list[object] = []

    async def entered(self, times=1):
        for _ in range(times):
            assert await asyncio.to_thread(self.begun.acquire, timeout=10)


STAGES: dict[str, Stage] = {}


@pytest.fixture
def stage(request):
    STAGES["now"] = Stage()
    yield STAGES["now"]
    STAGES["now"].gate.set()


async def wait_async(value=None):
    stage = STAGES["now"]
    stage.begun.release()
    while not stage.gate.is_set():  # noqa: ASYNC110 - the gate is for threads, too
        await asyncio.sleep(0.001)
    stage.ran.append(value)
    return value


def wait_in_thread(value=None):
    stage = STAGES["now"]
    stage.begun.release()
    while not stage.gate.wait(0.005):
        if current_task().cancelled:
            stage.ran.append("told")
            return "told"
    stage.ran.append(value)
    return value


async def never_ends():
    STAGES["now"].begun.release()
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if STAGES["now"].gate.is_set():
                raise


def add(one, two):
    return one + two


@pytest.mark.parametrize("function", [wait_async, wait_in_thread])
async def test_a_stop_lets_running_tasks_end_and_claims_nothing_more(queue, stage, stored, function):
    first = await queue.enqueue(function, "done")
    worker = Worker(queue.backend, max_concurrency=4, grace=10)
    started = asyncio.create_task(worker.start())
    await stage.entered()
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    later = await queue.enqueue(function, "never")
    assert not started.done()
    stage.gate.set()
    await asyncio.wait_for(asyncio.gather(started, stopping), 5)
    assert queue.deserialize_result(await queue.get_result(first, timeout=0)) == "done"
    record = await stored(later)
    assert (record.state, record.attempt) == (State.QUEUED, 0)


@pytest.mark.parametrize("function", [wait_async, wait_in_thread])
async def test_what_does_not_end_in_time_goes_back_without_using_its_budget(queue, stage, stored, function):
    ids = await queue.enqueue_many([Task(function, retry=1) for _ in range(3)])
    worker = Worker(queue.backend, grace=0.05)
    started = asyncio.create_task(worker.start())
    await stage.entered(3)
    begun = time.monotonic()
    await asyncio.wait_for(worker.stop(), 5)
    await asyncio.wait_for(started, 5)
    assert time.monotonic() - begun < 3
    for each in ids:
        record = await stored(each)
        assert (record.state, record.failures, record.crashes, record.errors) == (State.QUEUED, 0, 0, ())
        assert (record.owner, record.lease_until) == (None, None)
    stage.gate.set()
    await Worker(queue.backend).run(burst=True)
    assert {(await stored(each)).state for each in ids} == {State.COMPLETED}


@pytest.mark.usefixtures("older_producer")
async def test_a_task_that_does_not_want_to_end_goes_back_all_the_same(queue, stage, stored, monkeypatch):
    monkeypatch.setattr("sitq.worker.shift.CLEAN_UP", 0.2)
    task_id = await queue.enqueue(never_ends)
    worker = Worker(queue.backend, grace=0)
    started = asyncio.create_task(worker.start())
    await stage.entered()
    await asyncio.wait_for(worker.stop(), 5)
    await asyncio.wait_for(started, 5)
    record = await stored(task_id)
    assert (record.state, record.failures, record.crashes) == (State.QUEUED, 0, 0)
    stage.gate.set()
    for left in asyncio.all_tasks() - {asyncio.current_task()}:
        if "_attempt" in repr(left):
            left.cancel()
            await asyncio.wait([left])
    assert (await stored(task_id)).state is State.QUEUED


async def test_while_it_stops_leases_are_renewed(queue, stage, stored, eventually):
    task_id = await queue.enqueue(wait_async)
    worker = Worker(queue.backend, lease=0.4, grace=10)
    started = asyncio.create_task(worker.start())
    await stage.entered()
    stopping = asyncio.create_task(worker.stop())
    lease = (await stored(task_id)).lease_until

    async def renewed_often():
        return (await stored(task_id)).lease_until > lease + 600_000

    await eventually(renewed_often)
    stage.gate.set()
    await asyncio.wait_for(asyncio.gather(started, stopping), 5)
    record = await stored(task_id)
    assert (record.state, record.attempt, record.crashes) == (State.COMPLETED, 1, 0)


async def test_a_second_harder_stop_shortens_the_grace(queue, stage):
    await queue.enqueue(wait_async)
    worker = Worker(queue.backend, grace=3600)
    started = asyncio.create_task(worker.start())
    await stage.entered()
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    await asyncio.wait_for(worker.stop(grace=0), 5)
    await asyncio.wait_for(asyncio.gather(started, stopping), 5)


@pytest.mark.parametrize("function", [wait_async, wait_in_thread])
async def test_a_worker_whose_own_task_is_cancelled_hands_everything_back(queue, stage, stored, function):
    task_id = await queue.enqueue(function)
    started = asyncio.create_task(Worker(queue.backend, grace=10).start())
    await stage.entered()
    started.cancel()
    await asyncio.wait([started], timeout=5)
    assert started.cancelled()
    record = await stored(task_id)
    assert (record.state, record.failures, record.crashes) == (State.QUEUED, 0, 0)


async def test_what_a_claim_brings_after_the_stop_is_not_begun(queue, stage, stored, monkeypatch):
    task_id = await queue.enqueue(wait_async)
    take, asked, answer = type(queue.backend).take, asyncio.Event(), asyncio.Event()

    async def slow(self, want):
        asked.set()
        await answer.wait()
        return await take(self, want)

    monkeypatch.setattr(type(queue.backend), "take", slow)
    stage.gate.set()
    worker = Worker(queue.backend)
    started = asyncio.create_task(worker.start())
    await asyncio.wait_for(asked.wait(), 5)
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    answer.set()
    await asyncio.wait_for(asyncio.gather(started, stopping), 5)
    assert stage.ran == []
    record = await stored(task_id)
    assert (record.state, record.failures, record.crashes) == (State.QUEUED, 0, 0)


async def test_a_worker_that_is_cancelled_during_a_claim_keeps_nothing(queue, stored, monkeypatch):
    task_id = await queue.enqueue(add, 1, 2)
    take, claimed = type(queue.backend).take, asyncio.Event()

    async def late(self, want):
        taken = await take(self, want)
        if not claimed.is_set():
            claimed.set()
            await asyncio.Event().wait()  # the answer never arrives
        return taken

    monkeypatch.setattr(type(queue.backend), "take", late)
    started = asyncio.create_task(Worker(queue.backend).start())
    await asyncio.wait_for(claimed.wait(), 5)
    assert (await stored(task_id)).state is State.RUNNING
    started.cancel()
    await asyncio.wait([started], timeout=5)
    record = await stored(task_id)
    assert (record.state, record.crashes, record.failures) == (State.QUEUED, 0, 0)


def test_a_worker_whose_event_loop_is_torn_down_hands_everything_back(tmp_path):

    backend = SQLiteBackend(tmp_path / "tasks.db")
    STAGES["now"] = Stage()

    async def main():
        queue = TaskQueue(backend)
        task_id = await queue.enqueue(wait_async)
        background = asyncio.create_task(Worker(backend).start())
        await STAGES["now"].entered()
        assert not background.done()
        return task_id

    async def look(task_id):
        async with SQLiteBackend(tmp_path / "tasks.db") as store:
            (record,) = await store.get([task_id])
            return record

    task_id = asyncio.run(main())
    record = asyncio.run(look(task_id))
    assert (record.state, record.failures, record.crashes) == (State.QUEUED, 0, 0)


async def test_a_worker_starts_again_after_its_stop(queue):
    worker = Worker(queue.backend)
    for n in range(3):
        task_id = await queue.enqueue(add, n, 1)
        async with worker:
            assert queue.deserialize_result(await queue.get_result(task_id, timeout=5)) == n + 1


# -- sharing -----------------------------------------------------------------------------------------------


async def test_two_workers_of_one_backend_object_share_the_work_and_run_nothing_twice(queue, stage, working):
    stage.gate.set()
    ids = await queue.enqueue_many([Task(wait_async, (n,)) for n in range(200)])
    async with working(max_concurrency=5), working(max_concurrency=5):
        await asyncio.gather(*[queue.get_result(each, timeout=10) for each in ids])
    assert sorted(stage.ran) == list(range(200))


async def test_the_first_worker_to_stop_leaves_the_store_open_for_the_other(tmp_path):

    backend = SQLiteBackend(tmp_path / "tasks.db")
    one, two = Worker(backend), Worker(backend)
    queue = TaskQueue(backend)
    task_id = await queue.enqueue(add, 1, 2)
    async with one:
        async with two:
            pass
        assert queue.deserialize_result(await queue.get_result(task_id, timeout=5)) == 3
    assert backend.connected
    await queue.close()
    assert not backend.connected


async def test_a_queue_and_a_worker_in_another_threads_loop_share_one_backend_object(queue):
    stop, running = threading.Event(), threading.Event()

    async def work():
        async with Worker(queue.backend, poll_interval=3600):
            running.set()
            await asyncio.to_thread(stop.wait, 20)

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    try:
        assert await asyncio.to_thread(running.wait, 10)
        for n in range(20):
            task_id = await queue.enqueue(add, n, 1)
            assert queue.deserialize_result(await queue.get_result(task_id, timeout=10)) == n + 1
    finally:
        stop.set()
        await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()


def test_a_module_level_queue_serves_two_runs_of_the_event_loop(tmp_path):

    queue = TaskQueue(SQLiteBackend(tmp_path / "tasks.db"))

    async def produce():
        return await queue.enqueue(add, 1, 2)

    async def consume(task_id):
        async with Worker(queue.backend):
            return queue.deserialize_result(await queue.get_result(task_id, timeout=10))

    for _ in range(2):
        assert asyncio.run(consume(asyncio.run(produce()))) == 3
    asyncio.run(queue.close())
    assert not queue.backend.connected


@contextlib.contextmanager
def in_a_thread(work):
    """Work in an event loop of a thread of its own, which must have come to its end by itself."""
    thread = threading.Thread(target=lambda: asyncio.run(work()), daemon=True)
    thread.start()
    yield
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("stop", ["another event loop", "a thread without one"])
async def test_a_worker_in_another_threads_loop_is_stopped_and_its_tasks_end_first(
    queue, stage, stored, stop
):
    worker = Worker(queue.backend, grace=20)
    with in_a_thread(worker.start):
        task = await queue.enqueue(wait_in_thread, 1)
        await stage.entered()
        if stop == "another event loop":
            stopping = asyncio.ensure_future(worker.stop())
        else:
            stopping = asyncio.ensure_future(asyncio.to_thread(asyncio.run, worker.stop()))
        done, _ = await asyncio.wait([stopping], timeout=0.1)
        assert not done
        stage.gate.set()
        await asyncio.wait_for(stopping, 20)
        assert (await stored(task)).state is State.COMPLETED
    await asyncio.wait_for(worker.stop(), 5)


async def test_a_stop_from_elsewhere_that_is_cancelled_is_a_stop_all_the_same(queue, stage):
    worker = Worker(queue.backend, grace=20)
    with in_a_thread(worker.start):
        await queue.enqueue(wait_in_thread)
        await stage.entered()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(worker.stop(), 0.05)
        stage.gate.set()


def test_a_worker_that_was_stopped_works_again_in_another_event_loop(tmp_path):
    backend = SQLiteBackend(tmp_path / "tasks.db")
    worker = Worker(backend)
    for _ in range(2):
        with SyncTaskQueue(backend) as queue, in_a_thread(worker.start):
            assert queue.get_result(queue.enqueue(add, 1, 2), timeout=20) == 3
            asyncio.run(worker.stop())


async def test_a_stop_from_elsewhere_of_a_worker_that_begins_ends_it(queue):
    entered = threading.Event()

    @contextlib.asynccontextmanager
    async def slow(_worker):
        entered.set()
        await asyncio.sleep(60)
        yield

    worker = Worker(queue.backend, lifespan=slow)
    with in_a_thread(worker.start):
        assert await asyncio.to_thread(entered.wait, 10)
        await asyncio.wait_for(worker.stop(), 20)


def test_a_sync_queue_beside_a_worker_in_another_thread(tmp_path):

    backend = SQLiteBackend(tmp_path / "tasks.db")
    with SyncTaskQueue(backend) as queue:
        ids = [queue.enqueue(add, n, 1) for n in range(10)]
        thread = threading.Thread(target=lambda: asyncio.run(Worker(backend).run(burst=True)))
        thread.start()
        assert [queue.get_result(each, timeout=10) for each in ids] == list(range(1, 11))
        thread.join(10)
        assert not thread.is_alive()
    assert not backend.connected
