import sqlite3

import pytest

from sitq import MemoryBackend, SQLiteBackend
from sitq.backends.base import Share, Want
from sitq.backends.sqlite import statements
from sitq.exceptions import ConfigurationError
from sitq.move import Settle
from sitq.record import Fair, Limit, Record, State, Unique


@pytest.fixture
def fresh_statements():
    for cached in (statements._templates, statements.statements):
        cached.cache_clear()
    yield
    for cached in (statements._templates, statements.statements):
        cached.cache_clear()


async def run_through(backend):
    """What a store answers to a bit of everything."""
    groups = [
        [Record(id="a", priority=1), Record(id="b", limits=(Limit("k", slots=1),))],
        [Record(id="c", fair=Fair("t", 2.0)), Record(id="d", unique=Unique("u"))],
        [Record(id="e", unique=Unique("u"))],
    ]
    answers = [await backend.put(groups)]
    want = Want(claim="x", worker="w", queues=(Share("default", 9),), limit=9, lease=10**7, python="3.11")
    taken = await backend.take(want)
    answers.append([record.id for record in taken.records])
    moves = [Settle(id=record.id, token="x", state=State.COMPLETED, result=b"r") for record in taken.records]
    answers += [await backend.apply(moves), await backend.tally()]
    return answers


async def test_the_sql_for_an_older_sqlite_does_the_same(monkeypatch, fresh_statements):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 37, 2))
    assert not any("->>" in sql for sql in statements.statements("sitq").values())
    async with SQLiteBackend(":memory:") as older, MemoryBackend() as memory:
        assert await run_through(older) == await run_through(memory)


async def test_a_sqlite_that_is_too_old_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(ConfigurationError, match=r"3\.35 or newer"):
        await SQLiteBackend(":memory:").connect()
