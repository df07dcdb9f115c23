"""One connection to the server: named statements and transactions, for one thread at a time."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Generator, Iterable
from typing import Any, Final

import psycopg
from psycopg import RawCursor
from psycopg.conninfo import conninfo_to_dict
from psycopg.generators import execute
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

from sitq.backends.postgres.binary import Call, Row
from sitq.backends.postgres.patience import PatientConnection, question
from sitq.backends.postgres.statements import statements
from sitq.backends.tables.lanes import Lanes
from sitq.clock import Clock

SLOTS: Final = 64
"""Among how many rows the counts of a queue are spread."""

_SETTINGS: Final = {
    "application_name": "sitq",
    "connect_timeout": 5,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 8000,
}
"""So that a connection whose other end is gone is found in ten seconds; what the user says counts more."""


class Connection:
    """A connection that is used by one thread at a time.

    Attributes:
        lanes: What was seen of lanes by this connection.
        slot: The slot that its counts go to.
        direct: Whether it is always the same session of the server: not behind a pooler.
    """

    def __init__(self, conninfo: str, namespace: str) -> None:
        """Connect.

        Raises:
            psycopg.Error: That was not possible.
        """
        self._settings: dict[str, Any] = {**_SETTINGS, **conninfo_to_dict(conninfo)}
        self.raw = PatientConnection.connect(autocommit=True, **self._settings)
        self.sql = statements(namespace)
        self.lanes = Lanes()
        self.slot = random.randrange(1, SLOTS)
        self._prepared: set[str] = set()
        try:
            self._prepare()
        except BaseException:
            self.raw.close()
            raise

    def _prepare(self) -> None:
        # A pooler invents the process number that it announces. Behind one, nothing may be left in a session.
        answer = self.raw.execute("SELECT pg_backend_pid()").fetchone()
        self.direct = answer is not None and answer[0] == self.raw.info.backend_pid
        self.raw.prepare_threshold = 3 if self.direct else None
        if self.direct:
            self.raw.at_work = question(self.raw, self._settings)
            self.raw.execute(self.sql["plan_by_indexes"], prepare=False)

    @property
    def usable(self) -> bool:
        """Whether the connection still stands, as far as is known."""
        return not self.raw.closed

    def close(self) -> None:
        """Close the connection. Idempotent."""
        with contextlib.suppress(psycopg.Error):
            self.raw.close()

    @contextlib.contextmanager
    def patient(self) -> Generator[None]:
        """Wait for the server as long as it takes."""
        self.raw.patience = None
        try:
            yield
        finally:
            del self.raw.patience  # it is the class's again

    # -- statements ------------------------------------------------------------------------------------------

    def run(self, name: str, *values: Any) -> RawCursor[Any]:
        """Execute a named statement."""
        cursor = RawCursor(self.raw)
        cursor.format = Format.BINARY
        return cursor.execute(self.sql[name], values)

    def one(self, name: str, *values: Any) -> Any:
        """The first column of the only row of a named statement, or None without a row."""
        row = self.run(name, *values).fetchone()
        return row and row[0]

    def insert(self, name: str, rows: list[tuple[Any, ...]]) -> list[Any]:
        """Insert rows; answers with what the statement returns."""
        return _returned(self.run(name, *map(list, zip(*rows, strict=True)))) if rows else []

    def for_rows(self, name: str, values: list[Any], width: int) -> list[Any]:
        """Execute a statement on rows whose values follow one another, `width` of them in each."""
        return _returned(self.run(name, *(values[column::width] for column in range(width))))

    def place(self, rows: list[tuple[Any, ...]], bodies: list[tuple[int, bytes]]) -> None:
        """Insert tasks: their columns without the body, and their sequences with the bodies, in one order."""
        columns = [list(column) for column in zip(*rows, strict=True)]
        self.run("insert_task", *columns, [body for _, body in bodies])
        self.run("set_sequence", max(columns[0]))

    def replace_body(self, sequence: int, body: bytes) -> None:
        """Write a task's body anew."""
        self.run("replace_body", sequence, body)

    def call(self, call: Call) -> Row:
        """Execute a named statement with parameters in binary; the columns of its only row, in binary.

        Raises:
            psycopg.Error: It failed.
        """
        if self.direct:
            try:
                return self._call_prepared(call)
            except psycopg.errors.InvalidSqlStatementName:
                self._prepared.clear()  # psycopg has dropped all that its session had, after a rollback (3.3)
                return self._call_prepared(call)
        formats = [Format.BINARY] * len(call.values)
        self.raw.pgconn.send_query_params(self.sql[call.name], call.values, None, formats, Format.BINARY)
        return row_of(self._result())

    def _call_prepared(self, call: Call) -> Row:
        self.prepare((call.name,))
        formats = [Format.BINARY] * len(call.values)
        self.raw.pgconn.send_query_prepared(call.name.encode(), call.values, formats, Format.BINARY)
        return row_of(self._result())

    def prepare(self, names: Iterable[str]) -> None:
        """Have the session know named statements that are called."""
        for name in names:
            if name not in self._prepared:
                self.raw.pgconn.send_prepare(name.encode(), self.sql[name])
                self._result()
                self._prepared.add(name)

    def _result(self) -> PGresult:
        (result,) = self.raw.wait(execute(self.raw.pgconn))
        return checked(result)

    # -- transactions ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def alone(self, clock: Clock | None) -> Generator[int]:
        """A transaction that has the namespace for itself, at the instant that is yielded.

        Committed at the end, rolled back on an error.
        """
        cursor = psycopg.Cursor(self.raw)
        try:
            cursor.execute(self.sql["begin"], prepare=False)
            while cursor.nextset():
                pass
            row: Any = cursor.fetchone()
            yield clock() if clock is not None else row[0]
            self.raw.execute("COMMIT", prepare=False)
        except BaseException:
            self.lanes.forget()
            with contextlib.suppress(psycopg.Error):
                self.raw.execute("ROLLBACK", prepare=False)
            raise


def checked(result: PGresult) -> PGresult:
    """A result that is one.

    Raises:
        psycopg.Error: The server answered with an error.
    """
    if result.status in {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}:
        return result
    raise psycopg.errors.error_from_result(result)


def row_of(result: PGresult) -> Row:
    """The columns of the only row."""
    return [result.get_value(0, column) for column in range(result.nfields)]


def _returned(cursor: RawCursor[Any]) -> list[Any]:
    return [] if cursor.description is None else cursor.fetchall()
