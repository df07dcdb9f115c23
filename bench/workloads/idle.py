"""Idle: what a worker costs that has nothing to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from bench.plan import Plan
from bench.row import Row
from bench.side import Side, sides
from bench.stores.store import Store

_SETTLE_DOWN: Final = 1.0


async def measure(store: Store, plan: Plan) -> Sequence[Row]:
    """CPU of all its threads in percent of a core, and its calls to the store but renewals, each second."""
    sitq, raw = sides(store, plan)
    cpu, calls = await _watch(sitq, plan.size(20, 2), count=True)
    raw_cpu, _ = await _watch(raw, plan.size(5, 1), count=False)
    return [
        Row("idle-cpu", store.name, "% of a core", cpu, raw_cpu),
        Row("idle-calls", store.name, "/s", calls),
    ]


async def _watch(side: Side, seconds: float, *, count: bool) -> tuple[float, float]:
    async with side, side.worker(count=count) as process:
        await side.enqueue()
        await side.until(lambda: side.counts.ended >= 1)
        await asyncio.sleep(_SETTLE_DOWN)
        spent = process.cpu if process else time.process_time
        cpu, calls, begun = spent(), side.counts.calls, time.monotonic()
        await asyncio.sleep(seconds)
        elapsed = time.monotonic() - begun
        return (spent() - cpu) / elapsed * 100, (side.counts.calls - calls) / elapsed
