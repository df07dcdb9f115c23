"""The role that the page of the store describes can do all that producers and workers do, and no more."""

import os
import re
from pathlib import Path

import psycopg
import pytest

from sitq import TaskQueue, Worker
from sitq.backends.postgres import PostgresBackend

PAGE = Path(__file__).parents[2] / "docs/stores/postgresql.md"


def double(number: int) -> int:
    return 2 * number


@pytest.fixture
def role(postgres_url):
    """A namespace, and the URL of a role that has the rights of the page on it."""
    name = f"rights_{os.getpid()}"
    grants = re.search(r"```sql\n(GRANT.*?)```", PAGE.read_text(), re.DOTALL)
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute(f"CREATE ROLE {name} LOGIN".encode())
        owner = PostgresBackend(postgres_url, namespace=name)
        db.execute(owner.migrations().encode())
        db.execute(
            grants[1].replace("SCHEMA sitq", f"SCHEMA {name}").replace("TO app", f"TO {name}").encode()
        )
        host = db.info
        yield name, f"postgresql://{name}@{host.host}:{host.port}/{host.dbname}"
        db.execute(f"DROP SCHEMA {name} CASCADE".encode())
        db.execute(f"DROP ROLE {name}".encode())


async def test_the_role_can_do_what_producers_and_workers_do(role):
    name, url = role
    async with TaskQueue(PostgresBackend(url, namespace=name)) as queue:
        parent = await queue.enqueue(double, 1)
        child = await queue.options(depends_on=[parent], unique="key").enqueue(double, 2)
        async with await psycopg.AsyncConnection.connect(url) as connection:
            inside = await queue.within(connection).enqueue(double, 3)
        await Worker(queue.backend).run(burst=True)
        values = [
            queue.deserialize_result(await queue.get_result(id, timeout=5)) for id in (parent, child, inside)
        ]
        assert values == [2, 4, 6]
        await queue.pause("default")
        await queue.resume("default")
        await queue.backend.tend()
    with psycopg.connect(url) as db, pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.execute(f"DROP TABLE {name}.task".encode())
