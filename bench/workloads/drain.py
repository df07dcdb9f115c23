"""Drain: how many waiting tasks a second one worker process runs, from the first start to the last end."""

from __future__ import annotations

from collections.abc import Sequence

from bench.plan import Plan
from bench.row import Row, side_by_side
from bench.side import RawSide, Side, sides
from bench.stores.store import Store


async def noop(store: Store, plan: Plan) -> Sequence[Row]:
    """Tasks that do nothing: what the queue itself costs."""
    return [await _measure("drain", store, plan, body="noop", n=plan.size(20_000, 3000), batch=500)]


async def io(store: Store, plan: Plan) -> Sequence[Row]:
    """Tasks that wait 10 ms, a hundred at once: 10,000/s would be ideal."""
    return [await _measure("io", store, plan, body="io", n=plan.size(5000, 500), batch=100)]


async def _measure(workload: str, store: Store, plan: Plan, *, body: str, n: int, batch: int) -> Row:
    rates: dict[str, list[float]] = {"sitq": [], "raw": []}
    for _ in range(plan.reps):
        for side in sides(store, plan):
            if isinstance(side, RawSide):
                side.batch = batch
            rates[side.name].append(await _drain(side, body, n))
    return side_by_side(workload, store.name, "/s", rates["sitq"], rates["raw"])


async def _drain(side: Side, body: str, n: int) -> float:
    async with side:
        await side.load(n, body)
        async with side.worker():
            await side.until(lambda: side.counts.ended >= n, pause=0.02)
            rate = n / side.counts.seconds
        await side.check(n)
    return rate
