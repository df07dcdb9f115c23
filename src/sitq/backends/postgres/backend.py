"""The PostgreSQL backend: the contract's face on one schema of a database."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

import msgspec

from sitq.backends import rules
from sitq.backends.base import (
    LIMIT_QUEUE,
    Answer,
    Backend,
    Cell,
    Event,
    Filter,
    LeaseChannel,
    Page,
    Placed,
    Refused,
    Taken,
    Traits,
    Want,
    log_topic,
)
from sitq.backends.hints import Hub, LocalListener
from sitq.backends.opening import opened
from sitq.backends.postgres import checkup, inbox, location, plain, schema, within
from sitq.backends.postgres.connection import Connection
from sitq.backends.postgres.engine import Engine, Job, resolver
from sitq.backends.postgres.errors import translated
from sitq.backends.postgres.lease import PostgresLeaseChannel
from sitq.backends.postgres.lines import USUAL
from sitq.backends.postgres.notices import NoticedListener, Notices
from sitq.backends.postgres.patience import LONGEST
from sitq.backends.postgres.plain import Claimed, Said, Usual
from sitq.backends.tables import admission, cells, changes, claim, logs, reading, upkeep
from sitq.backends.tables.usual import Holding
from sitq.backends.tables.work import Work
from sitq.checkup import Finding
from sitq.clock import Clock
from sitq.exceptions import BackendError, ConfigurationError, ValidationError
from sitq.move import Move
from sitq.record import SECOND, Record, State

T = TypeVar("T")
HELD_UP: Final = 2 * SECOND
"""Microseconds that upkeep may have waited and still take leases from those who hold them."""


class PostgresBackend(Backend):
    """Tasks in a PostgreSQL database (14 or newer), in a schema of their own.

    Each operation is one transaction, committed as the server's `synchronous_commit` says. Operations of all
    event loops and threads that use the object share a few connections. An operation that is cancelled may
    still take effect; it never leaves a transaction open.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        namespace: str = "sitq",
        migrate: bool = False,
        listen: bool = True,
        connections: int = 4,
        clock: Clock | None = None,
        max_payload: int = 1 << 20,
    ) -> None:
        """Name the database; it is opened by `connect`.

        Args:
            conninfo: A `postgresql://` URL or libpq's `key=value` pairs. libpq's environment variables, its
                password file and its service file hold as they do for psql.
            namespace: The schema, so that several stores fit into one database.
            migrate: Make the tables, or bring them to the present version, when it is opened.
            listen: Be notified of what other processes do while somebody waits, which takes a connection.
                Behind a pooler that does not work, which is found out, and polling goes on.
            connections: How many operations may be under way at once. Leases and notifications have their own
                connections.
            clock: Decides due times and leases instead of the server's; for tests.
            max_payload: The largest payload in bytes.

        Raises:
            ValidationError: The conninfo is malformed; the text repeats nothing of it.
            ConfigurationError: An option has a value that it cannot have.
        """
        super().__init__()
        if not isinstance(conninfo, str):  # pyright: ignore[reportUnnecessaryIsInstance] - the edge
            raise ValidationError(
                f"a postgresql:// URL or a conninfo string is needed, not {type(conninfo).__name__}: the "
                "store opens connections of its own; where there is a pool, give it the pool's conninfo"
            )
        if not location.NAMESPACE.fullmatch(namespace):
            raise ConfigurationError(
                f"namespace {namespace!r} cannot name a schema: use 1 to 41 of a-z, 0-9, _, no digit first, "
                "and not pg_ at the beginning"
            )
        if type(connections) is not int or connections < 1:
            raise ConfigurationError(f"connections={connections!r}: it is a whole number above 0")
        self.namespace = namespace
        self._claims: dict[str, threading.Event] = {}
        """By their ids, the claims under way, and what is set when they are over."""
        self._conninfo = conninfo
        self._shown = location.shown(conninfo)
        self._migrate = migrate
        self._listens = listen
        self._connections = connections
        self._clock = clock
        self._hub = Hub()
        self._engine: Engine | None = None
        self._notices: Notices | None = None
        self._finalizer: weakref.finalize[..., PostgresBackend] | None = None
        self.traits = Traits(
            durable=True,
            shared=True,
            local=False,
            pushes=listen,
            transactional=True,
            clock="store",
            max_payload=max_payload,
        )

    async def migrate(self) -> int:
        """Make the tables, or bring them to the present version; answers how many steps that took.

        Raises:
            ConnectionError: The server cannot be reached.
            ConfigurationError: The tables are of a newer version, or this role may not make them.
        """

        def work() -> int:
            with contextlib.closing(self._new_engine().connect()) as db:
                return schema.migrate(db, self.namespace, self._shown)

        try:
            return await asyncio.to_thread(work)
        except Exception as error:
            raise translated(error, self._shown, "migrate") from error

    def migrations(self) -> str:
        """The SQL that makes the tables where there are none, to be reviewed and run by hand."""
        return schema.script(self.namespace)

    def __repr__(self) -> str:
        options = "" if self.namespace == "sitq" else f", namespace={self.namespace!r}"
        return f"PostgresBackend({self._shown!r}{options})"

    # -- lifecycle -------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, and see that the tables are there."""
        engine = self._new_engine()
        local, db = await opened(lambda: self._open(engine), lambda made: made[1].close())
        if engine.lines.most:
            engine.lines.adopt(asyncio.get_running_loop(), db)
        else:
            engine.adopt(db)
        self._engine = engine
        self._finalizer = weakref.finalize(self, engine.stop, 2)
        self.traits = msgspec.structs.replace(self.traits, local=local, pushes=self._listens and db.direct)

    def _new_engine(self) -> Engine:
        place = self._conninfo, self.namespace, self._shown
        return Engine(*place, clock=self._clock, hub=self._hub, size=self._connections)

    def _open(self, engine: Engine) -> tuple[bool, Connection]:
        db = engine.connect()
        try:
            if self._migrate:
                schema.migrate(db, self.namespace, self._shown)
            else:
                schema.check(db, self.namespace, self._shown)
            if db.direct:
                db.prepare(USUAL)
            else:
                engine.lines.most = 0
        except Exception as error:
            db.close()
            raise translated(error, self._shown, "connect") from error
        # Behind a pooler the server may be anywhere.
        return db.direct and location.is_local(db.raw), db

    async def shut(self) -> None:
        """Finish what was begun, end the threads and close the connections."""
        engine, self._engine = self._engine, None
        notices, self._notices = self._notices, None
        if self._finalizer is not None:
            self._finalizer.detach()

        loop = asyncio.get_running_loop()

        def stop() -> None:
            if notices is not None:
                notices.stop()
            if engine is not None:
                engine.stop()

        stopping = asyncio.ensure_future(asyncio.to_thread(stop))
        ends = [] if engine is None else [line.ended for line in engine.lines.close() if line.loop is loop]
        if ends:
            await asyncio.shield(asyncio.wait(ends, timeout=10))
        await asyncio.shield(stopping)

    # -- the contract ----------------------------------------------------------------------------------------

    async def put(self, groups: Sequence[Sequence[Record]]) -> list[list[Answer]]:
        """Store new tasks. Each group is stored whole or not at all, whatever happens to the others."""
        engine, most = self._use("enqueue"), self.traits.max_payload
        pack = admission.pack_record
        packed = [[(record, pack(record)) for record in group] for group in groups]
        if not any(packed):
            return [[] for _ in packed]
        usual = plain.Put(packed, engine.places) if admission.all_plain(packed, most) else None

        def action(db: Connection) -> Said[list[list[Answer]]]:
            while usual is not None:
                call = usual.call(engine.me, db.slot, engine.now())
                if call is None:
                    if not usual.seek(db):
                        engine.alone(db, functools.partial(Work.line_up, keys=usual.lane_keys))
                        usual.seek(db)
                    continue
                said = usual.said(db.call(call))
                if said is not None:
                    return said
                db.lanes.forget()
            return engine.alone(db, slowly)

        def slowly(work: Work) -> list[list[Answer]]:
            inbox.empty(work, most)
            return admission.put(work, packed, most)

        said = None if usual is None else await self._shortly(engine, usual)
        return await self._do(engine, "enqueue", action) if said is None else said.answer

    async def put_within(self, connection: object, groups: Sequence[Sequence[Record]]) -> list[list[Answer]]:
        """Hand in new tasks within the transaction of a psycopg, asyncpg or SQLAlchemy connection or session.

        They are judged after its commit. Until then nothing of them is there, and nobody waits for its end.

        Raises:
            ValidationError: It is no such connection, or in no transaction.
            BackendError: The statement failed, and with it the transaction.
        """
        engine, most = self._use("enqueue"), self.traits.max_payload
        for record in (record for group in groups for record in group):
            if len(record.payload) > most:
                return [
                    rules.refused_group(
                        group, Refused(record.id, "payload", str(len(record.payload))), _no_id
                    )
                    for group in groups
                ]
        for group in groups:
            await within.hand_in(
                connection, self.namespace, inbox.packed(group), inbox.note_of([group]), engine.channel
            )
        return [[Placed(record.id) for record in group] for group in groups]

    async def take(self, want: Want) -> Taken:
        """Claim tasks: in one atomic step they become `running` with a new token and lease, `attempt` + 1."""
        engine = self._use("claim")
        (reads, now, after), holding = await self._claimed(engine, want)
        records, corrupt = claim.records_of(reads, want, now, holding)
        if corrupt:
            await self._alone(engine, "claim", lambda work: reading.bury(work, want.claim, corrupt))
        return Taken(records, now, after)

    async def _claimed(self, engine: Engine, want: Want) -> tuple[Claimed, Holding]:
        asked, usual = engine.instant(), plain.Take(want)
        said_before = self._claims.get(want.claim)
        over = self._begin(want.claim)
        if said_before is None and (future := engine.shortly(usual, over)) is not None:
            short = await future
            if short is not None:
                return await self._read_whole(engine, short.answer), engine.plain
            over = self._begin(want.claim)

        def slowly(work: Work) -> Claimed:
            inbox.empty(work, self.traits.max_payload)
            held_up = engine.instant() - asked > want.lease // 4
            reads, after = claim.take(work, msgspec.structs.replace(want, reclaim=False) if held_up else want)
            return reads, work.now, after

        def action(db: Connection) -> tuple[Claimed, Holding] | Said[tuple[Claimed, Holding]]:
            nonlocal said_before
            if said_before is not None:
                # Its caller was cancelled, and it may be under way still, on another connection.
                said_before.wait(LONGEST)
                said_before = None
            taken = usual.said(db.call(usual.call(engine.me, db.slot, engine.now())))
            if taken is not None:
                reads, now, after = taken.answer
                return (plain.whole(db, reads), now, after), engine.plain
            done = engine.alone(db, slowly)
            return Said((done.answer, engine.holding), done.topics, done.heard)

        # It is over when it is answered, and not when a try of it has failed: the next one may claim.
        return await self._do(engine, "claim", action, over=over)

    def _begin(self, claim_id: str) -> Callable[[], None]:
        """Note that a claim is under way; what is to be called when it no longer is."""
        self._claims[claim_id] = said = threading.Event()

        def over() -> None:
            said.set()
            if self._claims.get(claim_id) is said:
                del self._claims[claim_id]

        return over

    async def _read_whole(self, engine: Engine, claimed: Claimed) -> Claimed:
        reads, now, after = claimed
        if any(map(plain.is_partial, reads)):
            reads = await self._do(engine, "claim", lambda db: plain.whole(db, reads))
        return reads, now, after

    def lease_channel(self) -> LeaseChannel:
        """Open a channel for renewals, to be used and closed by one thread of the caller's."""
        return PostgresLeaseChannel(self, self._use("renew"))

    async def apply(self, moves: Sequence[Move]) -> list[bool]:
        """Carry out moves in order; each answers whether it was kept. A lost one changes nothing."""
        engine, most = self._use("apply"), self.traits.max_payload
        if not moves:
            return []
        left = [*moves]

        def action(db: Connection) -> Said[list[bool]]:
            said = once(db, left)
            lost = [move for move, kept in zip(left, said.answer, strict=True) if not kept]
            if all(getattr(move, "token", None) for move in lost):
                return said
            # An operator's word may be about a task that was in the inbox, or that somebody took out since.
            self._saw_inbox(engine, db)
            return _joined(said, once(db, lost))

        def once(db: Connection, moves: Sequence[Move]) -> Said[list[bool]]:
            usual = plain.Complete.of(moves, engine.plain)
            if usual is None:
                return engine.alone(db, lambda work: changes.apply(work, moves, most, engine.holding))
            said = usual.said(db.call(usual.call(engine.me, db.slot, engine.now())))
            engine.plain.forget(move.id for move in moves)
            rest = [move for move, kept in zip(moves, said.answer, strict=True) if not kept]
            if not rest:
                return said
            late = engine.alone(db, lambda work: changes.apply(work, rest, most, engine.holding))
            return _joined(said, late)

        usual = plain.Complete.of(moves, engine.plain)
        said = None if usual is None else await self._shortly(engine, usual)
        if said is None:
            return await self._do(engine, "apply", action)
        engine.plain.forget(move.id for move in moves)
        if all(said.answer):
            return said.answer
        left = [move for move, kept in zip(left, said.answer, strict=True) if not kept]
        late: list[bool] = await self._do(engine, "apply", action)
        others = iter(late)
        return [kept or next(others) for kept in said.answer]

    async def get(self, ids: Sequence[str]) -> list[Record | None]:
        """Read tasks by id; `None` for an unknown one."""
        ids = list(ids)
        engine = self._use("get")

        def action(db: Connection) -> list[Record]:
            found = reading.get(db, ids)
            if len(found) < len(set(ids)):
                self._saw_inbox(engine, db)
                found = reading.get(db, ids)  # also if it is empty: somebody may have emptied it since
            return found

        said = await self._shortly(engine, plain.Get(ids)) if ids else None
        return reading.in_order(ids, await self._do(engine, "get", action) if said is None else said.answer)

    async def scan(self, where: Filter, after: int | None = None, n: int = 100) -> Page:
        """Read a page of at most `n` records, looking at no more than `10 * n + 1000`."""
        engine = self._use("scan")

        def action(db: Connection) -> Page:
            self._saw_inbox(engine, db)
            return reading.scan(db, where, after, n)

        return await self._do(engine, "scan", action)

    async def swap(self, key: str, seen: bytes | None, value: bytes | None, ttl: int | None = None) -> bool:
        """Compare and set a cell; whoever waits for a queue that it pauses or resumes is woken."""
        engine = self._use("swap")

        def action(db: Connection) -> bool | Said[bool]:
            if key.startswith((cells.PAUSE, LIMIT_QUEUE)):
                return engine.alone(db, lambda work: cells.swap(work, key, seen, value, ttl))
            return bool(db.one("swap", key, seen, value, ttl, engine.now()))

        return await self._do(engine, "swap", action, repeatable=False)

    async def cells(self, prefix: str) -> list[Cell]:
        """Read the cells whose key starts with `prefix`, in order of their keys."""
        engine = self._use("cells")

        def action(db: Connection) -> list[Cell]:
            now = engine.now()
            return cells.under(db, prefix, db.one("instant") if now is None else now)

        return await self._do(engine, "cells", action)

    async def append(self, topic: str, events: Sequence[bytes], most: int = 10_000) -> None:
        """Add to a log, which keeps its newest `most` entries."""
        engine, events = self._use("append"), list(events)
        if not events:
            return

        def action(db: Connection) -> Said[int]:
            heard = db.one("append", topic, events, most, engine.now(), engine.me)
            return Said(len(events), {log_topic(topic)}, heard)

        _: int = await self._do(engine, "append", action, repeatable=False)

    async def read(self, topic: str, after: int = 0, n: int = 100) -> list[Event]:
        """Read a log's entries with numbers above `after`, oldest first."""
        return await self._do(self._use("read"), "read", lambda db: logs.read(db, topic, after, n))

    def listen(self, topics: Iterable[str]) -> LocalListener:
        """Listen for hints on topics, for a waiter in the running event loop."""
        engine = self._use("listen")
        if not self.traits.pushes:
            return self._hub.listen(topics)
        if self._notices is None:
            self._notices = Notices(engine)
        listener = self._hub.add(NoticedListener(self._hub, frozenset(topics), self._notices))
        self._notices.changed()
        return listener

    def observe(self, told: Callable[[Sequence[str]], None]) -> Callable[[], None]:
        """Be told the ids of tasks that the store itself let end."""
        return self._hub.observe(told)

    async def checkup(self) -> list[Finding]:
        """Say what the server's settings make of the promises."""
        self.check()

        def look() -> list[Finding]:
            with contextlib.closing(self._new_engine().connect()) as db:
                return checkup.look(db.raw, direct=db.direct)

        return await asyncio.to_thread(look)

    async def tend(self, budget: int = 1000) -> int:
        """Do upkeep on at most `budget` tasks."""
        engine = self._use("tend")
        asked = engine.instant()

        def action(work: Work) -> int:
            return upkeep.tend(work, budget, leases=engine.instant() - asked <= HELD_UP)

        return await self._alone(engine, "tend", action)

    async def tally(self) -> dict[str, dict[State, int]]:
        """Count tasks per queue and state; absent means none."""
        engine = self._use("tally")

        def action(db: Connection) -> dict[str, dict[State, int]]:
            self._saw_inbox(engine, db)
            return reading.tally(db)

        return await self._do(engine, "tally", action)

    # -- the way to the threads ------------------------------------------------------------------------------

    def _use(self, operation: str) -> Engine:
        self.check()
        if self._engine is None:
            raise BackendError(f"{self!r} is closed", operation=operation)
        return self._engine

    def _saw_inbox(self, engine: Engine, db: Connection) -> bool:
        """Put what was committed where it belongs, if there is any."""
        found, most = False, self.traits.max_payload
        while db.one("has_inbox"):
            found = True
            engine.alone(db, lambda work: inbox.empty(work, most))
        return found

    async def _shortly(self, engine: Engine, usual: Usual[T]) -> Said[T] | None:
        future = engine.shortly(usual)
        return None if future is None else await future

    async def _alone(self, engine: Engine, operation: str, action: Callable[[Work], T]) -> T:
        return await self._do(engine, operation, lambda db: engine.alone(db, action))

    async def _do(
        self,
        engine: Engine,
        operation: str,
        action: Callable[[Connection], T | Said[T]],
        *,
        repeatable: bool = True,
        over: Callable[[], None] = lambda: None,
    ) -> T:
        """Have a thread do it. `over` is called as soon as nothing is under way any more."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        resolve = resolver(future)

        def answer(value: T | None, error: Exception | None) -> None:
            over()
            resolve(value, error)

        try:
            engine.submit(Job(operation, action, answer, repeatable))
        except BaseException:
            over()
            raise
        return await future


def _joined(said: Said[list[bool]], late: Said[list[bool]]) -> Said[list[bool]]:
    """The answers to moves of which the lost ones were made once more."""
    others = iter(late.answer)
    return Said(
        [kept or next(others) for kept in said.answer],
        {*said.topics, *late.topics},
        [*(said.heard or ()), *(late.heard or ())],
    )


def _no_id(_id: str) -> bool:
    return False


def from_url(url: str) -> PostgresBackend:
    """The backend of `postgresql://user:password@host:port/database`, with libpq's and the store's options.

    Raises:
        ValidationError: The URL has an option with a value that it cannot have.
    """
    conninfo, options = location.split(url)
    return PostgresBackend(conninfo, **options)
