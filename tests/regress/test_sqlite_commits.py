"""How SQLite is written to: in turns that are fair, and so that what was answered stays."""

import asyncio
import contextlib
import sqlite3
import threading

import pytest

from sitq.backends.base import Share, Want, queue_topic
from sitq.backends.sqlite import SQLiteBackend, connection, writer
from sitq.backends.sqlite.connection import Connection
from sitq.exceptions import ResourceExhaustionError
from sitq.functions import python_version
from sitq.move import Settle
from sitq.record import Record, State

FULL = 2


@pytest.fixture
async def store(tmp_path):
    async with SQLiteBackend(tmp_path / "tasks.db") as backend:
        yield backend


@pytest.fixture
def open_connection(store):
    """Further connections to the store's file."""
    opened: list[Connection] = []

    def open_one() -> Connection:
        opened.append(Connection(store.path, store.namespace))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


async def test_a_writer_has_the_database_for_itself_from_the_beginning_of_its_transaction(open_connection):
    """A transaction that only asks for the lock at its first write fails there if another one has written."""
    first, second = open_connection(), open_connection()
    entered = threading.Event()

    def write() -> None:
        with second.writing():
            entered.set()

    thread = threading.Thread(target=write)
    with first.writing():
        thread.start()
        assert not await asyncio.to_thread(entered.wait, 0.3)
    assert await asyncio.to_thread(entered.wait, 10)
    thread.join()


async def test_every_connection_that_writes_waits_for_the_disk(store, open_connection):
    """With less, a power loss costs commits that were answered: measured in 188 of 400 images of the disk."""
    (level,) = store._engine.writer.db.raw.execute("PRAGMA synchronous").fetchone()
    assert level == FULL
    (level,) = open_connection().raw.execute("PRAGMA synchronous").fetchone()
    assert level == FULL


def test_pauses_between_tries_for_the_lock_are_short_and_never_in_step(monkeypatch):
    """SQLite's own handler sleeps longer each time: one process does all, and another nothing."""
    pauses: list[float] = []
    monkeypatch.setattr(connection.time, "sleep", pauses.append)

    def busy():
        if len(pauses) < 200:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error
        return "done"

    assert connection.patiently(busy) == "done"
    assert max(pauses) < 0.025
    assert len({round(pause, 6) for pause in pauses[100:]}) > 50


async def test_on_a_full_disk_outcomes_of_running_tasks_still_find_room(store):
    """Otherwise work that was done is done again and again, and never counted."""
    await store.put([[Record(id=f"t{n}", name="work", payload=b"x" * 500)] for n in range(200)])
    want = Want(
        claim="c",
        worker="w",
        queues=(Share("default", 50),),
        limit=50,
        lease=10**9,
        python=python_version(),
    )
    running = (await store.take(want)).records
    db = store._engine.writer.db.raw
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages + 3}")
    refused: Exception | None = None
    for number in range(400):
        try:
            await store.put([[Record(id=f"u{number}", name="work", payload=b"x" * 1000)]])
        except ResourceExhaustionError as error:
            refused = error
            break
    assert refused is not None, "the disk is not full"
    moves = [Settle(id=one.id, token="c", state=State.COMPLETED, result=b"y" * 1000) for one in running]
    try:
        kept = await store.apply(moves)
    except ResourceExhaustionError:
        kept = []
    assert kept == [True] * 50


async def test_others_are_told_of_news_when_they_can_see_it_and_not_before(store, monkeypatch):
    """A hint that comes before its commit is used up for nothing, and the news waits for the next poll."""
    seen: list[int] = []

    def look(_path: str) -> None:
        with contextlib.closing(sqlite3.connect(store.path)) as other:
            seen.append(other.execute("SELECT count(*) FROM sitq_task").fetchone()[0])

    monkeypatch.setattr(writer, "ring", look)
    listener = store.listen({queue_topic("default")})
    await store.put([[Record(id="a", name="work")]])
    assert await listener.wait(5)
    async with asyncio.timeout(5):
        while not seen:  # noqa: ASYNC110 - it is called in the writer's thread
            await asyncio.sleep(0.01)
    listener.close()
    assert seen[0] == 1
