"""Tasks that are enqueued within the user's own transaction, on each store that can take part in one."""

import asyncio
import contextlib
import os
import sqlite3

import asyncpg
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from sitq import SyncTaskQueue, Task, TaskQueue, ValidationError, Worker
from sitq.backends.base import Share, Want
from sitq.backends.postgres import PostgresBackend
from sitq.backends.sqlite import SQLiteBackend
from sitq.exceptions import BackendError
from sitq.testing.postgres import Schemas


def double(number: int) -> int:
    return 2 * number


@contextlib.asynccontextmanager
async def psycopg_async(url):
    async with await psycopg.AsyncConnection.connect(url) as connection:
        yield connection, connection.commit, connection.rollback


@contextlib.asynccontextmanager
async def psycopg_sync(url):
    with psycopg.connect(url) as connection:
        yield connection, connection.commit, connection.rollback


@contextlib.asynccontextmanager
async def asyncpg_transaction(url):
    connection = await asyncpg.connect(url)
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield connection, transaction.commit, transaction.rollback
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def sqlalchemy_connection(url):
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        yield connection, connection.commit, connection.rollback
    engine.dispose()


@contextlib.asynccontextmanager
async def sqlalchemy_session(url):
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with Session(engine) as session:
        yield session, session.commit, session.rollback
    engine.dispose()


@contextlib.asynccontextmanager
async def sqlalchemy_async_connection(url):
    engine = create_async_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    async with engine.connect() as connection:
        yield connection, connection.commit, connection.rollback
    await engine.dispose()


@contextlib.asynccontextmanager
async def sqlalchemy_async_session_over_asyncpg(url):
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    async with AsyncSession(engine) as session:
        yield session, session.commit, session.rollback
    await engine.dispose()


@contextlib.asynccontextmanager
async def sqlite3_connection(url):
    with contextlib.closing(sqlite3.connect(url)) as connection:
        yield connection, connection.commit, connection.rollback


