"""Tasks that are enqueued within the user's own transaction on the file of a SQLite store."""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from sitq import ConcurrencyLimit, Task, TaskQueue, Unique, ValidationError, Worker
from sitq.backends.sqlite import SQLiteBackend
from sitq.backends.sqlite.connection import Connection
from sitq.backends.sqlite.vigil import Vigil
from sitq.exceptions import (
    BackendError,
    DependencyError,
    DuplicateTaskError,
    QueueFullError,
    ResourceExhaustionError,
)

WORKER = """
import asyncio, sys
from sitq import TaskQueue, Worker
from sitq.backends.sqlite import SQLiteBackend

async def main(path):
    backend = SQLiteBackend(path)
    async with TaskQueue(backend), Worker(backend, poll_interval=3600):
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main(sys.argv[1]))
"""

PRODUCER = """
import asyncio, sqlite3, sys
from sitq import TaskQueue
from sitq.backends.sqlite import SQLiteBackend

async def main(path, commits):
    async with TaskQueue(SQLiteBackend(path)) as queue:
        connection = sqlite3.connect(path)
        task_id = await queue.within(connection).enqueue(abs, -1)
        if commits:
            connection.commit()
        print(task_id, flush=True)
        sys.stdin.read()

asyncio.run(main(sys.argv[1], sys.argv[2] == "commits"))
"""


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "shop.db")


@pytest.fixture
async def queue(path):
    async with TaskQueue(SQLiteBackend(path)) as queue:
        yield queue


