"""The PostgreSQL store in tests: each test has schemas of its own, on the run's server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import psycopg

from sitq.backends.base import Backend
from sitq.backends.postgres import PostgresBackend
from sitq.testing.conformance.harness import Harness, ManualClock

_numbers = itertools.count(1)


class Schemas:
    """Empty schemas of a server, for one process.

    Making the tables takes a third of a second, as PostgreSQL writes each to the disk, and a suite has
    hundreds of tests. So a schema is emptied after its test and given to the next one.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._free: list[str] = []

    def get(self) -> str:
        """The name of a schema that is empty, or not there yet."""
        return self._free.pop() if self._free else f"test_{os.getpid()}_{next(_numbers)}"

    def put_back(self, names: Sequence[str]) -> None:
        """Empty schemas that nobody uses any more."""
        with contextlib.closing(psycopg.connect(self.url, autocommit=True)) as db:
            for name in names:
                _empty(db, name)
        self._free += names


def _empty(db: psycopg.Connection[Any], name: str) -> None:
    tables = db.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (name,)).fetchall()
    statements = [f"DELETE FROM {name}.{table}" for (table,) in tables if table != "meta"]  # noqa: S608 - own names
    statements.append(f"ALTER SEQUENCE IF EXISTS {name}.task_sequence RESTART")
    db.execute(";".join(statements).encode())


class PostgresHarness(Harness):
    """Joins the store to the suite, with the test's clock in the place of the server's.

    `use` names the server once, before the first test.
    """

    frozen = True
    unit = 1.0
    schemas: ClassVar[Schemas]

    def __init__(self, folder: Path, clock: ManualClock | None = None) -> None:
        super().__init__(folder, clock)
        self._taken: dict[str, str] = {}
        self._opened = 0

    @classmethod
    def use(cls, url: str) -> None:
        """Use the server with this URL."""
        cls.schemas = Schemas(url)

    async def open(self) -> Backend:
        return await self._at("")

    async def reopen(self, backend: Backend, namespace: str | None = None) -> Backend:
        known = {schema: name for name, schema in self._taken.items()}
        return await self._at(known[backend.namespace] if namespace is None else namespace)

    async def _at(self, name: str) -> Backend:
        if name not in self._taken:
            self._taken[name] = self.schemas.get()
        self._opened += 1
        backend = PostgresBackend(
            self.schemas.url, namespace=self._taken[name], clock=self.clock, migrate=True
        )
        await backend.connect()
        return backend

    async def corrupt(self, backend: Backend, id: str) -> None:
        def damage() -> None:
            with contextlib.closing(psycopg.connect(self.schemas.url, autocommit=True)) as db:
                # No MessagePack begins with this byte.
                sql = f"UPDATE {backend.namespace}.task SET body = '\\xc1' WHERE id = %s"  # noqa: S608 - own name
                assert db.execute(sql.encode(), (id,)).rowcount == 1

        await asyncio.to_thread(damage)

    async def discard(self, backend: Backend) -> None:
        """Let go of a backend, and with the last one of the schemas."""
        await backend.close()
        self._opened -= 1
        if not self._opened:
            taken, self._taken = list(self._taken.values()), {}
            await asyncio.to_thread(self.schemas.put_back, taken)
