"""Cost: what a limit and a dependency add to a task, at the store's contract and through queue and worker."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from bench import tally
from bench.bodies import noop, take
from bench.plan import Plan
from bench.row import Row
from bench.side import SitqSide
from bench.stores.store import Store
from bench.workloads import claims
from sitq import ConcurrencyLimit, RateLimit, Task, TaskQueue, Worker
from sitq.record import Edge, Limit, Record

_ENOUGH: Final = 1_000_000


def _slots(n: int) -> Iterator[Record]:
    for record in claims.plain(n):
        record.limits = (Limit("bench", slots=_ENOUGH),)
        yield record


def _rate(n: int) -> Iterator[Record]:
    for record in claims.plain(n):
        record.limits = (Limit("bench", rate=_ENOUGH, burst=_ENOUGH),)
        yield record


def _keys(n: int) -> Iterator[Record]:
    for each, record in enumerate(claims.plain(n)):
        record.limits = (Limit(f"bench:{each % 100}", slots=_ENOUGH),)
        yield record


def _children(n: int) -> Iterator[Record]:
    """Pairs of a parent and its child."""
    for parent, child in _pairs(n):
        child.edges = (Edge(parent.id),)
        yield parent
        yield child


def _pairs(n: int) -> Iterator[tuple[Record, Record]]:
    records = claims.plain(n)
    return zip(records, records, strict=True)


_KINDS: Final[dict[str, Callable[[int], Iterator[Record]]]] = {
    "plain": claims.plain,
    "slots": _slots,
    "rate": _rate,
    "100-keys": _keys,
    "dependency": _children,
}


def _tasks(n: int) -> list[Task]:
    return [Task(noop) for _ in range(n)]


def _waiting(n: int) -> list[Task]:
    """Pairs of a parent and the child that waits for it."""
    parents = [Task(noop) for _ in range(n // 2)]
    return [each for parent in parents for each in (parent, Task(noop, depends_on=[parent]))]


def _taking(n: int) -> list[Task]:
    """Pairs of a parent and the child that takes its value."""
    parents = [Task(noop) for _ in range(n // 2)]
    return [each for parent in parents for each in (parent, Task(take, (parent,)))]


def _with_slots(n: int) -> list[Task]:
    return [Task(noop, limits=ConcurrencyLimit(_ENOUGH)) for _ in range(n)]


def _with_rate(n: int) -> list[Task]:
    return [Task(noop, limits=RateLimit(100_000, burst=_ENOUGH)) for _ in range(n)]


def _with_tenant(n: int) -> list[Task]:
    return [Task(noop, fair=f"tenant {each % 100}") for each in range(n)]


def _with_key(n: int) -> list[Task]:
    return [Task(noop, unique=f"key {each}") for each in range(n)]


_WHOLE: Final[dict[str, Callable[[int], list[Task]]]] = {
    "task": _tasks,
    "task-slots": _with_slots,
    "task-rate": _with_rate,
    "task-100-tenants": _with_tenant,
    "task-unique": _with_key,
    "task-depends-on": _waiting,
    "task-takes-value": _taking,
}


async def measure(store: Store, plan: Plan) -> Sequence[Row]:
    """Microseconds a task takes to be put, claimed by hundreds and settled, beside a plain one."""
    n = plan.size(8000, 1000)
    found: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    for _ in range(plan.reps):
        for kind, records in _KINDS.items():
            found[kind].append(await _one(SitqSide(store, plan), list(records(n))))
        for kind, tasks in _WHOLE.items():
            found.setdefault(kind, []).append(await _whole(SitqSide(store, plan), tasks(n)))
    medians = {kind: statistics.median(each) for kind, each in found.items()}
    beside = dict.fromkeys(_KINDS, "plain") | dict.fromkeys(_WHOLE, "task")
    return [
        Row(f"cost-{kind}", store.name, "µs a task", each, medians[beside[kind]], beside=beside[kind])
        for kind, each in medians.items()
    ]


async def _one(side: SitqSide, records: list[Record]) -> float:
    async with side:
        begun = time.perf_counter()
        await claims.put(side.backend, records)
        left = len(records)
        while left:
            taken = await claims.take(side.backend)
            if not taken:
                raise RuntimeError(f"nothing could be claimed of {left} tasks that were left")
            await claims.settle(side.backend, taken)
            left -= len(taken)
        return (time.perf_counter() - begun) / len(records) * 1_000_000


async def _whole(side: SitqSide, tasks: list[Task]) -> float:
    """Microseconds a task takes to be enqueued, run by a worker in this process, and settled."""
    async with side, TaskQueue(side.backend) as queue:
        tally.use(side.counts)
        begun = time.perf_counter()
        for start in range(0, len(tasks), claims.GROUP):
            await queue.enqueue_many(tasks[start : start + claims.GROUP])
        await Worker(side.backend, max_concurrency=claims.BATCH).run(burst=True)
        spent = time.perf_counter() - begun
        ended = (await queue.stats())[claims.QUEUE]
        if ended != {"completed": len(tasks)}:
            raise RuntimeError(f"of {len(tasks)} tasks came {ended}")
        return spent / len(tasks) * 1_000_000
