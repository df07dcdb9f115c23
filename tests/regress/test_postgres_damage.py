"""Whatever the columns of a PostgreSQL store hold, the queue goes on, and errors are those of the docs.

Each column gets one of the wrong values, drawn anew in each run; `make damage` tries them all.

https://github.com/hibiken/asynq/issues/764
"""

import asyncio
import contextlib
import os
import random

import psycopg
import pytest

from sitq.backends.base import Filter
from sitq.backends.postgres import PostgresBackend
from sitq.exceptions import SitqError
from sitq.move import Cancel, Delete, Note, Settle
from sitq.record import Edge, Fair, Limit, Progress, Record, State, Unique
from sitq.testing.postgres import Schemas

VALUES = {
    "bigint": [-1, 0, 2**62, 2**63 - 1, -(2**63)],
    "integer": [-1, 0, 2**31 - 1, -(2**31)],
    "smallint": [-1, 0, 9, 32_000],
    "text": ["", "garbage", "[]", "{", "9" * 30, "x9:", "\x01\U0001f600"],
    "bytea": [b"", b"\xc1", b"\x91\xff"],
    "boolean": [True, False],
    "timestamp with time zone": ["infinity", "-infinity", "1970-01-01"],
}

HASTE = "?options=-c%20synchronous_commit%3Doff"
"""Nobody will cut the power."""

ALL = "SITQ_TEST_DAMAGE" in os.environ

LIMITS = (Limit("few", slots=50), Limit("rate", rate=100, burst=100))


@pytest.fixture(scope="module")
def schemas(postgres_url):
    return Schemas(postgres_url)


@pytest.fixture
async def namespace(schemas, postgres_url):
    name = schemas.get()
    await PostgresBackend(postgres_url, namespace=name).migrate()
    yield name
    schemas.put_back([name])


@pytest.fixture
def db(postgres_url):
    with contextlib.closing(psycopg.connect(postgres_url + HASTE, autocommit=True)) as db:
        yield db


def columns(db, namespace, *tables):
    """Table, column and a wrong value for it, of these tables or of all that a namespace has."""
    found = db.execute(
        "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns "
        "WHERE table_schema = %s ORDER BY table_name, ordinal_position",
        (namespace,),
    ).fetchall()
    for table, column, kind, nullable in found:
        if (table in tables or not tables) and table != "meta" and (table, column) != ("task", "sequence"):
            values = [*VALUES[kind], *([None] if nullable == "YES" else [])]
            for value in values if ALL else [random.choice(values)]:
                yield table, column, value


def damaged(db, table, column, value, where="true"):
    """Write a value into a column; False if the server does not take it."""
    try:
        db.execute(f"UPDATE {table} SET {column} = %s WHERE {where}".encode(), (value,))
    except psycopg.Error:
        return False
    return True


def emptied(db, namespace):
    tables = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (namespace,)).fetchall()
    db.execute(";".join(f"DELETE FROM {namespace}.{name}" for (name,) in tables if name != "meta").encode())


STATES = ("waiting", "running", "scheduled", "ended")

STOPPED = (
    ("running", "lane", -1),
    ("waiting", "lane", -1),
    ("running", "wants", ""),
    ("waiting", "stage", 32_000),
    ("waiting", "attempt", 2**31 - 1),
    ("waiting", "expire_at", 2**63 - 1),
    ("ended", "expire_at", -1),
)
"""What would stop all others if nobody took care: tried in each run."""


@pytest.mark.timeout(600 if ALL else 60)
@pytest.mark.parametrize("states", STATES if ALL else ["any"])
async def test_whatever_a_column_of_a_task_holds_the_queue_goes_on(
    namespace, db, postgres_url, states, *, want, gone_on
):
    wrong = []
    drawn = [(column, value) for _, column, value in columns(db, namespace, "task")]
    if states == "any":
        cases = [*STOPPED, *((random.choice(STATES), *one) for one in drawn)]
    else:
        cases = [(states, *one) for one in drawn]
    for state, column, value in cases:
        emptied(db, namespace)
        async with PostgresBackend(postgres_url + HASTE, namespace=namespace) as store:
            await fill(store, state, want)
            if damaged(db, f"{namespace}.task", column, value, "id = 't1'"):
                async with asyncio.timeout(20):
                    wrong += [(state, column, value, what) for what in await gone_on(store)]
    assert wrong == []


