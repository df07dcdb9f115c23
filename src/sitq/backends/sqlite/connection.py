"""One connection to the database, and how it gets its turn to write."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
from collections.abc import Callable, Generator
from typing import Any, Final, Literal, TypeVar

from sitq.backends.sqlite.errors import is_busy
from sitq.backends.sqlite.haste import haste
from sitq.backends.sqlite.location import MEMORY
from sitq.backends.sqlite.statements import SIZES, narrowed, statements

Synchronous = Literal["FULL", "NORMAL"]
Answer = TypeVar("Answer")

PATIENCE: Final = 30.0
"""Seconds after which a lock that nobody lets go of is an error."""

LOG_KEPT: Final = 8 << 20
"""Bytes of the write-ahead log file that stay allocated: room for settling on a full disk."""


class Connection:
    """A connection that is used by one thread at a time."""

    def __init__(
        self, path: str, namespace: str, *, synchronous: Synchronous = "FULL", cache: int = 2048
    ) -> None:
        """Open the database.

        Args:
            path: The file.
            namespace: The prefix of the tables.
            synchronous: Whether a commit is on the disk (FULL) or will be soon (NORMAL).
            cache: Size of the page cache in KiB.
        """
        self.raw = sqlite3.connect(
            path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=512
        )
        self.sql = statements(namespace)
        try:
            self._prepare(synchronous, cache, memory=path == MEMORY)
        except BaseException:
            self.raw.close()
            raise

    def _prepare(self, synchronous: Synchronous, cache: int, *, memory: bool) -> None:
        execute = self.raw.execute
        execute("PRAGMA page_size = 4096")
        if not memory:
            patiently(lambda: execute("PRAGMA journal_mode = WAL").fetchall())
            execute(
                "PRAGMA wal_autocheckpoint = 0"
            )  # a checkpoint inside a commit would make its caller wait
            execute(f"PRAGMA journal_size_limit = {LOG_KEPT}")
        execute(f"PRAGMA synchronous = {synchronous}")
        execute(f"PRAGMA cache_size = -{cache}")
        execute("PRAGMA temp_store = MEMORY")
        execute("PRAGMA mmap_size = 0")

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self.raw.close()

    # -- statements ------------------------------------------------------------------------------------------

    def run(self, name: str, *values: Any) -> sqlite3.Cursor:
        """Execute a named statement."""
        return self.raw.execute(self.sql[name], values)

    def one(self, name: str, *values: Any) -> Any:
        """The first column of the only row of a named statement, or None without a row."""
        row = self.raw.execute(self.sql[name], values).fetchone()
        return row and row[0]

    def insert(self, name: str, rows: list[tuple[Any, ...]]) -> list[Any]:
        """Insert rows in few statements; answers with what they return.

        Each step of a statement lets go of the interpreter's lock, and getting it back takes up to 5 ms while
        another thread computes (CPython 3.11): with a step for each row that happens inside the transaction.
        """
        if not rows:
            return []
        return self.for_rows(name, [value for row in rows for value in row], len(rows[0]))

    def insert_narrow(self, name: str, rows: list[tuple[Any, ...]]) -> None:
        """Insert rows, naming the columns only that have a value in one of them."""
        filled = {at: column for at, column in enumerate(zip(*rows, strict=True)) if _has_value(column)}
        used = tuple(filled)
        values = [value for row in zip(*filled.values(), strict=True) for value in row]
        self._in_chunks(values, len(used), lambda size: narrowed(self.sql[name], used, size))

    def place(self, rows: list[tuple[Any, ...]], bodies: list[tuple[int, bytes]]) -> None:
        """Insert tasks: their columns without the body, and their sequences with the bodies, in one order."""
        self.insert_narrow("insert_task", rows)
        self.insert("insert_body", [*bodies])

    def replace_body(self, sequence: int, body: bytes) -> None:
        """Write a task's body anew."""
        self.run("replace_body", sequence, body)

    def for_rows(self, name: str, values: list[Any], width: int) -> list[Any]:
        """Execute a statement on rows whose values follow one another, `width` of them in each."""
        return self._in_chunks(values, width, lambda size: self.sql[f"{name}/{size}"])

    def _in_chunks(self, values: list[Any], width: int, statement: Callable[[int], str]) -> list[Any]:
        start, rest = 0, len(values) // width
        returned: list[Any] = []
        while rest:
            size = next(size for size in SIZES if size <= rest)
            end = start + size * width
            returned += self.raw.execute(statement(size), values[start:end])
            start, rest = end, rest - size
        return returned

    # -- transactions ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(
        self, *, urgent: bool = False, polite: Callable[[], bool] | None = None
    ) -> Generator[None, None, None]:
        """A write transaction: committed at the end, rolled back on an error.

        Args:
            urgent: Ask for the lock more often than others do.
            polite: Says whether somebody else of this process should go first.
        """
        patiently(lambda: self.raw.execute("BEGIN IMMEDIATE"), urgent=urgent, polite=polite)
        with haste():
            try:
                yield
                patiently(lambda: self.raw.execute("COMMIT"), urgent=True)
            except BaseException:
                self.rollback()
                raise

    def rollback(self) -> None:
        """Undo the open transaction, if there is one."""
        if self.raw.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self.raw.execute("ROLLBACK")


def _has_value(column: tuple[Any, ...]) -> bool:
    return column.count(None) < len(column)


def patiently(
    action: Callable[[], Answer], *, urgent: bool = False, polite: Callable[[], bool] | None = None
) -> Answer:
    """Do something as soon as no other connection is in the way, for `PATIENCE` seconds at the most.

    SQLite's own busy handler sleeps longer each time, so that under load one process gets all turns and
    another none (measured with 3.40: 9,076 commits against 1). Short random sleeps are fair.
    """
    pause, longest = (0.0002, 0.001) if urgent else (0.0006, 0.004)
    deadline: float | None = None
    while True:
        if polite is None or not polite():
            try:
                return action()
            except sqlite3.Error as error:
                if not is_busy(error):
                    raise
                now = time.monotonic()
                if deadline is None:
                    deadline = now + PATIENCE
                elif now > deadline:
                    raise
        time.sleep(pause * (0.5 + random.random()))
        pause = min(pause * 1.3, longest)
