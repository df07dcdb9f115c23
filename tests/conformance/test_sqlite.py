"""The SQLite store: in a file, in a file without a sync for each commit, and in memory.

How often a file is synced is not seen by those who use it. So with fewer syncs only those promises are tested
that have to do with files; `make conformance` runs all of them.
"""

import asyncio
import contextlib
import os
import sqlite3
from typing import ClassVar, Literal

from sitq.backends.base import Backend
from sitq.backends.sqlite import SQLiteBackend
from sitq.testing.conformance import BackendConformance, Harness, OpenStore
from sitq.testing.conformance.promises.concurrency import LoopPromises, RacePromises
from sitq.testing.conformance.promises.damage import DamagePromises
from sitq.testing.conformance.promises.lifecycle import LifecyclePromises
from sitq.testing.conformance.promises.listening import ListenerPromises
from sitq.testing.conformance.promises.namespaces import NamespacePromises

# No MessagePack begins with this byte.
BAD_BODY = "UPDATE sitq_body SET body = x'c1' WHERE sequence = (SELECT sequence FROM sitq_task WHERE id = ?)"
BAD_COLUMN = "UPDATE sitq_task SET created = 'yesterday', due = 1.5 WHERE id = ?"


class FileHarness(Harness):
    frozen = True
    unit = 1.0
    synchronous: ClassVar[Literal["FULL", "NORMAL"]] = "FULL"
    damage: ClassVar[str] = BAD_BODY
    empty: ClassVar[bytes] = b""

    async def open(self) -> Backend:
        # Making an empty database costs a dozen syncs, which tests by the hundred need not repeat.
        if not FileHarness.empty:
            async with SQLiteBackend(self.folder / "empty.db"):
                pass
            FileHarness.empty = (self.folder / "empty.db").read_bytes()
        (self.folder / "tasks.db").write_bytes(FileHarness.empty)
        return await self._at("sitq")

    async def reopen(self, backend: Backend, namespace: str | None = None) -> Backend:
        return await self._at(namespace or backend.namespace)

    async def _at(self, namespace: str) -> Backend:
        backend = SQLiteBackend(
            self.folder / "tasks.db", namespace=namespace, clock=self.clock, synchronous=self.synchronous
        )
        await backend.connect()
        return backend

    async def corrupt(self, backend: Backend, id: str) -> None:
        def damage() -> None:
            with contextlib.closing(sqlite3.connect(self.folder / "tasks.db")) as database, database:
                assert database.execute(self.damage, (id,)).rowcount == 1

        await asyncio.to_thread(damage)


class NormalFileHarness(FileHarness):
    synchronous = "NORMAL"
    damage = BAD_COLUMN


class InMemoryHarness(Harness):
    frozen = True
    unit = 1.0

    async def open(self) -> Backend:
        backend = SQLiteBackend(":memory:", clock=self.clock)
        await backend.connect()
        return backend

    async def corrupt(self, backend: Backend, id: str) -> None:
        assert isinstance(backend, SQLiteBackend)
        damage = backend._write(
            backend._use("damage"), "damage", lambda work: work.db.raw.execute(BAD_BODY, (id,)).rowcount, 1
        )
        assert await damage == 1


class TestFile(BackendConformance):
    harness = FileHarness


class Some(
    OpenStore,
    LifecyclePromises,
    LoopPromises,
    RacePromises,
    NamespacePromises,
    ListenerPromises,
    DamagePromises,
): ...


Promises: type[OpenStore] = BackendConformance if "SITQ_TEST_WHOLE" in os.environ else Some


class TestFileWithoutEachSync(Promises):
    harness = NormalFileHarness


class TestInMemory(BackendConformance):
    harness = InMemoryHarness
