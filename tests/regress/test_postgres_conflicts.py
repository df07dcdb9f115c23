"""Serialization failures and deadlocks in any statement cost nothing: what was asked is done, once.

Nor does anybody keep the others out who dies, or stands still, with all of the namespace in their hands.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import psycopg
import pytest

from sitq import TaskQueue, Worker
from sitq.backends import open_backend
from sitq.backends.base import LIMIT_QUEUE, PAUSE_KEY, PAUSE_QUEUE, Filter, Lease, Share, Want
from sitq.backends.memory import MemoryBackend
from sitq.backends.postgres import PostgresBackend
from sitq.backends.postgres.connection import Connection
from sitq.backends.postgres.line import Line
from sitq.backends.postgres.lines import USUAL, Lines
from sitq.backends.postgres.statements import statements
from sitq.exceptions import BackendError
from sitq.move import Cancel, Change, Delete, Note, Release, Retry, Settle
from sitq.record import Edge, Fair, Limit, Progress, Record, State, Unique
from sitq.testing.conformance.harness import ManualClock
from sitq.testing.model.pair import comparable
from sitq.testing.postgres import Schemas

ELSEWHERE = {
    "instant", "tell", "register", "unregister", "drop_old_listeners", "version", "set_version", "has_schema",
}  # fmt: skip
"""Statements that are about no task: hints, the schema, the time."""

ASIDE = {"plan_by_indexes"} | set(
    re.findall(r"-- name: (\w+)", resources.files("sitq.backends.postgres").joinpath("mend.sql").read_text())
)
"""Statements that have work to do in a damaged store only, and the one that makes a session ready."""


KINDS = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)


def task(id, **fields):
    fields.setdefault("name", "work")
    return Record(id=id, **fields)


def want(claim, limit, *queues, **fields):
    shares = tuple(Share(queue, limit) for queue in queues or ("default",))
    return Want(claim=claim, worker="w", queues=shares, limit=limit, lease=10_000, python="3.11", **fields)


async def story(backend, clock):  # noqa: PLR0915 - it is long
    """All that can be asked of a store, and what it answered."""
    said = []

    async def take(claim, limit, *queues, **fields):
        taken = await backend.take(want(claim, limit, *queues, **fields))
        said.append([comparable(record) for record in taken.records])
        return taken.records

    async def apply(*moves):
        said.append(await backend.apply(moves))

    def renew(*leases):
        channel = backend.lease_channel()
        try:
            said.append(channel.renew(leases, 10_000))
        finally:
            channel.close()

    said.append(await backend.put([[task(f"p{n}")] for n in range(4)]))
    await take("c1", 3)
    await take("c1", 3)
    renew(Lease("p0", "c1"), Lease("p1", "no"))
    await apply(*(Settle(id=f"p{n}", token="c1", state=State.COMPLETED, result=b"r") for n in (0, 1)))
    await apply(Retry(id="p2", token="c1", delay=5))
    clock.advance(10)
    await take("c2", 9)
    await apply(Note(id="p2", token="c2", progress=Progress(0.5), step=("a", b"1")))
    await apply(Cancel(id="p3"), Settle(id="p2", token="c2", state=State.FAILED))
    slot, rate = (Limit("slot", slots=1),), (Limit("rate", rate=1, per=100),)
    said.append(
        await backend.put(
            [
                [task("u1", unique=Unique("key"), queue="q")],
                [task("u2", unique=Unique("key", clash="replace"), queue="q", payload=b"new", due=7)],
                [task("r1", room=9, queue="q")],
                [task("l1", limits=slot, queue="q"), task("l2", limits=slot, queue="q", name="other")],
                [task("l3", limits=rate, queue="q"), task("l4", limits=rate, queue="q")],
                [task("f1", fair=Fair("t"), queue="q"), task("f2", fair=Fair("t2", 2.0), queue="q")],
                [
                    task("child", edges=(Edge("u1"),), queue="q"),
                    task("grand", edges=(Edge("child", "gffff"),)),
                ],
                [task("late", ttl=5, queue="q"), task("wrong", edges=(Edge("nobody"),))],
            ]
        )
    )
    said.append(await backend.put([[task("late", ttl=5, queue="q"), task("later", delay=50, queue="q")]]))
    said.append(await backend.swap(PAUSE_KEY + "slot", None, b"", 20))
    said.append(await backend.swap("cell", None, b"x"))
    clock.advance(10)
    first = await take("c3", 4, "q")
    clock.advance(40)
    await apply(*(Settle(id=one.id, token="c3", state=State.COMPLETED) for one in first))
    await take("c4", 9, "q", leave=frozenset({"other"}))
    said.append(await backend.put([[task("l5", limits=(Limit("slot", slots=2),), queue="q")]]))
    clock.advance(60)
    await take("c5", 9, "q")
    said.append(await backend.swap(LIMIT_QUEUE + "q", None, b'["q",3,5]'))
    await apply(Release(id="l4", token="c5", freeze="rate", delay=3), Change(id="later", priority=5, due=1))
    clock.advance(100_000)  # leases run out
    await take("c6", 9, "q")
    said.append(await backend.swap(PAUSE_QUEUE + "q", None, b"", 5))
    said.append(await backend.swap(PAUSE_QUEUE + "q", b"", None))
    await apply(Delete(id="u1", end=State.COMPLETED), Delete(id="p3"))
    tenants = [task(f"a{n}", fair=Fair("a"), queue="z") for n in range(4)]
    said.append(await backend.put([tenants]))
    await take("c7", 3, "z")
    said.append(await backend.put([[task("b", fair=Fair("b"), queue="z")]]))
    await take("c8", 9, "z")
    await apply(*(Settle(id=f"a{n}", token="c7", state=State.COMPLETED) for n in range(3)))
    ends = [Settle(id=id, token="c8", state=State.COMPLETED, result=b"r") for id in ("a3", "b")]
    await apply(Note(id="b", token="c8", alone=1), *ends)
    said.append(await backend.tend())
    family = [task("e1", queue="y"), task("e2", edges=(Edge("e1"),), queue="y")]
    said.append(await backend.put([[task("y1", queue="y")], [task("y2", ttl=1, queue="y")], family]))
    clock.advance(5)
    await take("c9", 9, "y")
    await apply(Settle(id="e1", token="c9", state=State.COMPLETED))
    await take("c10", 9, "y")
    await apply(Settle(id="e2", token="c10", state=State.COMPLETED))
    await apply(Release(id="y1", token="c9", freeze="rate", delay=3))
    said.append(await backend.put([[task("moved", queue="z")]]))
    await apply(Change(id="moved", queue="q"))
    said.append(await backend.tally())
    said.append([comparable(one) for one in (await backend.scan(Filter())).records])
    wheres = (
        Filter(newest_first=True),
        Filter(states=(State.RUNNING,)),
        Filter(states=(State.RUNNING,), newest_first=True),
        Filter(parent="child"),
        Filter(parent="child", newest_first=True),
    )
    said += [[one.id for one in (await backend.scan(where)).records] for where in wheres]
    said.append(await backend.put([[task("again")]]))
    await backend.append("log", [b"1", b"2", b"3"], 2)
    said.append([event.data for event in await backend.read("log")][-2:])
    said.append(await backend.cells("c"))
    clock.advance(10**13)
    while await backend.tend():
        pass
    said.append(await backend.tally())
    said.append([comparable(one) for one in await backend.get(["p0", "l1"])])
    return said


class Conflicts:
    """Lets each statement of this process fail once: `failed` has their names."""

    def __init__(self, monkeypatch, when, leave=frozenset()):
        self.failed = set()
        self._when = when
        self._leave = leave
        run, call, execute = Connection.run, Connection.call, psycopg.Cursor.execute

        def failing(db, name, go):
            if self._spares(name):
                return go()
            if when == "after" and self._is_open(db.raw):
                go()
            raise self._fail(name)

        def failing_run(db, name, *values):
            return failing(db, name, lambda: run(db, name, *values))

        def failing_call(db, asked):
            return failing(db, asked.name, lambda: call(db, asked))

        def failing_execute(cursor, query, *values, **more):
            """BEGIN and COMMIT have no values, and go another way."""
            name = "begin" if b"pg_advisory_xact_lock" in _bytes(query) else query
            if name not in {"begin", "COMMIT"} or self._spares(name):
                return execute(cursor, query, *values, **more)
            if when == "after" and name == "begin":
                execute(cursor, query, *values, **more)
            raise self._fail(name)

        monkeypatch.setattr(Lines, "idle", lambda self: None)  # threads do all
        monkeypatch.setattr(Connection, "run", failing_run)
        monkeypatch.setattr(Connection, "call", failing_call)
        monkeypatch.setattr(psycopg.Cursor, "execute", failing_execute)

    def _spares(self, name):
        return name in self.failed or name in self._leave

    def _is_open(self, raw):
        return raw.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS

    def _fail(self, name):
        self.failed.add(name)
        return KINDS[len(self.failed) % 2]("others were in the way")


def _bytes(query):
    return query if isinstance(query, bytes) else str(query).encode()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_each_statement_may_fail_once(postgres_url, monkeypatch, when):
    """A deadlock or a serialization failure undoes the transaction, whether or not the statement ran."""
    schemas, clock = Schemas(postgres_url), ManualClock()
    namespace = schemas.get()
    async with MemoryBackend(clock=clock) as oracle:
        expected = await story(oracle, clock)
    clock = ManualClock()
    async with PostgresBackend(postgres_url, namespace=namespace, clock=clock, migrate=True) as backend:
        with monkeypatch.context() as patched:
            conflicts = Conflicts(patched, when, leave=ELSEWHERE)
            answers = await story(backend, clock)
    schemas.put_back([namespace])
    for at, (answer, wanted) in enumerate(zip(answers, expected, strict=True)):
        assert answer == wanted, at
    assert set(statements(namespace)) - conflicts.failed - ELSEWHERE - ASIDE == set()
    assert "COMMIT" in conflicts.failed


async def double(number):
    return 2 * number


@pytest.mark.parametrize("when", ["before", "after"])
async def test_opening_and_hints_may_fail_once_as_well(postgres_url, monkeypatch, when):
    namespace = f"conflicts_{os.urandom(4).hex()}"
    with monkeypatch.context() as patched:
        conflicts = Conflicts(patched, when)
        backend = PostgresBackend(postgres_url, namespace=namespace)
        assert await backend.migrate() > 0
        conflicts.failed -= {"has_schema", "version"}
        async with TaskQueue(backend) as queue:
            worker = Worker(PostgresBackend(postgres_url, namespace=namespace), poll_interval=0.2)
            working = asyncio.create_task(worker.start())
            async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
                ids = [await queue.within(connection).enqueue(double, 0)]
            assert await queue.pauses() == []
            deadline = time.monotonic() + 30
            # A lost connection for hints is made anew a second later, and nobody is told before.
            while len(ids) < 5 or not conflicts.failed >= ELSEWHERE:
                assert time.monotonic() < deadline, ELSEWHERE - conflicts.failed
                task = await queue.submit(double, len(ids))
                assert await task.result(timeout=20) == 2 * len(ids)
                ids.append(task.id)
                await asyncio.sleep(0.05)
            assert queue.deserialize_result(await queue.get_result(ids[0], timeout=20)) == 0
            records = await backend.get(ids)
            await worker.stop()
            await working
    assert {(record.state, record.attempt) for record in records} == {(State.COMPLETED, 1)}
    with contextlib.closing(psycopg.connect(postgres_url, autocommit=True)) as db:
        db.execute(f"DROP SCHEMA {namespace} CASCADE".encode())


async def test_a_call_on_a_line_that_fails_is_done_another_way(postgres_url, monkeypatch):
    schemas, clock = Schemas(postgres_url), ManualClock()
    namespace = schemas.get()
    failed = set()
    ask = Line.ask

    def failing(self, call, told):
        if call.name in failed or call.name in ELSEWHERE:
            ask(self, call, told)
        else:
            failed.add(call.name)
            told(None, KINDS[len(failed) % 2]("others were in the way"))

    async with MemoryBackend(clock=clock) as oracle:
        expected = await story(oracle, clock)
    clock = ManualClock()
    async with PostgresBackend(postgres_url, namespace=namespace, clock=clock, migrate=True) as backend:
        monkeypatch.setattr(Line, "ask", failing)
        answers = await story(backend, clock)
        monkeypatch.undo()
    schemas.put_back([namespace])
    for at, (answer, wanted) in enumerate(zip(answers, expected, strict=True)):
        assert answer == wanted, at
    assert failed == set(USUAL) - ELSEWHERE


HOLDER = """
import os, signal, sys
from sitq.backends.postgres.connection import Connection

