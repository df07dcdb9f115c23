"""The Redis backend: the contract's face on scripts."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from sitq.backends import rules
from sitq.backends.base import (
    Answer,
    Backend,
    Cell,
    Event,
    Filter,
    LeaseChannel,
    Listener,
    Page,
    Placed,
    Taken,
    Traits,
    Want,
    own_end_topic,
)
from sitq.backends.hints import Hub
from sitq.backends.redis import checkup
from sitq.backends.redis.answers import answers_of
from sitq.backends.redis.errors import DRIVER, translated
from sitq.backends.redis.hearing import Hearing
from sitq.backends.redis.lease import RedisLeaseChannel
from sitq.backends.redis.link import STEP, Dialect, Link, monotonic
from sitq.backends.redis.location import AnyClient, Location, client, locate, sync_client
from sitq.backends.redis.loops import OtherLoops, Way
from sitq.backends.redis.moves import Words
from sitq.backends.redis.reading import LETTERS, STATES, DamageError, claimed, fields_of, read
from sitq.backends.redis.ready import shown_client, sync_like
from sitq.backends.redis.specs import RANKED, pack, plain_values, specs_and_bodies
from sitq.backends.redis.wire import can_wire
from sitq.checkup import Finding
from sitq.clock import Clock
from sitq.exceptions import BackendError, ConfigurationError, ValidationError
from sitq.move import Move
from sitq.record import Failure, Record, State

_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}")

BATCH: Final = 1000
"""How many tasks one script stores or changes, so that none keeps the server busy for long."""


class RedisBackend(Backend):
    """Tasks on a Redis or Valkey server, shared by any number of processes.

    Each operation is one script, or several for long batches. Due times and leases go by the server's clock.
    One object serves any number of event loops and threads, each with connections of its own; with a ready
    client it serves the loop of that client. An operation that is cancelled may still take effect.
    """

    def __init__(
        self,
        server: str | AnyClient,
        *,
        namespace: str = "sitq",
        clock: Clock | None = None,
        max_payload: int = 1 << 20,
    ) -> None:
        """Name the server; it is connected by `connect`.

        Args:
            server: A URL (`redis://`, `rediss://`, `valkey://`, `unix://`, `redis+cluster://`,
                `redis+sentinel://`), or a client of `redis.asyncio`, which stays open at `close`.
            namespace: The hash tag of all keys, so that several stores fit into one database.
            clock: For tests: decides due times and leases in the place of the server's clock.
            max_payload: The largest payload in bytes.

        Raises:
            ConfigurationError: The namespace or the client cannot be used.
            ValidationError: The URL is malformed.
        """
        super().__init__()
        if not _NAMESPACE.fullmatch(namespace):
            raise ConfigurationError(
                f"namespace {namespace!r} cannot tag keys: use 1 to 64 of letters, digits, _, - and ."
            )
        self.namespace = namespace
        self._where: Location | None = None
        self._given: AnyClient = None
        if isinstance(server, str):
            self._where = locate(server)
            self.shown = self._where.shown
        else:
            self._given = server
            self.shown = shown_client(server)
        self._dialect = Dialect(namespace, clock)
        self._link: Link | None = None
        self._others = OtherLoops(self._new_way)
        self._endings: set[asyncio.Future[None]] = set()
        self._hearing: Hearing | None = None
        self._hub = Hub()
        self.traits = Traits(
            durable=True,
            shared=True,
            local=_is_local(self._where),
            pushes=True,
            clock="store" if clock is None else "host",
            max_payload=max_payload,
        )

    def __repr__(self) -> str:
        options = "" if self.namespace == "sitq" else f", namespace={self.namespace!r}"
        return f"RedisBackend({self.shown!r}{options})"

    # -- lifecycle -------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, and see that the indexes are there."""
        link, self._hearing = self._new_way()
        self._link = link
        try:
            while True:
                sent = monotonic()
                done, now = await link.run("connect", "rebuild", STEP)
                if done:
                    break
        except BaseException:
            await self.shut()
            raise
        self._dialect.told(sent, now)

    def _new_way(self) -> Way:
        opened = self._given if self._where is None else client(self._where)
        wired = self._where is not None and self._where.kind != "cluster" and can_wire(opened)
        hearing = Hearing(opened, self._dialect.prefix, self._hub, wired=wired)
        return Way(Link(opened, self._dialect, self.shown, wired=wired), hearing)

    async def shut(self) -> None:
        """Finish what was begun, and close the connections that `open` made."""
        link, self._link = self._link, None
        hearing, self._hearing = self._hearing, None
        # Done whole, whatever becomes of the caller: half of it would leave connections open.
        ending = asyncio.ensure_future(self._end(link, hearing))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        await asyncio.shield(ending)

    async def _end(self, link: Link | None, hearing: Hearing | None) -> None:
        await self._others.close()
        if link is not None and hearing is not None:
            await Way(link, hearing).end_from_anywhere(ours=self._where is not None)

    # -- the contract ----------------------------------------------------------------------------------------

    async def put(self, groups: Sequence[Sequence[Record]]) -> list[list[Answer]]:
        """Store new tasks. Each group is stored whole or not at all, whatever happens to the others."""
        link = self._use("enqueue")
        answers: list[list[Answer]] = []
        if len(groups) == 1 and len(groups[0]) == 1:
            record = groups[0][0]
            _judge_priority(record)
            values = plain_values(record) if len(record.payload) <= self.traits.max_payload else None
            if values is not None and await link.run("enqueue", "put_one", *values):
                return [[Placed(record.id)]]
        for some in _batches(groups):
            for group in some:
                for record in group:
                    _judge_priority(record)
            specs, bodies = specs_and_bodies(some)
            packed, ended = await link.run("enqueue", "put", self.traits.max_payload, specs, *bodies)
            self._tell(ended)
            answers += answers_of(some, packed)
        return answers

    async def take(self, want: Want) -> Taken:
        """Claim tasks: in one atomic step they become `running` with a new token and lease, `attempt` + 1."""
        link, sent = self._use("claim"), monotonic()
        shares = [(share.queue, share.most) for share in want.queues]
        leave = sorted(want.leave)
        asked = (want.claim, want.worker, shares, want.limit, want.lease, want.python, leave, want.reclaim)
        now, after, ended, found = await link.run("claim", "take", self._dialect.asked(), pack(asked))
        self._dialect.told(sent, now)
        self._tell(ended)
        records: list[Record] = []
        corrupt: list[tuple[str, str]] = []
        for at in range(0, len(found), 3):
            try:
                records.append(claimed(found[at], found[at + 1], found[at + 2]))
            except DamageError as error:
                corrupt.append((found[at].decode(), str(error)))
        if corrupt:
            await self._bury(link, want.claim, corrupt, now)
        return Taken(records, now, after or None)

    def lease_channel(self) -> LeaseChannel:
        """Open a channel for renewals, to be used and closed by one thread of the caller's."""
        self._opened("renew")
        where = self._where
        connect: Callable[[], AnyClient]
        if where is None:
            given = self._given
            connect = lambda: sync_like(given)  # noqa: E731 - the one with the other's name
        else:
            connect = lambda: sync_client(where)  # noqa: E731 - as above
        return RedisLeaseChannel(self, self._dialect, connect, self.shown)

    async def apply(self, moves: Sequence[Move]) -> list[bool]:
        """Carry out moves in order; each answers whether it was kept. A lost one changes nothing."""
        link = self._use("apply")
        answers: list[bool] = []
        for first in range(0, len(moves), BATCH):
            words = Words()
            some = moves[first : first + BATCH]
            packed = words.packed(some)
            kept, ended = await link.run("apply", "apply", self.traits.max_payload, packed, *words.blobs)
            self._tell(ended)
            answers += [True] * len(some) if kept == 1 else map(bool, kept)
        return answers

    async def get(self, ids: Sequence[str]) -> list[Record | None]:
        """Read tasks by id; `None` for an unknown one."""
        link, found = self._use("get"), list[Record | None]()
        for first in range(0, len(ids), BATCH):
            some = ids[first : first + BATCH]
            answers = await link.run("get", "get", *some)
            found += [read(id, fields_of(answer)) for id, answer in zip(some, answers, strict=True)]
        return found

    async def scan(self, where: Filter, after: int | None = None, n: int = 100) -> Page:
        """Read a page of at most `n` records, looking at no more than `10 * n + 1000`."""
        link = self._use("scan")
        looked_for = {
            "states": None if where.states is None else "".join(LETTERS[state] for state in where.states),
            "queue": where.queue,
            "name": where.name,
            "owner": where.owner,
            "parent": where.parent,
            "finished": where.finished_before,
            "created": where.created_before,
            "down": where.newest_first or None,
        }
        told = pack({key: value for key, value in looked_for.items() if value is not None})
        if where.states == ():
            return Page([], None)
        text = b"" if where.text is None else where.text.encode("utf-8", "surrogatepass").lower()
        start = b"" if after is None else after
        last, found = await link.run("scan", "scan", start, n, 10 * n + 1000, told, text, where.batch or b"")
        records: list[Record] = []
        for answer in found:
            *pairs, _, id = answer
            record = read(id.decode(), fields_of(pairs))
            if record is not None and rules.fits(record, where):
                records.append(record)
        return Page(records, last or None)

    async def swap(self, key: str, seen: bytes | None, value: bytes | None, ttl: int | None = None) -> bool:
        """Compare and set a cell; whoever waits for a queue that it is about is woken."""
        link, call = self._use("swap"), uuid.uuid4().hex
        span = b"" if ttl is None else ttl
        return bool(await link.run("swap", "swap", call, key, _optional(seen), _optional(value), span))

    async def cells(self, prefix: str) -> list[Cell]:
        """Read the cells whose key starts with `prefix`, in order of their keys."""
        found = await self._use("cells").run("cells", "cells_under", prefix)
        return [Cell(name.decode(), value, until or None) for name, until, value in found]

    async def append(self, topic: str, events: Sequence[bytes], most: int = 10_000) -> None:
        """Add to a log, which keeps its newest `most` entries."""
        await self._use("append").run("append", "append", uuid.uuid4().hex, topic, most, *events)

    async def read(self, topic: str, after: int = 0, n: int = 100) -> list[Event]:
        """Read a log's entries with numbers above `after`, oldest first."""
        first, found = await self._use("read").run("read", "read", topic, after, n)
        events: list[Event] = []
        for number, entry in enumerate(found, first):
            at, _, data = entry.partition(b":")
            events.append(Event(number, int(at), data))
        return events

    def listen(self, topics: Iterable[str]) -> Listener:
        """Listen for hints on topics, for a waiter in the running event loop."""
        link = self._use("listen")
        link.here("listen")
        if link is not self._link:
            return self._others.way().hearing.listen(topics)
        assert self._hearing is not None  # noqa: S101 - it is there as long as the link is
        return self._hearing.listen(topics)

    def observe(self, told: Callable[[Sequence[str]], None]) -> Callable[[], None]:
        """Be told the ids of tasks that the store itself let end."""
        return self._hub.observe(told)

    async def checkup(self) -> list[Finding]:
        """Say what the server's settings make of the promises."""
        client = self._use("checkup").client
        try:
            return await checkup.look(client, self._dialect.prefix)
        except DRIVER as error:
            raise translated(error, self.shown, "checkup") from error

    async def tend(self, budget: int = 1000) -> int:
        """Do upkeep on at most `budget` tasks."""
        link = self._use("tend")
        done, ended = await link.run("tend", "tend", self._dialect.asked(), budget)
        self._tell(ended)
        return int(done)

    async def tally(self) -> dict[str, dict[State, int]]:
        """Count tasks per queue and state; absent means none."""
        found = fields_of(await self._use("tally").run("tally", "tally"))
        counts: dict[str, dict[State, int]] = {}
        for field, tasks in found.items():
            if field:
                text = field.decode()
                counts.setdefault(text[1:], {})[STATES[text[0]]] = int(tasks)
        return counts

    # -- the way to the server -------------------------------------------------------------------------------

    def _use(self, operation: str) -> Link:
        link = self._opened(operation)
        # A ready client is its owner's, who made it for one event loop.
        if self._where is None or link.loop is asyncio.get_running_loop():
            return link
        return self._others.way().link

    def _opened(self, operation: str) -> Link:
        self.check()
        if self._link is None:
            raise BackendError(f"{self!r} is closed", operation=operation)
        return self._link

    def _tell(self, ended: Sequence[bytes]) -> None:
        if ended:
            self._hub.hint([own_end_topic(id.decode()) for id in ended])

    async def _bury(self, link: Link, token: str, corrupt: list[tuple[str, str]], now: int) -> None:
        """Put claimed tasks aside whose records cannot be read, so that they hold up nobody."""
        words: list[tuple[Any, ...]] = []
        blobs: list[bytes] = []
        for id, why in corrupt:
            failure: Failure = rules.corrupt_failure(why, now)
            words.append(("bury", id, token, 4 + len(blobs)))
            blobs.append(pack(failure))
        _, ended = await link.run("claim", "apply", self.traits.max_payload, pack(words), *blobs)
        self._tell(ended)


