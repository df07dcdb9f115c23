"""The PostgreSQL store, beside the driver with one table."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString, cast

import psycopg

from bench.goal import at_least, at_most, of_the_other
from bench.stores.store import RawStore, Store
from sitq.backends.postgres.connection import Connection
from sitq.backends.postgres.schema import migrate
from sitq.testing.servers import POSTGRES, PostgresServer, given

_TABLE = """
CREATE TABLE IF NOT EXISTS bench_task (
    id bigserial PRIMARY KEY, body text NOT NULL, payload bytea, state smallint NOT NULL DEFAULT 0,
    result bytea
);
CREATE INDEX IF NOT EXISTS bench_waiting ON bench_task (id) WHERE state = 0
"""
_INSERT = (
    "WITH i AS (INSERT INTO bench_task (body, payload) VALUES (%s, %s) RETURNING id) "
    "SELECT id, pg_notify('bench', '') FROM i"
)
_MANY = "INSERT INTO bench_task (body, payload) SELECT * FROM unnest(%s::text[], %s::bytea[])"
_TAKE = """
UPDATE bench_task SET state = 1
WHERE id = ANY (ARRAY(SELECT id FROM bench_task WHERE state = 0 ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED))
RETURNING id, body
"""
_SETTLE = (
    "UPDATE bench_task SET state = 2, result = r "
    "FROM unnest(%s::bigint[], %s::bytea[]) AS x(i, r) WHERE id = i"
)
_RESULT = "SELECT result FROM bench_task WHERE id = %s AND state = 2"


class RawPostgres(RawStore):
    """One connection of psycopg's, every commit on the disk, claims with SKIP LOCKED, results stored."""

    async def connect(self) -> None:
        self._database = await psycopg.AsyncConnection.connect(self.url.partition("?")[0], autocommit=True)
        await self._database.execute(_TABLE, prepare=False)

    async def close(self) -> None:
        await self._database.close()

    async def enqueue(self, body: str) -> int | None:
        row = await (await self._database.execute(_INSERT, (body, b"{}"))).fetchone()
        return row and int(row[0])

    async def enqueue_many(self, body: str, n: int) -> None:
        await self._database.execute(_MANY, ([body] * n, [b"{}"] * n))

    async def value(self, handle: int) -> None:
        while await self._result(handle) is None:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.001)

    async def _result(self, handle: int) -> Any:
        return await (await self._database.execute(_RESULT, (handle,))).fetchone()

    async def take(self, n: int) -> Sequence[tuple[Any, str]]:
        return await (await self._database.execute(_TAKE, (n,))).fetchall()

    async def settle(self, keys: Sequence[Any]) -> None:
        await self._database.execute(_SETTLE, (list(keys), [b"1"] * len(keys)))


@contextmanager
def _fresh() -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        url = given(POSTGRES) or stack.enter_context(PostgresServer()).url()
        name = f"bench_{os.getpid()}"
        with contextlib.closing(Connection(url, name)) as database:
            migrate(database, name, url)
        try:
            yield f"{url}?namespace={name}"
        finally:
            with psycopg.connect(url, autocommit=True) as database:
                drop = f"DROP SCHEMA {name} CASCADE; DROP TABLE IF EXISTS bench_task"
                database.execute(cast("LiteralString", drop))


STORE = Store(
    name="postgres",
    fresh=_fresh,
    raw=RawPostgres,
    version=lambda: f"postgres: psycopg {psycopg.__version__}, fsync and synchronous_commit on",
    goals={
        "enqueue-sequential": of_the_other(0.8),
        "enqueue-bulk": at_least(80_000),
        "drain": at_least(15_000),
        "start-p50": at_most(2.5),
        "result-p50": at_most(5.0),
    },
)
