"""The SQLite backend: the contract's face on one database file."""

from __future__ import annotations

import asyncio
import os
import re
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from sitq.backends.base import (
    Answer,
    Backend,
    Cell,
    Event,
    Filter,
    LeaseChannel,
    Page,
    Taken,
    Traits,
    Want,
)
from sitq.backends.hints import Hub, LocalListener
from sitq.backends.opening import opened
from sitq.backends.sqlite import checkup, within
from sitq.backends.sqlite.connection import Synchronous
from sitq.backends.sqlite.engine import Engine
from sitq.backends.sqlite.lease import SQLiteLeaseChannel
from sitq.backends.sqlite.location import MEMORY, is_ours
from sitq.backends.sqlite.mend import is_damage
from sitq.backends.sqlite.plain import are_plain, put_plain
from sitq.backends.sqlite.writer import MANY, Job
from sitq.backends.tables import admission, cells, changes, claim, logs, look, reading, upkeep
from sitq.backends.tables.database import Database
from sitq.backends.tables.row import Read
from sitq.backends.tables.usual import Fresh
from sitq.backends.tables.work import Work
from sitq.checkup import Finding
from sitq.clock import Clock, wall_clock
from sitq.exceptions import BackendError, ConfigurationError, ResourceExhaustionError, ValidationError
from sitq.move import Move
from sitq.record import SECOND, Record, State

T = TypeVar("T")
Claimed = tuple[list[Read | Fresh], int, int | None]
"""What was claimed, the time, and when there may be more."""

HELD_UP: Final = 2 * SECOND
"""Microseconds that upkeep may have waited for the lock and still take leases from those who hold them.

A process that is suspended in the middle of a commit keeps all others from writing. When it goes on, leases
have run out that nobody could renew, and whoever writes first must not take them.
"""

_NAMESPACE = re.compile(r"[a-z_][a-z0-9_]{0,40}")


