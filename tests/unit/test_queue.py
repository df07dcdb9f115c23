import asyncio
import gc
import threading
import weakref
from datetime import UTC, datetime, timedelta

import pytest

from sitq.backends.base import Refused
from sitq.backends.memory import MemoryBackend
from sitq.core import Result, Task
from sitq.decorator import task
from sitq.exceptions import (
    BackendError,
    DependencyError,
    DuplicateTaskError,
    ResourceExhaustionError,
    SerializationError,
    TaskQueueError,
    TimeoutError,
    ValidationError,
)
from sitq.exceptions import ConnectionError as StoreAwayError
from sitq.ids import new_id
from sitq.queue import TaskQueue
from sitq.queue import producing as module
from sitq.record import SECOND, State
from sitq.serialization import JSONSerializer


def f(*args, **kwargs):
    """Something to enqueue."""


@task(name="test_queue.g")
def g(*args, **kwargs):
    """Something to enqueue by its registered name."""


class Slow(MemoryBackend):
    """Takes its time to open, as a store on a disk does, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = self.shuts = 0
        self.gate = asyncio.Event()
        self.opening = asyncio.Event()
        self.error = None

    async def open(self):
        self.opening.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.opened += 1

    async def shut(self):
        self.shuts += 1


@pytest.fixture
async def backend():
    async with MemoryBackend() as backend:
        yield backend


@pytest.fixture
async def queue(backend):
    async with TaskQueue(backend) as queue:
        yield queue


async def stored(queue, task_id):
    (record,) = await queue.backend.get([task_id])
    return record


# -- enqueue -----------------------------------------------------------------------------------------------


async def test_an_enqueued_task_is_in_the_store_when_its_id_is_there(queue):
    record = await stored(queue, await queue.enqueue(f, 1, two=2))
    assert (record.state, record.queue) == (State.QUEUED, "default")


async def test_the_queue_of_the_task_queue_is_where_tasks_wait(backend):
    queue = TaskQueue(backend, queue="mails")
    assert (await stored(queue, await queue.enqueue(f))).queue == "mails"
    assert (await stored(queue, await queue.options(queue="other").enqueue(f))).queue == "other"
    ids = await queue.enqueue_many([Task(f), Task(f, queue="other")])
    assert [(await stored(queue, each)).queue for each in ids] == ["mails", "other"]
    await queue.close()


async def test_a_task_names_who_waits_for_it(queue):
    topic = (await queue._session()).waiter.topic
    ids = [await queue.enqueue(f), *await queue.enqueue_many([Task(f)])]
    assert [(await stored(queue, each)).reply for each in ids] == [topic] * 2


async def test_eta_is_when_and_no_argument(queue):
    eta = datetime.now(UTC) + timedelta(hours=1)
    record = await stored(queue, await queue.enqueue(f, eta=eta))
    assert record.due == round(eta.timestamp() * SECOND)


async def test_options_leave_eta_to_the_function(queue):
    record = await stored(queue, await queue.options(priority=1).enqueue(f, eta=5))
    assert "eta=5" in record.preview


async def test_options_go_through_one_after_the_other(queue):
    record = await stored(queue, await queue.options(priority=1, tags=["x"]).options(priority=2).enqueue(f))
    assert (record.priority, record.tags) == (2, ("x",))


async def test_a_callers_own_id_is_idempotent(queue):
    assert [await queue.options(id="mine").enqueue(f) for _ in range(2)] == ["mine", "mine"]
    assert await queue.stats() == {"default": {"queued": 1}}


async def test_many_are_enqueued_in_order(queue):
    tasks = [Task(f, (n,)) for n in range(100)]
    assert await queue.enqueue_many(tasks) == [each.id for each in tasks]
    assert await queue.enqueue_many(Task(f, (n,)) for n in range(3))
    assert await queue.enqueue_many([]) == []


async def test_many_are_enqueued_all_or_none(queue):
    with pytest.raises(SerializationError):
        await queue.enqueue_many([Task(f), Task(f, (asyncio.get_running_loop(),))])
    assert await queue.stats() == {}


async def test_concurrent_enqueues_are_one_call(queue, monkeypatch):
    calls = []
    put = type(queue.backend).put

    async def count(self, groups):
        calls.append(len(groups))
        return await put(self, groups)

    session = await queue._session()
    monkeypatch.setattr(session._puts, "_call", lambda groups: count(queue.backend, groups))
    await asyncio.gather(*[queue.enqueue(f, n) for n in range(100)])
    assert calls == [100]


@pytest.mark.parametrize(
    "refusal",
    [
        ("unique", "holder", DuplicateTaskError, "holder"),
        ("parent", "gone", DependencyError, "gone"),
        ("cycle", "me", DependencyError, "itself"),
        ("full", "mails", ResourceExhaustionError, "mails"),
        ("payload", "5", SerializationError, "5 bytes"),
        ("group", "", TaskQueueError, "none of the tasks"),
    ],
)
async def test_each_refusal_is_an_error_that_says_why(queue, monkeypatch, refusal):
    why, detail, error, says = refusal

    async def refuse(groups):
        return [[Refused(record.id, why, detail) for record in group] for group in groups]

    session = await queue._session()
    monkeypatch.setattr(session._puts, "_call", refuse)
    with pytest.raises(error, match=says) as caught:
        await queue.options(id="mine").enqueue(f)
    assert (caught.value.task_id, caught.value.operation) == ("mine", "enqueue")
    if why == "unique":
        assert caught.value.existing_id == "holder"


async def test_of_a_refused_group_the_one_at_fault_is_told(queue, monkeypatch):
    async def refuse(groups):
        return [[Refused("a", "group"), Refused("b", "full", "mails"), Refused("c", "group")] for _ in groups]

    session = await queue._session()
    monkeypatch.setattr(session._puts, "_call", refuse)
    with pytest.raises(ResourceExhaustionError) as caught:
        await queue.enqueue_many([Task(f, id=each) for each in "abc"])
    assert caught.value.task_id == "b"


async def test_one_callers_refusal_does_not_touch_another(queue, monkeypatch):
    async def put(groups):
        answers = await queue.backend.put(groups)
        return [
            [Refused("bad", "full", "x")] if group[0].id == "bad" else answers[n]
            for n, group in enumerate(groups)
        ]

    session = await queue._session()
    monkeypatch.setattr(session._puts, "_call", put)
    ids = ["a", "bad", "b"]
    answers = await asyncio.gather(
        *[queue.options(id=each).enqueue(f) for each in ids], return_exceptions=True
    )
    assert answers[0] == "a"
    assert isinstance(answers[1], ResourceExhaustionError)
    assert answers[2] == "b"


# -- results -----------------------------------------------------------------------------------------------


async def test_what_is_not_there_in_time_is_none_or_an_error_as_asked(queue):
    task_id = await queue.enqueue(f)
    assert await queue.get_result(task_id, timeout=0) is None
    assert await queue.get_result(task_id, timeout=timedelta(milliseconds=5)) is None
    with pytest.raises(TimeoutError, match=r"has not ended within 0\.005 s") as caught:
        await queue.get_result(task_id, timeout=0.005, raise_on_timeout=True)
    assert caught.value.task_id == task_id


async def test_results_of_many_are_there_at_once_in_order(queue):
    one, two = await queue.enqueue(f), await queue.enqueue(f)
    await queue.cancel(two, "no more")
    found = await queue.get_results([two, "nobody", one])
    assert [each and each.status for each in found] == ["cancelled", None, "pending"]
    assert found[0].error == "no more"
    assert found[0].completed_at is not None
    assert found[2].completed_at is None


async def test_a_task_without_a_value_has_none_to_deserialize(queue):
    with pytest.raises(ValidationError, match="its status is failed: ValueError: no"):
        queue.deserialize_result(Result("a", "failed", error="ValueError: no"))


async def test_cancelling_is_true_once_and_for_a_waiting_task(queue):
    task_id = await queue.enqueue(f)
    assert await queue.cancel(task_id) is True
    assert await queue.cancel(task_id) is False
    assert (await queue.get_result(task_id)).status == "cancelled"


async def test_the_counts_are_by_queue_and_state(queue):
    await queue.enqueue(f)
    await queue.cancel(await queue.options(queue="q").enqueue(f))
    assert await queue.stats() == {"default": {"queued": 1}, "q": {"cancelled": 1}}


# -- lifecycle ---------------------------------------------------------------------------------------------


async def test_the_first_use_connects_and_the_last_user_closes():
    backend = MemoryBackend()
    one, two = TaskQueue(backend), TaskQueue(backend)
    await one.enqueue(f)
    await two.enqueue(f)
    await one.close()
    assert backend.connected
    await two.close()
    assert not backend.connected


async def test_whoever_connected_a_backend_closes_it(backend):
    async with TaskQueue(backend) as queue:
        await queue.enqueue(f)
    assert backend.connected


async def test_first_calls_at_the_same_time_all_wait_until_the_store_is_open():
    backend = Slow()
    queue = TaskQueue(backend)
    calls = [asyncio.create_task(queue.enqueue(f, n)) for n in range(5)]
    await asyncio.wait_for(backend.opening.wait(), 5)
    backend.gate.set()
    assert len(set(await asyncio.wait_for(asyncio.gather(*calls), 5))) == 5
    assert backend.opened == 1
    await queue.close()
    assert (backend.shuts, backend.connected) == (1, False)


async def test_a_first_call_that_is_cancelled_leaves_the_queue_usable():
    backend = Slow()
    queue = TaskQueue(backend)
    call = asyncio.create_task(queue.enqueue(f))
    await asyncio.wait_for(backend.opening.wait(), 5)
    call.cancel()
    await asyncio.wait([call])
    backend.gate.set()
    assert await queue.enqueue(f)
    await queue.close()
    assert not backend.connected


async def test_a_store_that_could_not_be_opened_is_tried_again():
    backend = Slow()
    backend.gate.set()
    backend.error = StoreAwayError("no route")
    queue = TaskQueue(backend)
    with pytest.raises(StoreAwayError, match="no route"):
        await queue.enqueue(f)
    backend.error = None
    assert await queue.enqueue(f)
    await queue.close()
    assert not backend.connected


async def test_closing_while_the_store_is_opened_leaves_nothing_open():
    backend = Slow()
    queue = TaskQueue(backend)
    call = asyncio.create_task(queue.enqueue(f))
    await asyncio.wait_for(backend.opening.wait(), 5)
    closing = asyncio.create_task(queue.close())
    await asyncio.sleep(0)
    backend.gate.set()
    await asyncio.wait_for(closing, 5)
    with pytest.raises(TaskQueueError, match="closed"):
        await call
    assert not backend.connected


async def test_closing_twice_is_once():
    backend = MemoryBackend()
    queue, other = TaskQueue(backend), TaskQueue(backend)
    await other.connect()
    await queue.connect()
    await queue.close()
    await queue.close()
    assert backend.connected
    await other.close()


async def test_closing_lets_what_is_under_way_come_to_its_end(queue):
    calls = [asyncio.create_task(queue.enqueue(f, n)) for n in range(5)]
    await asyncio.sleep(0)
    await queue.close()
    assert len(await asyncio.gather(*calls)) == 5


async def test_closing_tells_those_who_wait_for_results(queue):
    task_id = await queue.enqueue(f)
    waiting = asyncio.create_task(queue.get_result(task_id))
    waits = (await queue._session()).waiter._waits
    while not waits:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0)
    await queue.close()
    with pytest.raises(TaskQueueError, match="closed"):
        await waiting


def test_a_queue_serves_one_event_loop_after_another_and_keeps_none_of_them():
    queue = TaskQueue(MemoryBackend())
    loops = []

    async def use():
        loops.append(weakref.ref(asyncio.get_running_loop()))
        task_id = await queue.enqueue(f)
        assert await queue.get_result(task_id, timeout=0) is None

    for _ in range(3):
        asyncio.run(use())
    gc.collect()
    assert [loop() for loop in loops[:2]] == [None, None]
    assert len(queue._sessions) <= 1


def test_a_queue_of_two_event_loops_lets_go_of_what_it_took_and_no_more():
    backend = MemoryBackend()
    other, queue = TaskQueue(backend), TaskQueue(backend)
    asyncio.run(other.connect())
    for _ in range(2):
        asyncio.run(queue.enqueue(f))
    asyncio.run(queue.close())
    assert backend.connected
    asyncio.run(other.close())
    assert not backend.connected


# -- cancellation ------------------------------------------------------------------------------------------


async def cancel_at_each_await(call):
    """Cancel a call at its first await, its second, and so on, until it comes to its end uncancelled."""
    for steps in range(100):
        task = asyncio.create_task(call())
        for _ in range(steps):
            await asyncio.sleep(0)
        if task.done():
            await task
            return steps
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.done()
    raise AssertionError("it never came to its end")


async def test_cancelling_an_enqueue_at_each_await_leaves_the_queue_usable(queue):
    assert await cancel_at_each_await(lambda: queue.enqueue(f)) > 2
    assert await queue.enqueue(f)


async def test_cancelling_a_wait_for_a_result_at_each_await_leaves_the_queue_usable(queue):
    ended = await queue.enqueue(f)
    await queue.cancel(ended)
    await cancel_at_each_await(lambda: queue.get_result(ended))
    open_ = await queue.enqueue(f)
    for steps in range(10):
        task = asyncio.create_task(queue.get_result(open_))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert (await queue.get_result(ended)).status == "cancelled"
    waiting = asyncio.create_task(queue.get_result(open_, timeout=5))
    await asyncio.sleep(0)
    await queue.cancel(open_)
    assert (await waiting).status == "cancelled"


# -- text for people ---------------------------------------------------------------------------------------


def test_it_reads_as_what_it_is():
    assert repr(TaskQueue(MemoryBackend(), queue="mails")) == "<TaskQueue 'mails' on MemoryBackend()>"
    assert repr(Task(f)).endswith(" f>")


def test_the_largest_group_is_what_the_docs_say():
    assert module._LARGEST_GROUP == 100_000


async def test_json_takes_registered_functions(backend):
    queue = TaskQueue(backend, JSONSerializer())
    assert (await stored(queue, await queue.enqueue(g, 1))).name == "test_queue.g"
    await queue.close()


async def test_a_store_that_fails_says_so(queue, monkeypatch):
    async def fail(groups):
        raise BackendError("the disk burns")

    monkeypatch.setattr((await queue._session())._puts, "_call", fail)
    with pytest.raises(BackendError, match="burns"):
        await queue.enqueue(f)


def test_ids_sort_by_time():
    ids = [new_id() for _ in range(1000)]
    assert ids == sorted(ids)


@pytest.mark.parametrize("form", ["enqueue", "enqueue_many", "a misfit"])
async def test_an_error_of_an_enqueue_says_of_which_task_it_is(queue, form):
    lock, mine = threading.Lock(), queue.options(id="mine")
    call = {
        "enqueue": lambda: mine.enqueue(f, lock),
        "enqueue_many": lambda: queue.enqueue_many([Task(f, (1,)), Task(f, (lock,), id="mine")]),
        "a misfit": lambda: mine.enqueue(lambda: None, "too much"),
    }[form]
    with pytest.raises((SerializationError, ValidationError)) as caught:
        await call()
    assert (caught.value.task_id, caught.value.operation) == ("mine", "enqueue")


def test_an_error_of_a_result_that_cannot_be_loaded_says_of_which_task_it_is(queue):
    with pytest.raises(SerializationError) as caught:
        queue.deserialize_result(Result("mine", "success", value=b"no pickle"))
    assert (caught.value.task_id, caught.value.operation) == ("mine", "result")
    assert caught.value.cause is not None
