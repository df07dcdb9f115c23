"""Everything works through PgBouncer in transaction mode, where each statement may meet another session."""

import asyncio
import contextlib
import os

import psycopg
import pytest

from sitq import ConcurrencyLimit, Task, TaskQueue, Worker, current_task
from sitq.backends import open_backend
from sitq.doctor import look
from sitq.keys import KeyRing
from sitq.testing.servers import PgBouncer

KEYS = KeyRing([("k", b"0123456789abcdef0123456789abcdef")])

RUNNING = {"now": 0, "most": 0}


async def double(number):
    return 2 * number


async def one_of_two(number):
    RUNNING["now"] += 1
    RUNNING["most"] = max(RUNNING["most"], RUNNING["now"])
    await asyncio.sleep(0.02)
    RUNNING["now"] -= 1
    return number


async def attempts():
    if current_task().attempt == 1:
        raise ValueError("the first time")
    return current_task().attempt


@pytest.fixture
def url(pooled_postgres_url, postgres_url):
    """A store of the test's own, through the pooler."""
    namespace = f"pooled_{os.urandom(4).hex()}"
    yield f"{pooled_postgres_url}?namespace={namespace}&migrate=true"
    with contextlib.closing(psycopg.connect(postgres_url, autocommit=True)) as db:
        db.execute(f"DROP SCHEMA IF EXISTS {namespace} CASCADE".encode())


async def test_workers_run_what_producers_enqueue_each_task_once(url):
    async with TaskQueue(url, keys=KEYS) as queue:
        workers = [Worker(url, keys=KEYS, max_concurrency=20, poll_interval=0.1) for _ in range(3)]
        async with contextlib.AsyncExitStack() as stack:
            for worker in workers:
                await stack.enter_async_context(worker)

            async def produce():
                async with TaskQueue(url, keys=KEYS) as other:
                    return [
                        one
                        for _ in range(10)
                        for one in await other.enqueue_many([Task(double, (n,)) for n in range(10)])
                    ]

            ids = [one for some in await asyncio.gather(*(produce() for _ in range(3))) for one in some]
            ids += [await queue.options(retry=2).enqueue(attempts)]
            child = await queue.options(depends_on=ids[:5], unique="key", priority=3).enqueue(double, 21)
            limited = queue.options(limits=[ConcurrencyLimit(2, key="two")])
            ids += [await limited.enqueue(one_of_two, n) for n in range(12)]
            for task_id in (child, *ids):
                assert (await queue.get_result(task_id, timeout=30)).status == "success"
        records = await queue.backend.get(ids)
        assert [record.attempt for record in records] == [1] * 300 + [2] + [1] * 12
        assert RUNNING["most"] <= 2


async def test_a_task_can_be_part_of_a_transaction_through_it(url, pooled_postgres_url):
    async with TaskQueue(url, keys=KEYS) as queue:
        async with await psycopg.AsyncConnection.connect(pooled_postgres_url) as connection:
            gone = await queue.within(connection).enqueue(double, 1)
            await connection.rollback()
            kept = await queue.within(connection).enqueue(double, 21)
            await connection.commit()
            # psycopg prepares what it has executed some times; the session that knows of it is taken then.
            for _ in range(8):
                await queue.within(connection).enqueue(double, 1)
                await connection.commit()
            async with await psycopg.AsyncConnection.connect(pooled_postgres_url) as other:
                await other.execute("SELECT 1")
                await queue.within(connection).enqueue(double, 1)
                await connection.commit()
        await Worker(queue.backend, keys=KEYS).run(burst=True)
        assert queue.deserialize_result(await queue.get_result(kept, timeout=20)) == 42
        assert await queue.backend.get([gone]) == [None]


async def test_a_store_behind_a_pooler_on_this_host_is_not_local(url):
    """The pooler is here; where its server is, nobody can tell."""
    async with open_backend(url) as store:
        assert not store.traits.local
        assert not store.traits.pushes
        found = {one.about: one for one in await look(store, None)}
        assert found["pooler"].level == "warning"
        assert found["signatures"].level == "warning"


async def test_in_session_mode_it_works_as_well(url, postgres_url, pgbouncer_binaries):
    with PgBouncer(postgres_url, mode="session", binaries=pgbouncer_binaries) as pooler:
        async with TaskQueue(f"{pooler.url()}?{url.partition('?')[2]}", keys=KEYS) as queue:
            task_id = await queue.enqueue(double, 21)
            await Worker(queue.backend, keys=KEYS).run(burst=True)
            assert queue.deserialize_result(await queue.get_result(task_id, timeout=20)) == 42
