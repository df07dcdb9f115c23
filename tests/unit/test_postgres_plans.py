"""Calls find their tasks by indexes, with a hundred thousand rows that no statistics tell of."""

import asyncio
import re

import psycopg
import pytest

from sitq.backends.postgres import PostgresBackend, schema
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


@pytest.fixture(scope="module")
def full(postgres_url):
    """A namespace with many tasks, of which the planner knows nothing."""
    schemas = Schemas(postgres_url)
    name = schemas.get()
    backend = PostgresBackend(postgres_url, namespace=name)
    asyncio.run(backend.migrate())
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute(FILL.format(ns=name).encode())
        for call in CALLS:  # plans that are made while there is little serve when there is very much
            run(db, name, call)
        db.execute(TASKS.format(ns=name, rows=ROWS).encode())
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


def test_the_script_has_all_steps():
    script = schema.script("other")
    assert len(migrations("other")) >= 1
    assert not re.search(r"\bsitq\.[a-z]", re.sub(r"--.*", "", script))
    assert "sitq_lock" not in re.sub(r"--.*", "", script)
