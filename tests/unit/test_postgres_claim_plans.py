"""With a million tasks that no statistics tell of, whatever a claim does stays on its indexes.

The server itself says by which plans: of each statement, those inside of functions as well.
"""

import asyncio
import contextlib
import json
import os

import psycopg
import pytest

from sitq.backends.base import Share, Want
from sitq.backends.postgres import PostgresBackend
from sitq.backends.postgres.connection import Connection
from sitq.backends.tables.admission import pack_record
from sitq.functions import python_version
from sitq.record import Fair, Limit, Record
from sitq.testing.servers.plugin import NOT_TESTED

ROWS = 1_000_000
NOW = 10**9
EXPLAINED = (
    "?options=-c%20session_preload_libraries%3Dauto_explain%20-c%20auto_explain.log_min_duration%3D0"
    "%20-c%20auto_explain.log_nested_statements%3Don%20-c%20auto_explain.log_analyze%3Don"
    "%20-c%20auto_explain.log_timing%3Doff%20-c%20auto_explain.log_format%3Djson%20-c%20client_min_messages%3Dlog"
)

# Of the million, 700,000 are ready in plain lanes of `plain`, 100,000 in limited ones and those of tenants of
# `mixed`, 100,000 wait for their time there, 99,000 have ended, 1,000 run.
FILL = """
ALTER TABLE {ns}.task SET (autovacuum_enabled = off);
ALTER TABLE {ns}.task SET UNLOGGED;
CREATE FUNCTION {ns}.body_of(id text) RETURNS bytea LANGUAGE sql IMMUTABLE
AS $$ SELECT '\\x{head}'::bytea || convert_to(id, 'UTF8') || '\\x{tail}'::bytea $$;
INSERT INTO {ns}.queue (id, name) VALUES (11, 'plain'), (12, 'mixed');
INSERT INTO {ns}.kind (id, queue, name, python)
SELECT n, CASE WHEN n <= 20 THEN 11 ELSE 12 END, 'f' || n, '' FROM generate_series(1, 40) AS n;
INSERT INTO {ns}.lane (id, kind, queue, keys, managed)
SELECT n, n, 11, '[]', false FROM generate_series(1, 20) AS n;
INSERT INTO {ns}.lane (id, kind, queue, tenant, keys, managed, turn, head_priority, head_sequence, tasks)
SELECT 100 + n, 21 + n % 20, 12, CASE WHEN n % 2 = 0 THEN 't' || n END,
    CASE WHEN n % 2 = 1 THEN '["k' || n || '","all"]' ELSE '["all"]' END, true,
    CASE WHEN n % 2 = 0 THEN 0 END, 1, 700000 + n, 200
FROM generate_series(1, 1000) AS n;
INSERT INTO {ns}.key (key, slots, per, burst)
SELECT 'k' || n, 1, 1000000, 1 FROM generate_series(1, 999, 2) AS n;
INSERT INTO {ns}.key (key, rate, per, burst) VALUES ('all', 1000000, 1000000, 1000);
INSERT INTO {ns}.lane_key (key, lane) SELECT 'k' || n, 100 + n FROM generate_series(1, 999, 2) AS n
UNION ALL SELECT 'all', 100 + n FROM generate_series(1, 1000) AS n;
INSERT INTO {ns}.tenant (queue, key, turn) SELECT 12, 't' || n, 0 FROM generate_series(2, 1000, 2) AS n;
INSERT INTO {ns}.task (sequence, id, queue, lane, stage, priority, due, created, body, expire_at, keep_until,
    attempt, token, owner, lease_until)
SELECT n, id, CASE WHEN t.mixed THEN 12 ELSE 11 END,
    CASE WHEN t.mixed THEN 101 + (n - 1) % 1000 ELSE 1 + n % 20 END,
    CASE WHEN n <= 800000 THEN 2 WHEN n <= 900000 THEN 1 WHEN n <= 999000 THEN 4 ELSE 3 END,
    CASE WHEN t.mixed THEN 1 ELSE n % 3 END,
    CASE WHEN NOT n BETWEEN 800001 AND 900000 THEN 0 WHEN n % 100 = 0 THEN {now} - 5 ELSE {now} * 2 + n END,
    0, {ns}.body_of(id),
    CASE WHEN NOT t.mixed THEN NULL WHEN n % 50000 = 7 THEN {now} - 1 WHEN n % 1000 = 3 THEN {now} * 3 END,
    CASE WHEN n BETWEEN 900001 AND 999000 THEN {now} * 9 END,
    CASE WHEN n > 999000 THEN 1 ELSE 0 END, CASE WHEN n > 999000 THEN 'c' END,
    CASE WHEN n > 999000 THEN 'w' END,
    CASE WHEN n > 999950 THEN {now} - 1 WHEN n > 999000 THEN {now} * 2 END
FROM (
    SELECT n, 't' || lpad(n::text, 7, '0') AS id, n BETWEEN 700001 AND 900000 AS mixed
    FROM generate_series(1, {rows}) AS n
) AS t;
SELECT setval('{ns}.task_sequence', {rows});
ALTER TABLE {ns}.kind ALTER COLUMN id RESTART WITH 50;
ALTER TABLE {ns}.lane ALTER COLUMN id RESTART WITH 2000;
"""

