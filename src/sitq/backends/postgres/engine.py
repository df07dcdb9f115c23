"""What is open while a PostgreSQL backend is connected: a few connections, with the threads that use them.

What is usual is asked by event loops themselves, on lines. All else is done in threads, since a call that
runs in one is done whole, whatever becomes of its caller, since all event loops of the process can share
them, and since what goes the long way is decided by the code that SQLite's thread runs. The driver's blocking
calls wait outside of the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from uuid import uuid4

import msgspec

from sitq.backends.hints import Hub
from sitq.backends.postgres import binary
from sitq.backends.postgres.binary import Call, Row
from sitq.backends.postgres.connection import Connection
from sitq.backends.postgres.errors import is_away, is_damage, is_passing, translated
from sitq.backends.postgres.line import Line
from sitq.backends.postgres.lines import Lines
from sitq.backends.postgres.mend import mend
from sitq.backends.postgres.patience import LONGEST, NoAnswerError
from sitq.backends.postgres.plain import Places, Said, Usual
from sitq.backends.postgres.statements import lock_of
from sitq.backends.tables.counts import Counts
from sitq.backends.tables.lanes import StaleLaneError
from sitq.backends.tables.usual import Holding
from sitq.backends.tables.work import Work
from sitq.clock import Clock
from sitq.exceptions import BackendError

logger = logging.getLogger("sitq.backends.postgres")

T = TypeVar("T")

TURNS: Final = 30
"""How often something is tried that others were in the way of."""

STALE_TOO_OFTEN: Final = 4
"""At which turn a lane that is not there is no longer one that was just removed."""

LOOK_AGAIN: Final = 60.0
"""Seconds after a look for damaged rows that found none."""

PAYLOAD: Final = 7000
"""Bytes of topics in one notification; the server takes less than 8000."""

EVERYBODY: Final = "*"
"""In the place of topics that do not fit into a notification."""


@dataclass(slots=True)
class Job:
    """Something to do on a connection, and who is told what came of it.

    `repeatable`: doing it once more after a lost answer is the same as doing it once.
    """

    operation: str
    action: Callable[[Connection], Any]
    answer: Callable[[Any, Exception | None], None]
    repeatable: bool


class Seat:
    """The connection of a thread, while it has one."""

    def __init__(self) -> None:
        self.db: Connection | None = None
        self.doubts = 0
        """How often it had been doubted that the server answers, when this connection was made."""

    def leave(self) -> None:
        """Close the connection."""
        db, self.db = self.db, None
        if db is not None:
            db.close()


class Engine:
    """The connections of a backend. It knows nothing of the backend object that uses it.

    Attributes:
        holding: The running tasks that this process claimed the long way.
        plain: Those that it claimed in the short way, which are in plain lanes.
        places: Where plain tasks go.
        lines: The connections that event loops use themselves; the others are used by threads.
    """

    def __init__(
        self, conninfo: str, namespace: str, shown: str, *, clock: Clock | None, hub: Hub, size: int
    ) -> None:
        self.conninfo = conninfo
        self.namespace = namespace
        self.shown = shown
        self.clock = clock
        self.hub = hub
        self.holding = Holding()
        self.plain = Holding()
        self.places = Places()
        self.lines = Lines(self.connect, size // 2)
        self.me = uuid4().hex
        self.channel = f"sitq_{lock_of(namespace) & 0xFFFFFFFFFFFFFFFF:x}"
        self._size = size
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._turn = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._busy = 0
        self._closed = False
        self._spare: list[Connection] = []
        self._look_again = 0.0
        self._doubts = 0

    # -- from any thread -------------------------------------------------------------------------------------

    def connect(self) -> Connection:
        """One more connection.

        Raises:
            ConnectionError: The server cannot be reached.
        """
        try:
            return Connection(self.conninfo, self.namespace)
        except Exception as error:
            raise translated(error, self.shown, "connect") from error

    def adopt(self, db: Connection) -> None:
        """Use a connection that is already there."""
        self._spare.append(db)

    def shortly(
        self, usual: Usual[T], over: Callable[[], None] = lambda: None
    ) -> asyncio.Future[Said[T] | None] | None:
        """Let the running event loop ask for something usual itself; None if it cannot do that now.

        The answer is None if it has to be done another way, also where something went wrong: a thread does it
        once more then, and says what is wrong. `over` is called as soon as nothing is under way any more,
        whatever becomes of the future.
        """
        line = self.lines.idle()
        call = None if line is None else usual.call(self.me, line.slot, self.now())
        if line is None or call is None:
            return None
        future: asyncio.Future[Said[T] | None] = line.loop.create_future()

        def told(row: Row | None, error: Exception | None) -> None:
            said = None
            if row is not None:
                with contextlib.suppress(Exception):  # what cannot be read is looked at in a thread
                    said = usual.said(row)
            if isinstance(error, NoAnswerError):
                self._doubts += 1
            over()
            if not future.done():
                future.set_result(said)
            if said is not None and said.topics:
                self.hub.hint(said.topics)
            if said is not None and said.heard:
                self._tell_soon(line, said.heard)

        line.ask(call, told)
        return future

    def _tell_soon(self, line: Line, topics: Iterable[str]) -> None:
        """Wake those who wait for topics in other processes; a hint may be missed."""
        if line.idle:
            line.ask(self._note(topics), lambda _row, _error: None)
        else:
            topics = [*topics]
            with contextlib.suppress(BackendError):
                self.submit(
                    Job(
                        "tell", lambda db: self.tell(db, topics), lambda _value, _error: None, repeatable=True
                    )
                )

    def submit(self, job: Job) -> None:
        """Have a job done."""
        with self._turn:
            if self._closed:
                raise BackendError(f"{self.shown} is closed: connect() first", operation=job.operation)
            self._busy += 1
            if self._busy > len(self._threads) and len(self._threads) < self._size - self.lines.most:
                thread = threading.Thread(target=self._run, name="sitq-postgres", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._jobs.put(job)

    def stop(self, timeout: float = 10) -> None:
        """Finish what was begun, end the threads and close the connections. Idempotent."""
        with self._turn:
            if not self._closed:
                self._closed = True
                for _ in self._threads:
                    self._jobs.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout)
        while self._spare:
            self._spare.pop().close()
        self.lines.close()

    # -- in a thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        seat = Seat()
        try:
            while (job := self._jobs.get()) is not None:
                self._do(job, seat)
                with self._turn:
                    self._busy -= 1
        finally:
            seat.leave()

    def _do(self, job: Job, seat: Seat) -> None:
        said: Said[Any] = Said(None, set(), None)
        try:
            value = self._tried(job, seat)
        except Exception as error:  # noqa: BLE001 - it belongs to the caller
            job.answer(None, translated(error, self.shown, job.operation))
            return
        if isinstance(value, Said):
            said = value  # pyright: ignore[reportUnknownVariableType] - whatever was asked for
            value = said.answer
        job.answer(value, None)
        if said.topics:
            self.hub.hint(said.topics)
        if said.heard and seat.db is not None:
            with contextlib.suppress(Exception):  # a hint may be missed
                self.tell(seat.db, said.heard)

    def _tried(self, job: Job, seat: Seat) -> Any:
        renewed = False
        for turn in range(TURNS):
            db = self._seated(seat)
            try:
                return job.action(db)
            except StaleLaneError:
                db.lanes.forget()
                if turn == STALE_TOO_OFTEN:  # a damaged task may name a lane that never was
                    self._mend(db)
            except Exception as error:
                db.lanes.forget()
                if is_away(error) or not db.usable:
                    seat.leave()
                    if renewed or not job.repeatable or _took_long(error):
                        raise
                    renewed = True
                elif is_passing(error):
                    time.sleep(0.001 * turn)
                elif not (is_damage(error) and self._mend(db)):
                    raise
        raise BackendError(f"others kept {self.shown} from doing this", operation=job.operation)

    def _seated(self, seat: Seat) -> Connection:
        """The connection of a seat, a new one if need be."""
        if seat.doubts != self._doubts:  # others had no answer, so this one is not to wait for one, too
            seat.doubts = self._doubts
            seat.leave()
        if seat.db is None:
            seat.db = self._spare.pop() if self._spare else self.connect()
        return seat.db

    def _mend(self, db: Connection) -> bool:
        """Put tasks aside whose columns cannot be used; False if there are none."""
        if time.monotonic() < self._look_again:
            return False
        try:
            with db.patient():
                done = self.alone(db, mend)
        except Exception as error:  # noqa: BLE001 - the job that met the damage has an error of its own
            logger.warning("%s: damaged tasks could not be put aside: %s", self.shown, error)
            return False
        self.hub.hint(done.topics)
        if done.answer:
            logger.error("%s: %d damaged rows were found and put aside", self.shown, done.answer)
        else:  # it was something else, and each look reads the whole table
            self._look_again = time.monotonic() + LOOK_AGAIN
        return done.answer > 0

    def alone(self, db: Connection, action: Callable[[Work], T]) -> Said[T]:
        """Do something in a transaction that has the namespace for itself."""
        with db.alone(self.clock) as now:
            counts = Counts()
            work = Work(db, db.lanes, now, counts)
            answer = action(work)
            work.flush()
            counts.write(db)
            topics = work.topics
            heard = db.one("heard", list(topics), self.me) if topics else None
        return Said(answer, topics, heard)

    def now(self) -> int | None:
        """The instant of the injected clock; None where the server's is used."""
        return None if self.clock is None else self.clock()

    def instant(self) -> int:
        """What time passes by in this process, in microseconds: not the server's clock."""
        return time.monotonic_ns() // 1000 if self.clock is None else self.clock()

    def tell(self, db: Connection, topics: Iterable[str]) -> None:
        """Wake those who wait for topics in other processes."""
        db.call(self._note(topics))

    def _note(self, topics: Iterable[str]) -> Call:
        return Call("tell", (binary.text(self.channel), binary.texts(notes(self.me, topics))))


def _took_long(error: Exception) -> bool:
    """Whether the server was given all the time that there is; once more would double it."""
    return isinstance(error, NoAnswerError) and error.seconds > LONGEST


def notes(me: str, topics: Iterable[str]) -> list[str]:
    """The payloads of notifications about topics: who tells, then topics, as JSON."""
    parts: list[list[str]] = []
    room = 0
    for topic in topics:
        size = len(msgspec.json.encode(topic)) + 1
        if size > PAYLOAD:
            return [msgspec.json.encode([me, EVERYBODY]).decode()]
        if not parts or size > room:
            parts.append([me])
            room = PAYLOAD
        parts[-1].append(topic)
        room -= size
    return [msgspec.json.encode(part).decode() for part in parts]


def resolver(future: asyncio.Future[Any]) -> Callable[[Any, Exception | None], None]:
    """What tells an answer to a future, from any thread."""
    loop = future.get_loop()

    def tell(value: Any, error: Exception | None) -> None:
        if future.done():  # its waiter was cancelled
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def answer(value: Any, error: Exception | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, value, error)

    return answer
