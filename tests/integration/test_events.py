"""Events: what queues and workers tell, to listeners and in the durable stream."""

import asyncio
import threading
import time

import pytest

from sitq import Cancel, RetryPolicy, Snooze, SyncTaskQueue, Throttled, current_task, facts, teller
from sitq.backends.base import Share, Want
from sitq.exceptions import ValidationError
from sitq.move import Settle
from sitq.queue import TaskQueue
from sitq.record import State
from sitq.worker import Worker

GATE = threading.Event()
STARTED = threading.Event()


@pytest.fixture(autouse=True)
def _afresh():
    GATE.clear()
    STARTED.clear()
    yield
    GATE.set()


async def add(one, two=0):
    return one + two


async def fail():
    raise ValueError("no")


async def snooze():
    if current_task().attempt == 1:
        raise Snooze(0.01)


async def throttle():
    if current_task().attempt == 1:
        raise Throttled(0.01)


async def cancel_itself():
    raise Cancel("enough")


async def hold():
    STARTED.set()
    await asyncio.sleep(60)


def facts_of(events, *names):
    return [(event.kind, *(getattr(event, name) for name in names)) for event in events]


@pytest.fixture
async def told(backend):
    """A queue and a worker that tell a list, in their order."""
    events = []
    queue, worker = TaskQueue(backend), Worker(backend, grace=1, worker_id="w")
    for each in (queue, worker):

        @each.on
        async def hear(event):
            events.append(event)

    queue.heard = events
    queue.worker = worker
    async with queue:
        yield queue


def about(events, task_id):
    return [event for event in events if event.task_id == task_id]


@pytest.mark.parametrize(
    ("function", "args", "kinds"),
    [
        (add, (1,), ["succeeded"]),
        (fail, (), ["retried", "started", "failed"]),
        (snooze, (), ["snoozed", "started", "succeeded"]),
        (throttle, (), ["throttled", "started", "succeeded"]),
        (cancel_itself, (), ["cancelled"]),
        (add, (), ["dead"]),
    ],
)
@pytest.mark.usefixtures("older_producer")
async def test_each_fact_of_a_task_is_told_once_and_in_order(told, eventually, function, args, kinds):
    options = told.options(retry=RetryPolicy(max_retries=1, base=0.01))
    async with told.worker:
        task_id = await options.enqueue(function, *args)
        await told.get_result(task_id, timeout=10)
        await eventually(lambda: about(told.heard, task_id)[-1].kind == kinds[-1])
    events = about(told.heard, task_id)
    assert [event.kind for event in events if event.kind != "enqueued"] == ["started", *kinds]
    assert [event.kind for event in events].count("enqueued") == 1
    attempts = [event.attempt for event in events if event.kind != "enqueued"]
    assert attempts == ([1, 1] if len(kinds) == 1 else [1, 1, 2, 2])
    assert {event.name for event in events} == {f"{__name__}:{function.__name__}"}
    assert {event.worker for event in events if event.kind != "enqueued"} == {"w"}


async def test_an_event_says_what_there_is_to_say(told):
    options = told.options(retry=RetryPolicy(max_retries=1, base=0.01, jitter=False))
    async with told.worker:
        task_id = await options.enqueue(fail)
        await told.get_result(task_id, timeout=10)
    events = {event.kind: event for event in about(told.heard, task_id)}
    assert events["retried"].delay == pytest.approx(0.01)
    assert (events["failed"].error, events["failed"].error_type) == ("no", "ValueError")
    assert events["failed"].seconds >= 0
    assert events["enqueued"].at <= events["failed"].at
    assert events["enqueued"].worker == ""
    assert [told.heard[0].kind, told.heard[-1].kind].count("worker_stopped") == 1


async def test_an_event_comes_after_the_store_has_taken_the_fact(backend, eventually):
    states = []
    worker = Worker(backend, grace=1)

    @worker.on("succeeded", "failed", "started")
    async def look(event):
        (record,) = await backend.get([event.task_id])
        states.append((event.kind, record.state))

    queue = TaskQueue(backend)

    @queue.on("enqueued")
    async def look_too(event):
        (record,) = await backend.get([event.task_id])
        states.append((event.kind, record is not None))

    async with queue, worker:
        await queue.get_result(await queue.enqueue(add, 1), timeout=10)
        await queue.get_result(await queue.enqueue(fail), timeout=10)
        await eventually(lambda: len(states) == 6)
    ends = [each for each in states if each[0] not in {"started", "enqueued"}]
    assert ends == [("succeeded", State.COMPLETED), ("failed", State.FAILED)]
    assert states.count(("enqueued", True)) == 2


