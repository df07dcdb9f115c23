"""Leases: kept under load, lost for good, and what deaths do to a task."""

import asyncio
import contextlib
import threading
import time

import pytest

from sitq.backends.base import Lease, Share, Want
from sitq.backends.memory import MemoryBackend
from sitq.backends.sqlite import SQLiteBackend
from sitq.codec import Codec
from sitq.core import Task
from sitq.decorator import task
from sitq.move import Lapse, Settle
from sitq.queue import TaskQueue
from sitq.record import SECOND, Record, State
from sitq.worker import Worker


class Hands:
    """A clock that runs on its own and can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return time.time_ns() // 1000 + self.ahead

    def forward(self, seconds: float) -> None:
        self.ahead += round(seconds * SECOND)


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture(params=["memory", "sqlite"])
async def backend(request, tmp_path, clock):
    path = tmp_path / "tasks.db"
    store = MemoryBackend(clock=clock) if request.param == "memory" else SQLiteBackend(path, clock=clock)
    async with store:
        yield store


GATES: dict[str, asyncio.Event] = {}
BEGUN: dict[str, asyncio.Event] = {}
RAN: list[object] = []


@pytest.fixture(autouse=True)
def _stage():
    GATES["now"], BEGUN["now"] = asyncio.Event(), asyncio.Event()
    RAN.clear()


async def wait(value=None):
    BEGUN["now"].set()
    await GATES["now"].wait()
    RAN.append(value)
    return value


async def hog(seconds):
    """Code that should not be async, and blocks the event loop."""
    time.sleep(seconds)  # noqa: ASYNC251 - the fault itself
    return "done"


def add(one, two):
    return one + two


def want(worker="thief", **fields):
    given = {"claim": f"{worker}-claim", "limit": 10, "lease": 60 * SECOND, "python": "3.11"} | fields
    return Want(worker=worker, queues=(Share("default", 10),), **given)


async def died(backend, *, alone=False):
    """A worker claims what is there and is never heard of again."""
    from sitq.functions import python_version  # noqa: PLC0415
    from sitq.ids import token  # noqa: PLC0415
    from sitq.move import Note  # noqa: PLC0415

    taken = await backend.take(want("dead", claim=token(), python=python_version()))
    for record in taken.records:
        if alone:
            assert await backend.apply([Note(id=record.id, token=record.token, alone=record.alone + 1)]) == [
                True
            ]
        assert await backend.apply([Lapse(id=record.id, token=record.token)]) == [True]
    return [record.id for record in taken.records]


# -- kept --------------------------------------------------------------------------------------------------


async def test_a_task_of_many_lease_lengths_with_a_blocked_event_loop_keeps_its_lease(queue, working, ended):
    task_id = await queue.enqueue(hog, 1.6)
    rivals = []

    async def rival():
        worker = Worker(queue.backend, lease=0.4, poll_interval=0.05)
        rivals.append(worker)
        await worker.start()

    thread = threading.Thread(target=lambda: asyncio.run(rival()))
    async with working(lease=0.4):
        thread.start()
        record = await ended(task_id)
    loop = rivals[0]._shift._loop
    asyncio.run_coroutine_threadsafe(rivals[0].stop(), loop)
    await asyncio.to_thread(thread.join, 10)
    assert (record.state, record.attempt, record.crashes) == (State.COMPLETED, 1, 0)


async def test_a_suspended_claim_leaves_the_leases_of_others_for_a_while(
    queue, clock, working, stored, eventually
):
    async with working(lease=10) as worker:
        await eventually(lambda: worker._shift)
        worker._shift._keeper.doubt.begin()
        task_id = await queue.enqueue(wait)
        await asyncio.wait_for(BEGUN["now"].wait(), 5)
        clock.forward(11)  # the lease has run out, and this worker would be the first to notice
        await queue.enqueue(add, 1, 2)
        await eventually(lambda: _has(queue, "completed", 1))
        assert (await stored(task_id)).attempt == 1
        GATES["now"].set()


async def _has(queue, state, count):
    return (await queue.stats())["default"].get(state) == count


# -- lost --------------------------------------------------------------------------------------------------


async def test_the_outcome_of_a_lost_lease_is_refused(  # noqa: PLR0917 - fixtures
    queue, clock, working, stored, eventually, caplog
):
    async with working(lease=10, poll_interval=3600) as worker:
        await eventually(lambda: worker._shift)
        worker._shift._keeper.doubt.begin()  # or it might be the first to take the task over
        task_id = await queue.enqueue(wait, "stale")
        await asyncio.wait_for(BEGUN["now"].wait(), 5)
        clock.forward(11)
        (taken,) = (await queue.backend.take(want())).records
        assert (taken.id, taken.attempt, taken.crashes) == (task_id, 2, 1)
        GATES["now"].set()
        await eventually(lambda: not worker._shift._runs.in_flight and not worker._shift._settler.unsettled)
    record = await stored(task_id)
    assert (record.state, record.owner, record.token) == (State.RUNNING, "thief", taken.token)
    assert record.result is None
    assert "refused" in caplog.text


async def test_a_task_whose_lease_was_lost_is_interrupted_and_its_slot_is_free(  # noqa: PLR0917 - fixtures
    queue, clock, working, stored, eventually, caplog
):
    async with working(lease=2, max_concurrency=1) as worker:
        await eventually(lambda: worker._shift)
        task_id = await queue.enqueue(wait)
        await asyncio.wait_for(BEGUN["now"].wait(), 5)
        clock.forward(3)
        (taken,) = (await queue.backend.take(want())).records
        assert taken.id == task_id
        await eventually(lambda: not worker._shift._runs.in_flight)
        result = await queue.get_result(await queue.enqueue(add, 1, 2), timeout=5)
        assert result is not None, "its slot is not free"
        assert result.status == "success"
    assert RAN == []
    assert (await stored(task_id)).owner == "thief"
    assert "dropped" in caplog.text
    assert "refused" not in caplog.text  # the store is not even asked


async def test_a_worker_that_claims_its_own_lost_task_again_runs_it_once_to_its_end(
    queue, clock, eventually, ended
):
    task_id = await queue.enqueue(wait, "once")
    worker = Worker(queue.backend, lease=10, poll_interval=0.05, max_concurrency=3)
    started = asyncio.create_task(worker.start())
    await asyncio.wait_for(BEGUN["now"].wait(), 5)
    BEGUN["now"].clear()
    while not BEGUN["now"].is_set():  # its own renewal may come before its claim
        clock.forward(11)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(BEGUN["now"].wait(), 1)
    GATES["now"].set()
    record = await ended(task_id)
    assert (record.state, record.attempt) == (State.COMPLETED, 2)
    await eventually(lambda: worker._shift._runs.busy == 0)
    assert not worker._shift._runs.in_flight
    assert RAN == ["once"]
    await worker.stop()
    await started


# -- deaths ------------------------------------------------------------------------------------------------


async def test_a_task_of_a_dead_worker_runs_again_and_uses_no_budget(queue, working, ended):
    task_id = await queue.options(retry=1).enqueue(add, 1, 2)
    assert await died(queue.backend) == [task_id]
    async with working():
        record = await ended(task_id)
    assert (record.state, record.attempt, record.failures, record.crashes) == (State.COMPLETED, 2, 0, 1)
    assert record.errors[0].kind == "crashed"


async def test_a_task_that_was_there_at_several_deaths_runs_alone(queue, working, stored, ended, eventually):
    suspect = await queue.enqueue(wait)
    for _ in range(2):
        await died(queue.backend)
    for n in range(5):
        await queue.enqueue(add, n, 1)
    async with working(max_concurrency=10):
        await asyncio.wait_for(BEGUN["now"].wait(), 5)
        more = await queue.enqueue(add, 1, 2)
        for _ in range(20):
            await asyncio.sleep(0)
        assert (await stored(suspect)).alone == 1
        assert (await stored(more)).state is State.QUEUED
        GATES["now"].set()
        assert (await ended(more)).state is State.COMPLETED
    record = await stored(suspect)
    assert (record.state, record.attempt) == (State.COMPLETED, 3)


async def test_the_outcome_of_a_run_alone_is_stored_before_the_next_one_begins(
    queue, working, backend, eventually, monkeypatch
):
    """If the next one kills the worker, the one before did come back, and must not be taken for poison."""
    for number in range(2):
        await queue.enqueue(add, number, 1)
    for _ in range(2):
        await died(backend)
    said, apply, held = [], backend.apply, asyncio.Event()

    async def slow_to_store(moves):
        said.extend(type(move).__name__ for move in moves)
        if any(isinstance(move, Settle) for move in moves):
            await held.wait()
        return await apply(moves)

    monkeypatch.setattr(backend, "apply", slow_to_store)
    async with working(max_concurrency=10):
        await eventually(lambda: "Settle" in said)
        for _ in range(100):
            await asyncio.sleep(0)
        assert said == ["Note", "Settle"]
        held.set()
        await eventually(lambda: said == ["Note", "Settle", "Note", "Settle"])


async def test_a_healthy_task_is_not_quarantined_however_many_workers_die(queue, working, ended):
    task_id = await queue.enqueue(add, 1, 2)
    for _ in range(8):
        await died(queue.backend)
    async with working():
        assert (await ended(task_id)).state is State.COMPLETED


async def test_only_deaths_while_it_ran_alone_quarantine_a_task(queue, working, ended):
    task_id = await queue.enqueue(wait)
    for _ in range(2):
        await died(queue.backend)
    for _ in range(2):
        await died(queue.backend, alone=True)
    bystander = await queue.enqueue(add, 1, 2)
    async with working():
        record = await ended(task_id)
        assert (await ended(bystander)).state is State.COMPLETED
    assert record.state is State.DEAD
    assert "quarantined" in record.errors[-1].message
    assert RAN == []
    result = await queue.get_result(task_id)
    assert result.status == "dead"
    assert "4 times" in result.error


async def test_a_suspect_that_comes_through_is_clear_again(queue, working, ended):
    task_id = await queue.options(retry=1).enqueue(fails_once)
    for _ in range(2):
        await died(queue.backend)
    async with working():
        record = await ended(task_id)
    assert (record.state, record.crashes, record.failures) == (State.COMPLETED, 0, 1)


async def fails_once():
    RAN.append(1)
    if len(RAN) == 1:
        raise ValueError("the first time")


async def test_a_suspect_goes_back_when_the_worker_stops_before_its_turn(queue, stored, eventually):
    suspect = await queue.enqueue(add, 1, 2)
    for _ in range(2):
        await died(queue.backend)
    busy = await queue.options(priority=5).enqueue(wait)
    worker = Worker(queue.backend, grace=0)
    started = asyncio.create_task(worker.start())
    await asyncio.wait_for(BEGUN["now"].wait(), 5)
    await eventually(lambda: worker._shift._suspects)
    await worker.stop()
    await asyncio.wait_for(started, 5)
    for each in (suspect, busy):
        record = await stored(each)
        assert (record.state, record.failures) == (State.QUEUED, 0)
    assert (await stored(suspect)).crashes == 2


async def test_several_suspects_run_one_after_another(queue, working, ended):
    ids = await queue.enqueue_many([Task(add, (n, 1)) for n in range(4)])
    for _ in range(2):
        await died(queue.backend)
    async with working():
        records = [await ended(each) for each in ids]
    assert {record.state for record in records} == {State.COMPLETED}


# -- functions that a worker does not know -----------------------------------------------------------------


def unknown(task_id="u"):
    record = Record(id=task_id, name="test_leases.late")
    codec = Codec.of(MemoryBackend(), None, None, trust_store=False)
    body = codec.wrapper.serializer_named("cloudpickle").dumps(((), {}))
    record.payload = codec.wrapper.seal(body, "task", task_id, "default", record.name)
    return record


async def test_a_task_of_an_unknown_function_goes_back_and_holds_up_nobody(
    queue, working, stored, eventually, caplog
):
    await queue.backend.put([[unknown(f"u{n}") for n in range(5)]])
    other = await queue.enqueue(add, 1, 2)
    async with working(max_concurrency=1) as worker:
        assert (await queue.get_result(other, timeout=5)).status == "success"
        await eventually(lambda: not worker._shift._runs.busy and not worker._shift._settler.unsettled)
    records = [await stored(f"u{n}") for n in range(5)]
    assert {(record.state, record.failures, record.crashes) for record in records} == {(State.QUEUED, 0, 0)}
    assert sum(record.attempt for record in records) == 1  # the first one told it all
    assert "test_leases.late" in caplog.text


async def test_another_worker_that_knows_the_function_runs_it(queue, working, stored, eventually, ended):
    await queue.backend.put([[unknown()]])

    async def went_back():
        record = await stored("u")
        return record.attempt == 1 and record.state is State.QUEUED

    async with working():
        await eventually(went_back)
        task(name="test_leases.late")(added_later)
        async with working():
            record = await ended("u")
    assert (record.state, record.attempt, record.failures) == (State.COMPLETED, 2, 0)
    from sitq import functions  # noqa: PLC0415

    del functions._functions["test_leases.late"]


def added_later():
    return 3


# -- the store while it is away ----------------------------------------------------------------------------


async def test_after_the_store_was_away_a_worker_claims_no_leases_of_others_at_first(
    queue, clock, monkeypatch, stored
):
    from sitq.exceptions import ConnectionError as StoreAwayError  # noqa: PLC0415

    task_id = await queue.enqueue(add, 1, 2)
    await queue.backend.take(want("other", lease=SECOND))
    clock.forward(2)
    take, wants = type(queue.backend).take, []
    second = asyncio.Event()

    async def away_at_first(self, want):
        wants.append(want)
        if len(wants) == 1:
            raise StoreAwayError("no route")
        taken = await take(self, want)
        second.set()
        return taken

    monkeypatch.setattr(type(queue.backend), "take", away_at_first)
    worker = Worker(queue.backend, lease=20)
    started = asyncio.create_task(worker.start())
    await asyncio.wait_for(second.wait(), 5)
    assert [want.reclaim for want in wants[:2]] == [True, False]
    assert wants[0].claim == wants[1].claim
    assert (await stored(task_id)).owner == "other"
    await worker.stop()
    await started


async def test_outcomes_of_a_store_that_was_away_land_once_and_the_lease_was_kept(
    queue, monkeypatch, ended, working
):
    from sitq.exceptions import ConnectionError as StoreAwayError  # noqa: PLC0415

    apply, failures = type(queue.backend).apply, iter(range(4))

    async def lossy(self, moves):
        kept = await apply(self, moves)
        if next(failures, None) is not None:
            raise StoreAwayError("the reply got lost")
        return kept

    monkeypatch.setattr(type(queue.backend), "apply", lossy)
    task_id = await queue.enqueue(add, 1, 2)
    async with working():
        record = await ended(task_id)
        assert queue.deserialize_result(await queue.get_result(task_id)) == 3
    assert (record.attempt, record.crashes) == (1, 0)


async def test_renewals_know_a_lease_of_a_task_that_was_taken_over(backend, clock):
    async with TaskQueue(backend) as queue:
        task_id = await queue.enqueue(add, 1, 2)
    first = (await backend.take(want("one", lease=SECOND))).records[0]
    clock.forward(2)
    second = (await backend.take(want("two"))).records[0]
    channel = await asyncio.to_thread(backend.lease_channel)
    leases = [Lease(task_id, first.token), Lease(task_id, second.token)]
    assert [each.answer for each in channel.renew(leases, SECOND)] == ["lost", "kept"]
    channel.close()