def _is_local(where: Location | None) -> bool:
    """Whether only users of this host can reach the server, wherever it moves.

    A Sentinel or a node of a cluster that is on this host sends clients to servers which need not be.
    """
    if where is None or where.kind != "single":
        return False
    return where.url.startswith("unix:") or (
        bool(where.nodes) and all(host in {"localhost", "127.0.0.1", "::1"} for host, _ in where.nodes)
    )


def _optional(value: bytes | None) -> bytes:
    return b"0" if value is None else b"1" + value


def _batches(groups: Sequence[Sequence[Record]]) -> Iterable[list[Sequence[Record]]]:
    """Groups in runs of about `BATCH` records; a group stays whole."""
    some: list[Sequence[Record]] = []
    records = 0
    for group in groups:
        if some and records + len(group) > BATCH:
            yield some
            some, records = [], 0
        some.append(group)
        records += len(group)
    if some:
        yield some


def _judge_priority(record: Record) -> None:
    if not -RANKED < record.priority < RANKED:
        raise ValidationError(
            f"priority {record.priority} is out of range: it lies between {-RANKED} and {RANKED}",
            task_id=record.id,
        )


def from_url(url: str) -> RedisBackend:
    """The backend of a URL (see `RedisBackend`); `?namespace=x` names the namespace.

    Raises:
        ValidationError: The URL is malformed.
    """
    options = locate(url).options
    return RedisBackend(url, namespace=options.get("namespace", "sitq"))
