"""Enqueue: how many tasks a second a producer gets acknowledged, with no worker about."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from bench.plan import Plan
from bench.row import Row, side_by_side
from bench.side import Side, sides
from bench.stores.store import Store

_CALLERS: Final = 64


async def sequential(store: Store, plan: Plan) -> Sequence[Row]:
    """One awaited call after another."""
    n = plan.size(2000, 300)

    async def one_by_one(side: Side) -> None:
        for _ in range(n):
            await side.enqueue()

    return [await _measure("enqueue-sequential", store, plan, n, one_by_one)]


async def bulk(store: Store, plan: Plan) -> Sequence[Row]:
    """`enqueue_many` with chunks of a thousand, two in flight."""
    n = plan.size(30_000, 4000)
    return [await _measure("enqueue-bulk", store, plan, n, lambda side: side.load(n))]


async def concurrent(store: Store, plan: Plan) -> Sequence[Row]:
    """`enqueue` from many callers in flight at once; the raw store gets what they send in one transaction."""
    n = plan.size(15_000, 2000)
    return [
        await _measure("enqueue-concurrent", store, plan, n, lambda side: side.enqueue_together(n, _CALLERS))
    ]


async def _measure(
    workload: str, store: Store, plan: Plan, n: int, work: Callable[[Side], Awaitable[None]]
) -> Row:
    rates: dict[str, list[float]] = {"sitq": [], "raw": []}
    for _ in range(plan.reps):
        for side in sides(store, plan):
            async with side:
                for _ in range(20):
                    await side.enqueue()
                begun = time.perf_counter()
                await work(side)
                rates[side.name].append(n / (time.perf_counter() - begun))
    return side_by_side(workload, store.name, "/s", rates["sitq"], rates["raw"])
