"""Threads that compute give way to the writer while it has much to do, and no longer."""

import asyncio
import sqlite3
import sys
import time

import pytest

from sitq.backends.sqlite import SQLiteBackend, haste
from sitq.backends.sqlite.writer import MANY
from sitq.exceptions import BackendError
from sitq.record import Record


@pytest.fixture(autouse=True)
def usual():
    before = sys.getswitchinterval()
    yield
    deadline = time.monotonic() + 5
    while sys.getswitchinterval() != before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def many(name, n=MANY):
    return [[Record(id=f"{name}{number}", name="work") for number in range(n)]]


def test_the_interval_is_short_for_as_long_as_somebody_asks_for_it():
    usual = sys.getswitchinterval()
    with haste.haste():
        haste.begin()
        assert sys.getswitchinterval() == pytest.approx(haste.INTERVAL)
    assert sys.getswitchinterval() == pytest.approx(haste.INTERVAL)
    haste.end()
    assert sys.getswitchinterval() == usual
    haste.end()  # as in a fork of a process in which it was begun
    with haste.haste():
        assert sys.getswitchinterval() == pytest.approx(haste.INTERVAL)


async def test_a_large_group_is_stored_while_the_event_loop_is_busy(tmp_path):
    path = tmp_path / "tasks.db"
    async with SQLiteBackend(path) as backend:
        db = sqlite3.connect(path)

        def stored():
            return db.execute("SELECT count(*) FROM sitq_task").fetchone()[0]

        def spin():
            deadline = time.monotonic() + 5
            while stored() < MANY and time.monotonic() < deadline:
                pass
            seen.append(stored())

        seen = []
        putting = asyncio.ensure_future(backend.put(many("a")))
        asyncio.get_running_loop().call_soon(spin)
        await putting
        db.close()
        assert seen == [MANY]


async def test_it_is_over_also_for_what_failed_or_was_refused(tmp_path):
    backend = SQLiteBackend(tmp_path / "tasks.db")
    async with backend:
        for groups in (many("a"), many("a"), [*many("b", 10), many("c")[0]]):
            await asyncio.gather(backend.put(groups), backend.put(groups))
        engine = backend._engine
        puts = [asyncio.ensure_future(backend.put(many("d"))) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.to_thread(engine.writer.stop)
        for answer in await asyncio.gather(*puts, return_exceptions=True):
            assert isinstance(answer, list | BackendError)
        assert haste._open == 0
