"""Bytes from strangers: nothing runs that was not signed, nothing hangs, and errors are those of the docs."""

import asyncio
import contextlib
import functools
import os
import sqlite3
import tempfile
from pathlib import Path

import cloudpickle
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sitq import SQLiteBackend, TaskQueue, Worker, current_task
from sitq.backends import open_backend
from sitq.backends.base import Filter, Share, Want
from sitq.backends.memory import MemoryBackend
from sitq.envelope import open_envelope, seal
from sitq.exceptions import SerializationError, SitqError, ValidationError
from sitq.functions import python_version
from sitq.keys import KeyRing
from sitq.move import Cancel, Delete, Note, Release, Settle
from sitq.record import Edge, Fair, Limit, Progress, Record, State, Unique

KEYS = KeyRing([("k", b"0123456789abcdef0123456789abcdef")])
STRANGERS = KeyRing([("k", b"fedcba9876543210fedcba9876543210")])
ALIKE = {"namespace": "sitq", "queue": "default", "task_id": "t", "codec": "cloudpickle"}
BOUNDED = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Canary:
    """Whoever loads it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.open, (self.path, os.O_CREAT | os.O_WRONLY)


async def work(number):
    return number


def opened(data: bytes, keys=KEYS):
    return open_envelope(
        data,
        purpose="task",
        namespace="sitq",
        queue="default",
        task_id="t",
        names=None,
        codec=None,
        keys=keys,
    )


@BOUNDED
@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_an_envelope_or_a_serialization_error(data, magic):
    with contextlib.suppress(SerializationError):
        opened((b"SITQ\x01" if magic else b"") + data)


@BOUNDED
@given(st.data())
def test_no_change_of_a_signed_envelope_is_ever_accepted(data):
    sealed = seal(b"payload" * 5, purpose="task", name="m:f", keys=KEYS, **ALIKE)
    at = data.draw(st.integers(0, len(sealed)))
    what = data.draw(st.sampled_from(["flip", "cut", "insert", "swap"]))
    changed = bytearray(sealed)
    if what == "flip" and at < len(sealed):
        changed[at] ^= data.draw(st.integers(1, 255))
    elif what == "cut":
        del changed[at : at + data.draw(st.integers(1, 40))]
    elif what == "insert":
        changed[at:at] = data.draw(st.binary(min_size=1, max_size=10))
    else:
        other = data.draw(st.integers(0, len(sealed) - 1))
        at = min(at, len(sealed) - 1)
        changed[at], changed[other] = changed[other], changed[at]
    if bytes(changed) == sealed:
        return
    with pytest.raises(SerializationError):
        opened(bytes(changed))


PLACES = [
    "unsigned",
    "of a stranger",
    "for another purpose",
    "for another task",
    "for another queue",
    "bare",
    "cut",
]


def planted(evil, place, purpose, **where):
    """What somebody who can write to the store would put there."""
    other = {"task": "result", "result": "task", "step": "result"}[purpose]
    where = ALIKE | where
    return {
        "signed": lambda: seal(evil, purpose=purpose, keys=KEYS, **where),
        "unsigned": lambda: seal(evil, purpose=purpose, **where),
        "of a stranger": lambda: seal(evil, purpose=purpose, keys=STRANGERS, **where),
        "for another purpose": lambda: seal(evil, purpose=other, keys=KEYS, **where),
        "for another task": lambda: seal(evil, purpose=purpose, keys=KEYS, **where | {"task_id": "other"}),
        "for another queue": lambda: seal(evil, purpose=purpose, keys=KEYS, **where | {"queue": "other"}),
        "bare": lambda: evil,
        "cut": lambda: seal(evil, purpose=purpose, keys=KEYS, **where)[:-1],
    }[place]()


@pytest.fixture
async def shared(tmp_path):
    """A store that others can write to."""
    (tmp_path / "tasks.db").touch()
    (tmp_path / "tasks.db").chmod(0o666)
    async with SQLiteBackend(tmp_path / "tasks.db") as store:
        assert not store.traits.local
        yield store


@pytest.mark.parametrize("place", PLACES)
async def test_no_canary_sings_from_a_payload_that_is_not_signed_for_its_place(tmp_path, shared, place):
    """RQ, huey, arq, streaq: whoever can write to the store runs code in every worker.

    https://github.com/rq/rq/issues/2389
    https://github.com/coleifer/huey/issues/901
    """
    canary = tmp_path / "canary"
    evil = cloudpickle.dumps((Canary(canary), (), {}))
    payload = planted(evil, place, "task", task_id="evil", name="operator:add")
    async with TaskQueue(shared, keys=KEYS) as queue:
        await shared.put([[Record(id="evil", name="operator:add", payload=payload, preview="x")]])
        sound = await queue.enqueue(work, 7)
        await Worker(shared, keys=KEYS).run(burst=True)
        result = await queue.get_result(sound, timeout=10)
        assert queue.deserialize_result(result) == 7
        (record,) = await shared.get(["evil"])
        assert record is not None
        assert record.state is State.DEAD
        assert record.errors[0].message
        with contextlib.suppress(SitqError):
            await queue.get_results(["evil"])
        await queue.tasks()
    assert not canary.exists()


@pytest.mark.parametrize("place", ["signed", *PLACES])
async def test_no_canary_sings_from_a_result_that_is_not_signed_for_its_place(tmp_path, shared, place):
    """Celery ran code from the results of its JSON tasks, too (CVE-2021-23727)."""
    canary = tmp_path / "canary"
    evil = cloudpickle.dumps(Canary(canary))
    async with TaskQueue(shared, keys=KEYS) as queue:
        done = await queue.submit(work, 7)
        child = await queue.options(id="child").submit(work, done)
        await shared.take(want(1))
        (record,) = await shared.get([done.id])
        result = planted(evil, place, "result", task_id=done.id, name=record.name)
        move = Settle(id=done.id, token=record.token, state=State.COMPLETED, result=result)
        assert await shared.apply([move]) == [True]
        await Worker(shared, keys=KEYS).run(burst=True)
        if place == "signed":  # otherwise this would prove nothing
            assert canary.exists()
            return
        assert (await child.outcome(10)).status in {"failed", "dead"}
        assert (await child.outcome(10)).error
        for reading in (done.result(10), queue.retry(done.id), queue.task_info(done.id), queue.tasks()):
            with contextlib.suppress(SitqError):
                await reading
        with pytest.raises(SerializationError):
            queue.deserialize_result(await queue.get_result(done.id, timeout=10))
    assert not canary.exists()


async def in_a_step():
    return await current_task().once("step", work, 1)


@pytest.mark.parametrize("place", ["signed", *PLACES])
async def test_no_canary_sings_from_a_step_that_is_not_signed_for_its_place(tmp_path, shared, place):
    canary = tmp_path / "canary"
    evil = cloudpickle.dumps(Canary(canary))
    async with TaskQueue(shared, keys=KEYS) as queue:
        task = await queue.submit(in_a_step)
        (taken,) = (await shared.take(want(1))).records
        step = planted(evil, place, "step", task_id=task.id, name="step")
        token = taken.token or ""
        assert await shared.apply([Note(id=task.id, token=token, step=("step", step))]) == [True]
        assert await shared.apply([Release(id=task.id, token=token)]) == [True]
        await Worker(shared, keys=KEYS).run(burst=True)
        if place == "signed":
            assert canary.exists()
            return
        assert (await task.outcome(10)).status in {"failed", "dead"}
        assert (await task.outcome(10)).error
    assert not canary.exists()


async def test_the_canary_sings_when_it_may(tmp_path):
    """Otherwise the tests above would prove nothing."""
    canary = tmp_path / "canary"
    evil = cloudpickle.dumps((Canary(canary), (), {}))
    payload = seal(evil, purpose="task", name="operator:add", keys=KEYS, **ALIKE | {"task_id": "evil"})
    async with MemoryBackend() as store:
        await store.put([[Record(id="evil", name="operator:add", payload=payload)]])
        await Worker(store, keys=KEYS).run(burst=True)
    assert canary.exists()


@functools.cache
def columns(*tables):
    """Table and column, of these tables or of all that a namespace has."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tasks.db"

        async def make():
            async with SQLiteBackend(path, synchronous="NORMAL"):
                pass

        asyncio.run(make())
        found = raw(path, "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'sitq_%'")
        return [
            (table, row[1])
            for (table,) in found
            if table in tables or not tables
            for row in raw(path, f"PRAGMA table_info({table})")
            if row[1] != "sequence"  # the row's own number
        ]


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=12),
    st.text(max_size=12).filter(lambda text: "\ud800" not in text),
    st.sampled_from(["[]", "{", "\x00", "9" * 30, -1, 2**62]),
)


