"""A line: a connection that an event loop uses itself, without a thread, for one call after another.

Handing a call to a thread and its answer back takes longer than the call. What is usual is a single statement
that commits by itself, so nothing has to be done between its answer and the next one: whatever becomes of its
caller, or of the event loop, no transaction is left open.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Final

import psycopg
from psycopg.pq import ConnStatus, Format
from psycopg.pq.abc import PGresult

from sitq.backends.postgres.binary import Call, Row
from sitq.backends.postgres.connection import Connection, checked, row_of
from sitq.backends.postgres.patience import ANSWER, LONGEST, NoAnswerError

Told = Callable[[Row | None, Exception | None], None]
"""Is told the only row that came of a call, or what went wrong."""

_HELD_UP: Final = 1.0
"""Seconds that a look may come late before it is the event loop that stood still, and not the server."""


class Line:
    """A connection of an event loop. All of it is called in that loop, but for `abandon`.

    Args:
        loop: The loop.
        db: The connection, with its statements prepared.
        gone: Is told when the line is closed.

    Raises:
        NotImplementedError: The loop cannot watch sockets.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, db: Connection, gone: Callable[[Line], None]) -> None:
        self.loop = loop
        self.slot = db.slot
        self.ended: asyncio.Future[None] = loop.create_future()
        self._db = db
        self._pg = db.raw.pgconn
        self._socket = self._pg.socket
        self._gone = gone
        self._told: Told | None = None
        self._result: PGresult | None = None
        self._asked = 0.0
        self._waits_since = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._writes = False
        self._retired = False
        loop.add_reader(self._socket, self._read)

    @property
    def idle(self) -> bool:
        """Whether it can be asked something."""
        return self._told is None and not self._retired

    def ask(self, call: Call, told: Told) -> None:
        """Make a call while the line is idle; `told` hears of its end, whatever becomes of the caller."""
        self._told = told
        self._asked = self._waits_since = self.loop.time()
        if self._watch is None:
            self._watch = self.loop.call_later(self._patience, self._look)
        try:
            formats = [Format.BINARY] * len(call.values)
            self._pg.send_query_prepared(call.name.encode(), call.values, formats, Format.BINARY)
            self._flush()
        except psycopg.Error as error:
            self._break(error)

    def retire(self) -> None:
        """Close it once the call that is under way has its answer. Idempotent."""
        self._retired = True
        if self._told is None:
            self._close()

    def abandon(self) -> None:
        """Close it, from any thread, when its loop is closed."""
        self._retired = True
        self._db.close()

    # -- what the socket says --------------------------------------------------------------------------------

    def _flush(self) -> None:
        more = self._pg.flush() == 1
        if more and not self._writes:
            self.loop.add_writer(self._socket, self._read)
        elif self._writes and not more:
            self.loop.remove_writer(self._socket)
        self._writes = more

    def _read(self) -> None:
        pg = self._pg
        try:
            pg.consume_input()
            if self._writes:
                self._flush()
            while not pg.is_busy():
                result = pg.get_result()
                if result is None:
                    break
                self._result = result
            else:
                return
        except psycopg.Error as error:
            self._break(error)
            return
        if self._result is not None:
            self._answer(self._result)
        if pg.status != ConnStatus.OK:
            self._close()

    def _answer(self, result: PGresult) -> None:
        told, self._told, self._result = self._told, None, None
        if told is None:  # the server says why it ends the connection
            return
        try:
            row = row_of(checked(result))
        except psycopg.Error as error:
            told(None, error)
        else:
            told(row, None)
        if self._retired and self._told is None:
            self._close()

    def _break(self, error: Exception) -> None:
        told, self._told = self._told, None
        self._close()
        if told is not None:
            told(None, error)

    def _close(self) -> None:
        self._retired = True
        if self.ended.done():
            return
        self.ended.set_result(None)
        self.loop.remove_reader(self._socket)
        if self._writes:
            self.loop.remove_writer(self._socket)
        if self._watch is not None:
            self._watch.cancel()
        self._db.close()
        self._gone(self)

    # -- a server that says nothing --------------------------------------------------------------------------

    @property
    def _patience(self) -> float:
        return self._db.raw.patience or ANSWER

    def _look(self) -> None:
        """See whether the server has kept silent for too long; one timer serves many calls."""
        self._watch = None
        asked, now = self._told, self.loop.time()
        if asked is None:
            return
        late = now - self._waits_since - self._patience
        if late >= 0:
            self._read()  # it may have answered while the loop stood still
            if self._told is not asked:
                return
            if late < _HELD_UP:
                self._doubt(asked, now)
                return
            self._waits_since = now
        self._watch = self.loop.call_later(self._waits_since + self._patience - now, self._look)

    def _doubt(self, asked: Told, now: float) -> None:
        """Ask the server, in a thread, whether it is still at work on what it was asked."""
        at_work = self._db.raw.at_work
        if at_work is None or now > self._asked + LONGEST:
            self._break(NoAnswerError(now - self._asked))
            return

        def ask() -> None:
            answer = at_work()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(self._hear, asked, answer)

        threading.Thread(target=ask, name="sitq-postgres-doubt", daemon=True).start()

    def _hear(self, asked: Told, at_work: bool) -> None:  # noqa: FBT001 - what a thread found out
        if self._told is not asked:  # the answer has come, and the next question has a watch of its own
            return
        now = self.loop.time()
        if at_work:
            self._waits_since = now
            self._watch = self.loop.call_later(self._patience, self._look)
        else:
            self._break(NoAnswerError(now - self._asked))


def abandon(line: Line) -> None:
    """Close a line from any thread, as soon as its loop lets it."""
    if line.loop.is_closed():
        line.abandon()
        return
    with contextlib.suppress(RuntimeError):
        if asyncio.get_running_loop() is line.loop:
            line.retire()
            return
    try:
        line.loop.call_soon_threadsafe(line.retire)
    except RuntimeError:  # it was closed in this moment
        line.abandon()
