"""Rows are looked up by indexes, among a hundred thousand that no statistics tell of, or false ones."""

import asyncio
import contextlib
import os
import re

import psycopg
import pytest

from sitq.backends.postgres import PostgresBackend, schema
from sitq.backends.postgres.connection import Connection
from sitq.backends.postgres.statements import migrations
from sitq.testing.postgres import Schemas

ROWS = 100_000

FILL = """
ALTER TABLE {ns}.task SET (autovacuum_enabled = off);
INSERT INTO {ns}.queue (id, name) VALUES (1, 'default');
INSERT INTO {ns}.kind (id, queue, name, python) SELECT n, 1, 'f' || n, '' FROM generate_series(1, 20) AS n;
INSERT INTO {ns}.lane (id, kind, queue, keys, managed)
SELECT n, n, 1, '[]', false FROM generate_series(1, 20) AS n;
"""

TASKS = """
INSERT INTO {ns}.task (sequence, id, queue, lane, stage, priority, due, created, body)
SELECT n, 't' || n, 1, 1 + n % 20, 2, n % 3, 0, 0, '' FROM generate_series(1, {rows}) AS n;
INSERT INTO {ns}.task (sequence, id, queue, lane, stage, priority, due, created, token, lease_until, body)
SELECT n, 'r' || n, 1, 1, 3, 0, 0, 0, 'c', 1000, '' FROM generate_series({rows} + 1, {rows} + 5000) AS n;
SELECT setval('{ns}.task_sequence', {rows} + 5000);
"""

CALLS = {
    "start_plain": "'c', 'w', '{default}', '{10}', 10, 1000, '3.11', '{}', true, 1::smallint, 5",
    "settle_plain": "'{100001,100002,100003}', '{c,c,c}', '{a,a,a}', 1, 1::smallint, '{}', '', 5",
    "renew": "'{r100001,r100002}', '{c,c}', 10, 5",
    "place_plain": "'{new}', '{a}', '{1}', '{1}', '{0}', '{0}', '{0}', '{NULL}', 1::smallint, '{}', '', 5",
    "place_plain of many": "'{n1,n2,n3}', '{a,a,a}', '{1,1,1}', '{1,2,1}', '{0,0,0}', '{0,0,0}', '{0,0,0}', "
    "'{NULL,x,NULL}', 1::smallint, '{}', '', 5",
}


LOOKS_EMPTY = (
    "UPDATE pg_class SET reltuples = 0, relpages = 1 "
    "WHERE relnamespace = %s::regnamespace AND relname = 'task'"
)
"""As a vacuum leaves it that finds nothing in a table, and cannot give its last page back."""


def vacuum(db, name):
    """Let the planner know that there is nothing."""
    tables = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (name,)).fetchall()
    for (table,) in tables:
        db.execute(f"VACUUM (ANALYZE) {name}.{table}".encode())


@pytest.fixture(scope="module", params=["unknown", "emptied"])
def full(request, postgres_url):
    """A namespace with many tasks, of which the planner knows nothing, or thinks that there are none."""
    schemas = Schemas(postgres_url)
    name = schemas.get()
    backend = PostgresBackend(postgres_url, namespace=name)
    asyncio.run(backend.migrate())
    with contextlib.closing(psycopg.connect(postgres_url, autocommit=True)) as db:
        if request.param == "emptied":
            vacuum(db, name)
        db.execute(FILL.format(ns=name).encode())
        for call in CALLS:  # plans that are made while there is little serve when there is very much
            run(db, name, call)
        db.execute(TASKS.format(ns=name, rows=ROWS).encode())
        if request.param == "emptied":
            db.execute(LOOKS_EMPTY, (name,))
            for call in CALLS:
                run(db, name, call)
        yield name, db
        db.execute(f"DROP SCHEMA {name} CASCADE".encode())


def run(db, name, call):
    with db.transaction(force_rollback=True):
        before = read_rows(db, name)
        db.execute(f"SELECT * FROM {name}.{call.split()[0]}({CALLS[call]})".encode())
        after = read_rows(db, name)
    return after[0] - before[0], after[1] - before[1]


