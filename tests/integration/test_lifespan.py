"""Lifespans: what frames a worker's work, in this process and under the command."""

import asyncio
import contextlib
import importlib
import signal

import pytest

from sitq.context import current_task
from sitq.exceptions import LifespanError, ValidationError, WorkerError
from sitq.record import State
from sitq.worker import Worker

TRACE: list = []


@pytest.fixture(autouse=True)
def _afresh():
    TRACE.clear()


@contextlib.asynccontextmanager
async def lifespan(worker):
    TRACE.append("in")
    try:
        yield "the state"
    finally:
        await asyncio.sleep(0)
        TRACE.append("out")


async def generator_lifespan(worker):
    TRACE.append("in")
    yield "the state"
    TRACE.append("out")


async def reads(seconds=0.0):
    TRACE.append("running")
    await asyncio.sleep(seconds)
    TRACE.append("ran")
    return current_task().state


def reads_in_thread():
    return current_task().state


@pytest.mark.parametrize("given", [lifespan, generator_lifespan])
async def test_its_state_is_that_of_every_task(queue, working, given):
    async with working(lifespan=given):
        for function in (reads, reads_in_thread):
            result = await queue.get_result(await queue.enqueue(function), timeout=10)
            assert queue.deserialize_result(result) == "the state"
    assert TRACE == ["in", "running", "ran", "out"]


async def test_it_gets_the_worker(working):
    seen = []

    @contextlib.asynccontextmanager
    async def look(worker):
        seen.append(worker)
        yield

    async with working(lifespan=look, worker_id="me") as worker:
        pass
    assert seen == [worker] or not seen  # stopped before it began
    worker = Worker("memory://", lifespan=look)
    await worker.run(burst=True)
    assert seen[-1] is worker


async def test_nothing_is_claimed_before_it_has_begun(queue, backend, stored, eventually):
    go = asyncio.Event()

    @contextlib.asynccontextmanager
    async def slow(worker):
        TRACE.append("starting")
        await go.wait()
        yield

    task_id = await queue.enqueue(reads_in_thread)
    worker = Worker(backend, lifespan=slow)
    work = asyncio.create_task(worker.run(burst=True, ready=lambda: _trace("ready")))
    await eventually(lambda: "starting" in TRACE)
    assert (await stored(task_id)).state is State.QUEUED
    go.set()
    await work
    assert TRACE == ["starting", "ready"]
    assert (await stored(task_id)).state is State.COMPLETED


async def _trace(what):
    TRACE.append(what)


async def test_it_ends_after_the_last_task_of_a_graceful_stop(queue, working, eventually):
    async with working(lifespan=lifespan, grace=10):
        await queue.enqueue(reads, 0.2)
        await eventually(lambda: "running" in TRACE)
    assert TRACE == ["in", "running", "ran", "out"]


async def test_it_ends_after_tasks_that_are_handed_back(queue, backend, eventually, stored):
    worker = Worker(backend, lifespan=lifespan, grace=0)
    async with worker:
        task_id = await queue.enqueue(reads, 60)
        await eventually(lambda: "running" in TRACE)
    assert TRACE == ["in", "running", "out"]
    assert (await stored(task_id)).state is State.QUEUED


@contextlib.asynccontextmanager
async def fails_to_start(worker):
    raise ConnectionError("no database")
    yield


async def fails_to_end(worker):
    yield
    raise OSError("no way out")


async def never_yields(worker):
    return
    yield


@pytest.mark.parametrize(("given", "text"), [(fails_to_start, "no database"), (never_yields, "didn't yield")])
async def test_an_error_at_its_start_keeps_the_worker_from_claiming(queue, backend, stored, given, text):
    task_id = await queue.enqueue(reads)
    worker = Worker(backend, lifespan=given)
    with pytest.raises(LifespanError, match=f"at the start of the worker.*{text}") as caught:
        await worker.start()
    assert isinstance(caught.value, WorkerError)
    assert caught.value.__cause__ is not None
    assert (await stored(task_id)).attempt == 0
    with pytest.raises(LifespanError):  # it may be started again
        await worker.start()