@pytest.fixture
def connection(queue, path):
    """One with a row of the user's own in an open transaction."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (number INTEGER)")
        connection.execute("INSERT INTO orders VALUES (1)")
        yield connection


def orders(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT number FROM orders").fetchall()


@contextlib.contextmanager
def process(script, *arguments):
    child = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


# -- who hears of it -----------------------------------------------------------------------------------------


async def test_a_worker_in_another_process_hears_of_commits(queue, path):
    # By polling alone the tasks would start long after the deadline.
    with process(WORKER, path), contextlib.closing(sqlite3.connect(path)) as connection:
        assert await queue.get_result(await queue.enqueue(abs, -1), timeout=60)
        for number in range(3):
            task_id = await queue.within(connection).enqueue(abs, -number)
            await asyncio.sleep(0.1 * number)  # others may commit at once, or long after they have enqueued
            connection.commit()
            assert await queue.get_result(task_id, timeout=20)


async def test_nothing_watches_after_a_rollback(queue, connection):
    await queue.within(connection).enqueue(abs, -1)
    vigil = queue.backend._engine.vigil()
    assert vigil._open.is_set()
    connection.rollback()
    async with asyncio.timeout(60):
        while vigil._open.is_set():  # noqa: ASYNC110 - a thread clears it
            await asyncio.sleep(0.01)


async def test_a_queue_can_be_closed_while_the_transaction_is_open(path):
    async with TaskQueue(SQLiteBackend(path)) as queue:
        connection = sqlite3.connect(path)
        task_id = await queue.within(connection).enqueue(abs, -1)
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("sitq-sqlite")]
    assert not any(thread.is_alive() for thread in threads)
    connection.commit()
    connection.close()
    async with TaskQueue(SQLiteBackend(path)) as queue:
        assert await queue.task_info(task_id)


@pytest.mark.parametrize(("ending", "there"), [("commits", True), ("does not", False)])
async def test_what_a_killed_process_had_committed_is_there_and_nothing_else(queue, path, ending, there):
    with process(PRODUCER, path, ending) as child:
        task_id = (await asyncio.to_thread(child.stdout.readline)).strip()
    assert (await queue.task_info(task_id) is not None) is there
    assert await queue.enqueue(abs, -1)


# -- what is judged at once ----------------------------------------------------------------------------------


async def test_a_unique_key_that_is_held_is_an_error_and_the_transaction_goes_on(queue, connection, path):
    connection.commit()
    held = await queue.options(unique="key").enqueue(abs, -1)
    connection.execute("INSERT INTO orders VALUES (2)")
    inside = queue.within(connection)
    with pytest.raises(DuplicateTaskError) as raised:
        await inside.options(unique=Unique("key", clash="raise")).enqueue(abs, -2)
    assert raised.value.existing_id == held
    assert await inside.options(unique=Unique("key", clash="keep")).enqueue(abs, -3) == held
    assert await inside.options(unique=Unique("key", clash="replace")).enqueue(abs, -4) == held
    new = await inside.options(unique=Unique("new", clash="raise")).enqueue(abs, -5)
    with pytest.raises(DuplicateTaskError):
        await inside.options(unique=Unique("new", clash="raise")).enqueue(abs, -6)
    connection.commit()
    assert orders(path) == [(1,), (2,)]
    await Worker(queue.backend).run(burst=True)
    results = [queue.deserialize_result(await queue.get_result(one)) for one in (held, new)]
    assert results == [4, 5]
    assert await queue.backend.tally() == {"default": {"completed": 2}}


async def test_a_key_is_free_again_after_a_rollback(queue, connection):
    await queue.within(connection).options(unique=Unique("key", clash="raise")).enqueue(abs, -1)
    connection.rollback()
    assert await queue.options(unique=Unique("key", clash="raise")).enqueue(abs, -1)


async def test_a_parent_may_be_in_the_store_or_in_the_transaction_and_no_other(queue, connection):
    connection.commit()
    outside = await queue.enqueue(abs, -1)
    inside = await queue.within(connection).enqueue(abs, -2)
    child = await queue.within(connection).options(depends_on=[outside, inside]).enqueue(abs, -3)
    with pytest.raises(DependencyError, match="nobody"):
        await queue.within(connection).options(depends_on=["nobody"]).enqueue(abs, -4)
    connection.commit()
    await Worker(queue.backend).run(burst=True)
    assert queue.deserialize_result(await queue.get_result(child)) == 3
    assert await queue.backend.tally() == {"default": {"completed": 3}}


async def test_a_bound_of_the_queue_holds_and_the_same_id_is_one_task(path):
    async with TaskQueue(SQLiteBackend(path), max_length=2, when_full="wait") as queue:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            inside = queue.within(connection)
            ids = [await inside.options(id="own").enqueue(abs, -1) for _ in range(2)]
            assert ids == ["own", "own"]
            with pytest.raises(QueueFullError):
                await inside.enqueue_many([Task(abs, (-1,)), Task(abs, (-2,))])
            await inside.enqueue(abs, -2)
            connection.commit()
        assert (await queue.backend.tally())["default"] == {"queued": 2}


async def test_limits_tenants_and_later_starts_go_with_it(queue, connection):
    inside = queue.within(connection)
    late = await inside.options(delay=3600).enqueue(abs, -1)
    limited = inside.options(limits=ConcurrencyLimit(1, key="customer"), fair="customer")
    ids = [await limited.enqueue(abs, -number) for number in range(3)]
    connection.commit()
    await Worker(queue.backend).run(burst=True)
    assert (await queue.task_info(late)).state == "queued"
    assert [queue.deserialize_result(await queue.get_result(one)) for one in ids] == [0, 1, 2]


# -- the user's connection -----------------------------------------------------------------------------------


async def test_a_refusal_leaves_no_transaction_behind_that_was_not_there_before(queue, path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        with pytest.raises(DependencyError):
            await queue.within(connection).options(depends_on=["nobody"]).enqueue(abs, -1)
        assert not connection.in_transaction
        assert await queue.enqueue(abs, -1)


async def test_the_users_own_settings_of_the_connection_stay_as_they_are(queue, connection):
    connection.row_factory = lambda cursor, row: {"number": row[0]}
    connection.text_factory = bytes
    task_id = await queue.within(connection).enqueue(abs, -1)
    assert connection.execute("SELECT number FROM orders").fetchall() == [{"number": 1}]
    assert connection.text_factory is bytes
    connection.commit()
    assert await queue.task_info(task_id)


async def test_a_savepoint_of_the_users_decides_about_what_came_after_it(queue, connection):
    kept = await queue.within(connection).enqueue(abs, -1)
    connection.execute("SAVEPOINT half")
    dropped = await queue.within(connection).options(queue="other").enqueue(abs, -2)
    connection.execute("ROLLBACK TO half")
    again = await queue.within(connection).options(queue="other").enqueue(abs, -3)
    connection.commit()
    assert [await queue.task_info(one) is None for one in (kept, dropped, again)] == [False, True, False]


async def test_savepoints_of_sqlalchemy_decide_where_it_begins_transactions_itself(queue, path):
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")

    @sqlalchemy.event.listens_for(engine, "connect")
    def leave_it_to_us(raw, _record):
        raw.isolation_level = None

    @sqlalchemy.event.listens_for(engine, "begin")
    def begin(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    with engine.connect() as connection:
        half = connection.begin_nested()
        dropped = await queue.within(connection).enqueue(abs, -1)
        half.rollback()
        kept = await queue.within(connection).enqueue(abs, -2)
        connection.commit()
    engine.dispose()
    assert [await queue.task_info(one) is None for one in (dropped, kept)] == [True, False]


async def test_a_statement_that_fails_says_why_and_the_transaction_goes_on_without_its_tasks(
    queue, connection, path
):
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 100}")
    large = [Task(len, ("x" * 100_000,)) for _ in range(100)]
    with pytest.raises(ResourceExhaustionError, match="no room"):
        await queue.within(connection).enqueue_many(large)
    connection.commit()
    assert await queue.backend.get([task.id for task in large]) == [None] * len(large)
    assert orders(path) == [(1,)]


# -- what is refused -----------------------------------------------------------------------------------------


async def test_a_connection_without_a_transaction_is_refused(queue, path):
    connection = sqlite3.connect(path, isolation_level=None)
    with contextlib.closing(connection), pytest.raises(ValidationError, match="BEGIN IMMEDIATE"):
        await queue.within(connection).enqueue(abs, -1)
    engine = sqlalchemy.create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, pytest.raises(ValidationError, match="in no transaction"):
        await queue.within(connection).enqueue(abs, -1)
    engine.dispose()
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        with pytest.raises(ValidationError, match="in no transaction"):
            await queue.within(connection).enqueue(abs, -1)
    await engine.dispose()
    assert await queue.backend.tally() == {}


async def test_a_connection_to_another_file_is_refused(queue, path, tmp_path):
    for other in (str(tmp_path / "other.db"), ":memory:"):
        with contextlib.closing(sqlite3.connect(other)) as connection:
            connection.execute("ATTACH ? AS shop", (path,))
            connection.execute("BEGIN")
            with pytest.raises(ValidationError, match="open the store in the file of your data"):
                await queue.within(connection).enqueue(abs, -1)


async def test_the_same_file_by_another_name_is_the_same(queue, path, tmp_path):
    (tmp_path / "link.db").symlink_to(path)
    with contextlib.closing(sqlite3.connect(tmp_path / "link.db")) as connection:
        task_id = await queue.within(connection).enqueue(abs, -1)
        connection.commit()
    assert await queue.task_info(task_id)


async def test_a_transaction_that_was_overtaken_before_its_first_write_is_told_how_to_begin(queue, path):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM sqlite_schema").fetchall()
        await queue.enqueue(abs, -1)
        with pytest.raises(BackendError, match="BEGIN IMMEDIATE"):
            await queue.within(connection).enqueue(abs, -1)
        connection.rollback()
        connection.execute("BEGIN IMMEDIATE")
        task_id = await queue.within(connection).enqueue(abs, -1)
        connection.commit()
    assert await queue.task_info(task_id)


async def test_a_connection_that_cannot_be_used_is_refused(queue, path):
    with ThreadPoolExecutor(1) as other:
        connection = other.submit(sqlite3.connect, path).result()
        with pytest.raises(ValidationError, match="thread"):
            await queue.within(connection).enqueue(abs, -1)
        other.submit(connection.close).result()
    closed = sqlite3.connect(path)
    closed.close()
    with pytest.raises(ValidationError, match="closed"):
        await queue.within(closed).enqueue(abs, -1)


@pytest.mark.parametrize("connection", [None, "sqlite:///shop.db", object()])
async def test_what_is_no_connection_is_refused(queue, connection):
    with pytest.raises(ValidationError, match="a connection of sqlite3"):
        await queue.within(connection).enqueue(abs, -1)


async def test_a_store_in_memory_has_no_file_that_a_connection_could_lead_to(tmp_path):
    async with TaskQueue("sqlite://") as queue:
        assert not queue.backend.traits.transactional
        with (
            contextlib.closing(sqlite3.connect(":memory:")) as connection,
            pytest.raises(ValidationError, match="in memory"),
        ):
            await queue.within(connection).enqueue(abs, -1)


def test_what_watches_for_the_end_of_a_transaction_ends_also_in_the_middle_of_a_look(path):
    vigil = Vigil(Connection(path, "sitq"), lambda: None)
    stopping = threading.Thread(target=vigil.stop)
    look = vigil._can_lock

    def look_while_it_is_stopped():
        if not stopping.ident:
            stopping.start()
            stopping.join(0.2)
        return look()

    vigil._can_lock = look_while_it_is_stopped
    vigil.expect()
    vigil._thread.join(10)
    assert not vigil._thread.is_alive()
    stopping.join()
