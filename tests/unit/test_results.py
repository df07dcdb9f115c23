import asyncio
import gc

import pytest

from sitq.backends.base import Share, Want
from sitq.backends.memory import MemoryBackend
from sitq.exceptions import BackendError, TaskQueueError
from sitq.exceptions import ConnectionError as StoreAwayError
from sitq.move import Delete, Settle
from sitq.record import SECOND, Record, State
from sitq.results import ResultWaiter


class Counting(MemoryBackend):
    """Counts the reads, and fails them when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[int] = []
        self.broken: Exception | None = None
        self.read = asyncio.Event()
        self.after_a_read = None

    async def get(self, ids):
        self.reads.append(len(ids))
        self.read.set()
        if self.broken is not None:
            raise self.broken
        found = await super().get(ids)
        if self.after_a_read is not None:
            hook, self.after_a_read = self.after_a_read, None
            await hook()
        return found


@pytest.fixture
async def backend():
    async with Counting() as backend:
        yield backend


@pytest.fixture
async def waiter(backend):
    waiter = ResultWaiter(backend)
    yield waiter
    await waiter.close()


async def put(backend, waiter, *ids):
    await backend.put([[Record(id=each, reply=waiter.topic) for each in ids]])


async def end(backend, *ids):
    taken = await backend.take(
        Want(
            claim="c",
            worker="w",
            queues=(Share("default", 10_000),),
            limit=10_000,
            lease=SECOND,
            python="3.11",
        )
    )
    records = {record.id: record for record in taken.records}
    moves = [Settle(id=each, token=records[each].token, state=State.COMPLETED, result=b"") for each in ids]
    assert all(await backend.apply(moves))


async def waiting(waiter, backend, task_id, seconds=5.0):
    """A task that waits, once its first look is over."""
    backend.read.clear()
    task = asyncio.create_task(waiter.wait(task_id, seconds))
    await asyncio.wait_for(backend.read.wait(), 5)
    await asyncio.sleep(0)
    return task


async def test_an_unknown_task_is_none_at_once(waiter):
    async with asyncio.timeout(5):
        assert await waiter.wait("nobody", None) is None


async def test_a_task_that_has_ended_is_answered_at_once(backend, waiter):
    await put(backend, waiter, "a")
    await end(backend, "a")
    async with asyncio.timeout(5):
        record = await waiter.wait("a", None)
    assert record.state is State.COMPLETED


async def test_the_end_of_a_task_wakes_everybody_who_waits_for_it(backend, waiter):
    await put(backend, waiter, "a")
    first, second = await waiting(waiter, backend, "a"), await waiting(waiter, backend, "a")
    await end(backend, "a")
    assert [(await task).state for task in (first, second)] == [State.COMPLETED] * 2


async def test_a_hint_for_the_own_topic_wakes_long_before_the_floor(backend, waiter, monkeypatch):
    monkeypatch.setattr("sitq.results._FLOOR", 3600.0)
    await put(backend, waiter, "a")
    task = await waiting(waiter, backend, "a", None)
    await end(backend, "a")
    async with asyncio.timeout(5):
        assert (await task).state is State.COMPLETED


async def test_a_task_that_somebody_else_enqueued_is_heard_of_too(backend, waiter, monkeypatch):
    monkeypatch.setattr("sitq.results._FLOOR", 3600.0)
    await backend.put([[Record(id="a", reply="reply/somebody else")]])
    task = await waiting(waiter, backend, "a", None)
    await end(backend, "a")
    async with asyncio.timeout(5):
        assert (await task).state is State.COMPLETED


async def test_losing_every_hint_costs_time_and_no_result(backend, waiter, monkeypatch):
    monkeypatch.setattr("sitq.results._FLOOR", 0.02)
    monkeypatch.setattr(backend._store.hub, "hint", lambda topics: None)
    await put(backend, waiter, "a")
    task = await waiting(waiter, backend, "a")
    await end(backend, "a")
    assert (await task).state is State.COMPLETED


async def test_an_end_between_the_listening_and_the_first_look_is_not_missed(backend, waiter, monkeypatch):
    monkeypatch.setattr("sitq.results._FLOOR", 3600.0)
    await put(backend, waiter, "a")
    backend.after_a_read = lambda: end(backend, "a")  # before its answer arrives
    async with asyncio.timeout(5):
        assert (await waiter.wait("a", None)).state is State.COMPLETED


async def test_after_so_many_seconds_it_is_a_timeout(backend, waiter):
    await put(backend, waiter, "a")
    with pytest.raises(TimeoutError):
        await waiter.wait("a", 0.01)


async def test_with_no_seconds_there_is_one_look(backend, waiter):
    await put(backend, waiter, "a")
    with pytest.raises(TimeoutError):
        await waiter.wait("a", 0.0)
    assert backend.reads == [1]
    await end(backend, "a")
    assert (await waiter.wait("a", 0.0)).state is State.COMPLETED


async def test_a_store_that_does_not_answer_keeps_nobody_beyond_their_time(backend, waiter, monkeypatch):
    monkeypatch.setattr("sitq.results._LOOK", 0.01)
    await put(backend, waiter, "a")
    backend.after_a_read = asyncio.Event().wait
    async with asyncio.timeout(5):
        with pytest.raises(TimeoutError):
            await waiter.wait("a", 0.02)


async def test_the_timeout_of_one_does_not_touch_another(backend, waiter):
    await put(backend, waiter, "a")
    patient = await waiting(waiter, backend, "a")
    with pytest.raises(TimeoutError):
        await waiter.wait("a", 0.01)
    await end(backend, "a")
    assert (await patient).state is State.COMPLETED


async def test_cancelling_one_who_waits_does_not_touch_another(backend, waiter):
    await put(backend, waiter, "a")
    first, second = await waiting(waiter, backend, "a"), await waiting(waiter, backend, "a")
    first.cancel()
    await asyncio.wait([first])
    await end(backend, "a")
    await asyncio.wait([second])
    assert not second.cancelled()
    assert second.result().state is State.COMPLETED


async def test_a_task_that_is_deleted_meanwhile_is_none(backend, waiter):
    await put(backend, waiter, "a")
    task = await waiting(waiter, backend, "a")
    await backend.apply([Delete(id="a")])
    backend._store.hub.hint([waiter.topic])
    assert await task is None


async def test_a_thousand_who_wait_cost_few_reads(backend, waiter):
    ids = [f"t{n}" for n in range(1000)]
    await put(backend, waiter, *ids)
    tasks = [asyncio.create_task(waiter.wait(each, 10)) for each in ids]
    await asyncio.wait_for(backend.read.wait(), 5)
    await asyncio.sleep(0)
    await end(backend, *ids)
    assert all(record.state is State.COMPLETED for record in await asyncio.gather(*tasks))
    assert len(backend.reads) <= 8
    assert max(backend.reads) <= 500


async def test_who_waits_learns_that_the_store_failed_each_by_an_error(backend, waiter):
    await put(backend, waiter, "a", "b")
    tasks = [await waiting(waiter, backend, each) for each in ("a", "b")]
    backend.broken = BackendError("the disk burns")
    backend._store.hub.hint([waiter.topic])
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["the disk burns"] * 2


async def test_waiting_works_again_after_the_store_failed(backend, waiter):
    await put(backend, waiter, "a")
    task = await waiting(waiter, backend, "a")
    backend.broken = BackendError("the disk burns")
    backend._store.hub.hint([waiter.topic])
    with pytest.raises(BackendError):
        await task
    backend.broken = None
    task = await waiting(waiter, backend, "a")
    await end(backend, "a")
    assert (await task).state is State.COMPLETED


async def test_a_failure_that_nobody_waits_for_any_more_is_no_noise(backend, waiter):
    noise = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: noise.append(context))
    await put(backend, waiter, "a")
    task = await waiting(waiter, backend, "a")
    backend.broken = BackendError("the disk burns")
    backend._store.hub.hint([waiter.topic])
    while waiter._waits:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    del task
    gc.collect()
    assert noise == []


async def test_a_failure_is_no_noise_for_one_who_left_before_it_could_be_told(backend, waiter):
    noise = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: noise.append(context))
    await put(backend, waiter, "a", "b")
    first = await waiting(waiter, backend, "a")
    backend.after_a_read = asyncio.Event().wait  # the other one's look is under way meanwhile
    second = await waiting(waiter, backend, "b")
    backend.broken = BackendError("the disk burns")
    backend._store.hub.hint([waiter.topic])
    with pytest.raises(BackendError):
        await first
    second.cancel()
    await asyncio.wait([second])
    del first, second
    gc.collect()
    assert noise == []


async def test_who_waits_goes_on_waiting_while_the_store_is_away(backend, waiter):
    await put(backend, waiter, "a")
    task = await waiting(waiter, backend, "a")
    backend.broken = StoreAwayError("the store is away")
    for _ in range(2):
        backend.read.clear()
        backend._store.hub.hint([waiter.topic])
        await asyncio.wait_for(backend.read.wait(), 5)
    backend.broken = None
    await end(backend, "a")
    assert (await asyncio.wait_for(task, 5)).state is State.COMPLETED


async def test_closing_tells_those_who_wait(backend, waiter):
    await put(backend, waiter, "a")
    task = await waiting(waiter, backend, "a")
    await waiter.close()
    with pytest.raises(TaskQueueError, match="closed"):
        await task


async def test_when_nobody_waits_nobody_listens(backend, waiter):
    await put(backend, waiter, "a")
    task = await waiting(waiter, backend, "a")
    assert not backend._store.hub.quiet
    await end(backend, "a")
    await task
    watching = waiter._watching
    if watching is not None:
        await asyncio.wait_for(asyncio.shield(watching), 5)
    assert backend._store.hub.quiet
