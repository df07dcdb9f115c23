"""The writer: one thread that commits the jobs of all event loops in common transactions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sitq.backends.hints import Hub
from sitq.backends.sqlite import haste
from sitq.backends.sqlite.checkpoint import checkpoint
from sitq.backends.sqlite.connection import Connection
from sitq.backends.sqlite.errors import is_full, translated
from sitq.backends.sqlite.location import MEMORY
from sitq.backends.sqlite.mend import is_damage, mend
from sitq.backends.sqlite.schema import BALLAST
from sitq.backends.sqlite.watch import ring
from sitq.backends.tables.counts import Counts
from sitq.backends.tables.database import Database
from sitq.backends.tables.lanes import Lanes, StaleLaneError
from sitq.backends.tables.work import Work
from sitq.clock import Clock
from sitq.exceptions import BackendError

logger = logging.getLogger("sitq.backends.sqlite")

MOST: Final = 2000
"""About how many rows one transaction writes; others, renewals above all, wait for as long as it lasts."""

MANY: Final = 500
"""So many new rows are worth a transaction of their own."""

_STALE_TOO_OFTEN: Final = 2

RETRY: Final = 1.0
"""Seconds between two looks whether a full disk has room again."""


@dataclass(slots=True)
class Job:
    """Something to do in a transaction, and who is told what came of it.

    `peek` may answer without a transaction; it returns None if one is needed. On a full disk a `vital` job
    may use the reserve, and `when_full`, if there is one, answers instead of trying. A `large` one is begun
    at once, whatever else the loop's turn may ask for.
    """

    operation: str
    action: Callable[[Work], Any]
    rows: int
    answer: Callable[[Any, Exception | None], None]
    loop: asyncio.AbstractEventLoop | None = None
    peek: Callable[[Database, int], Any] | None = None
    vital: bool = False
    when_full: Callable[[int], Any] | None = None
    large: bool = False


class Writer:
    """The thread, its connection, and its inbox."""

    def __init__(self, db: Connection, path: str, clock: Clock, hub: Hub) -> None:
        self.db = db
        self.path = path
        self.clock = clock
        self.hub = hub
        self.lanes = Lanes()
        self.urgent = threading.Event()
        self.on_commit: Callable[[int], None] | None = None
        self.restart_log = False
        self._turn = threading.Lock()
        self._asked = False
        self._version = -1
        self._full_since = 0.0
        self._closed = False
        self._ended = False
        self._inbox: deque[Job | None] = deque()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._ringing: set[asyncio.AbstractEventLoop] = set()
        self._thread = threading.Thread(target=self._run, name="sitq-sqlite-writer", daemon=True)
        self._thread.start()

    # -- from any thread -------------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Have a job done.

        The thread is woken when the turn of the event loop is over, so that what the loop's tasks ask for in
        one turn, such as a worker's settles and its next claim, is done in one transaction. A large job is
        begun while the loop's other tasks go on.
        """
        if self._closed:
            raise BackendError(f"the store in {self.path} is closed", operation=job.operation)
        if job.large:
            haste.begin()  # until the thread has it: the loop computes, and would let the thread wait
        self._inbox.append(job)
        if self._ended:
            self._refuse_rest()
        elif job.large or job.loop is None:
            self._bell.put(None)
        elif job.loop not in self._ringing:
            self._ringing.add(job.loop)
            job.loop.call_soon(self._ring, job.loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ringing.discard(loop)
        self._bell.put(None)

    def stop(self, timeout: float | None = 10) -> None:
        """Do what is in the inbox, then end the thread. Idempotent."""
        if not self._closed:
            self._closed = True
            self._inbox.append(None)
            self._bell.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    # -- in the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (batch := self._collect()) is not None:
                self._do(batch)
        finally:
            self._closed = self._ended = True
            self.db.close()
            self._refuse_rest()

    def _refuse_rest(self) -> None:
        while self._inbox:
            try:
                job = self._picked()
            except IndexError:  # somebody who submitted too late empties it, too
                return
            if job is not None:
                error = BackendError(f"the store in {self.path} is closed", operation=job.operation)
                _tell([(job, None, error)])

    def _collect(self) -> list[Job] | None:
        """The next jobs, for one transaction; None at the end."""
        while not self._inbox:
            self._bell.get()
        first = self._picked()
        if first is None:
            return None
        batch, rows = [first], first.rows
        while self._inbox and (job := self._inbox[0]) is not None and rows + job.rows <= MOST:
            self._picked()
            batch.append(job)
            rows += job.rows
        return batch

    def _picked(self) -> Job | None:
        job = self._inbox.popleft()
        if job is not None and job.large:
            haste.end()
        return job

    def _do(self, batch: list[Job]) -> None:
        outcomes: list[tuple[Job, Any, Exception | None]] = []
        topics: set[str] = set()
        with self._turn:
            if self.restart_log:
                self.restart_log = False
                checkpoint(self.db, "RESTART")
            rest = self._peek(batch, outcomes)
            if self._full_since and rest:
                rest = self._without_room(rest, outcomes)
            if rest:
                try:
                    done, topics = self._commit(rest)
                    outcomes += done
                except Exception:  # noqa: BLE001 - each job gets the error that is its own
                    self.lanes.forget()
                    for job in rest:
                        done, more = self._alone(job)
                        outcomes += done
                        topics |= more
        _tell(outcomes)
        if topics and self.path != MEMORY:
            ring(self.path + "-wal")
        self.hub.hint(topics)
        try:
            if self._asked and self.saw_foreign():
                self.hub.hint_all()
            if self.on_commit is not None and rest:
                self.on_commit(sum(job.rows for job in rest))
        except Exception as error:  # noqa: BLE001 - a hint or a checkpoint can wait, the next job cannot
            logger.warning("%s: what follows a commit failed and will be tried again: %s", self.path, error)

    def saw_foreign(self) -> bool:
        """Whether another connection has committed since this was last asked.

        Only this connection can tell, since its own commits do not count for it. When it is busy, it asks
        itself afterwards, so that no commit is missed.
        """
        if not self._turn.acquire(blocking=False):
            self._asked = True
            if not self._turn.acquire(blocking=False):  # it may have finished between the two
                return False
        try:
            self._asked = False
            version: int = self.db.raw.execute("PRAGMA data_version").fetchone()[0]
        finally:
            self._turn.release()
        known, self._version = self._version, version
        return version != known

    def _peek(self, batch: list[Job], outcomes: list[tuple[Job, Any, Exception | None]]) -> list[Job]:
        job = batch[0]
        if len(batch) > 1 or job.peek is None:
            return batch
        try:
            answer = job.peek(self.db, self.clock())
        except Exception:  # noqa: BLE001 - the transaction will say what is wrong
            return batch
        if answer is None:
            return batch
        outcomes.append((job, answer, None))
        return []

    def _commit(self, jobs: list[Job]) -> tuple[list[tuple[Job, Any, Exception | None]], set[str]]:
        outcomes: list[tuple[Job, Any, Exception | None]] = []
        topics: set[str] = set()
        with self.db.writing(polite=self.urgent.is_set):
            counts = Counts()
            for job in jobs:
                work = Work(self.db, self.lanes, self.clock(), counts)
                outcomes.append((job, job.action(work), None))
                work.flush()
                topics |= work.topics
            counts.write(self.db)
        return outcomes, topics

    def _alone(self, job: Job) -> tuple[list[tuple[Job, Any, Exception | None]], set[str]]:
        error: Exception = BackendError(f"the lanes of {self.path} change too fast", operation=job.operation)
        for turn in range(4):
            try:
                return self._commit([job])
            except StaleLaneError:
                self.lanes.forget()
                if turn == _STALE_TOO_OFTEN:  # a damaged task may name a lane that never was
                    self._mend()
            except Exception as raised:  # noqa: BLE001 - it belongs to the caller
                self.lanes.forget()
                error = raised
                if is_damage(raised) and self._mend():
                    continue
                if not is_full(raised):
                    break
                self._full_since = time.monotonic()
                if not job.vital or not self._use_reserve():
                    break
        return [(job, None, translated(error, self.path, job.operation))], set()

    def _mend(self) -> bool:
        """Put tasks aside whose columns cannot be read; False if there are none."""
        answers: list[int] = []
        try:
            _, topics = self._commit([Job("mend", lambda work: answers.append(mend(work)), 0, _ignore)])
        except Exception as error:  # noqa: BLE001 - the job that met the damage has an error of its own
            self.lanes.forget()
            logger.warning("%s: damaged tasks could not be put aside: %s", self.path, error)
            return False
        self.hub.hint(topics)
        if answers[0]:
            logger.error("%s: %d damaged rows were found and put aside", self.path, answers[0])
        return answers[0] > 0

    # -- without room on the disk ----------------------------------------------------------------------------

    def _without_room(self, jobs: list[Job], outcomes: list[tuple[Job, Any, Exception | None]]) -> list[Job]:
        """Claims stop and nothing new is taken in until the reserve is back; what runs can be settled."""
        if time.monotonic() - self._full_since > RETRY and self._restore_reserve():
            return jobs
        rest: list[Job] = []
        for job in jobs:
            if job.when_full is None:
                rest.append(job)
                continue
            try:
                outcomes.append((job, job.when_full(self.clock()), None))
            except BackendError as error:
                outcomes.append((job, None, error))
        return rest

    def _use_reserve(self) -> bool:
        """Give up the ballast; False if it is gone."""
        try:
            with self.db.writing():
                return self.db.run("drop_ballast").rowcount > 0
        except sqlite3.Error:
            return False

    def _restore_reserve(self) -> bool:
        try:
            with self.db.writing():
                if not self.db.one("has_ballast"):
                    self.db.run("load_ballast", BALLAST)
        except sqlite3.Error:
            self._full_since = time.monotonic()
            return False
        self._full_since = 0.0
        return True


def _ignore(_value: Any, _error: Exception | None) -> None:
    """Nobody asked."""


def _tell(outcomes: list[tuple[Job, Any, Exception | None]]) -> None:
    """Answer everybody, with one call for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop | None, list[tuple[Job, Any, Exception | None]]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome[0].loop, []).append(outcome)
    for loop, parts in by_loop.items():
        if loop is None:
            _answer(parts)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_answer, parts)


def _answer(outcomes: list[tuple[Job, Any, Exception | None]]) -> None:
    for job, value, error in outcomes:
        job.answer(value, error)
