"""Renewals: a connection of their own, which waits for nobody but whoever changes the very task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sitq.backends.base import Lease, Renewal
from sitq.backends.postgres.connection import Connection
from sitq.backends.postgres.engine import TURNS, Engine
from sitq.backends.postgres.errors import is_away, is_passing, translated
from sitq.exceptions import BackendError

if TYPE_CHECKING:
    from sitq.backends.postgres.backend import PostgresBackend


class PostgresLeaseChannel:
    """A lease channel for one thread."""

    def __init__(self, backend: PostgresBackend, engine: Engine) -> None:
        self._backend = backend
        self._engine = engine
        self._db: Connection | None = None
        self._closed = False

    def renew(self, leases: Sequence[Lease], lease: int) -> list[Renewal]:
        """Make each lease last `lease` microseconds from the store's now.

        Raises:
            BackendError: The channel or its backend is closed, or the server failed.
        """
        if self._closed:
            raise BackendError(
                f"the lease channel of {self._backend!r} is closed: open a new one", operation="renew"
            )
        self._backend.check()
        for turn in range(TURNS):
            try:
                return self._renew(leases, lease)
            except Exception as error:
                if is_away(error) and self._db is not None:
                    self._db.close()
                    self._db = None
                    if not turn:
                        continue
                if not is_passing(error) or turn == TURNS - 1:
                    raise translated(error, self._engine.shown, "renew") from error
        raise AssertionError  # pragma: no cover - the last turn returned or raised

    def close(self) -> None:
        """Release the connection. Idempotent."""
        self._closed = True
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _renew(self, leases: Sequence[Lease], lease: int) -> list[Renewal]:
        if self._db is None:
            self._db = self._engine.connect()
        ids, tokens = [one.id for one in leases], [one.token for one in leases]
        rows = self._db.run("renew", ids, tokens, lease, self._engine.now()).fetchall()
        held: dict[tuple[str, str], str | None] = {(id, token): stop for id, token, stop in rows}
        return [_answer(one, held) for one in leases]


def _answer(lease: Lease, held: dict[tuple[str, str], str | None]) -> Renewal:
    key = lease.id, lease.token
    if key not in held:
        return Renewal(lease.id, "lost")
    stop = held[key]
    return Renewal(lease.id, "kept") if stop is None else Renewal(lease.id, "stop", stop)
