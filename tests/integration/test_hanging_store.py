"""A store that hangs without raising holds up no stop for long."""

import asyncio
import threading
import time

import pytest

from sitq.backends.memory import MemoryBackend
from sitq.context import current_task
from sitq.queue import TaskQueue
from sitq.worker import Worker

BEGUN: list[int] = []


async def begins():
    BEGUN.append(current_task().attempt)
    await asyncio.Event().wait()


class Hanging(MemoryBackend):
    """A store whose operations stop answering, one kind of them or all; some do not even heed a cancel."""

    def __init__(self, *kinds, stubborn=False):
        super().__init__()
        self.kinds = kinds
        self.stubborn = stubborn
        self.hangs = False
        self.hung: list[str] = []
        self.gate = threading.Event()

    async def _hang(self, kind):
        if not self.hangs or (self.kinds and kind not in self.kinds):
            return
        self.hung.append(kind)
        while not self.gate.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                if not self.stubborn:
                    raise

    async def open(self):
        await self._hang("open")
        await super().open()

    async def shut(self):
        await self._hang("shut")
        await super().shut()

    async def take(self, want):
        await self._hang("take")
        return await super().take(want)

    async def apply(self, moves):
        await self._hang("apply")
        return await super().apply(moves)

    async def tend(self, budget=1000):
        await self._hang("tend")
        return await super().tend(budget)

    async def append(self, topic, events, most=10_000):
        await self._hang("append")
        await super().append(topic, events, most)


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """The bounds are seconds; here they are a tenth of that, so that the test need not wait for them."""
    BEGUN.clear()
    monkeypatch.setattr("sitq.worker.shift.CLEAN_UP", 0.2)
    monkeypatch.setattr("sitq.worker.settle._LAST_MOMENT", 0.1)
    monkeypatch.setattr("sitq.worker.worker._PATIENCE", 0.5)


@pytest.mark.parametrize("stubborn", [False, True])
@pytest.mark.parametrize("kinds", [("take",), ("apply",), ("shut",), ()])
async def test_a_stop_ends_within_the_grace_and_a_bounded_time(kinds, stubborn):
    backend = Hanging(*kinds, stubborn=stubborn)
    queue = TaskQueue(backend)
    await queue.enqueue(begins)
    worker = Worker(backend, grace=0.3, poll_interval=0.01)
    started = asyncio.create_task(worker.start())
    while not BEGUN:  # noqa: ASYNC110 - the task runs in this very loop
        await asyncio.sleep(0.005)
    backend.hangs = True
    worker._shift._wake.set()  # it claims, and hangs there
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await asyncio.wait_for(worker.stop(), 10)
    await asyncio.wait_for(started, 10)
    assert time.monotonic() - began < 5
    backend.gate.set()
    backend.hangs = False
    await asyncio.sleep(0.03)
    await queue.close()


async def test_a_store_that_does_not_even_open_holds_up_no_stop():
    backend = Hanging("open")
    backend.hangs = True
    worker = Worker(backend)
    started = asyncio.create_task(worker.start())
    while not backend.hung:  # noqa: ASYNC110 - it hangs in this very loop
        await asyncio.sleep(0.005)
    await worker.stop()
    await asyncio.wait_for(started, 5)


async def test_what_a_hanging_claim_has_taken_all_the_same_is_handed_back():
    """The store answers again when it is asked once more: nothing waits for a lease to run out."""
    backend = Hanging("take")
    async with TaskQueue(backend) as queue:
        worker = Worker(backend, grace=0.2, poll_interval=0.01)
        started = asyncio.create_task(worker.start())
        while worker._shift is None:  # noqa: ASYNC110 - it starts in this very loop
            await asyncio.sleep(0.005)
        take = MemoryBackend.take

        async def takes_and_hangs(want):
            taken = await take(backend, want)
            if taken.records and want.limit:
                backend.hung.append("take")
                await asyncio.sleep(60)
            return taken

        backend.take = takes_and_hangs
        task_id = await queue.enqueue(begins)
        while not backend.hung:  # noqa: ASYNC110 - it hangs in this very loop
            await asyncio.sleep(0.005)
        await asyncio.wait_for(worker.stop(), 5)
        await asyncio.wait_for(started, 5)
        (record,) = await backend.get([task_id])
    assert (record.state, record.owner, record.crashes, BEGUN) == ("queued", None, 0, [])
