"""Columns of the file that hold what sitq never writes, as somebody's hand may leave them."""

import contextlib
import sqlite3

import pytest

from sitq.backends.base import Filter, Lease, Share, Want
from sitq.backends.sqlite import SQLiteBackend
from sitq.backends.tables.row import Row
from sitq.move import Cancel, Note, Settle
from sitq.record import AFTER_SUCCESS, SECOND, Edge, Record, State, Unique

TEXTS = ["id", "token", "owner", "stop", "reply", "wants"]
COLUMNS = [column for column in Row.__struct_fields__ if column not in {"sequence", "history"}]
INTEGERS = [column for column in COLUMNS if column not in TEXTS]
DAMAGE = [
    *((column, "'text'") for column in INTEGERS),
    *((column, "1.5") for column in INTEGERS),
    *((column, "x'c1ff'") for column in COLUMNS),
    *((column, "CAST(x'c1ff' AS TEXT)") for column in TEXTS),
    ("stage", "77"),
]


@pytest.fixture
async def store(tmp_path):
    async with SQLiteBackend(tmp_path / "tasks.db", synchronous="NORMAL") as backend:
        yield backend


@pytest.fixture
def write(tmp_path):
    """Write into the file behind the store's back."""

    def execute(sql, *values):
        with contextlib.closing(sqlite3.connect(tmp_path / "tasks.db")) as database, database:
            assert database.execute(sql, values).rowcount == 1

    return execute


def want(n, claim):
    return Want(
        claim=claim, worker="w", queues=(Share("default", n),), limit=n, lease=10 * SECOND, python="3.11"
    )


async def dead(store):
    return (await store.tally())["default"].get(State.DEAD, 0)


@pytest.mark.parametrize(("column", "value"), DAMAGE)
async def test_a_column_of_a_wrong_type_stops_nobody_but_its_own_task(store, write, column, value):
    await store.put([[Record(id=id)] for id in ("damaged", "running", "a", "b")])
    first = await store.take(want(2, "c1"))
    assert [record.id for record in first.records] == ["damaged", "running"]
    write(f"UPDATE sitq_task SET {column} = {value} WHERE sequence = ?", first.records[0].sequence)

    channel = store.lease_channel()
    answers = channel.renew([Lease("running", "c1"), Lease("damaged", "c1")], 10 * SECOND)
    channel.close()
    assert answers[0].answer == "kept"
    await store.put([[Record(id="late")]])
    assert [record.id for record in (await store.take(want(1, "c2"))).records] == ["a"]
    assert await store.apply([Settle(id="running", token="c1", state=State.COMPLETED)]) == [True]
    taken = await store.take(want(9, "c3"))
    assert {record.id for record in taken.records} >= {"b", "late"}
    page = await store.scan(Filter(), n=10)
    assert {record.id for record in page.records} >= {"running", "a", "b", "late"}
    await store.tend()
    assert (await store.get(["running"]))[0].state is State.COMPLETED


@pytest.mark.parametrize(("column", "value"), [("due", "'soon'"), ("created", "x'c1ff'"), ("lane", "1.5")])
async def test_a_damaged_task_is_put_aside_with_the_name_of_its_column(store, write, column, value):
    await store.put([[Record(id="damaged", priority=9)], [Record(id="a", payload=b"kept")]])
    write(f"UPDATE sitq_task SET {column} = {value} WHERE id = 'damaged'")
    taken = [record for claim in ("c1", "c2") for record in (await store.take(want(1, claim))).records]
    assert [record.id for record in taken] == ["a"]
    (record,) = await store.get(["damaged"])
    assert record.state is State.DEAD
    assert record.errors[-1].kind == "unrunnable"
    assert f"its stored record is corrupt: {column} holds" in record.errors[-1].message
    assert (await store.tally())["default"] == {State.DEAD: 1, State.RUNNING: 1}


async def test_reading_alone_finds_the_damage_too(store, write):
    await store.put([[Record(id="damaged", payload=b"kept")], [Record(id="a")]])
    write("UPDATE sitq_task SET created = 'yesterday' WHERE id = 'damaged'")
    record, other = await store.get(["damaged", "a"])
    assert (record.state, record.payload) == (State.DEAD, b"kept")
    assert other.state is State.QUEUED


async def test_a_damaged_parent_ends_for_those_that_wait_for_it(store, write):
    await store.put([[Record(id="damaged")]])
    await store.put([[Record(id="child", edges=(Edge("damaged", AFTER_SUCCESS),))]])
    write("UPDATE sitq_task SET attempt = 'one' WHERE id = 'damaged'")
    assert (await store.take(want(1, "c1"))).records == []
    assert (await store.get(["child"]))[0].state is State.CANCELLED


@pytest.mark.parametrize("value", ["x'c1ff'", "CAST(x'c1ff' AS TEXT)"])
async def test_damaged_edges_and_unique_keys_stop_nobody(store, write, value):
    await store.put([[Record(id="parent", unique=Unique("key"))], [Record(id="free")]])
    await store.put([[Record(id="child", edges=(Edge("parent", AFTER_SUCCESS),))]])
    write(f"UPDATE sitq_edge SET effects = {value}")
    write("UPDATE sitq_unique SET task = x'c1'")
    ((answer,),) = await store.put([[Record(id="next", unique=Unique("key"))]])
    assert type(answer).__name__ == "Placed"
    taken = await store.take(want(3, "c1"))
    moves = [Settle(id=each.id, token="c1", state=State.COMPLETED) for each in taken.records]
    assert await store.apply(moves) == [True] * 3
    assert (await store.get(["child"]))[0].state is State.DEAD


@pytest.mark.parametrize("value", ["x'c1ff'", "CAST(x'c1ff' AS TEXT)"])
async def test_a_damaged_step_puts_its_task_aside(store, write, value):
    await store.put([[Record(id="damaged")], [Record(id="a")]])
    await store.take(want(1, "c1"))
    assert await store.apply([Note(id="damaged", token="c1", step=("one", b"1"))]) == [True]
    write(f"UPDATE sitq_step SET name = {value}")
    page = await store.scan(Filter(), n=10)
    assert [(record.id, record.state) for record in page.records] == [
        ("damaged", State.DEAD),
        ("a", State.QUEUED),
    ]


async def test_damage_of_one_leaves_the_moves_about_others_alone(store, write):
    await store.put([[Record(id="damaged")], [Record(id="a")]])
    write("UPDATE sitq_task SET priority = x'00' WHERE id = 'damaged'")
    assert await store.apply([Cancel(id="damaged"), Cancel(id="a")]) == [False, True]
    assert await dead(store) == 1


async def test_a_running_task_without_the_scope_of_its_key_starts_again_and_stops_nobody(store, write):
    """Text in the place of text, so that nothing is of a wrong type."""
    await store.put([[Record(id="a", unique=Unique("key"))], [Record(id="b")]])
    short = Want(claim="c1", worker="w", queues=(Share("default", 1),), limit=1, lease=1, python="3.11")
    assert [record.id for record in (await store.take(short)).records] == ["a"]
    write("UPDATE sitq_task SET wants = '' WHERE id = ?", "a")
    assert [record.id for record in (await store.take(want(5, "c2"))).records] == ["a", "b"]
