"""Cancellation at every await of every call: nothing is leaked, mixed up, or left half done.

redis-py once served answers to the wrong callers after a cancellation (CVE-2023-28858, CVE-2023-28859),
asyncpg, SQLAlchemy and aiosqlite gave connections with open transactions back to their pools, and pgqueuer
skipped its last words when it was cancelled:
https://github.com/redis/redis-py/issues/2624
https://github.com/MagicStack/asyncpg/issues/537
https://github.com/sqlalchemy/sqlalchemy/issues/13381
https://github.com/omnilib/aiosqlite/issues/259
https://github.com/janbjorge/pgqueuer/issues/630
https://github.com/procrastinate-org/procrastinate/issues/1446
"""

import asyncio
import contextlib
import gc
import os
import sqlite3
import threading
import types
from itertools import count

import psycopg
import pytest

from sitq import Task, TaskQueue, Worker
from sitq.backends import open_backend
from sitq.backends.base import Filter, Share, Want
from sitq.backends.memory import MemoryBackend
from sitq.backends.postgres import PostgresBackend
from sitq.backends.sqlite import SQLiteBackend
from sitq.exceptions import SitqError
from sitq.functions import python_version
from sitq.move import Cancel, Change, Delete, Lapse, Note, Release, Retry, Settle
from sitq.record import Progress, Record, State

MODES = ["before its answer", "just after its answer"]


@types.coroutine
def cut(awaitable, at, mode, cuts):
    """Go through an awaitable, and cancel the asyncio task at its await number `at`, if it has so many."""
    coroutine = awaitable.__await__()
    step, value, error = 0, None, None
    while True:
        try:
            waited = coroutine.send(value) if error is None else coroutine.throw(error)
        except StopIteration as end:
            return end.value
        if step == at:
            cuts.append(at)
            task = asyncio.current_task()
            if mode == MODES[0] or waited is None:
                task.cancel()
            else:
                waited.add_done_callback(lambda _, task=task: task.cancel())
        step += 1
        try:
            value, error = (yield waited), None
        except BaseException as raised:  # noqa: BLE001 - it belongs to the one who waits
            value, error = None, raised


async def cut_short(make, at, mode):
    """Whether `make()` had so many awaits that it was cancelled there."""
    cuts = []

    async def go():
        return await cut(make(), at, mode, cuts)

    with contextlib.suppress(asyncio.CancelledError, SitqError):
        await asyncio.create_task(go())
    return bool(cuts)


async def sweep(make, after, mode):
    """Cancel what `make()` starts at each of its awaits in turn; look at everything after each time."""
    for at in count():
        was_cut = await cut_short(make, at, mode)
        await after()
        if not was_cut:
            return at
        assert at < 1000
    return None


def want(claim="c", limit=5):
    return Want(
        claim=claim,
        worker="w",
        queues=(Share("default", limit),),
        limit=limit,
        lease=60_000_000,
        python=python_version(),
    )


CALLS = {
    "put": lambda store, n: store.put([[Record(id=f"put{n}", name="work")]]),
    "put of many": lambda store, n: store.put([[Record(id=f"put{n}-{i}", name="work")] for i in range(20)]),
    "take": lambda store, n: store.take(want(f"claim{n}", 1)),
    "take of nothing": lambda store, n: store.take(want(f"none{n}", 0)),
    "settle": lambda store, n: store.apply([Settle(id="a", token="c", state=State.COMPLETED)]),
    "retry": lambda store, n: store.apply([Retry(id="b", token="c")]),
    "release": lambda store, n: store.apply([Release(id="c", token="c")]),
    "note": lambda store, n: store.apply([Note(id="d", token="c", progress=Progress(0.5), step=("s", b"1"))]),
    "cancel": lambda store, n: store.apply([Cancel(id="d"), Cancel(id="x")]),
    "change": lambda store, n: store.apply([Change(id="x", priority=n)]),
    "lapse": lambda store, n: store.apply([Lapse(id="e", token="c")]),
    "delete": lambda store, n: store.apply([Delete(id="x")]),
    "get": lambda store, n: store.get(["a", "b", "unknown"]),
    "scan": lambda store, n: store.scan(Filter(states=(State.QUEUED,))),
    "swap": lambda store, n: store.swap("cell", None, b"1"),
    "cells": lambda store, n: store.cells("cell"),
    "append": lambda store, n: store.append("log", [b"1"]),
    "read": lambda store, n: store.read("log"),
    "tend": lambda store, n: store.tend(),
    "tally": lambda store, n: store.tally(),
    "wait": lambda store, n: waited(store),
    "acquire": lambda store, n: held(store),
    "connect": lambda store, n: store.connect(),
}


