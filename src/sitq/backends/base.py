"""The contract between the engine and a store of tasks.

A backend knows rows, due times, leases, conditions and wake-ups, and nothing else: it decides nothing that is
not written in a record, a move or a want. Everything that is written comes in sequences, everything that is
answered comes back in the same order. `sitq.testing.conformance` is this contract as a test suite.

Four ideas carry it:

- **One order.** Ready tasks of a queue start by the turn of their tenant, then priority (higher first), then
  sequence. A task that queues again keeps its sequence.
- **Lanes.** Tasks of the same queue, function, Python version, tenant and limits can only be started or
  passed over together. A store keeps them together (a *lane*), so that what may not start now (paused, over
  its limit, unknown to this worker) costs a claim one look at a lane, however many tasks wait in it.
- **Fences.** Each claim gives its tasks a token. Whatever an attempt says later holds only under it.
- **Hints.** A listener may be woken for nothing and may be missed; whoever waits looks again after its own
time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, Self

import msgspec

from sitq.checkup import Finding
from sitq.exceptions import BackendError
from sitq.record import Record, State

if TYPE_CHECKING:
    from types import TracebackType

    from sitq.move import Move


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """What a store can do, as facts for the engine and the conformance suite.

    Attributes:
        durable: Survives the end of every process that uses it.
        shared: Several processes can use it at once.
        local: Only its owner can write to it, so payloads need no signature (see the security page).
        pushes: `wait` wakes for what other processes did, without polling.
        transactional: Can take part in a user's own transaction.
        atomic: `put` and `apply` are one transaction over several tasks.
        clock: Whose clock decides due times and leases.
        max_payload: The largest payload in bytes that it takes.
    """

    durable: bool
    shared: bool
    local: bool
    pushes: bool
    transactional: bool = False
    atomic: bool = True
    clock: Literal["host", "store"] = "host"
    max_payload: int = 1 << 20


class Placed(msgspec.Struct, frozen=True):
    """The record is stored under its id."""

    id: str


class Duplicate(msgspec.Struct, frozen=True):
    """Nothing was stored: the task `id` is already there, by the record's id or by its unique key."""

    id: str


class Replaced(msgspec.Struct, frozen=True):
    """Nothing new was stored: the waiting task `id` holds the unique key and took over what was named."""

    id: str


class Refused(msgspec.Struct, frozen=True):
    """Nothing of the group was stored.

    `why` is `unique` (`detail` is the holder's id), `parent` (`detail` is the unknown parent's id), `cycle`
    (`detail` is the id of a task that depends on itself), `full` (`detail` is the queue), `payload` (over
    `Traits.max_payload`; `detail` is its size) or `group` (another record of the same group was refused).
    """

    id: str
    why: Literal["unique", "parent", "cycle", "full", "payload", "group"]
    detail: str = ""


Answer = Placed | Duplicate | Replaced | Refused


class Share(msgspec.Struct, frozen=True, array_like=True):
    """A queue to claim from, and how many tasks it may fill before the queues after it had their share."""

    queue: str
    most: int


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker would like to run.

    Attributes:
        claim: An id that the worker made for this claim, and the token of every task that it returns. While
            tasks run under it, repeating it returns those as they are, by sequence, with `Taken.next` = now,
            and does nothing else.
        worker: Who claims: it becomes the records' `owner`.
        queues: Claimed in this order, each up to its share; what is left then goes to them in order again.
            Shares equal to `limit` are strict order, smaller ones are weights.
        limit: How many tasks at the most.
        lease: Microseconds that the lease lasts.
        python: The `major.minor` of this worker; records with another `python` are left.
        leave: Names of functions that this worker leaves to others.
        reclaim: Whether leases that ran out may be claimed.
    """

    claim: str
    worker: str
    queues: tuple[Share, ...]
    limit: int
    lease: int
    python: str
    leave: frozenset[str] = frozenset()
    reclaim: bool = True


class Taken(msgspec.Struct, frozen=True):
    """The answer to a claim: running records in the order in which they should start.

    Attributes:
        records: What was claimed.
        now: The store's clock.
        next: When, as far as the store can tell, something more may become claimable: the next due time, the
            end of a lease, of a pause or of a rate's interval. `None` if only news can change that. It may be
            too early, and news may come before it; it is now if the limit of the want was reached.
    """

    records: list[Record]
    now: int
    next: int | None = None


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """What an attempt holds on its task."""

    id: str
    token: str


class Renewal(msgspec.Struct, frozen=True, array_like=True):
    """What became of a lease: `kept`, `lost`, or `stop`: kept, but the task is asked to end (`reason`)."""

    id: str
    answer: Literal["kept", "lost", "stop"]
    reason: str = ""


class LeaseChannel(Protocol):
    """A connection of its own for the thread that renews leases.

    It waits for no other traffic of the process.
    """

    def renew(self, leases: Sequence[Lease], lease: int) -> list[Renewal]:
        """Make each lease last `lease` microseconds from the store's now. Never revives one that was lost.

        A lease that ran out but was claimed by nobody is still its holder's, and is kept.
        """
        ...

    def close(self) -> None:
        """Release the connection. Idempotent."""
        ...


class Listener(Protocol):
    """Somebody who waits for hints on topics.

    A hint since the last `wait` returned counts: it is not missed.
    """

    async def wait(self, timeout: float) -> bool:
        """Wait for a hint; False when `timeout` seconds passed without one."""
        ...

    def close(self) -> None:
        """Stop listening. Idempotent."""
        ...


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which records a scan is about; what is not set does not matter."""

    states: tuple[State, ...] | None = None
    queue: str | None = None
    name: str | None = None
    owner: str | None = None
    batch: str | None = None
    parent: str | None = None
    """Those with an edge to this task, also after their end; found by an index."""
    text: str | None = None
    """Literal text, in the id, name or preview, without regard to ASCII case."""
    finished_before: int | None = None
    created_before: int | None = None
    newest_first: bool = False
    """Go from the highest sequence down instead of from the lowest up."""