def read_rows(db, name):
    """How many rows of tasks each way of reading them has read in this session's transaction."""
    row = db.execute(
        "SELECT coalesce(seq_tup_read, 0), coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables "
        "WHERE schemaname = %s AND relname = 'task'",
        (name,),
    ).fetchone()
    return row or (0, 0)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("times", [1, 8], ids=["first", "planned"])
def test_a_call_reads_only_the_rows_that_it_is_about(full, call, times):
    name, db = full
    for _ in range(times):
        whole, some = run(db, name, call)
    assert whole == 0, "it read the whole table"
    assert some < 1000


@pytest.mark.parametrize("call", CALLS)
def test_so_does_one_that_is_planned_when_there_are_many(full, postgres_url, call):
    name, _ = full
    with psycopg.connect(postgres_url, autocommit=True) as db:
        whole, some = run(db, name, call)
    assert whole == 0, "it read the whole table"
    assert some < 1000


GROW = {
    "task",
    "edge",
    "step",
    "unique_key",
    "lane",
    "lane_key",
    "key",
    "tenant",
    "mark",
    "claim",
    "cell",
    "event",
}
"""The tables that may have many rows."""

WHOLE = {
    # Damage is looked for everywhere, and what is counted is counted anew.
    *("misfits", "lane_texts", "claim_texts", "count_anew", "count_lanes", "count_keys", "drop_bad_edges"),
    *("mark_anew", "mend_cells", "mend_keys", "mend_tenants"),
    # Upkeep, now and then: what nobody needs any more may be anywhere.
    *("drop_keys", "drop_lane_keys", "drop_lanes", "drop_marks_of_queues", "drop_claims"),
}
"""The statements that read all of a table or an index."""


@pytest.fixture(scope="module")
def emptied(postgres_url):
    """A connection whose plans are those for a store that is empty, as the planner knows."""
    name = f"emptied_{os.urandom(4).hex()}"
    asyncio.run(PostgresBackend(postgres_url, namespace=name).migrate())
    with contextlib.closing(Connection(postgres_url, name)) as db:
        vacuum(db.raw, name)
        db.raw.execute("SET plan_cache_mode = force_generic_plan")
        yield db
        db.raw.execute(f"DROP SCHEMA {name} CASCADE".encode())


def nodes(plan):
    """All of a plan, but for what takes the first rows of an index and no others."""
    below = plan.get("Plans", ())
    if plan["Node Type"] == "Limit":
        below = [node for node in below if "Filter" in node or "Index" not in node["Node Type"]]
    return [plan, *(node for one in below for node in nodes(one))]


def whole_reads(db, name):
    """The tables of which a statement reads all, or all of an index, by the plan that is kept for it."""
    sql = db.sql[name].decode()
    values = ["NULL"] * max(map(int, re.findall(r"\$(\d+)", sql)), default=0)
    given = f"({', '.join(values)})" if values else ""
    db.raw.execute(f'PREPARE "plan_{name}" AS {sql}'.encode(), prepare=False)
    explain = f'EXPLAIN (FORMAT JSON) EXECUTE "plan_{name}"{given}'
    (plan,) = db.raw.execute(explain.encode(), prepare=False).fetchone()[0]
    read = {
        (node.get("Relation Name"), node["Node Type"], "Index Cond" in node) for node in nodes(plan["Plan"])
    }
    return {table for table, way, by_key in read if table in GROW and "Scan" in way and not by_key}


def test_statements_look_rows_up_however_small_their_tables_seem(emptied):
    """A plan that is made for an empty store is kept when it fills."""
    reads = {name: whole_reads(emptied, name) for name in emptied.sql if name != "begin"}
    assert {name: tables for name, tables in reads.items() if tables and name not in WHOLE} == {}
    assert not {name for name in WHOLE if not reads[name]}, "these need not be named any more"


def test_the_script_has_all_steps():
    script = schema.script("other")
    assert len(migrations("other")) >= 1
    assert not re.search(r"\bsitq\.[a-z]", re.sub(r"--.*", "", script))
    assert "sitq_lock" not in re.sub(r"--.*", "", script)