async def waited(store):
    listener = store.listen({"queue/default"})
    try:
        return await listener.wait(0.02)
    finally:
        listener.close()


async def held(store):
    await store.acquire()
    await store.release()


async def check_locks(store):
    """Nobody holds anything, once those who asked beside it have been answered."""
    if isinstance(store, MemoryBackend):
        assert not store._store.lock.locked()
    elif isinstance(store, PostgresBackend):
        await no_transaction_is_left_open(store)
    elif isinstance(store, SQLiteBackend):
        engine = store._engine
        with contextlib.closing(sqlite3.connect(store.path, timeout=5)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        async with asyncio.timeout(5):
            while engine.writer.db.raw.in_transaction or engine.reader.db.raw.in_transaction:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
    assert not store._turn.locked()


async def no_transaction_is_left_open(store):
    """One with it would keep its locks for ever: https://github.com/sqlalchemy/sqlalchemy/issues/13381

    Of itself the server ends one that does nothing after two seconds.
    """
    async with asyncio.timeout(1):
        while True:
            with contextlib.closing(psycopg.connect(store._conninfo, autocommit=True)) as other:
                left = other.execute(IDLE_IN_TRANSACTION, [f"%{store.namespace}%"]).fetchall()
            if not left:
                return
            await asyncio.sleep(0.01)


IDLE_IN_TRANSACTION = """
SELECT pid FROM pg_stat_activity WHERE application_name = 'sitq' AND state LIKE 'idle in transaction%%'
AND query LIKE %s
"""


@pytest.fixture(params=["memory", "sqlite", "postgres", "redis"])
def make_store(request, tmp_path):
    """Makes backend objects of one store, which are not connected."""
    namespace = f"cancelled_{os.urandom(5).hex()}"
    match request.param:
        case "memory":
            return MemoryBackend
        case "sqlite":
            return lambda: SQLiteBackend(tmp_path / "opened.db")
        case kind:
            url = request.getfixturevalue(f"{kind}_url")
            migrate = "&migrate=true" if kind == "postgres" else ""
            return lambda: open_backend(f"{url}?namespace={namespace}{migrate}")


@pytest.fixture
async def backend(make_store):
    """A connected store of the test's own."""
    async with make_store() as store:
        yield store


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("call", CALLS)
async def test_a_call_of_the_store_that_is_cancelled_anywhere_leaves_nothing_behind(backend, call, mode):
    await backend.put([[Record(id=id, name="work")] for id in "abcdex"])
    await backend.take(want("c", 5))
    await backend.put([[Record(id="echo", name="work", queue="echo", payload=b"echo")]])
    numbers = count()

    async def after():
        await check_locks(backend)
        number = next(numbers)
        assert await backend.put([[Record(id=f"after{number}", name="work", queue="after")]])
        (record,) = await backend.get([f"after{number}"])
        assert record.id == f"after{number}"
        assert await backend.swap("after", None, b"x")
        assert await backend.swap("after", b"x", None)

    async def beside(number):
        """Others who ask at the same time get what they asked for."""
        records = await asyncio.gather(*(backend.get([id]) for id in ("echo", "a", "nobody")))
        assert [record and record.id for (record,) in records] == ["echo", "a", None]
        kept = await backend.apply([Change(id="echo", priority=number % 100)])
        assert kept == [True]
        assert await backend.put([[Record(id=f"beside{number}", name="work", queue="beside")]])

    def make():
        number = next(numbers)
        others = asyncio.create_task(beside(number))
        others_of.append(others)
        return CALLS[call](backend, number)

    others_of = []
    await sweep(make, after, mode)
    for others in others_of:
        await others
    await backend.close()  # some listen for as long as they are open
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not tasks


@pytest.mark.parametrize("mode", MODES)
async def test_a_claim_that_is_cancelled_anywhere_is_found_again_under_its_id(backend, mode):
    for at in count():
        await backend.put([[Record(id=f"{at}-{one}", name="work")] for one in range(3)])
        was_cut = await cut_short(lambda at=at: backend.take(want(f"claim{at}", 3)), at, mode)
        taken = await backend.take(want(f"claim{at}", 3))
        assert [record.id for record in taken.records] == [f"{at}-{one}" for one in range(3)]
        assert {record.attempt for record in taken.records} == {1}
        if not was_cut:
            break


@pytest.mark.parametrize("mode", MODES)
async def test_opening_and_closing_can_be_cancelled_anywhere(make_store, eventually, mode):
    for at in count():
        store = make_store()
        was_cut = await cut_short(store.connect, at, mode)
        async with store:
            await store.tally()
            await check_locks(store)
        closing = await opened(make_store())
        was_cut |= await cut_short(closing.close, at, mode)
        async with closing:
            await closing.tally()
        if not was_cut:
            break
    await eventually(lambda: not [thread for thread in threading.enumerate() if "sqlite" in thread.name])


async def opened(store):
    await store.connect()
    return store


# -- the public faces --------------------------------------------------------------------------------------


async def double(number):
    return 2 * number


async def slow(number):
    await asyncio.sleep(0.03)
    return 2 * number


class Litter:
    """Collects garbage at every turn of the loop: what nobody holds is gone at once."""

    async def __aenter__(self):
        gc.collect()
        gc.freeze()  # what was there before costs nothing
        self._over = False
        asyncio.get_running_loop().call_soon(self._collect)

    async def __aexit__(self, *_):
        self._over = True
        gc.unfreeze()

    def _collect(self):
        gc.collect()
        if not self._over:
            asyncio.get_running_loop().call_soon(self._collect)


@pytest.mark.parametrize("mode", MODES)
async def test_an_enqueue_that_is_cancelled_anywhere_can_be_repeated(backend, mode):
    numbers = count()
    async with Litter():
        for at in count():
            queue = TaskQueue(backend)
            task = Task(double, (at,), id=f"task-{at}")
            was_cut = await cut_short(lambda q=queue, t=task: q.enqueue_many([t]), at, mode)
            neighbour = await queue.enqueue(double, next(numbers))
            assert await queue.enqueue_many([task]) == [f"task-{at}"]
            assert await queue.get_results([neighbour, f"task-{at}"])
            await queue.close()
            if not was_cut:
                break
    counts = await backend.tally()
    assert sum(counts["default"].values()) == 2 * (at + 1)


FACES = {
    "get_result": lambda queue, done: queue.get_result(done),
    "get_result of what goes on": lambda queue, done: queue.get_result("waiting", timeout=0.05),
    "get_results": lambda queue, done: queue.get_results([done, "waiting"]),
    "handle": lambda queue, done: queue.handle(done).result(timeout=5),
    "submit": lambda queue, done: queue.submit(double, 1),
    "cancel": lambda queue, done: queue.cancel("nobody"),
    "connect": lambda queue, done: queue.connect(),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("face", FACES)
async def test_a_face_that_is_cancelled_anywhere_serves_the_next_caller(backend, face, mode):
    async with TaskQueue(backend) as keeper:
        done = await keeper.enqueue(double, 21)
        await Worker(backend).run(burst=True)
        await keeper.options(id="waiting", delay=3600).enqueue(double, 1)
        for at in count():
            queue = TaskQueue(backend)
            was_cut = await cut_short(lambda queue=queue: FACES[face](queue, done), at, mode)
            result = await queue.get_result(done, timeout=10)
            assert queue.deserialize_result(result) == 42
            await check_locks(backend)
            await queue.close()
            if not was_cut:
                break
    await backend.close()
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


@pytest.mark.parametrize("mode", MODES)
async def test_a_queue_whose_closing_is_cancelled_anywhere_can_be_closed_again(backend, mode):
    for at in count():
        queue = TaskQueue(backend)
        await queue.enqueue(double, at)
        was_cut = await cut_short(queue.close, at, mode)
        await queue.close()
        assert backend._users == 0
        if not was_cut:
            break


@pytest.mark.parametrize("mode", MODES)
async def test_a_worker_that_is_cancelled_anywhere_loses_no_task_and_keeps_no_lease(backend, mode):
    async with TaskQueue(backend) as queue, Litter():
        for at in count():
            ids = [await queue.enqueue(function, at) for function in (double, slow, double)]
            was_cut = await cut_short(
                lambda: Worker(backend, max_concurrency=2, grace=0).run(burst=True), at, mode
            )
            await Worker(backend).run(burst=True)
            for task_id in ids:
                (record,) = await backend.get([task_id])
                assert (record.state, record.crashes, record.failures) == (State.COMPLETED, 0, 0)
            await check_locks(backend)
            assert not [thread for thread in threading.enumerate() if thread.name == "sitq-leases"]
            if not was_cut:
                break
    assert at > 3
    assert backend._users == 0


@pytest.mark.parametrize("mode", MODES)
async def test_a_stop_that_is_cancelled_anywhere_is_a_stop_all_the_same(backend, mode):
    async with TaskQueue(backend) as queue:
        for at in count():
            worker = Worker(backend, grace=5)
            task_id = await queue.enqueue(slow, at)
            working = asyncio.create_task(worker.run())
            while (await backend.get([task_id]))[0].state is State.QUEUED:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            was_cut = await cut_short(worker.stop, at, mode)
            await asyncio.wait_for(working, 20)
            (record,) = await backend.get([task_id])
            assert record.state in {State.COMPLETED, State.QUEUED}  # what had not begun went back
            assert record.crashes == 0
            if not was_cut:
                break
