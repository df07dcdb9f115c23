"""What is open while a SQLite backend is connected: connections and the threads that use them."""

from __future__ import annotations

import sqlite3
import threading

from sitq.backends.hints import Hub
from sitq.backends.sqlite.checkpoint import Checkpointer
from sitq.backends.sqlite.connection import Connection, Synchronous
from sitq.backends.sqlite.errors import translated
from sitq.backends.sqlite.location import MEMORY, prepare
from sitq.backends.sqlite.reader import Reader
from sitq.backends.sqlite.schema import migrate
from sitq.backends.sqlite.statements import OLDEST
from sitq.backends.sqlite.vigil import Vigil
from sitq.backends.sqlite.watch import Watch, ring
from sitq.backends.sqlite.writer import Writer
from sitq.backends.tables.usual import Holding
from sitq.clock import Clock
from sitq.exceptions import ConfigurationError


class Engine:
    """The writer, the reader, and what they share. It knows nothing of the backend object that uses it."""

    def __init__(
        self, path: str, namespace: str, synchronous: Synchronous, clock: Clock, *, hub: Hub, db: Connection
    ) -> None:
        self.path = path
        self.namespace = namespace
        self.synchronous: Synchronous = synchronous
        self.clock = clock
        self.hub = hub
        self.holding = Holding()
        self.reader = None if path == MEMORY else Reader(self.connect(), path)
        self.writer = Writer(db, path, clock, hub)
        self._checkpointer: Checkpointer | None = None
        self._watch: Watch | None = None
        self._vigil: Vigil | None = None
        self._turn = threading.Lock()
        if path != MEMORY:
            self._checkpointer = Checkpointer(lambda: self.connect(cache=256), self._restart_log)
            self.writer.on_commit = self._checkpointer.wrote

    @classmethod
    def open(
        cls, path: str, namespace: str, synchronous: Synchronous, clock: Clock, hub: Hub, *, force: bool
    ) -> Engine:
        """Open the database, bring it to the present schema, and start the threads."""
        if sqlite3.sqlite_version_info < OLDEST:
            message = (
                f"SQLite {sqlite3.sqlite_version} is too old for sitq; use a Python with SQLite 3.35 or newer"
            )
            raise ConfigurationError(message, operation="connect")
        if path != MEMORY:
            prepare(path, force=force)
        db: Connection | None = None
        try:
            db = Connection(path, namespace, synchronous=synchronous, cache=8192)
            migrate(db, namespace, path)
            return cls(path, namespace, synchronous, clock, hub=hub, db=db)
        except Exception as error:
            if db is not None:
                db.close()
            raise translated(error, path, "connect") from error

    def connect(self, cache: int = 2048) -> Connection:
        """One more connection to the database."""
        return Connection(self.path, self.namespace, synchronous=self.synchronous, cache=cache)

    def watch(self) -> None:
        """Somebody listens: notice from now on what other processes commit."""
        if self.path == MEMORY:
            return
        with self._turn:
            if self._watch is None:
                writer, hub = self.writer, self.hub
                self._watch = Watch(self.path + "-wal", writer.saw_foreign, hub.hint_all, lambda: hub.quiet)
            else:
                self._watch.listen()

    def vigil(self) -> Vigil:
        """What watches for the ends of users' transactions."""
        hub, log = self.hub, self.path + "-wal"

        def tell() -> None:
            ring(log)
            hub.hint_all()

        with self._turn:
            if self._vigil is None:
                self._vigil = Vigil(self.connect(cache=256), tell)
            return self._vigil

    def stop(self, timeout: float = 10) -> None:
        """Finish what was begun, end the threads and close the connections."""
        with self._turn:
            if self._vigil is not None:
                self._vigil.stop(timeout)
            if self._watch is not None:
                self._watch.stop(timeout)
        self.writer.stop(timeout)
        if self._checkpointer is not None:
            self._checkpointer.stop(timeout)
        if self.reader is not None:
            self.reader.stop(timeout)

    def abandon(self) -> None:
        """The backend object is gone, or the interpreter ends: wait for nobody for long."""
        self.stop(2)

    def _restart_log(self) -> None:
        self.writer.restart_log = True
