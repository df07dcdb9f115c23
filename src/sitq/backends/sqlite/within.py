"""A user's own transaction: tasks are placed through the user's connection, as the writer would place them.

SQLite lets one connection write at a time. From the first task on this one has the lock, so what is judged
here cannot change before the commit, and the answers are as good as the writer's. It also means that nothing
else is written to the file until the transaction ends.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from sitq.backends.base import Answer, Placed, Replaced
from sitq.backends.sqlite.connection import Connection
from sitq.backends.sqlite.errors import is_busy, translated
from sitq.backends.sqlite.location import MEMORY
from sitq.backends.sqlite.statements import statements
from sitq.backends.tables.admission import Group, put
from sitq.backends.tables.counts import Counts
from sitq.backends.tables.lanes import Lanes
from sitq.backends.tables.work import Work
from sitq.clock import Clock
from sitq.exceptions import BackendError, SitqError, ValidationError

_NO_TRANSACTION: Final = (
    "the connection is in no transaction, and begins none by itself: execute BEGIN IMMEDIATE first, so that "
    "its commit decides about the task"
)


class Place(NamedTuple):
    """Where the tasks belong, and by which clock and up to which size of a payload they are judged."""

    path: str
    namespace: str
    clock: Clock
    most: int


@dataclass(frozen=True, slots=True)
class _Rows:
    """What came of a statement, all of it read."""

    rowcount: int
    rows: list[Any]

    def fetchone(self) -> Any:
        return self.rows[0] if self.rows else None

    def fetchall(self) -> list[Any]:
        return self.rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)


class _Cursor:
    """A cursor of the user's connection, of `sqlite3` or of SQLAlchemy over `aiosqlite`."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._cursor = raw.cursor()
        if isinstance(self._cursor, sqlite3.Cursor):  # the user's own factories are for the user's own rows
            self._cursor.row_factory = None
            self._text, raw.text_factory = raw.text_factory, str

    def execute(self, sql: str, values: Sequence[Any] = ()) -> _Rows:
        self._cursor.execute(sql, tuple(values))
        rows = list(self._cursor.fetchall()) if self._cursor.description else []
        return _Rows(self._cursor.rowcount, rows)

    def close(self) -> None:
        if isinstance(self._cursor, sqlite3.Cursor):
            self._raw.text_factory = self._text
        self._cursor.close()


class _UsersConnection(Connection):
    """The store's statements on a connection that is the user's, with the user's settings."""

    def __init__(self, cursor: Any, namespace: str) -> None:
        self.raw = cursor
        self.sql = statements(namespace)


async def place(
    connection: Any, where: Place, groups: Sequence[Group], placed: Callable[[], None]
) -> list[list[Answer]]:
    """Place groups within the transaction of a connection or session, and answer what became of each task.

    `placed` is called when something was, while the transaction still holds the lock.

    Raises:
        ValidationError: It is none that can be used, leads to another file, or is in no transaction.
        BackendError: A statement failed; nothing of the groups is in the transaction.
    """
    if where.path == MEMORY:
        raise ValidationError("no connection leads to a store in memory; keep the tasks in a file")
    if isinstance(connection, sqlite3.Connection):
        return _place(connection, connection, where, groups, placed)
    if type(connection).__module__.partition(".")[0] != "sqlalchemy":
        raise ValidationError(
            "within() takes a connection of sqlite3, or one or a session of SQLAlchemy, not "
            f"{type(connection).__module__}.{type(connection).__qualname__}"
        )
    try:
        return await _in_sqlalchemy(connection, where, groups, placed)
    except SitqError:
        raise
    except Exception as error:
        message = f"the task could not be enqueued within the transaction: {error}"
        raise BackendError(message, operation="enqueue") from error


async def _in_sqlalchemy(
    given: Any, where: Place, groups: Sequence[Group], placed: Callable[[], None]
) -> list[list[Answer]]:
    is_async = ".asyncio" in type(given).__module__
    connection = given
    if not hasattr(given, "exec_driver_sql"):  # a session
        connection = await given.connection() if is_async else given.connection()

    def step(connection: Any) -> list[list[Answer]]:
        return _through_sqlalchemy(connection, where, groups, placed)

    return await connection.run_sync(step) if is_async else step(connection)