async def fill(store, when, want):
    """Tasks of all kinds; `t1` is the one to be damaged."""
    groups = [
        [Record(id=f"t{n}", name="work", unique=Unique(f"u{n}"), limits=LIMITS, payload=b"x")]
        for n in range(3)
    ]
    groups += [[Record(id="plain", name="work")], [Record(id="fair", fair=Fair("tenant"), ttl=10**9)]]
    if when == "scheduled":
        groups[1][0].delay = 1
    await store.put(groups)
    await store.put([[Record(id="child", name="work", edges=(Edge("t1"),))]])
    if when in {"running", "ended"}:
        taken = await store.take(want(9, lease=1))
        assert len(taken.records) == 5
        if when == "ended":
            token = taken.records[0].token
            await store.apply([Settle(id="t1", token=token, state=State.COMPLETED)])
        await asyncio.sleep(0.002)


async def test_a_damaged_task_is_put_aside_with_its_reason_and_frees_what_it_held(
    namespace, db, postgres_url, want
):
    async with PostgresBackend(postgres_url, namespace=namespace) as store:
        one = (Limit("one", slots=1),)
        await store.put([[Record(id="bad", limits=one)], [Record(id="next", limits=one)]])
        assert [record.id for record in (await store.take(want(5, lease=1))).records] == ["bad"]
        assert damaged(db, f"{namespace}.task", "lane", -1, "id = 'bad'")
        await asyncio.sleep(0.002)
        assert [record.id for record in (await store.take(want(5))).records] == ["next"]
        (bad,) = await store.get(["bad"])
        assert bad.state is State.DEAD
        assert "lane -1 is none of queue" in bad.errors[-1].message
        assert await store.tally() == {"default": {State.RUNNING: 1, State.DEAD: 1}}


@pytest.mark.timeout(600 if ALL else 60)
async def test_whatever_a_table_holds_every_call_answers_or_raises_a_documented_error(
    namespace, db, postgres_url, want
):
    """A worker outlives errors of its store, but not others: they would be taken for its own."""
    wrong = []
    those = list(columns(db, namespace))
    for table, column, value in those if ALL else random.sample(those, 30):
        emptied(db, namespace)
        async with PostgresBackend(postgres_url + HASTE, namespace=namespace) as store:
            token = await fill_all(store, db, namespace, want)
            if damaged(db, f"{namespace}.{table}", column, value):
                wrong += [(table, column, value, what) for what in await ravaged(store, token, want)]
    assert wrong == []


async def fill_all(store, db, namespace, want):
    """Something in each table; answers with the token of t0, which runs."""
    records = [Record(id=f"t{n}", name="work", unique=Unique(f"u{n}"), limits=LIMITS) for n in range(4)]
    records += [Record(id="child", edges=(Edge("t0"),)), Record(id="fair", fair=Fair("tenant"))]
    await store.put([[*records, Record(id="later", delay=10**9)]])
    await store.swap("pause/queue/paused", None, b"1", 10**9)
    await store.swap("limit/queue/default", None, b'["default",100,null]')
    await store.append("events", [b"1"])
    (first,) = (await store.take(want(1))).records
    await store.apply([Note(id=first.id, token=first.token, progress=Progress(0.5), step=("s", b"1"))])
    await store.take(want(1, lease=1))
    db.execute(f"INSERT INTO {namespace}.inbox (tasks) VALUES ('\\x90')".encode())
    db.execute(
        f"INSERT INTO {namespace}.listener VALUES ('t', 'p', clock_timestamp() + interval '1 h')".encode()
    )
    return first.token


async def ravaged(store, token, want):
    foreign = []
    for call in (
        store.tend,
        lambda: store.take(want(5)),
        lambda: store.take(want(5)),
        lambda: store.apply([Settle(id="t0", token=token, state=State.COMPLETED)]),
        lambda: store.apply([Cancel(id="child"), Delete(id="later")]),
        lambda: store.put([[Record(id="fresh", name="work", limits=LIMITS)]]),
        lambda: store.get(["t0", "t1", "child"]),
        lambda: store.swap("cell", None, b"1"),
        lambda: store.cells(""),
        lambda: store.append("events", [b"2"]),
        lambda: store.read("events"),
        store.tally,
        lambda: store.scan(Filter()),
    ):
        try:
            async with asyncio.timeout(20):
                await call()
        except SitqError:
            pass
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            foreign.append(repr(error))
    return foreign