INDEXES = (
    "SELECT indexname, indexdef FROM pg_indexes "
    "WHERE schemaname = %s AND tablename = 'task' AND indexname <> 'task_pkey'"
)

FORGET = (
    "UPDATE pg_class SET reltuples = -1, relpages = 0 "
    "WHERE relnamespace = %s::regnamespace AND relname LIKE 'task%%' AND relkind IN ('r', 'i')"
)
"""Making an index counts what is in a table, which a store that was just filled has not done."""


@pytest.fixture(scope="module")
def namespace(postgres_url):
    name = f"million_{os.urandom(4).hex()}"
    asyncio.run(PostgresBackend(postgres_url, namespace=name).migrate())
    with contextlib.closing(psycopg.connect(postgres_url, autocommit=True)) as db:
        head, tail = pack_record(Record(id="t0000000", name="work")).split(b"t0000000")
        values = {"ns": name, "rows": ROWS, "now": f"{NOW}::bigint", "head": head.hex(), "tail": tail.hex()}
        indexes = db.execute(INDEXES, (name,)).fetchall()
        drops = "".join(f"DROP INDEX {name}.{index};" for index, _ in indexes)
        makes = ";".join(made for _, made in indexes)  # after the rows: that takes half the time
        db.execute(f"{drops}{FILL.format(**values)}{makes}".encode())
        db.execute(FORGET, (name,))
        yield name
        db.execute(f"DROP SCHEMA {name} CASCADE".encode())


@pytest.fixture
async def store(postgres_url, namespace, monkeypatch):
    """A store whose statements are explained: with what the server said of them."""
    try:
        psycopg.connect(postgres_url + EXPLAINED).close()
    except psycopg.OperationalError as error:
        pytest.skip(f"{NOT_TESTED}the plans of claims: this PostgreSQL lacks auto_explain ({error})")
    plans = []
    prepare = Connection._prepare

    def explained(db):
        prepare(db)
        db.raw.add_notice_handler(lambda notice: _keep(plans, notice.message_primary))

    monkeypatch.setattr(Connection, "_prepare", explained)
    url = postgres_url + EXPLAINED
    async with PostgresBackend(
        url, namespace=namespace, clock=lambda: NOW, connections=1, listen=False
    ) as one:
        yield one, plans


def _keep(plans, said):
    _, is_plan, plan = (said or "").partition("plan:\n")
    if is_plan:
        plans.append(json.loads(plan))


def scans(node):
    """All nodes of a plan that read the table of tasks."""
    found = [node] if node.get("Relation Name") == "task" and "Scan" in node["Node Type"] else []
    if node["Node Type"] == "Bitmap Index Scan":
        found = [node]
    return [*found, *(scan for below in node.get("Plans", ()) for scan in scans(below))]


def off_the_index(plans, most):
    """What was read of the table in another way than a few rows by an index."""
    wrong = []
    for plan in plans:
        for scan in scans(plan["Plan"]):
            read = (scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0)) * scan["Actual Loops"]
            if scan["Node Type"] == "Seq Scan" or read > most:
                wrong.append((scan["Node Type"], scan.get("Index Name"), read, plan["Query Text"][:300]))
    return wrong


def want(queue, limit=10, **more):
    return Want(
        claim=os.urandom(8).hex(),
        worker="w",
        queues=(Share(queue, limit),),
        limit=limit,
        lease=NOW,
        python=python_version(),
        **more,
    )


def used(plans):
    """The names of the indexes of tasks that were used."""
    return {scan.get("Index Name") for plan in plans for scan in scans(plan["Plan"])}


async def test_a_claim_of_plain_tasks_stays_on_its_index(store):
    backend, plans = store
    for _ in range(8):  # the first plans of a session are made for their values, later ones for all
        assert len((await backend.take(want("plain", reclaim=False))).records) == 10
    assert off_the_index(plans, 300) == []
    assert "task_ready" in used(plans)
    assert len(plans) > 8


async def test_a_claim_that_goes_the_long_way_stays_on_its_indexes(store):
    """Leases that ran out, tasks that became due and that expired, limits, and a thousand tenants."""
    backend, plans = store
    assert len((await backend.take(want("mixed"))).records) == 10
    assert {"task_lease", "task_due", "task_expire", "task_ready"} <= used(plans)
    for _ in range(7):
        assert len((await backend.take(want("mixed", 50))).records) == 50
    # A thousand tasks were due, and are brought up to date at once.
    assert off_the_index(plans, 2500) == []


async def test_new_limited_and_fair_tasks_are_put_by_index(store):
    backend, plans = store
    for at in range(8):
        records = [
            Record(id=f"n{at}", queue="mixed", limits=(Limit("k1", slots=1),)),
            Record(id=f"o{at}", queue="mixed", fair=Fair("t2")),
            Record(id=f"p{at}", queue="plain"),
        ]
        await backend.put([[record] for record in records])
        await backend.get([record.id for record in records])
    assert off_the_index(plans, 300) == []
    assert "task_id" in used(plans)