@settings(BOUNDED, max_examples=40)
@given(data=st.data(), value=VALUES, when=st.sampled_from(["waiting", "running"]))
def test_whatever_a_column_holds_the_queue_goes_on(tmp_path_factory, data, value, when):
    """Asynq: one bad entry stopped the recovery of all others.

    https://github.com/hibiken/asynq/issues/764
    """
    _, column = data.draw(st.sampled_from(columns("sitq_task")))
    asyncio.run(damaged(tmp_path_factory.mktemp("fuzz") / "tasks.db", column, value, when))


async def damaged(path, column, value, when):
    async with SQLiteBackend(path, synchronous="NORMAL") as store:
        await store.put([[Record(id=f"t{n}", name="work", payload=b"x") for n in range(3)]])
        if when == "running":
            await store.take(want(3, lease=1))
        with contextlib.suppress(sqlite3.IntegrityError):
            raw(path, f"UPDATE sitq_task SET {column} = ? WHERE id = 't1'", value)
        await asyncio.sleep(0.002)
        for _ in range(3):
            with contextlib.suppress(SitqError):
                await store.tend()
        claimed: set[str] = set()
        for _ in range(6):
            with contextlib.suppress(SitqError):
                claimed |= {record.id for record in (await store.take(want(5))).records}
        assert claimed >= {"t0", "t2"}, f"others were held up: {claimed}"
        await store.put([[Record(id="later", name="work")]])
        assert "later" in {record.id for record in (await store.take(want(5))).records}
        for reading in (store.get(["t0", "t1", "t2"]), store.tally(), scanned(store)):
            with contextlib.suppress(SitqError):
                await reading


