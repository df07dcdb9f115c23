"""Cost: what a limit and a dependency add to a task, at the contract of the store."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from bench.plan import Plan
from bench.row import Row
from bench.side import SitqSide
from bench.stores.store import Store
from bench.workloads import claims
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


async def measure(store: Store, plan: Plan) -> Sequence[Row]:
    """Microseconds a task takes to be put, claimed by hundreds and settled, beside a plain one."""
    n = plan.size(8000, 1000)
    found: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    for _ in range(plan.reps):
        for kind, records in _KINDS.items():
            found[kind].append(await _one(SitqSide(store, plan), list(records(n))))
    medians = {kind: statistics.median(each) for kind, each in found.items()}
    return [
        Row(f"cost-{kind}", store.name, "µs a task", each, medians["plain"], beside="plain")
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
