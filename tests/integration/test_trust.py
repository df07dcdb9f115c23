"""What others could have written into a store runs nowhere, on every store."""

import contextlib
import os
import pickle
import sqlite3
import tempfile
import time
from pathlib import Path

import msgspec
import psycopg
import pytest

from sitq import KeyRing, SQLiteBackend, TaskQueue, Worker, task
from sitq.backends.base import Backend, Share, Want
from sitq.backends.memory import MemoryBackend
from sitq.backends.postgres import PostgresBackend
from sitq.backends.redis import RedisBackend
from sitq.backends.tables.admission import pack_record
from sitq.copying import copy_tasks
from sitq.doctor import look
from sitq.envelope import seal
from sitq.exceptions import SerializationError
from sitq.functions import python_version
from sitq.ids import token
from sitq.move import Change, Restore
from sitq.record import Failure, Fair, Limit, Progress, Record, State, Unique

NEST = Path(tempfile.gettempdir()) / f"sitq-canary-{os.getpid()}-{token()}"
"""The folder that a canary makes when it is unpickled, in whatever process."""

ONE = KeyRing([("one", b"1" * 32)])
TWO_THEN_ONE = KeyRing([("two", b"2" * 32), ("one", b"1" * 32)])


class Canary:
    def __reduce__(self):
        return os.mkdir, (str(NEST),)


SONG = pickle.dumps(Canary())
TEXT = pickle.dumps(Canary(), protocol=0).decode("ascii")
"""The same for columns of text."""


@task(name="test_trust.double")
def double(number: int) -> int:
    return 2 * number


@pytest.fixture(autouse=True)
def _silence():
    yield
    sung = NEST.exists()
    if sung:
        NEST.rmdir()
    assert not sung


@pytest.fixture(params=["memory", "sqlite", "postgres", "redis"])
async def store(request, tmp_path):
    """A store of each kind that others can write to."""
    made: Backend
    match request.param:
        case "memory":
            made = MemoryBackend()
        case "sqlite":
            made = SQLiteBackend(tmp_path / "a.db")
        case "postgres":
            url = request.getfixturevalue("postgres_url")
            made = PostgresBackend(url, namespace=f"trust_{token()[:20].lower()}", migrate=True)
        case _:
            made = RedisBackend(request.getfixturevalue("redis_url"), namespace=f"trust-{token()}")
    async with made:
        made.traits = msgspec.structs.replace(made.traits, local=False)
        yield made


@pytest.mark.parametrize("song", [SONG, TEXT.encode()], ids=["of bytes", "of text"])
def test_a_canary_sings_when_it_is_unpickled(song):
    pickle.loads(song)
    NEST.rmdir()


def envelope(store: Backend, id: str, purpose: str, name: str) -> bytes:
    return seal(
        SONG,
        purpose=purpose,
        namespace=store.namespace,
        queue="default",
        task_id=id,
        name=name,
        codec="cloudpickle",
    )


def poisoned(store: Backend, id: str, state: State, now: int, *, wrapped: bool) -> Record:
    """A record with a canary in every field that takes one."""
    name = "test_trust.double"
    result = envelope(store, id, "result", name) if wrapped else SONG
    return Record(
        id=id,
        name=name,
        payload=envelope(store, id, "task", name) if wrapped else SONG,
        preview=TEXT,
        state=state,
        created=now,
        due=now,
        attempt=1,
        tags=(TEXT,),
        trace={TEXT: TEXT},
        retry={"most": TEXT},
        steps={"s": envelope(store, id, "step", "s") if wrapped else SONG},
        errors=(Failure(kind="raised", type=TEXT, message=TEXT, traceback=TEXT),),
        limits=(Limit(TEXT, slots=9),),
        unique=Unique(f"{id}{TEXT}"),
        fair=Fair(TEXT),
        batch=TEXT,
        progress=(Progress(0.5, TEXT),),
        result=None if state is State.QUEUED else result,
        finished=None if state is State.QUEUED else now,
        keep_until=None if state is State.QUEUED else now + 10**12,
    )


async def plant_in_claims(store: Backend, now: int, *, wrapped: bool) -> None:
    """A task that runs under a canary as its claim and its owner, with a lease that runs out at once."""
    record = poisoned(store, "held", State.QUEUED, now, wrapped=wrapped)
    record.queue, record.steps, record.errors, record.progress = "held", {}, (), ()
    await store.put([[record]])
    want = Want(
        claim=TEXT, worker=TEXT, queues=(Share("held", 1),), limit=1, lease=1, python=python_version()
    )
    assert [one.id for one in (await store.take(want)).records] == ["held"]