def _through_sqlalchemy(
    connection: Any, where: Place, groups: Sequence[Group], placed: Callable[[], None]
) -> list[list[Answer]]:
    if connection.dialect.name != "sqlite":
        raise ValidationError(f"the transaction is one of {connection.dialect.name}, the store is SQLite")
    if not connection.in_transaction():
        connection.begin()  # as any statement would: without it, commit() does nothing
    pooled = connection.connection
    state = pooled.driver_connection
    if not isinstance(state, sqlite3.Connection) and type(state).__module__.partition(".")[0] != "aiosqlite":
        raise ValidationError(
            f"SQLAlchemy's driver must be sqlite3 or aiosqlite, not {type(state).__module__}: two libraries "
            "of SQLite in one process break each other's locks"
        )
    return _place(pooled.dbapi_connection, state, where, groups, placed)


def _place(
    raw: Any, state: Any, where: Place, groups: Sequence[Group], placed: Callable[[], None]
) -> list[list[Answer]]:
    """Place groups, given the connection that takes statements and the one that knows its transaction."""
    try:
        with contextlib.closing(_Cursor(raw)) as cursor:
            _check_file(cursor, where.path)
            with _step(cursor, state) as keep:
                db = _UsersConnection(cursor, where.namespace)
                db.run("lock")
                answers = _put(db, where, groups)
                if any(isinstance(answer, Placed | Replaced) for group in answers for answer in group):
                    placed()
                    keep()
                return answers
    except SitqError:
        raise
    except sqlite3.ProgrammingError as error:
        raise ValidationError(f"the connection cannot be used here: {error}") from error
    except sqlite3.Error as error:
        raise _failed(error, where.path) from error


def _put(db: Connection, where: Place, groups: Sequence[Group]) -> list[list[Answer]]:
    # Lanes that this transaction makes are gone after its rollback: what is known of them ends with the call.
    counts = Counts()
    work = Work(db, Lanes(), where.clock(), counts)
    answers = put(work, groups, where.most)
    work.flush()
    counts.write(db)
    return answers


def _check_file(cursor: _Cursor, path: str) -> None:
    files = {name: file for _, name, file in cursor.execute("PRAGMA database_list").rows}
    try:
        if files["main"] and Path(files["main"]).samefile(path):
            return
    except OSError:  # it has been moved or removed
        pass
    raise ValidationError(
        f"the connection leads to {files['main'] or 'a database in memory'}, and the store lies in {path}: a "
        "transaction holds in one file only, so open the store in the file of your data"
    )


@contextlib.contextmanager
def _step(cursor: _Cursor, state: Any) -> Generator[Callable[[], None]]:
    """A step of the user's transaction, of which nothing stays unless what is yielded was called.

    Where the driver would begin a transaction by itself, one is begun; a step that leaves nothing ends it.
    """
    begins = not state.in_transaction
    if begins:
        if state.isolation_level is None or getattr(state, "autocommit", -1) is True:
            raise ValidationError(_NO_TRANSACTION)
        cursor.execute("BEGIN IMMEDIATE")
    kept = False

    def keep() -> None:
        nonlocal kept
        cursor.execute("RELEASE sitq_within")
        kept = True

    try:
        cursor.execute("SAVEPOINT sitq_within")
        yield keep
    finally:
        if not kept and begins:
            _quietly(cursor, "ROLLBACK")
        elif not kept:
            _quietly(cursor, "ROLLBACK TO sitq_within")
            _quietly(cursor, "RELEASE sitq_within")


def _quietly(cursor: _Cursor, sql: str) -> None:
    with contextlib.suppress(
        sqlite3.Error
    ):  # SQLite has rolled all of it back by itself, on a full disk perhaps
        cursor.execute(sql)


def _failed(error: sqlite3.Error, path: str) -> Exception:
    if not is_busy(error):
        return translated(error, path, "enqueue")
    return BackendError(
        f"the task could not be enqueued within the transaction, as another connection writes to {path} "
        f"({error}): begin with BEGIN IMMEDIATE, which waits for its turn before it reads, or do all of it "
        "again",
        operation="enqueue",
    )
