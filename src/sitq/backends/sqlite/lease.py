"""Renewals: a connection of their own, and the first turn among the writers of the process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from sitq.backends.base import Lease, Renewal
from sitq.backends.sqlite.connection import Connection
from sitq.backends.sqlite.errors import translated
from sitq.backends.sqlite.mend import is_damage
from sitq.backends.sqlite.writer import Job
from sitq.backends.tables.database import Database
from sitq.backends.tables.lanes import encode
from sitq.exceptions import BackendError

if TYPE_CHECKING:
    from sitq.backends.sqlite.backend import SQLiteBackend
    from sitq.backends.sqlite.engine import Engine
    from sitq.backends.tables.work import Work

_found = msgspec.json.Decoder(list[tuple[int, str, str, str | None]]).decode


class SQLiteLeaseChannel:
    """A lease channel for one thread."""

    def __init__(self, backend: SQLiteBackend, engine: Engine) -> None:
        self._backend = backend
        self._engine = engine
        self._db: Connection | None = None
        self._closed = False

    def renew(self, leases: Sequence[Lease], lease: int) -> list[Renewal]:
        """Make each lease last `lease` microseconds from the store's now.

        Raises:
            BackendError: The channel or its backend is closed, or the database failed.
        """
        if self._closed:
            raise BackendError(
                f"the lease channel of {self._backend!r} is closed: open a new one", operation="renew"
            )
        self._backend.check()
        if self._engine.reader is None:
            return self._in_writer(leases, lease)
        try:
            return self._renew(leases, lease)
        except Exception as error:
            if is_damage(error):  # the writer puts damaged tasks aside
                return self._in_writer(leases, lease)
            raise translated(error, self._backend.path, "renew") from error

    def close(self) -> None:
        """Release the connection. Idempotent."""
        self._closed = True
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _renew(self, leases: Sequence[Lease], lease: int) -> list[Renewal]:
        if self._db is None:
            self._db = self._engine.connect(cache=256)
        self._engine.writer.urgent.set()
        try:
            with self._db.writing(urgent=True):
                return renew(self._db, leases, self._engine.clock() + lease)
        finally:
            self._engine.writer.urgent.clear()

    def _in_writer(self, leases: Sequence[Lease], lease: int) -> list[Renewal]:
        done = threading.Event()
        answer: list[tuple[list[Renewal] | None, Exception | None]] = []

        def tell(value: list[Renewal] | None, error: Exception | None) -> None:
            answer.append((value, error))
            done.set()

        def action(work: Work) -> list[Renewal]:
            return renew(work.db, leases, work.now + lease)

        self._engine.writer.submit(Job("renew", action, 1, tell))
        done.wait()
        value, error = answer[0]
        if error is not None:
            raise error
        assert value is not None  # noqa: S101 - there is one or the other
        return value


def renew(db: Database, leases: Sequence[Lease], until: int) -> list[Renewal]:
    """Let those leases end at `until` that are still held."""
    held = _found(db.one("renewable", encode(leases).decode()))
    if held:
        db.run("renew", encode([sequence for sequence, *_ in held]).decode(), until)
    known = {(id, token): stop for _, id, token, stop in held}
    return [_answer(lease, known) for lease in leases]


def _answer(lease: Lease, known: dict[tuple[str, str], str | None]) -> Renewal:
    key = lease.id, lease.token
    if key not in known:
        return Renewal(lease.id, "lost")
    stop = known[key]
    return Renewal(lease.id, "kept") if stop is None else Renewal(lease.id, "stop", stop)