@contextlib.asynccontextmanager
async def sqlite3_connection_that_begins(url):
    with contextlib.closing(sqlite3.connect(url, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection, lambda: ended(connection, "COMMIT"), lambda: ended(connection, "ROLLBACK")


def ended(connection, sql):
    connection.execute(sql)


@contextlib.asynccontextmanager
async def sqlalchemy_sqlite_connection(url):
    engine = sqlalchemy.create_engine(f"sqlite:///{url}")
    with engine.connect() as connection:
        yield connection, connection.commit, connection.rollback
    engine.dispose()


@contextlib.asynccontextmanager
async def sqlalchemy_sqlite_session(url):
    engine = sqlalchemy.create_engine(f"sqlite:///{url}")
    with Session(engine) as session:
        yield session, session.commit, session.rollback
    engine.dispose()


@contextlib.asynccontextmanager
async def sqlalchemy_async_connection_over_aiosqlite(url):
    engine = create_async_engine(f"sqlite+aiosqlite:///{url}")
    async with engine.connect() as connection:
        yield connection, connection.commit, connection.rollback
    await engine.dispose()


@contextlib.asynccontextmanager
async def sqlalchemy_async_session_over_aiosqlite(url):
    engine = create_async_engine(f"sqlite+aiosqlite:///{url}")
    async with AsyncSession(engine) as session:
        yield session, session.commit, session.rollback
    await engine.dispose()


POSTGRES = [
    psycopg_async,
    psycopg_sync,
    asyncpg_transaction,
    sqlalchemy_connection,
    sqlalchemy_session,
    sqlalchemy_async_connection,
    sqlalchemy_async_session_over_asyncpg,
]
SQLITE = [
    sqlite3_connection,
    sqlite3_connection_that_begins,
    sqlalchemy_sqlite_connection,
    sqlalchemy_sqlite_session,
    sqlalchemy_async_connection_over_aiosqlite,
    sqlalchemy_async_session_over_aiosqlite,
]
WAYS = [
    pytest.param((store, way), id=way.__name__)
    for store, ways in (("postgres_store", POSTGRES), ("sqlite_store", SQLITE))
    for way in ways
]


@pytest.fixture(scope="module")
def schemas(postgres_url):
    return Schemas(postgres_url)


@pytest.fixture
def url(postgres_url):
    return postgres_url


@pytest.fixture
def postgres_store(schemas, url):
    name = schemas.get()
    yield PostgresBackend(url, namespace=name, migrate=True), url
    schemas.put_back([name])


@pytest.fixture
def sqlite_store(tmp_path):
    path = str(tmp_path / "shop.db")
    return SQLiteBackend(path), path


@pytest.fixture(params=WAYS)
def place(request):
    """A store, where connections lead, and a way to make one."""
    store, way = request.param
    return *request.getfixturevalue(store), way


@pytest.fixture
async def queue(postgres_store):
    async with TaskQueue(postgres_store[0]) as queue:
        yield queue


async def done(answer):
    if answer is not None:
        await answer


async def test_a_commit_makes_the_task_visible_and_it_runs(place):
    backend, url, way = place
    async with TaskQueue(backend) as queue, way(url) as (connection, commit, _):
        task_id = await queue.within(connection).options(priority=3).enqueue(double, 21)
        assert (await queue.backend.get([task_id])) == [None]
        await done(commit())
        (record,) = await queue.backend.get([task_id])
        assert record.priority == 3
        await Worker(queue.backend).run(burst=True)
        assert queue.deserialize_result(await queue.get_result(task_id, timeout=5)) == 42


async def test_a_rollback_leaves_nothing(place):
    backend, url, way = place
    async with TaskQueue(backend) as queue, way(url) as (connection, _, rollback):
        task_id = await queue.within(connection).enqueue(double, 1)
        await done(rollback())
        assert (await queue.backend.get([task_id])) == [None]
        assert (await queue.backend.take(_want())).records == []
        assert await queue.backend.tally() == {}


async def test_a_whole_group_goes_with_the_transaction(place):
    backend, url, way = place
    async with TaskQueue(backend) as queue, way(url) as (connection, commit, _):
        parent = Task(double, (1,))
        group = [parent, Task(double, (2,), depends_on=[parent]), *(Task(double, (n,)) for n in range(500))]
        ids = await queue.within(connection).options(queue="other").enqueue_many(group)
        await done(commit())
        assert [record.id for record in await queue.backend.get(ids)] == ids
        await Worker(queue.backend).run(burst=True)
        assert await queue.backend.tally() == {"default": {"completed": 502}}


async def test_a_waiting_worker_hears_of_the_commit(place):
    backend, url, way = place
    # By polling alone the task would start long after the deadline.
    async with TaskQueue(backend) as queue, Worker(queue.backend, poll_interval=3600):
        first = await queue.enqueue(double, 1)
        assert await queue.get_result(first, timeout=60)
        async with way(url) as (connection, commit, _):
            task_id = await queue.within(connection).enqueue(double, 21)
            await done(commit())
        assert await queue.get_result(task_id, timeout=60)


@pytest.mark.parametrize("set_for", ["engine", "connection"])
async def test_autocommit_of_sqlalchemy_is_no_transaction(queue, url, set_for):
    """Its rollback would leave the task there."""
    options = {"isolation_level": "AUTOCOMMIT"}
    engine = sqlalchemy.create_engine(
        url.replace("postgresql://", "postgresql+psycopg://"), **(options if set_for == "engine" else {})
    )
    with engine.connect() as connection:
        if set_for == "connection":
            connection.execution_options(**options)
        with pytest.raises(ValidationError, match="AUTOCOMMIT"):
            await queue.within(connection).enqueue(double, 1)
        with Session(connection) as session, pytest.raises(ValidationError, match="AUTOCOMMIT"):
            await queue.within(session).enqueue(double, 1)
    engine.dispose()
    assert (await queue.tasks()).tasks == ()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_autocommit_of_sqlalchemys_async_engines_is_no_transaction(queue, url, driver):
    address = url.replace("postgresql://", f"postgresql+{driver}://")
    engine = create_async_engine(address, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        with pytest.raises(ValidationError, match="AUTOCOMMIT"):
            await queue.within(connection).enqueue(double, 1)
        async with AsyncSession(connection) as session:
            with pytest.raises(ValidationError, match="AUTOCOMMIT"):
                await queue.within(session).enqueue(double, 1)
    await engine.dispose()
    assert (await queue.tasks()).tasks == ()


def _want():
    shares = (Share("default", 9),)
    return Want(claim=os.urandom(8).hex(), worker="w", queues=shares, limit=9, lease=10**7, python="3.11")


async def test_the_first_claim_after_the_commit_finds_the_task(queue, url):
    async with await psycopg.AsyncConnection.connect(url) as connection:
        task_id = await queue.within(connection).enqueue(double, 1)
        assert (await queue.backend.take(_want())).records == []
    assert [record.id for record in (await queue.backend.take(_want())).records] == [task_id]


async def test_a_waiting_transaction_holds_up_nobody(queue, url):
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await queue.within(connection).enqueue(double, 1)
        parent = await queue.enqueue(double, 2)
        await queue.options(depends_on=[parent], unique="key").enqueue(double, 3)
        await Worker(queue.backend).run(burst=True)
        assert (await queue.backend.tally())["default"]["completed"] >= 2
        await connection.rollback()


async def test_a_task_in_the_inbox_can_be_cancelled(queue, url):
    async with await psycopg.AsyncConnection.connect(url) as connection:
        task_id = await queue.within(connection).enqueue(double, 1)
    assert await queue.cancel(task_id)


@pytest.mark.parametrize("ask", ["get", "cancel"])
async def test_a_task_that_another_takes_out_of_the_inbox_meanwhile_is_found(queue, url, monkeypatch, ask):
    async with await psycopg.AsyncConnection.connect(url) as connection:
        task_id = await queue.within(connection).enqueue(double, 1)
    loop = asyncio.get_running_loop()
    looks = queue.backend._saw_inbox

    def others_look_first(*values):
        asyncio.run_coroutine_threadsafe(other.tally(), loop).result()
        return looks(*values)

    async with PostgresBackend(url, namespace=queue.backend.namespace) as other:
        monkeypatch.setattr(queue.backend, "_saw_inbox", others_look_first)
        if ask == "get":
            (record,) = await queue.backend.get([task_id])
            assert record.id == task_id
        else:
            assert await queue.cancel(task_id)


async def test_a_parent_that_is_not_there_fails_the_task_with_the_reason(queue, url):
    async with await psycopg.AsyncConnection.connect(url) as connection:
        task_id = await queue.within(connection).options(depends_on=["nobody"]).enqueue(double, 1)
    result = await queue.get_result(task_id, timeout=5)
    assert result.status == "failed"
    assert "nobody" in result.error


async def test_a_connection_without_a_transaction_is_refused(queue, url):
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        with pytest.raises(ValidationError, match="begin one"):
            await queue.within(connection).enqueue(double, 1)


@pytest.mark.parametrize("connection", [None, "postgresql://", object()])
async def test_what_is_no_connection_is_refused(queue, connection):
    with pytest.raises(ValidationError, match="psycopg or asyncpg"):
        await queue.within(connection).enqueue(double, 1)


@pytest.mark.parametrize(
    ("store", "connect"), [("postgres_store", psycopg.connect), ("sqlite_store", sqlite3.connect)]
)
def test_code_without_an_event_loop_has_it_too(request, store, connect):
    backend, url = request.getfixturevalue(store)
    with SyncTaskQueue(backend) as queue, contextlib.closing(connect(url)) as db:
        queue.enqueue(double, 0)  # which makes the file
        tasks = queue.within(db).enqueue_many([Task(double, (1,)), Task(double, (2,))])
        db.rollback()
        task = queue.within(db).options(priority=1).enqueue(double, 3)
        db.commit()
        assert [queue.task_info(one) is None for one in (*tasks, task)] == [True, True, False]


def test_code_without_an_event_loop_is_told_of_a_connection_that_needs_one(tmp_path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}")
    queue = SyncTaskQueue(SQLiteBackend(tmp_path / "shop.db"))
    with queue, pytest.raises(ValidationError, match="is for event loops"):
        queue.within(AsyncSession(engine))


async def test_a_store_without_transactions_says_so():
    async with TaskQueue("memory://") as queue:
        with pytest.raises(BackendError, match="transaction"):
            await queue.within(object()).enqueue(double, 1)
