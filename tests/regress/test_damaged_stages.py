"""A task whose stage means nothing is put aside with a reason, and those that wait for it hear of its end.

https://github.com/hibiken/asynq/issues/764
"""

import contextlib
import sqlite3

import psycopg
import pytest

from sitq.backends.sqlite import SQLiteBackend
from sitq.move import Settle
from sitq.record import Edge, Record, State

pytestmark = pytest.mark.parametrize("make_backend", ["sqlite", "postgres"], indirect=True)


def damage(store, stage):
    if isinstance(store, SQLiteBackend):
        with contextlib.closing(sqlite3.connect(store.path)) as db, db:
            db.execute("UPDATE sitq_task SET stage = ? WHERE id = 'parent'", (stage,))
    else:
        with contextlib.closing(psycopg.connect(store._conninfo, autocommit=True)) as db:
            db.execute(f"UPDATE {store.namespace}.task SET stage = %s WHERE id = 'parent'", (stage,))


@pytest.mark.parametrize("stage", [-1, -2, 9, 77])
@pytest.mark.parametrize("running", [False, True], ids=["waiting", "running"])
async def test_whoever_waits_for_a_task_whose_stage_means_nothing_hears_of_its_end(
    backend, want, stage, running
):
    await backend.put([[Record(id="parent", name="work")]])
    await backend.put([[Record(id="child", name="work", edges=(Edge("parent"),))]])
    if running:
        assert len((await backend.take(want(1))).records) == 1
    damage(backend, stage)
    await backend.get(["parent"])  # somebody meets it
    parent, child = await backend.get(["parent", "child"])
    assert parent.state is State.DEAD
    assert "stage" in parent.errors[-1].message
    assert child.state is State.CANCELLED
    assert {state: n for state, n in (await backend.tally())["default"].items() if n} == {
        State.DEAD: 1,
        State.CANCELLED: 1,
    }


async def test_a_task_that_had_ended_does_not_end_once_more(backend, want):
    """Its child may run already."""
    await backend.put([[Record(id="parent", name="work")]])
    (record,) = (await backend.take(want(1))).records
    await backend.put([[Record(id="child", name="work", edges=(Edge("parent"),))]])
    assert await backend.apply([Settle(id="parent", token=record.token, state=State.COMPLETED)]) == [True]
    damage(backend, 77)
    await backend.get(["parent"])
    parent, child = await backend.get(["parent", "child"])
    assert parent.state is State.DEAD
    assert "stage" in parent.errors[-1].message
    assert child.state is State.QUEUED