async def test_what_a_queue_does_is_told(told, eventually):
    first = await told.enqueue(add, 1)
    assert await told.options(id=first).enqueue(add, 1) == first
    await told.cancel(first, "not needed")
    await told.pause("mails", reason="full")
    await told.pause(function="some:function")
    await told.pause(key="customer:1")
    await told.resume("mails")
    await told.resume("mails")
    second = await told.options(delay=60).enqueue(add, 2)
    await told.change(second, priority=5)
    assert await told.purge("cancelled") == 1
    await eventually(lambda: told.heard[-1].kind == "deleted")
    assert facts_of(told.heard, "task_id", "queue", "name", "key", "reason") == [
        ("enqueued", first, "default", f"{__name__}:add", "", ""),
        ("deduplicated", first, "default", f"{__name__}:add", "", ""),
        ("cancelled", first, "default", f"{__name__}:add", "", ""),
        ("paused", "", "mails", "", "", "full"),
        ("paused", "", "", "some:function", "", ""),
        ("paused", "", "", "", "customer:1", ""),
        ("resumed", "", "mails", "", "", ""),
        ("enqueued", second, "default", f"{__name__}:add", "", ""),
        ("changed", second, "default", f"{__name__}:add", "", ""),
        ("deleted", first, "", "", "", ""),
    ]


async def test_asking_a_running_task_to_stop_and_its_end_are_two_facts(told, eventually):
    async with told.worker:
        task_id = await told.enqueue(hold)
        await eventually(STARTED.is_set)
        await told.cancel(task_id, "too long")
        await told.get_result(task_id, timeout=10)
        await eventually(lambda: about(told.heard, task_id)[-1].kind == "cancelled")
    ends = [event for event in about(told.heard, task_id) if event.kind in {"stopping", "cancelled"}]
    assert sorted(facts_of(ends, "reason", "error")) == [
        ("cancelled", "", "too long"),
        ("stopping", "too long", None),
    ]


async def test_a_worker_that_stops_tells_what_it_hands_back(told, eventually):
    async with told.worker:
        task_id = await told.enqueue(hold)
        await eventually(STARTED.is_set)
        await told.worker.stop(grace=0)
    assert about(told.heard, task_id)[-1].kind == "handed_back"
    assert told.heard[-1].kind == "worker_stopped"


# -- what the store does by itself -------------------------------------------------------------------------


async def test_a_task_that_was_not_started_in_time_is_told(told, eventually):
    task_id = await told.options(ttl=0.01).enqueue(add, 1)
    await asyncio.sleep(0.02)
    async with told.worker:
        await eventually(lambda: about(told.heard, task_id)[-1].kind == "expired")
    assert about(told.heard, task_id)[-1].worker == "w"


async def test_tasks_that_end_with_another_one_are_told(told, eventually):
    parent = await told.enqueue(fail)
    child = await told.options(depends_on=[parent]).enqueue(add, 1)
    grandchild = await told.options(depends_on=[child]).enqueue(add, 1)
    async with told.worker:
        await told.get_result(grandchild, timeout=10)
        await eventually(lambda: about(told.heard, grandchild)[-1].kind == "cancelled")
    for each in (child, grandchild):
        (end,) = [event for event in about(told.heard, each) if event.kind == "cancelled"]
        assert "depends on" in end.error


async def test_an_attempt_whose_lease_ran_out_is_told_by_the_next_worker(backend, told, eventually):
    task_id = await told.enqueue(add, 1)
    taken = await backend.take(want_one())
    assert [record.id for record in taken.records] == [task_id]
    async with told.worker:
        await told.get_result(task_id, timeout=10)
        await eventually(lambda: about(told.heard, task_id)[-1].kind == "succeeded")
    events = [event for event in about(told.heard, task_id) if event.kind != "enqueued"]
    assert facts_of(events, "attempt", "worker") == [
        ("crashed", 1, "dead"),
        ("started", 2, "w"),
        ("succeeded", 2, "w"),
    ]


def want_one():
    share = Share("default", 1)
    return Want(claim="c", worker="dead", queues=(share,), limit=1, lease=1000, python="3.11", reclaim=False)


async def test_an_outcome_that_comes_too_late_is_told_as_lost(backend, told, eventually, stored):
    async with told.worker:
        task_id = await told.enqueue(wait_for_gate)
        await eventually(STARTED.is_set)
        record = await stored(task_id)
        assert await backend.apply([Settle(id=task_id, token=record.token, state=State.COMPLETED)]) == [True]
        GATE.set()
        await eventually(lambda: about(told.heard, task_id)[-1].kind == "lost")