class SQLiteBackend(Backend):
    """Tasks in one SQLite file, shared by any number of processes on one host.

    Writes of all event loops and threads that use the object are committed together by one thread. An
    operation that is cancelled may still take effect; it never leaves a transaction open.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        namespace: str = "sitq",
        synchronous: Synchronous = "FULL",
        clock: Clock = wall_clock,
        force: bool = False,
        max_payload: int = 1 << 20,
    ) -> None:
        """Name the file; it is opened, and made if there is none, by `connect`.

        Args:
            path: The file, or ":memory:" for a store that ends with `close`. `~` is not expanded.
            namespace: Prefix of the tables, so that several stores fit into one file.
            synchronous: "FULL": what was acknowledged survives a power loss. "NORMAL": it survives the end of
                every process, but a power loss may cost the last moments.
            clock: Decides due times and leases.
            force: Open the file although it lies on a network mount.
            max_payload: The largest payload in bytes.

        Raises:
            ConfigurationError: An option has a value that it cannot have.
        """
        super().__init__()
        if not _NAMESPACE.fullmatch(namespace):
            raise ConfigurationError(
                f"namespace {namespace!r} cannot prefix a table: use 1 to 41 of a-z, 0-9, _, no digit first"
            )
        if synchronous not in {"FULL", "NORMAL"}:
            raise ConfigurationError(f"synchronous={synchronous!r}: it is 'FULL' or 'NORMAL'")
        if isinstance(path, str) and "://" in path:
            raise ValidationError(
                f"a path is needed, not the URL {path!r}; a URL goes to TaskQueue({path!r})"
            )
        if not isinstance(path, str | os.PathLike):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
            raise ValidationError(
                f"the path of the database must be text or a path, not {type(path).__name__}"
            )
        self.path = os.fspath(path)
        if not self.path or "\0" in self.path:
            raise ConfigurationError(f"path={path!r}: name a file, or ':memory:'")
        self.namespace = namespace
        self.synchronous: Synchronous = synchronous
        self.force = force
        self._clock = clock
        self._hub = Hub()
        self._engine: Engine | None = None
        self._finalizer: weakref.finalize[..., SQLiteBackend] | None = None
        in_memory = self.path == MEMORY
        self.traits = Traits(
            durable=not in_memory,
            shared=not in_memory,
            local=in_memory,
            pushes=True,
            transactional=not in_memory,
            max_payload=max_payload,
        )

    def __repr__(self) -> str:
        options = "" if self.namespace == "sitq" else f", namespace={self.namespace!r}"
        return f"SQLiteBackend({self.path!r}{options})"

    def missing(self) -> str | None:
        """Why there is nothing to look at yet: connecting would make the file."""
        there = self.path == MEMORY or Path(self.path).exists()
        return None if there else f"there is no file {self.path}"

    # -- lifecycle -------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the file, make or migrate the tables, and start the threads."""
        where = self.path, self.namespace, self.synchronous, self._clock, self._hub
        engine = await opened(lambda: Engine.open(*where, force=self.force), Engine.stop)
        self._engine = engine
        self._finalizer = weakref.finalize(self, engine.abandon)
        self.traits = Traits(
            durable=self.traits.durable,
            shared=self.traits.shared,
            local=is_ours(self.path),
            pushes=True,
            transactional=self.traits.transactional,
            max_payload=self.traits.max_payload,
        )

    async def shut(self) -> None:
        """Finish what was begun, end the threads and close the file."""
        engine, self._engine = self._engine, None
        if self._finalizer is not None:
            self._finalizer.detach()
        if engine is not None:
            await asyncio.shield(asyncio.to_thread(engine.stop))

    # -- the contract ----------------------------------------------------------------------------------------

    async def put(self, groups: Sequence[Sequence[Record]]) -> list[list[Answer]]:
        """Store new tasks. Each group is stored whole or not at all, whatever happens to the others."""
        engine, most = self._use("enqueue"), self.traits.max_payload
        pack = admission.pack_record
        packed = [[(record, pack(record)) for record in group] for group in groups]
        rows = sum(map(len, packed))

        plain = are_plain(packed, most)

        def action(work: Work) -> list[list[Answer]]:
            placed = put_plain(work, packed) if plain else None
            return admission.put(work, packed, most) if placed is None else placed

        def when_full(_now: int) -> list[list[Answer]]:
            message = f"no room is left for {self.path}: free some on its disk, nothing was stored"
            raise ResourceExhaustionError(message, operation="enqueue")

        large = rows >= MANY
        return await self._write(engine, "enqueue", action, rows, when_full=when_full, large=large)

    async def put_within(self, connection: object, groups: Sequence[Sequence[Record]]) -> list[list[Answer]]:
        """Store new tasks within the transaction of a `sqlite3` or SQLAlchemy connection, or of a session.

        They are judged at once: while the transaction is open, nobody else writes to the file.

        Raises:
            ValidationError: It is no such connection, leads to another file, or is in no transaction.
            BackendError: A statement failed, or another connection writes.
        """
        engine = self._use("enqueue")
        where = within.Place(self.path, self.namespace, self._clock, self.traits.max_payload)
        packed = [[(record, admission.pack_record(record)) for record in group] for group in groups]
        return await within.place(connection, where, packed, lambda: engine.vigil().expect())

    async def take(self, want: Want) -> Taken:
        """Claim tasks: in one atomic step they become `running` with a new token and lease, `attempt` + 1."""
        engine, asked = self._use("claim"), self._clock()

        def peek(db: Database, now: int) -> Claimed | None:
            seen = look.look_around(db, want, now)
            idle = look.is_idle(seen, want, now)
            return ([], now, look.next_instant(seen, want, now)) if idle else None

        def action(work: Work) -> Claimed:
            held_up = work.now - asked > want.lease // 4
            reads, after = claim.take(work, msgspec.structs.replace(want, reclaim=False) if held_up else want)
            return reads, work.now, after

        def when_full(now: int) -> Claimed:
            return [], now, now + SECOND  # what could not be settled is not to be started

        reads, now, after = await self._write(engine, "claim", action, want.limit, peek, when_full=when_full)
        records, corrupt = claim.records_of(reads, want, now, engine.holding)
        if corrupt:
            await self._write(
                engine, "claim", lambda work: reading.bury(work, want.claim, corrupt), len(corrupt)
            )
        return Taken(records, now, after)

    def lease_channel(self) -> LeaseChannel:
        """Open a channel for renewals, to be used and closed by one thread of the caller's."""
        return SQLiteLeaseChannel(self, self._use("renew"))

    async def apply(self, moves: Sequence[Move]) -> list[bool]:
        """Carry out moves in order; each answers whether it was kept. A lost one changes nothing."""
        engine, most = self._use("apply"), self.traits.max_payload
        moves = list(moves)

        def action(work: Work) -> list[bool]:
            return changes.apply(work, moves, most, engine.holding)

        return await self._write(engine, "apply", action, len(moves), vital=True)

    async def get(self, ids: Sequence[str]) -> list[Record | None]:
        """Read tasks by id; `None` for an unknown one."""
        ids = list(ids)
        found = await self._read("get", lambda db: reading.get(db, ids))
        return reading.in_order(ids, found)

    async def scan(self, where: Filter, after: int | None = None, n: int = 100) -> Page:
        """Read a page of at most `n` records, looking at no more than `10 * n + 1000`."""
        return await self._read("scan", lambda db: reading.scan(db, where, after, n))

    async def swap(self, key: str, seen: bytes | None, value: bytes | None, ttl: int | None = None) -> bool:
        """Compare and set a cell; whoever waits for a queue that it pauses or resumes is woken."""
        engine = self._use("swap")
        return await self._write(engine, "swap", lambda work: cells.swap(work, key, seen, value, ttl), 1)

    async def cells(self, prefix: str) -> list[Cell]:
        """Read the cells whose key starts with `prefix`, in order of their keys."""
        return await self._read("cells", lambda db: cells.under(db, prefix, self._clock()))

    async def append(self, topic: str, events: Sequence[bytes], most: int = 10_000) -> None:
        """Add to a log, which keeps its newest `most` entries."""
        engine, events = self._use("append"), list(events)
        await self._write(engine, "append", lambda work: logs.append(work, topic, events, most), len(events))

    async def read(self, topic: str, after: int = 0, n: int = 100) -> list[Event]:
        """Read a log's entries with numbers above `after`, oldest first."""
        return await self._read("read", lambda db: logs.read(db, topic, after, n))

    def listen(self, topics: Iterable[str]) -> LocalListener:
        """Listen for hints on topics, for a waiter in the running event loop."""
        listener = self._hub.listen(topics)
        self._use("listen").watch()
        return listener

    def observe(self, told: Callable[[Sequence[str]], None]) -> Callable[[], None]:
        """Be told the ids of tasks that the store itself let end."""
        return self._hub.observe(told)

    async def checkup(self) -> list[Finding]:
        """Say what the library, the file and its place make of the promises."""
        return await asyncio.to_thread(checkup.look, self.path, self.synchronous)

    async def tend(self, budget: int = 1000) -> int:
        """Do upkeep on at most `budget` tasks."""
        engine, asked = self._use("tend"), self._clock()

        def action(work: Work) -> int:
            return upkeep.tend(work, budget, leases=work.now - asked <= HELD_UP)

        return await self._write(engine, "tend", action, budget)

    async def tally(self) -> dict[str, dict[State, int]]:
        """Count tasks per queue and state; absent means none."""
        return await self._read("tally", reading.tally)

    # -- the way to the threads ------------------------------------------------------------------------------

    def _use(self, operation: str) -> Engine:
        self.check()
        if self._engine is None:
            raise BackendError(f"{self!r} is closed", operation=operation)
        return self._engine

    async def _write(
        self,
        engine: Engine,
        operation: str,
        action: Callable[[Work], T],
        rows: int,
        peek: Callable[[Database, int], T | None] | None = None,
        *,
        vital: bool = False,
        when_full: Callable[[int], T] | None = None,
        large: bool = False,
    ) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        answer = _resolver(future)
        engine.writer.submit(Job(operation, action, rows, answer, loop, peek, vital, when_full, large))
        return await future

    async def _read(self, operation: str, action: Callable[[Database], T]) -> T:
        engine = self._use(operation)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if engine.reader is None:  # a store in memory has one connection

            def read(work: Work) -> T:
                return action(work.db)

            engine.writer.submit(Job(operation, read, 0, _resolver(future), loop))
        else:
            engine.reader.submit((operation, action, _resolver(future), loop))
        try:
            return await future
        except Exception as error:
            if engine.reader is None or not is_damage(error):
                raise
        # The writer puts damaged tasks aside, and reads for once itself.
        return await self._write(engine, operation, lambda work: action(work.db), 0)


def _resolver(future: asyncio.Future[Any]) -> Callable[[Any, Exception | None], None]:
    def answer(value: Any, error: Exception | None) -> None:
        if future.done():  # its waiter was cancelled
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    return answer


def from_url(url: str) -> SQLiteBackend:
    """The backend of `sqlite:///relative.db`, `sqlite:////absolute.db`, or `sqlite://` (in memory).

    Raises:
        ValidationError: The URL is malformed, or has an unknown option.
    """
    from sitq.backends import path_and_options  # noqa: PLC0415 - it opens this module in turn

    path, options = path_and_options(url)
    return SQLiteBackend(path or MEMORY, **_known(url, options))


def _known(url: str, options: dict[str, str]) -> dict[str, Any]:
    from sitq.exceptions import ValidationError  # noqa: PLC0415

    unknown = sorted(options.keys() - {"namespace", "synchronous"})
    if unknown:
        raise ValidationError(
            f"{url!r} has an unknown option {unknown[0]!r}: there are namespace= and synchronous=",
            operation="open",
        )
    return {name: value.upper() if name == "synchronous" else value for name, value in options.items()}