class Page(msgspec.Struct, frozen=True):
    """A part of a scan, in order of sequence, or in the reverse of it.

    `after` goes on behind it; `None` means that it was the last.
    """

    records: list[Record]
    after: int | None


class Cell(msgspec.Struct, frozen=True):
    """A small named value; `until` is when it vanishes by itself, or None."""

    key: str
    value: bytes
    until: int | None = None


class Event(msgspec.Struct, frozen=True):
    """An entry of a log; `number` rises without gaps within its topic."""

    number: int
    at: int
    data: bytes


PAUSE_QUEUE = "pause/queue/"
"""Cells under this prefix pause the queue that they name, until they vanish."""

PAUSE_NAME = "pause/name/"
"""Cells under this prefix pause the function that they name."""

PAUSE_KEY = "pause/key/"
"""Cells under this prefix pause the limit key or tenant that they name."""


LIMIT_QUEUE = "limit/queue/"
"""Cells under this prefix hold a `Limit` as JSON for all tasks of the queue that they name (see `take`)."""


def queue_topic(queue: str) -> str:
    """The topic that is woken when something in the queue may have become claimable."""
    return "queue/" + queue


def worker_topic(worker: str) -> str:
    """The topic that is woken when a task of the worker is asked to stop."""
    return "worker/" + worker


def task_topic(task_id: str) -> str:
    """The topic that is woken when a running task left a note on its progress."""
    return "task/" + task_id


def log_topic(topic: str) -> str:
    """The topic that is woken when something was added to a log."""
    return "log/" + topic


def own_end_topic(task_id: str) -> str:
    """The topic that is woken when the store itself let a task end, without a move that says so.

    It expired, ended with a task that it depends on, was asked to stop and came back, or cannot be read. See
    `Backend.observe`.
    """
    return OWN_ENDS + task_id


OWN_ENDS = "end/"
"""What the topics of `own_end_topic` begin with."""

DONE_TOPIC = "done"
"""The topic that is woken when any task ends, for those who wait for a task that they did not enqueue."""


