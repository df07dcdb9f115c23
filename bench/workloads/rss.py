"""RSS: how much memory a worker process takes, and whether it grows with the tasks that it has run."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from typing import Final

from bench.plan import Plan
from bench.process import WorkerProcess
from bench.row import Row
from bench.side import Side, sides
from bench.stores.store import Store

_CHUNK: Final = 25_000
_PERIOD: Final = 0.1
_WARM_UP: Final = 0.2
"""The share of tasks after which caches are full, and growth is a leak."""

_ENOUGH_FOR_GROWTH: Final = 500_000

Samples = list[tuple[int, float]]


async def measure(store: Store, plan: Plan) -> Sequence[Row]:
    """A million tasks when it is asked for by name; a part of them in a run of everything."""
    if not store.shared:
        return []  # the worker's memory is the store's
    n = plan.size(1_000_000 if plan.named else 100_000, 100_000 if plan.named else 10_000)
    sitq, raw = sides(store, plan)
    started, samples = await _drain(sitq, n)
    raw_started, raw_samples = await _drain(raw, min(n, 20_000))
    most, raw_most = (max(mib for _, mib in each) for each in (samples, raw_samples))
    rows = [
        Row("rss-started", store.name, "MiB", started, raw_started),
        Row("rss-draining", store.name, "MiB", most, raw_most, detail={"tasks": n}),
    ]
    if n >= _ENOUGH_FOR_GROWTH:
        growth = _growth([each for each in samples if each[0] > _WARM_UP * n])
        rows.append(Row("rss-growth", store.name, "MiB per 1 M tasks", growth, detail={"tasks": n}))
    return rows


async def _drain(side: Side, n: int) -> tuple[float, Samples]:
    samples: Samples = []
    async with side:
        async with side.worker() as process:
            assert process is not None
            await side.enqueue()
            await side.until(lambda: side.counts.ended >= 1)
            started = process.rss()
            watching = asyncio.create_task(_watch(side, process, samples))
            try:
                await _feed(side, n)
            finally:
                watching.cancel()
            samples.append((n, process.rss()))
        await side.check(n)
    return started, samples


async def _feed(side: Side, n: int) -> None:
    """Keep between one and two chunks waiting until n tasks have ended."""
    counts, loaded = side.counts, 1
    while loaded < n:
        chunk = min(_CHUNK, n - loaded)
        await side.load(chunk)
        loaded += chunk
        enough = max(0, loaded - _CHUNK)
        await side.until(lambda: counts.ended >= enough)  # noqa: B023 - it is over before the next turn
    await side.until(lambda: counts.ended >= n)


async def _watch(side: Side, process: WorkerProcess, samples: Samples) -> None:
    while True:
        samples.append((side.counts.ended, process.rss()))
        await asyncio.sleep(_PERIOD)


def _growth(samples: Samples) -> float:
    """MiB for each million tasks, by the line of least squares."""
    ended, mib = zip(*samples, strict=True)
    return statistics.linear_regression(ended, mib).slope * 1_000_000