async def plant_in_bytes(store: Backend, file: Path) -> None:
    """A canary in the place of a whole record, and in PostgreSQL's inbox."""
    await store.put([[Record(id="body", name="test_trust.double")]])
    match store:
        case PostgresBackend():
            url, schema = store._engine.conninfo, store.namespace  # type: ignore[union-attr]
            bodies = [
                pack_record(Record(id="inbox", name="test_trust.double", payload=SONG, trace={"a": TEXT}))
            ]
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as db:
                await db.execute(f"UPDATE {schema}.task SET body = %s WHERE id = 'body'".encode(), (SONG,))
                for tasks in (SONG, msgspec.msgpack.encode([SONG]), msgspec.msgpack.encode(bodies)):
                    await db.execute(f"INSERT INTO {schema}.inbox (tasks) VALUES (%s)".encode(), (tasks,))
        case SQLiteBackend():
            with contextlib.closing(sqlite3.connect(file)) as db, db:
                where = "sequence = (SELECT sequence FROM sitq_task WHERE id = 'body')"
                assert db.execute(f"UPDATE sitq_body SET body = ? WHERE {where}", (SONG,)).rowcount == 1
        case RedisBackend():
            assert store._link is not None
            await store._link.client.hset(f"{{{store.namespace}}}:t:body", "b", SONG)
        case _:
            pass  # it keeps no bytes of records


@pytest.mark.parametrize("wrapped", [True, False], ids=["in an envelope", "bare"])
@pytest.mark.parametrize("keys", [None, ONE], ids=["without keys", "with keys"])
async def test_canaries_in_every_field_sing_for_nobody(store, wrapped, keys, tmp_path):
    now = time.time_ns() // 1000
    records = [
        poisoned(store, f"{state}", state, now, wrapped=wrapped)
        for state in (State.QUEUED, State.COMPLETED, State.FAILED)
    ]
    assert await store.apply([Restore(id=one.id, record=one) for one in records]) == [True] * 3
    for cell in ("pause/queue/x", "limit/queue/x", "schedule/x", "copy/lock"):
        await store.swap(cell, None, SONG)
    await store.append("events", [SONG])
    await plant_in_claims(store, now, wrapped=wrapped)
    await plant_in_bytes(store, tmp_path / "a.db")

    async with TaskQueue(store, keys=keys) as queue:
        await queue.tasks()
        await queue.stats()
        with pytest.raises(SerializationError, match=r"sign|envelope"):
            await queue.get_result("completed", timeout=5)
    assert await look(store, keys)
    async with MemoryBackend(namespace="elsewhere") as elsewhere:
        await copy_tasks(store, elsewhere, keys=keys, wait=False)
        ended = []
        for each in (store, elsewhere):  # what is no envelope is as useless there, and moves
            await Worker(each, keys=keys, queues=["default", "held"]).run(burst=True)
            ended += [one.state for one in await each.get(["queued"]) if one is not None]
        (held,) = [one for each in (store, elsewhere) for one in await each.get(["held"]) if one is not None]
        (body,) = [one for each in (store, elsewhere) for one in await each.get(["body"]) if one is not None]
    assert ended in ([State.DEAD], [State.FAILED])
    assert held.state in {State.DEAD, State.FAILED}
    assert body.finished is not None


async def test_an_unsigned_task_is_refused_with_the_remedy(store):
    async with TaskQueue(store) as queue:
        id = await queue.enqueue(double, 4)
        await Worker(store).run(burst=True)
        (record,) = await store.get([id])
        assert record.state in {State.DEAD, State.FAILED}
        assert "SITQ_SECRET_KEYS" in record.errors[-1].message
        assert "trust_store=True" in record.errors[-1].message


async def test_a_store_that_is_declared_trusted_needs_no_keys(store):
    async with TaskQueue(store, trust_store=True) as queue:
        id = await queue.enqueue(double, 4)
        await Worker(store, trust_store=True).run(burst=True)
        assert queue.deserialize_result(await queue.get_result(id, timeout=5)) == 8


async def test_keys_are_changed_while_tasks_wait(store):
    async with TaskQueue(store, keys=ONE) as old, TaskQueue(store, keys=TWO_THEN_ONE) as new:
        ids = [await old.enqueue(double, 4), await new.enqueue(double, 5)]
        await Worker(store, keys=TWO_THEN_ONE).run(burst=True)
        values = [new.deserialize_result(await new.get_result(id, timeout=5)) for id in ids]
    assert values == [8, 10]


@pytest.mark.parametrize("stolen", ["another task's", "a result", "another queue's"])
async def test_what_is_signed_for_one_place_runs_in_no_other(store, stolen):
    async with TaskQueue(store, keys=ONE) as queue:
        victim = await queue.enqueue(double, 4)
        other = await queue.options(queue="other").enqueue(double, 5)
        (record,) = await store.get([victim])
        (source,) = await store.get([other])
        payload = {
            "another task's": source.payload,
            "a result": seal(
                b"x",
                purpose="result",
                namespace=store.namespace,
                queue="default",
                task_id="moved",
                name=record.name,
                codec="cloudpickle",
                keys=ONE,
            ),
            "another queue's": record.payload,
        }[stolen]
        id, where = ("moved", "default") if stolen != "another queue's" else (victim, "third")
        if stolen == "another queue's":
            assert await store.apply([Change(id=victim, queue=where)]) == [True]
        else:
            await store.put([[Record(id=id, name=record.name, queue=where, payload=payload)]])
        await Worker(store, keys=ONE, queues=[where]).run(burst=True)
        (after,) = await store.get([id])
    assert after.state in {State.DEAD, State.FAILED}
    assert "belongs to" in after.errors[-1].message