async def test_an_error_at_its_end_is_raised_when_all_tasks_are_settled(queue, backend, stored):
    task_id = await queue.enqueue(reads_in_thread)
    with pytest.raises(LifespanError, match=r"at the end of the worker: OSError: no way out"):
        await Worker(backend, lifespan=fails_to_end).run(burst=True)
    assert (await stored(task_id)).state in {State.COMPLETED, State.FAILED}


async def test_a_stop_cancels_one_that_has_not_begun(backend, eventually):
    @contextlib.asynccontextmanager
    async def endless(worker):
        TRACE.append("starting")
        try:
            await asyncio.Event().wait()
            yield
        finally:
            TRACE.append("given up")

    worker = Worker(backend, lifespan=endless)
    async with asyncio.timeout(10), worker:
        await eventually(lambda: "starting" in TRACE)
    assert TRACE == ["starting", "given up"]


async def test_a_cancelled_worker_leaves_it_too(backend, eventually):
    work = asyncio.create_task(Worker(backend, lifespan=lifespan).run())
    await eventually(lambda: "in" in TRACE)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert TRACE == ["in", "out"]


async def not_a_generator(worker):
    return 1


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (3, "takes the worker"),
        (not_a_generator, "never yields"),
        (lambda: None, "cannot be called with the worker"),
    ],
)
def test_what_is_no_lifespan_is_refused(given, text):
    with pytest.raises(ValidationError, match=text):
        Worker("memory://", lifespan=given)


# -- under the command -------------------------------------------------------------------------------------

APPLICATION = """

from contextlib import asynccontextmanager
from sitq import Depends, Middleware


@asynccontextmanager
async def lifespan(worker):
    trace("traces", "begun")
    yield {"greeting": "hello"}
    trace("traces", "over")


@asynccontextmanager
async def broken(worker):
    raise ConnectionError("no database here")
    yield


class Louder(Middleware):
    async def attempt(self, task, call_next):
        return (await call_next(task)).upper()


def mark():
    return "!"


def greet(name, after=Depends(mark)):
    return current_task().state["greeting"] + " " + name + after


framed = TaskQueue(backend, queue="framed", lifespan=lifespan, middleware=[Louder()], keep_events=100)
framed_worker = Worker(backend, queues=["framed"], lifespan=lifespan, middleware=[Louder()], keep_events=100)
without_start = TaskQueue(backend, queue="framed", lifespan=broken)


@framed_worker.on("succeeded")
def heard(event):
    trace("traces", "heard")
"""


@pytest.fixture
def framed(place):
    with place.file.open("a") as file:
        file.write(APPLICATION)
    place.app = importlib.reload(place.app)
    place.queue = place.app.queue
    return place


@pytest.mark.parametrize("target", ["framed", "framed_worker"])
async def test_the_command_takes_over_what_queue_or_worker_say(framed, target):
    task_id = await framed.app.framed.enqueue(framed.app.greet, "you")
    process = framed.start("worker", f"{framed.name}:{target}")
    assert await framed.value_of(task_id) == "HELLO YOU!"
    process.send_signal(signal.SIGTERM)
    assert await framed.exit_of(process) == 0
    assert len(framed.trace("begun")) == len(framed.trace("over")) == 1
    assert len(framed.trace("heard")) == (target == "framed_worker")
    kinds = [event.kind async for event in framed.app.framed.events(follow=False)]
    assert [kind for kind in kinds if kind != "enqueued"] == [
        "worker_started",
        "started",
        "succeeded",
        "worker_stopped",
    ]
    await framed.app.framed.close()


async def test_the_command_says_why_a_lifespan_failed_and_ends_with_code_4(framed):
    ended = framed.run("worker", f"{framed.name}:without_start")
    assert ended.returncode == 4
    assert "the lifespan failed at the start of the worker: ConnectionError: no database here" in ended.stderr
    assert "in broken" in ended.stderr
    assert "working" not in ended.stderr


async def test_a_supervisor_gives_up_when_no_lifespan_begins(framed):
    process = framed.start("worker", f"{framed.name}:without_start", "--processes=2")
    assert await framed.exit_of(process, 40) == 1
    assert framed.log.count("no database here") >= 5
    assert "died before they were ready" in framed.log
