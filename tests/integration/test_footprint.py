"""How much room a task takes in each store, as the stores' pages say."""

import gc
import time
import tracemalloc

import psycopg
import pytest
import redis

from sitq import MemoryBackend, SQLiteBackend, Task, TaskQueue, Worker
from sitq.backends.postgres import PostgresBackend
from sitq.backends.redis import RedisBackend
from sitq.testing.postgres import Schemas

TASKS = 3000
KIB = 1024

SIZE = """
SELECT sum(pg_total_relation_size(c.oid))::float
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relkind = 'r'
"""


OLDER = """
SELECT count(*) FROM pg_stat_activity
WHERE backend_xmin IS NOT NULL AND age(backend_xmin) > age(%s::text::xid)
"""


def wait_for_older_transactions(connection):
    """Those of tests beside this one, on the same server, may still see rows that are gone."""
    (now,) = connection.execute("SELECT txid_current()::text").fetchone()
    deadline = time.monotonic() + 50
    while connection.execute(OLDER, (now,)).fetchone()[0]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def memory():
    tracemalloc.start()

    def measure():
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    yield MemoryBackend, measure, (KIB, 1.5 * KIB)
    tracemalloc.stop()


@pytest.fixture
def sqlite(tmp_path):
    path = tmp_path / "tasks.db"
    return lambda: SQLiteBackend(path), lambda: path.stat().st_size if path.exists() else 0, (KIB, KIB)


@pytest.fixture
def postgres(postgres_url):
    schemas = Schemas(postgres_url)
    name = schemas.get()

    def measure():
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            wait_for_older_transactions(connection)
            tables = connection.execute(
                "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = %s", (name,)
            )
            for (table,) in tables.fetchall():  # what is left of former versions of rows is to be used again
                connection.execute(f"VACUUM FULL {name}.{table}")
            return connection.execute(SIZE, (name,)).fetchone()[0] or 0

    yield lambda: PostgresBackend(postgres_url, namespace=name, migrate=True), measure, (KIB, KIB)
    schemas.put_back([name])


@pytest.fixture
def redis_server(redis_url):
    with redis.Redis.from_url(redis_url) as client:

        def measure():
            return sum(client.memory_usage(key, samples=0) for key in client.scan_iter("{footprint}*"))

        yield lambda: RedisBackend(redis_url, namespace="footprint"), measure, (1.5 * KIB, 2 * KIB)
        for key in client.scan_iter("{footprint}*"):
            client.unlink(key)


@pytest.mark.timeout(150)
@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres", "redis_server"])
async def test_a_task_takes_no_more_room_than_the_page_of_the_store_says(kind, request):
    make, measure, most = request.getfixturevalue(kind)
    backend = make()
    async with TaskQueue(backend) as queue:
        await queue.enqueue(abs, 1)
    empty = measure()
    async with TaskQueue(backend) as queue:
        for _ in range(3):
            await queue.enqueue_many([Task(abs, (number,)) for number in range(TASKS // 3)])
    waiting = measure()
    async with TaskQueue(backend):
        await Worker(backend, max_concurrency=100).run(burst=True)
    ended = measure()
    for size, bound in zip((waiting, ended), most, strict=True):
        assert 100 < (size - empty) / TASKS < bound