with Connection(sys.argv[1], sys.argv[2]).alone(None):
    os.kill(os.getpid(), getattr(signal, sys.argv[3]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
async def test_who_dies_or_stands_still_while_it_holds_the_lock_blocks_nobody(backend, shared_url, how):
    """taskiq-redis: the lock of a killed process had no end.

    https://github.com/taskiq-python/taskiq-redis/issues/131
    """
    url, _, query = shared_url.partition("?namespace=")
    namespace = query.partition("&")[0]
    limits = (Limit("key", slots=1),)  # goes the way of those that need the namespace for themselves
    await backend.put([[task("before", limits=limits)]])
    holder = await asyncio.to_thread(subprocess.Popen, [sys.executable, "-c", HOLDER, url, namespace, how])
    try:
        deadline = time.monotonic() + 30
        while holder.poll() is None and _state(holder.pid) != "T":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        begun = time.monotonic()
        try:
            async with asyncio.timeout(12):
                await backend.put([[task("after", limits=limits)]])
        except (BackendError, TimeoutError) as error:
            pytest.fail(f"it was kept out: {error!r}")
        assert time.monotonic() - begun < 10
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(holder.pid, signal.SIGCONT)
        holder.kill()
        holder.wait()


def _state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def shared_url(url_of):
    return url_of("postgres")


@pytest.fixture
async def backend(shared_url):
    async with open_backend(shared_url) as store:
        yield store
