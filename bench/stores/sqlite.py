"""The SQLite store, beside the driver with one table."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.goal import at_least, at_most, of_the_other
from bench.stores.store import RawStore, Store

# Not the system's folder for temporary files: where that is in memory, a durable commit costs nothing.
_FOLDER = Path(".cache/bench")

_TABLE = """
CREATE TABLE IF NOT EXISTS task
  (id INTEGER PRIMARY KEY, body TEXT, payload BLOB, state INTEGER DEFAULT 0, result BLOB);
CREATE INDEX IF NOT EXISTS waiting ON task (id) WHERE state = 0;
"""
_INSERT = "INSERT INTO task (body, payload) VALUES (?, ?)"
_TAKE = """
UPDATE task SET state = 1
WHERE id IN (SELECT id FROM task WHERE state = 0 ORDER BY id LIMIT ?)
RETURNING id, body
"""
_SETTLE = "UPDATE task SET state = 2, result = ? WHERE id = ?"
_RESULT = "SELECT result FROM task WHERE id = ? AND state = 2"


class RawSQLite(RawStore):
    """One connection, WAL, every commit on the disk (`synchronous=FULL`), results stored."""

    async def connect(self) -> None:
        path = self.url.removeprefix("sqlite:///")
        self._database = sqlite3.connect(path, isolation_level=None, timeout=30)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.executescript(_TABLE)

    async def close(self) -> None:
        self._database.close()

    async def enqueue(self, body: str) -> int | None:
        return self._database.execute(_INSERT, (body, b"{}")).lastrowid

    async def enqueue_many(self, body: str, n: int) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        self._database.executemany(_INSERT, [(body, b"{}")] * n)
        self._database.execute("COMMIT")

    async def value(self, handle: int) -> None:
        while self._database.execute(_RESULT, (handle,)).fetchone() is None:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.001)

    async def take(self, n: int) -> Sequence[tuple[Any, str]]:
        return self._database.execute(_TAKE, (n,)).fetchall()

    async def settle(self, keys: Sequence[Any]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        self._database.executemany(_SETTLE, [(b"1", key) for key in keys])
        self._database.execute("COMMIT")


@contextmanager
def _fresh() -> Iterator[str]:
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_FOLDER, ignore_cleanup_errors=True) as folder:
        yield f"sqlite:///{Path(folder).resolve()}/tasks.db"


STORE = Store(
    name="sqlite",
    fresh=_fresh,
    raw=RawSQLite,
    version=lambda: f"sqlite: SQLite {sqlite3.sqlite_version}, WAL, synchronous=FULL",
    goals={
        "enqueue-sequential": of_the_other(0.7),
        "enqueue-bulk": at_least(80_000),
        "enqueue-concurrent": at_least(30_000),
        "drain": at_least(25_000),
        "start-p50": at_most(3.0),
        "result-p50": at_most(5.0),
    },
)
