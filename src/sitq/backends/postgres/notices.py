"""Hints from other processes: one connection that listens, while somebody of this process waits."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
import time
from typing import Any, Final

import msgspec

from sitq.backends.hints import Hub, LocalListener
from sitq.backends.postgres.connection import Connection
from sitq.backends.postgres.engine import EVERYBODY, Engine

logger = logging.getLogger("sitq.backends.postgres")

REGISTERED: Final = 60.0
"""Seconds for which it is known who waits for what."""

AGAIN: Final = 20.0
"""Seconds after which that is said again."""

PAUSE: Final = 1.0
"""Seconds before a lost connection is made anew."""

_note = msgspec.json.Decoder(list[str]).decode


FIRST: Final = 1.0
"""Seconds that a first wait takes at the least, if nobody can know of it yet."""


class NoticedListener(LocalListener):
    """A waiter who is woken once when other processes know of it: what they did before was not told."""

    def __init__(self, hub: Hub, topics: frozenset[str], notices: Notices) -> None:
        super().__init__(hub, topics)
        self._notices = notices

    async def wait(self, timeout: float) -> bool:
        """Wait for a hint; False when `timeout` seconds passed without one."""
        known = self._notices.knows(self.topics)
        return await super().wait(timeout if known else max(timeout, FIRST))


class Notices:
    """The thread that passes on what other processes tell. It is there from the first listener on."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._told: frozenset[str] = frozenset()
        self._since = 0.0
        self._closed = False
        self._bell, self._ear = socket.socketpair()
        self._bell.settimeout(0)
        self._ear.settimeout(0)
        self._thread = threading.Thread(target=self._run, name="sitq-postgres-notices", daemon=True)
        self._thread.start()

    def knows(self, topics: frozenset[str]) -> bool:
        """Whether other processes can know that somebody here listens to the topics."""
        return topics <= self._told

    def changed(self) -> None:
        """Somebody listens to something new."""
        with contextlib.suppress(OSError):
            self._bell.send(b"!")

    def stop(self, timeout: float = 10) -> None:
        """End the thread and its connection. Idempotent."""
        if not self._closed:
            self._closed = True
            self.changed()
            self._thread.join(timeout)

    def _run(self) -> None:
        pause = 0.0
        while not self._closed:
            try:
                if pause:
                    select.select([self._ear], [], [], pause)
                with contextlib.closing(self._engine.connect()) as db:
                    if not db.direct:
                        logger.info(
                            "%s is behind a pooler: polled, since it cannot notify", self._engine.shown
                        )
                        break
                    self._listen(db)
            except Exception as error:  # noqa: BLE001 - polling goes on meanwhile
                if not self._closed:
                    logger.warning("hints from %s are interrupted: %s", self._engine.shown, error)
                pause = PAUSE
        self._bell.close()
        self._ear.close()

    def _listen(self, db: Connection) -> None:
        db.raw.execute(f'LISTEN "{self._engine.channel}"'.encode())
        self._told = frozenset()
        while not self._closed:
            self._register(db)
            left = max(0.1, self._since + AGAIN - time.monotonic())
            select.select([db.raw.fileno(), self._ear.fileno()], [], [], left)
            with contextlib.suppress(BlockingIOError):
                while self._ear.recv(4096):
                    pass
            self._hear(db)
        db.run("unregister", self._engine.me, [])

    def _register(self, db: Connection) -> None:
        topics, hub = self._engine.hub.topics, self._engine.hub
        now = time.monotonic()
        new = topics - self._told
        if not new and now < self._since + AGAIN:
            return
        if now >= self._since + AGAIN:
            db.run("unregister", self._engine.me, list(topics))
            db.run("drop_old_listeners")
            new, self._since = topics, now
        if new:
            db.run("register", self._engine.me, list(new), REGISTERED)
        # What was said of them in the meantime was not heard.
        fresh = topics - self._told
        self._told = topics if self._since == now else self._told | topics
        hub.hint(fresh)
        self._hear(db)

    def _hear(self, db: Connection) -> None:
        pq: Any = db.raw.pgconn
        pq.consume_input()
        while (notice := pq.notifies()) is not None:
            me, *topics = _note(notice.extra)
            if topics == [EVERYBODY]:
                self._engine.hub.hint_all()
            elif me != self._engine.me:
                self._engine.hub.hint(topics)
