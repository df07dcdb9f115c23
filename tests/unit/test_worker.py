import asyncio
import re
import threading
from datetime import timedelta

import pytest

from sitq.backends.base import Lease, Renewal
from sitq.backends.memory import MemoryBackend
from sitq.codec import Codec
from sitq.exceptions import ConnectionError as StoreAwayError
from sitq.exceptions import ValidationError, WorkerError
from sitq.queue import TaskQueue
from sitq.record import Record
from sitq.worker import Worker
from sitq.worker.run import Interruption, Run
from sitq.worker.settings import make_settings
from sitq.worker.shift import Shift

DEFAULTS = {
    "queues": None,
    "max_concurrency": 10,
    "process_concurrency": None,
    "poll_interval": 1.0,
    "lease": 10.0,
    "grace": 20.0,
    "worker_id": None,
}


def settings(**given):
    return make_settings(**(DEFAULTS | given))


class Slow(MemoryBackend):
    """Takes its time to open, as a store on a disk does."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.opening = asyncio.Event()
        self.error: Exception | None = None

    async def open(self):
        self.opening.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error


# -- settings ----------------------------------------------------------------------------------------------


def test_queues_are_served_in_strict_order_or_by_weight():
    assert settings().queues == {"default": 0.0}
    assert settings(queues=["b", "a"]).queues == {"b": 0.0, "a": 0.0}
    assert settings(queues={"b": 2, "a": 0.5}).queues == {"b": 2.0, "a": 0.5}


def test_durations_are_seconds_or_timedeltas():
    made = settings(poll_interval=timedelta(seconds=2), lease=timedelta(seconds=4), grace=0)
    assert (made.poll, made.lease, made.grace) == (2.0, 4_000_000, 0.0)


def test_a_lease_is_renewed_four_times_before_it_runs_out():
    assert settings(lease=10).renewal == 2.5


def test_every_worker_has_an_id_of_its_own():
    ids = {settings().worker for _ in range(100)}
    assert len(ids) == 100
    assert settings(worker_id="mine").worker == "mine"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"queues": "emails"}, r"write ['emails']"),
        ({"queues": []}, "queues is empty"),
        ({"queues": {}}, "queues is empty"),
        ({"queues": 5}, "queues must be a list"),
        ({"queues": [5]}, "queue must be text"),
        ({"queues": {"a": 0}}, "weight"),
        ({"queues": {"a": -1}}, "weight"),
        ({"queues": {"a": float("nan")}}, "weight"),
        ({"queues": {"a": float("inf")}}, "weight"),
        ({"queues": {"a": "much"}}, "weight"),
        ({"queues": {"a": True}}, "weight"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"max_concurrency": 1.5}, "max_concurrency"),
        ({"max_concurrency": True}, "max_concurrency"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"poll_interval": -1}, "poll_interval"),
        ({"poll_interval": float("nan")}, "poll_interval"),
        ({"lease": 0.01}, "at least 0.1 s"),
        ({"lease": float("inf")}, "lease"),
        ({"lease": "long"}, "lease"),
        ({"grace": -1}, "grace"),
        ({"grace": float("nan")}, "grace"),
        ({"worker_id": ""}, "worker id"),
        ({"worker_id": "a\nb"}, "worker id"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(given, says):
    with pytest.raises(ValidationError, match=re.escape(says)):
        settings(**given)


# -- start and stop ----------------------------------------------------------------------------------------


async def test_a_stop_before_the_start_ends_it_at_once():
    worker = Worker(MemoryBackend())
    await worker.stop()
    await asyncio.wait_for(worker.start(), 5)


async def test_a_stop_while_the_store_is_opened_ends_it():
    backend = Slow()
    worker = Worker(backend)
    started = asyncio.create_task(worker.start())
    await asyncio.wait_for(backend.opening.wait(), 5)
    await worker.stop()
    backend.gate.set()
    await asyncio.wait_for(started, 5)
    assert not backend.connected


async def test_a_second_start_is_an_error_and_disturbs_nothing():
    backend = Slow()
    worker = Worker(backend)
    started = asyncio.create_task(worker.start())
    await asyncio.wait_for(backend.opening.wait(), 5)
    with pytest.raises(WorkerError, match="already working"):
        await worker.start()
    backend.gate.set()
    while worker._shift is None:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0)
    with pytest.raises(WorkerError, match="already working"):
        await worker.run(burst=True)
    await worker.stop()
    await asyncio.wait_for(started, 5)


async def test_a_worker_can_be_started_again_after_its_stop():
    worker = Worker(MemoryBackend())
    for _ in range(3):
        async with worker:
            pass
    await asyncio.wait_for(worker.run(burst=True), 5)
    await worker.stop()
    await asyncio.wait_for(worker.run(burst=True), 5)


async def test_a_store_that_cannot_be_opened_is_told_and_the_worker_can_be_started_again():
    backend = Slow()
    backend.gate.set()
    backend.error = StoreAwayError("no route")
    worker = Worker(backend)
    with pytest.raises(StoreAwayError, match="no route"):
        await worker.start()
    with pytest.raises(StoreAwayError, match="no route"):
        async with worker:
            await asyncio.sleep(0)
    backend.error = None
    await asyncio.wait_for(worker.run(burst=True), 5)


async def test_the_last_user_closes_what_a_worker_connected():
    backend = MemoryBackend()
    await Worker(backend).run(burst=True)
    assert not backend.connected
    async with backend:
        await Worker(backend).run(burst=True)
        assert backend.connected


async def test_after_a_shift_nobody_listens_and_no_thread_is_left():
    before = set(threading.enumerate())
    async with MemoryBackend() as backend:
        await Worker(backend).run(burst=True)
        assert backend._store.hub.quiet
    assert not [each for each in set(threading.enumerate()) - before if each.name.startswith("sitq")]


@pytest.mark.parametrize("grace", [-1, float("nan"), float("inf"), "soon"])
async def test_a_grace_that_makes_no_sense_is_refused(grace):
    with pytest.raises(ValidationError, match="grace"):
        await Worker(MemoryBackend()).stop(grace)


def test_it_reads_as_what_it_is():
    worker = Worker(MemoryBackend(), queues=["a", "b"], worker_id="w1")
    assert repr(worker) == "<Worker w1 on MemoryBackend() for a, b>"
    assert (worker.id, worker.grace) == ("w1", 20.0)


async def test_news_of_a_lease_is_not_taken_for_news_of_a_later_one():
    backend = MemoryBackend()
    await backend.connect()
    shift = Shift(backend, Codec.of(backend, None, None, trust_store=False), settings(), burst=True)
    run = Run(Record(id="a", token="second"))
    shift._runs.in_flight["a"] = run
    shift._runs.hear([(Lease("a", "first"), Renewal("a", "lost"))])
    assert run.interruption is None
    shift._runs.hear([(Lease("a", "second"), Renewal("a", "stop", "enough"))])
    assert run.interruption is Interruption.STOP


async def test_a_task_that_fails_says_so_in_the_log(caplog):
    async with TaskQueue(MemoryBackend()) as queue:
        task_id = await queue.enqueue(int, "not a number")
        await Worker(queue.backend).run(burst=True)
    (entry,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert task_id in entry.getMessage()
    assert "ValueError: invalid literal" in entry.getMessage()
    assert entry.task_id == task_id