def wait_for_gate():
    STARTED.set()
    GATE.wait(30)
    raise ValueError("late")


# -- listeners ---------------------------------------------------------------------------------------------


async def test_listeners_that_raise_or_are_slow_hurt_no_task(backend, caplog):
    queue, worker = TaskQueue(backend), Worker(backend, grace=1)
    heard = []

    @worker.on
    @queue.on
    def raises(event):
        raise RuntimeError("a listener's own fault")

    @worker.on
    @queue.on
    async def raises_too(event):
        raise RuntimeError("a listener's own fault")

    @worker.on("succeeded")
    def blocks(event):
        GATE.wait(30)
        heard.append(event)

    begun = time.monotonic()
    async with queue, worker:
        for number in range(20):
            result = await queue.get_result(await queue.enqueue(add, number), timeout=10)
            assert result.status == "success"
        GATE.set()
    assert time.monotonic() - begun < 20
    assert len(heard) == 20  # the end waits for what it has not heard yet
    assert "a listener's own fault" in caplog.text


async def test_a_listener_that_never_ends_does_not_hold_up_the_end(backend):
    worker = Worker(backend, grace=1)
    worker.on(lambda event: GATE.wait(30))

    @worker.on
    async def endless(event):
        await asyncio.Event().wait()

    async with asyncio.timeout(15):
        await worker.run(burst=True)


async def test_one_that_is_too_slow_hears_of_a_gap(backend, monkeypatch, eventually):
    monkeypatch.setattr(teller, "_MOST", 5)
    kinds = []
    queue = TaskQueue(backend)
    hearing = threading.Event()

    @queue.on
    def slow(event):
        hearing.set()
        GATE.wait(30)
        kinds.append((event.kind, event.missed))

    async with queue:
        await queue.enqueue(add, 0)
        await eventually(hearing.is_set)
        for number in range(12):
            await queue.enqueue(add, number)
        GATE.set()
    assert kinds == [("enqueued", 0), ("gap", 7), *[("enqueued", 0)] * 5]


async def test_listeners_come_and_go_while_a_worker_works(backend, queue, eventually):
    heard = []
    async with Worker(backend, grace=1) as worker:
        await queue.get_result(await queue.enqueue(add, 1), timeout=10)
        hear = worker.on("succeeded")(lambda event: heard.append(event.task_id))
        second = await queue.enqueue(add, 1)
        await eventually(lambda: heard == [second])
        worker.off(hear)
        worker.off(hear)
        await queue.get_result(await queue.enqueue(add, 1), timeout=10)
    assert heard == [second]


def test_what_cannot_listen_is_refused():
    worker = Worker("memory://")
    with pytest.raises(ValidationError, match="no kind of event 'succeed'"):
        worker.on("succeed")
    with pytest.raises(ValidationError, match="takes a TaskEvent"):
        worker.on(3)
    with pytest.raises(ValidationError, match="does not take one event"):
        worker.on(lambda: None)
    with pytest.raises(ValidationError, match="keep_events"):
        Worker("memory://", keep_events=-1)
    with pytest.raises(ValidationError, match="keep_events"):
        TaskQueue("memory://", keep_events=True)


async def test_without_listeners_nothing_is_put_into_words(backend, queue, monkeypatch):
    def never(*_args, **_kwargs):
        raise AssertionError("words")

    for name in ("placed", "started", "settled", "ended"):
        monkeypatch.setattr(facts, name, never)
    async with Worker(backend, grace=1):
        for function, args in ((add, (1,)), (fail, ())):
            assert await queue.get_result(await queue.enqueue(function, *args), timeout=10) is not None
    assert await backend.read("events") == []


# -- the stream --------------------------------------------------------------------------------------------


async def kinds_of(queue, **where):
    return [event.kind async for event in queue.events(follow=False, **where)]


async def test_the_stream_keeps_what_queues_and_workers_told(backend):
    async with TaskQueue(backend, keep_events=100) as queue:
        await queue.enqueue(add, 1)
    await Worker(backend, keep_events=100).run(burst=True)
    async with TaskQueue(backend) as reader:
        events = [event async for event in reader.events(follow=False)]
        assert facts_of(events) == [
            ("enqueued",),
            ("worker_started",),
            ("started",),
            ("succeeded",),
            ("worker_stopped",),
        ]
        assert [event.cursor for event in events] == [1, 2, 3, 4, 5]
        assert await kinds_of(reader, kinds=["succeeded"]) == ["succeeded"]
        assert await kinds_of(reader, after=3) == ["succeeded", "worker_stopped"]
        assert await kinds_of(reader, after=5) == []