class Backend(ABC):
    """A store of tasks. Opened by `connect`, or by the first queue or worker that needs it.

    Whoever connected it closes it. A backend that a queue or worker connected is closed when the last of them
    lets go of it.
    """

    traits: Traits
    namespace: str

    def __init__(self) -> None:
        self._users = 0
        self._lazily = False
        self._process: int | None = None
        self._turn = threading.Lock()
        self._turn_of = os.getpid()

    # -- lifecycle -----------------------------------------------------------------------------------------

    @abstractmethod
    async def open(self) -> None:
        """Make the store ready. Called once before any other operation, and again after `shut`."""

    @abstractmethod
    async def shut(self) -> None:
        """Let go of everything that `open` took."""

    @property
    def connected(self) -> bool:
        """Whether the store is ready in this process."""
        return self._process is not None

    def missing(self) -> str | None:
        """Why there is nothing to look at yet, for those who would rather not make it by connecting."""
        return None

    async def connect(self) -> None:
        """Make the store ready. Idempotent.

        Raises:
            ConnectionError: It cannot be reached or opened; the message says why.
            ConfigurationError: What is there cannot be used by this version of sitq.
        """
        async with self._one_at_a_time():
            self._lazily = False
            await self._connect()

    async def close(self) -> None:
        """Let go of the store. Idempotent; an operation after it raises `BackendError`."""
        async with self._one_at_a_time():
            await self._close()

    async def acquire(self) -> None:
        """Count a user in; connect if nobody did."""
        async with self._one_at_a_time():
            if self._process is None:
                await self._connect()
                self._lazily = True
            self.check()
            self._users += 1

    async def release(self) -> None:
        """Count a user out; the last one closes what no one connected explicitly."""
        async with self._one_at_a_time():
            self._users = max(0, self._users - 1)
            if self._users == 0 and self._lazily:
                await self._close()

    async def _connect(self) -> None:
        if self._process is not None:
            self.check()
            return
        await self.open()
        self._process = os.getpid()

    async def _close(self) -> None:
        if self._process is None:
            return
        inherited = self._process != os.getpid()
        self._process = None
        self._users = 0
        if not inherited:  # what a parent process opened is not the fork's to close
            await self.shut()

    @contextlib.asynccontextmanager
    async def _one_at_a_time(self) -> AsyncGenerator[None]:
        # An asyncio lock belongs to one loop, and a backend may serve several.
        if self._turn_of != os.getpid():  # a fork may have inherited it held, by a thread that it has not
            self._turn, self._turn_of = threading.Lock(), os.getpid()
        while not self._turn.acquire(blocking=False):  # noqa: ASYNC110 - held by a thread for moments only
            await asyncio.sleep(0.001)
        try:
            yield
        finally:
            self._turn.release()

    def check(self) -> None:
        """Raise `BackendError` unless the store is open in this very process."""
        if self._process != os.getpid():
            raise BackendError(self._why_unusable(), operation="check")

    def _why_unusable(self) -> str:
        if self._process is None:
            return (
                f"{self!r} is not connected: await connect() first, or use it through a TaskQueue or Worker"
            )
        return (
            f"{self!r} was connected in process {self._process} and is used in its fork {os.getpid()}: "
            "make a new backend object in the child process"
        )

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- the contract --------------------------------------------------------------------------------------

    @abstractmethod
    async def put(self, groups: Sequence[Sequence[Record]]) -> list[list[Answer]]:
        """Store new tasks. Each group is stored whole or not at all, whatever happens to the others.

        Of a record, only the producer's part counts. Records are judged in order, each by: a known id, in
        whatever state, is a `Duplicate` and no ground to refuse the group; then its payload's size, its
        unique key, its queue's `room` (records before it in the group take room); when all have passed, each
        by its parents, then the group by cycles. A parent is a stored task or any other one that this group
        stores; a parent that has ended takes effect at once, in the order of the edges. The first refusal
        ends it: that record answers why, those whose id was stored before `Duplicate`, all others `group`.

        On a unique key that another task holds, the newcomer's `clash` decides. `keep`: `Duplicate` of the
        holder. `refuse`: `Refused`. `replace`: a waiting holder of the same function, queue and Python takes
        over the fields and the newcomer's `unique` (`Replaced`), unless the payload is one of them and it is
        blocked; any other waiting one refuses, any other is kept (`Duplicate`). `again`: while the holder
        runs, the newcomer is placed behind it (an edge that goes on any end) and holds the key from now on;
        any other holder is kept. A holder's scope is that of its own record. A task that queues again takes
        its `waiting` key back if nobody has it, and goes without it otherwise.
        """

    async def put_within(self, connection: object, groups: Sequence[Sequence[Record]]) -> list[list[Answer]]:
        """Store new tasks within a transaction of the user's own: its commit makes them visible.

        Only of stores whose traits say `transactional`. A store may judge them at once, as `put` does, or
        after the commit, when nobody is left to be told of a refusal.

        Raises:
            ValidationError: The connection is none that the store knows, or in no transaction.
            BackendError: The store takes part in no transactions, or a statement failed.
        """
        del connection, groups
        raise BackendError(f"{self!r} cannot take part in a transaction of yours", operation="enqueue")

    @abstractmethod
    async def take(self, want: Want) -> Taken:
        """Claim tasks: in one atomic step they become `running` with a new token and lease, `attempt` + 1.

        A claim that the store held up for a quarter of its lease or longer reclaims nothing: the holders
        could not renew theirs meanwhile either. So it is with `tend`.

        Before it claims, it brings the store up to date by a bounded amount: tasks of any queue whose lease
        ran out (if `want.reclaim`) queue again, due now, with `crashes` + 1 and a `crashed` failure, or are
        cancelled if they were asked to stop; tasks of the wanted queues that are due and past their last
        start become `expired` instead of ready.

        A ready task may start if its queue, function, limit keys and tenant are not paused, its function is
        not in `want.leave`, its `python` is None or `want.python`, and each of its limits allows it now:
        fewer than `slots` tasks with that key are running, and the generic cell rate algorithm (ITU-T I.371)
        admits one more: with `interval = per // rate`, a start is allowed from `arrival - (burst - 1) *
        interval` on and moves `arrival` to `max(arrival, now) + interval`.

        A queue may have a limit of its own, in a cell under `LIMIT_QUEUE`: no more of its tasks start than
        that allows, whatever they name themselves. All that run count, and for a rate each start since the
        cell was set. A cell that holds no `Limit` is no limit.

        Of the tasks of a queue that may start, the next is the one with the least turn of its tenant, then
        the highest priority, then the lowest sequence. Turns are start-time fair queueing (Goyal, Vin, Cheng
        1996) in integers: a tenant's turn is `max(its last turn + round(1_000_000 / weight), the turn that
        the queue last served)`, or just the latter if it had none yet; tasks without `fair` are one tenant of
        weight 1. The weight is that of the tenant's task that started last. A batch is claimed one after
        another by these rules.

        A lease has run out from its `lease_until` on, a task is past its last start after that instant, and
        both are brought up to date in order of time, then sequence. A task that names a limit key twice
        counts once, and the later figures hold.
        """

    @abstractmethod
    def lease_channel(self) -> LeaseChannel:
        """Open a channel for renewals, to be used and closed by one thread of the caller's."""

    @abstractmethod
    async def apply(self, moves: Sequence[Move]) -> list[bool]:
        """Carry out moves in order; each answers whether it was kept. A lost one changes nothing."""

    @abstractmethod
    async def get(self, ids: Sequence[str]) -> list[Record | None]:
        """Read tasks by id; `None` for an unknown one."""

    @abstractmethod
    async def scan(self, where: Filter, after: int | None = None, n: int = 100) -> Page:
        """Read a page of at most `n` records.

        It looks at a bounded number of rows, so a page may be short, or empty, and yet not be the last.
        """

    @abstractmethod
    async def swap(self, key: str, seen: bytes | None, value: bytes | None, ttl: int | None = None) -> bool:
        """Compare and set a cell: from `seen` (None: absent) to `value` (None: removed).

        False if it was not `seen`.
        """

    @abstractmethod
    async def cells(self, prefix: str) -> list[Cell]:
        """Read the cells whose key starts with `prefix`, in order of their keys."""

    @abstractmethod
    async def append(self, topic: str, events: Sequence[bytes], most: int = 10_000) -> None:
        """Add to a durable log, which keeps its newest `most` entries."""

    @abstractmethod
    async def read(self, topic: str, after: int = 0, n: int = 100) -> list[Event]:
        """Read a log's entries with numbers above `after`, oldest first."""

    @abstractmethod
    def listen(self, topics: Iterable[str]) -> Listener:
        """Listen for hints on topics, for a waiter in the running event loop."""

    def observe(self, told: Callable[[Sequence[str]], None]) -> Callable[[], None]:
        """Be told the ids of tasks that the store itself let end, after the step of this process that did it.

        Of several observers in a process one is told. It is called from any thread, and must not block.
        Answers with a function that ends it. A store that cannot tell never calls.
        """
        del told
        return lambda: None

    async def checkup(self) -> list[Finding]:
        """Say what the settings of the store make of the promises. A store that cannot tell says nothing."""
        return []

    @abstractmethod
    async def tend(self, budget: int = 1000) -> int:
        """Do upkeep on at most `budget` tasks: expire, purge what is past its time, repair.

        Answers how many it did.

        In this order, over all queues: leases that ran out, tasks past their last start, terminal records
        past their `keep_until` (`keep_until <= now`) unless a task that has not ended has an edge to them or
        they hold a unique key. Cells past their time and a queue's turns when none of its tasks is blocked,
        queued or running go as well, and are not counted.
        """

    @abstractmethod
    async def tally(self) -> dict[str, dict[State, int]]:
        """Count tasks per queue and state; absent means none."""
