"""A file that has been used under many names does not keep them: nothing is left of a queue without tasks."""

import pytest

from sitq.backends.sqlite import SQLiteBackend
from sitq.move import Delete
from sitq.record import Limit, Record

NAMED = ("queue", "tally", "kind", "lane", "lane_key", "key", "mark")


@pytest.fixture
async def backend(tmp_path):
    async with SQLiteBackend(tmp_path / "t.db", synchronous="NORMAL") as opened:
        yield opened


def rows(backend):
    db = backend._engine.writer.db.raw
    return {name: db.execute(f"SELECT count(*) FROM sitq_{name}").fetchone()[0] for name in NAMED}


async def test_nothing_is_kept_of_queues_whose_tasks_are_gone(backend):
    records = [
        Record(id=f"t{number}", queue=f"q{number}", name="f", limits=(Limit("shut", slots=0),))
        for number in range(50)
    ]
    await backend.put([[record] for record in records])
    assert rows(backend)["queue"] == 50
    await backend.apply([Delete(id=record.id) for record in records])
    await backend.tend(1000)
    assert rows(backend) == dict.fromkeys(NAMED, 0)


async def test_a_queue_that_has_tasks_keeps_its_counts(backend):
    await backend.put([[Record(id="a", queue="kept", name="f")], [Record(id="b", queue="gone", name="f")]])
    await backend.apply([Delete(id="b")])
    await backend.tend(1000)
    assert await backend.tally() == {"kept": {"queued": 1}}


async def test_a_queue_that_was_forgotten_can_be_used_again_by_another_process(tmp_path):
    path = tmp_path / "t.db"
    async with SQLiteBackend(path) as one, SQLiteBackend(path) as other:
        await one.put([[Record(id="a", queue="again", name="f")]])  # it knows the queue's number now
        await other.apply([Delete(id="a")])
        await other.tend(1000)
        await other.put([[Record(id="b", queue="elsewhere", name="f")]])
        await one.put([[Record(id="c", queue="again", name="f")]])
        assert await one.tally() == {"again": {"queued": 1}, "elsewhere": {"queued": 1}}
        (record,) = await other.get(["c"])
        assert record.queue == "again"