async def scanned(store):
    return await store.scan(Filter())


@settings(BOUNDED, max_examples=80)
@given(data=st.data(), value=VALUES)
def test_whatever_the_file_holds_every_call_answers_or_raises_a_documented_error(
    tmp_path_factory, data, value
):
    """A worker outlives errors of its store, but not others: they would be taken for its own."""
    full_file()
    table, column = data.draw(st.sampled_from(columns()))
    asyncio.run(ravaged(tmp_path_factory.mktemp("fuzz") / "tasks.db", table, column, value))


LIMITS = (Limit("few", slots=50), Limit("rate", rate=100, burst=100))


@functools.cache
def full_file():
    """A file with something in each of its tables, and the token of the task t0, which runs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tasks.db"
        token = asyncio.run(fill(path))
        return path.read_bytes(), token


async def fill(path):
    async with SQLiteBackend(path, synchronous="NORMAL") as store:
        records = [Record(id=f"t{n}", name="work", unique=Unique(f"u{n}"), limits=LIMITS) for n in range(4)]
        records += [Record(id="child", edges=(Edge("t0"),)), Record(id="fair", fair=Fair("tenant"))]
        await store.put([[*records, Record(id="later", delay=10**9)]])
        await store.swap("pause/queue/paused", None, b"1")
        await store.append("events", [b"1"])
        (first,) = (await store.take(want(1))).records
        await store.apply([Note(id=first.id, token=first.token, progress=Progress(0.5), step=("s", b"1"))])
        await store.take(want(1, lease=1))
    assert first.id == "t0"
    return first.token


async def ravaged(path, table, column, value):
    content, token = full_file()
    path.write_bytes(content)
    with contextlib.suppress(sqlite3.IntegrityError):
        raw(path, f"UPDATE {table} SET {column} = ?", value)
    backend = SQLiteBackend(path, synchronous="NORMAL")
    with contextlib.suppress(SitqError):
        async with asyncio.timeout(20), backend:
            for call in (
                backend.tend,
                lambda: backend.take(want(5)),
                lambda: backend.take(want(5)),
                lambda: backend.apply([Settle(id="t0", token=token, state=State.COMPLETED)]),
                lambda: backend.apply([Cancel(id="child"), Delete(id="later")]),
                lambda: backend.put([[Record(id="fresh", name="work", limits=LIMITS)]]),
                lambda: backend.get(["t0", "t1", "child"]),
                lambda: backend.swap("cell", None, b"1"),
                lambda: backend.cells(""),
                lambda: backend.append("events", [b"2"]),
                lambda: backend.read("events"),
                backend.tally,
                lambda: scanned(backend),
            ):
                with contextlib.suppress(SitqError):
                    await call()


@pytest.mark.parametrize("value", [4e15 + 0.5, "soon", b"\xc1\xff"])
async def test_a_pause_whose_end_cannot_be_read_lasts_and_stops_no_other_queue(tmp_path, value):
    path = tmp_path / "tasks.db"
    async with SQLiteBackend(path) as store:
        await store.put([[Record(id="sound"), Record(id="held", queue="paused")]])
        await store.swap("pause/queue/paused", None, b"", 10**9)
        raw(path, "UPDATE sitq_cell SET until = ?", value)
        for queue, ids in (("default", ["sound"]), ("paused", [])):
            assert [record.id for record in (await store.take(want(5, queue=queue))).records] == ids


def raw(path, statement, *values):
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as database, database:
        return database.execute(statement, values).fetchall()


def want(limit, lease=60_000_000, queue="default"):
    return Want(
        claim=os.urandom(8).hex(),
        worker="w",
        queues=(Share(queue, limit),),
        limit=limit,
        lease=lease,
        python=python_version(),
    )


@settings(BOUNDED, max_examples=30)
@given(body=st.binary(max_size=200))
def test_whatever_a_body_holds_its_task_is_put_aside_with_a_reason(tmp_path_factory, body):
    async def run(path):
        async with SQLiteBackend(path, synchronous="NORMAL") as store:
            await store.put([[Record(id=f"t{n}", name="work", payload=b"x") for n in range(3)]])
            ours = "SELECT sequence FROM sitq_task WHERE id = 't1'"
            raw(path, f"UPDATE sitq_body SET body = ? WHERE sequence = ({ours})", body)
            claimed = {record.id for record in (await store.take(want(5))).records}
            claimed |= {record.id for record in (await store.take(want(5))).records}
            assert claimed >= {"t0", "t2"}
            (record,) = await store.get(["t1"])
            assert record is not None
            if "t1" not in claimed:
                assert record.state is State.DEAD
                assert record.errors[-1].message

    asyncio.run(run(tmp_path_factory.mktemp("fuzz") / "tasks.db"))


SERVERS = (
    *("postgresql://", "postgres://", "redis://", "rediss://", "unix://", "valkey://", "valkeys://"),
    *("redis+cluster://", "rediss+cluster://", "redis+sentinel://", "rediss+sentinel://"),
)
FILES = ("sqlite:///", "memory://", "sqlite:", "", "file:", "sqlite://")

NOBODY = "127.0.0.1:1/"
"""Where no server is."""


@BOUNDED
@given(
    scheme=st.sampled_from(FILES + SERVERS),
    rest=st.text(max_size=30),
    options=st.sampled_from(
        ["", "?namespace=x", "?namespace=", "?synchronous=full", "?a=b&a=c", "?%00=%ff", "#x"]
    ),
)
def test_any_url_is_a_backend_or_a_documented_error(scheme, rest, options):
    with contextlib.suppress(SitqError):
        backend = open_backend(scheme + rest + options)
        assert repr(backend)


@settings(BOUNDED, max_examples=150)
@given(
    scheme=st.sampled_from(SERVERS),
    rest=st.one_of(
        st.text(max_size=12),
        st.sampled_from(["0", "main/0", "x", "-1", "9" * 20]),
        st.builds(
            "{}?{}={}".format,
            st.sampled_from(["", "0", "main/0"]),
            st.sampled_from(
                [
                    *("db", "foo", "protocol", "health_check_interval", "max_connections", "retry"),
                    *("ssl_cert_reqs", "ssl_min_version", "decode_responses", "socket_type", "ssl_ca_certs"),
                    *("sslmode", "connect_timeout", "options", "username", "path", "connection_class"),
                ]
            ),
            st.sampled_from(["", "x", "1", "true", "-1", "%00", "0.5", "disable"]) | st.text(max_size=6),
        ),
    ),
    options=st.sampled_from(["", "&namespace=x", "?namespace=y", "&db=1&db=2"]),
)
def test_any_url_of_a_server_that_is_away_ends_in_a_documented_error(scheme, rest, options):
    async def run():
        backend = open_backend(scheme + NOBODY + rest + options)
        async with asyncio.timeout(10):
            await backend.connect()

    with pytest.raises(SitqError):
        asyncio.run(run())


@BOUNDED
@given(name=st.text(max_size=300), length=st.floats() | st.integers(-(10**30), 10**30))
def test_any_name_or_number_is_taken_or_refused_by_name(name, length):
    queue = TaskQueue("memory://")
    for options in ({"id": name}, {"queue": name}, {"unique": name}, {"delay": length}, {"ttl": length}):
        with contextlib.suppress(ValidationError):
            queue.options(**options)
    with contextlib.suppress(ValidationError):
        TaskQueue("memory://", queue=name)
    with contextlib.suppress(ValidationError):
        Worker("memory://", queues=[name], lease=length)