async def test_a_reader_follows_and_goes_on_after_its_cursor(backend):
    async with TaskQueue(backend, keep_events=100) as queue:
        await queue.enqueue(add, 0)
        heard = []

        async def follow(count, **where):
            async for event in queue.events(**where):
                heard.append(event)
                if len(heard) == count:
                    return

        async with asyncio.timeout(15):
            following = asyncio.create_task(follow(3))
            for number in (1, 2):
                await queue.enqueue(add, number)
            await following
            assert [event.cursor for event in heard] == [1, 2, 3]
            await queue.enqueue(add, 3)
            await follow(4, after=heard[-1].cursor)
            assert heard[-1].cursor == 4


async def test_only_what_comes_from_now_on(backend):
    async with TaskQueue(backend, keep_events=100) as queue:
        for number in range(5):
            await queue.enqueue(add, number)
    async with TaskQueue(backend, keep_events=100) as queue:  # closing the first one wrote its events
        stream = queue.events(after=None)
        waiting = asyncio.create_task(anext(stream))
        async with asyncio.timeout(15):
            while not waiting.done():
                await queue.enqueue(add, 9)
                await asyncio.sleep(0.01)
        assert (await waiting).cursor > 5
        await stream.aclose()


async def test_a_gap_says_how_many_the_bound_has_dropped(backend):
    async with TaskQueue(backend, keep_events=10) as queue:
        await queue.enqueue(add, 0)
        first = await anext(queue.events())
        for number in range(30):
            await queue.enqueue(add, number)
    async with TaskQueue(backend) as reader:
        gap, *rest = [event async for event in reader.events(after=first.cursor, follow=False)]
        kept = [event.cursor for event in rest]
        assert kept[-1] == 31
        assert len(kept) <= 30
        assert (gap.kind, gap.missed, gap.cursor) == ("gap", kept[0] - 2, kept[0] - 1)
        assert "gap" not in await kinds_of(reader)


@pytest.mark.parametrize("events", [0, 3])
async def test_a_cursor_beyond_the_end_is_told_as_a_gap_and_all_that_is_kept_follows(backend, events):
    async with TaskQueue(backend, keep_events=10) as queue:
        for number in range(events):
            await queue.enqueue(add, number)
    async with TaskQueue(backend) as reader:
        gap, *rest = [event async for event in reader.events(after=1_000_000, follow=False)]
        assert (gap.kind, gap.missed, gap.cursor) == ("gap", 0, 0)
        assert [event.cursor for event in rest] == list(range(1, events + 1))
        assert "gap" not in await kinds_of(reader, after=events)


async def test_a_store_that_is_away_for_a_moment_loses_no_events(backend, monkeypatch, eventually):
    monkeypatch.setattr(teller, "_PAUSE", 0.01)
    real, fails = backend.append, [OSError("away"), OSError("away")]

    async def append(*args):
        if fails:
            raise fails.pop()
        return await real(*args)

    monkeypatch.setattr(backend, "append", append)
    async with TaskQueue(backend, keep_events=100) as queue:
        await queue.enqueue(add, 1)

        async def written():
            return await kinds_of(queue) == ["enqueued"]

        await eventually(written)


async def test_the_stream_is_written_in_batches(backend, monkeypatch):
    calls = []
    real = backend.append

    async def append(topic, events, most):
        calls.append(len(events))
        await asyncio.sleep(0.01)
        await real(topic, events, most)

    monkeypatch.setattr(backend, "append", append)
    async with TaskQueue(backend, keep_events=1000) as queue:
        await asyncio.gather(*(queue.enqueue(add, number) for number in range(200)))
    assert sum(calls) == 200
    assert len(calls) < 20


async def test_what_another_version_wrote_is_passed_over(backend, queue):
    await backend.append("events", [b"?", b"\x81\xa4kind\xa5other"])
    assert await kinds_of(queue) == []


@pytest.mark.parametrize("given", [{"after": -1}, {"after": "x"}, {"kinds": ["succeed"]}])
async def test_a_cursor_or_kind_that_is_none_is_refused(queue, given):
    with pytest.raises(ValidationError):
        await anext(queue.events(**given))


def test_code_without_an_event_loop_listens_and_reads_too(tmp_path):
    heard = []
    with SyncTaskQueue(f"sqlite:///{tmp_path}/tasks.db", keep_events=100) as queue:
        queue.on("enqueued")(heard.append)
        first, second = queue.enqueue(add, 1), queue.enqueue(add, 2)
        found = []
        for event in queue.events(kinds=["enqueued"]):
            found.append(event.task_id)
            if len(found) == 2:
                break
        queue.off(heard.append)
    assert found == [first, second]
    assert [event.task_id for event in heard] == [first, second]
