"""Latency: from the call of `enqueue` to the task's first line, and to its value in the caller's hand."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from typing import Final

from bench.plan import Plan
from bench.row import Row, percentile
from bench.side import Side, sides
from bench.stores.store import Store

_PAUSE: Final = 0.01
"""Seconds between two samples, so that the worker is idle again."""

_WARM_UP: Final = 5
_SHARES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

Samples = dict[str, list[float]]


async def measure(store: Store, plan: Plan) -> Sequence[Row]:
    """Both latencies of the same tasks, in milliseconds, the samples of all repetitions together."""
    found: dict[str, Samples] = {name: {"start": [], "result": []} for name in ("sitq", "raw")}
    blocks = plan.reps
    for _ in range(blocks):
        for side in sides(store, plan):
            async with side, side.worker():
                await _sample(side, plan.size(300, 60) // blocks, plan.size(10, 3), found[side.name])
    return [
        Row(
            f"{what}-{name}",
            store.name,
            "ms",
            percentile(found["sitq"][what], share),
            percentile(found["raw"][what], share),
            detail={"samples": len(found["sitq"][what]), "mean": statistics.fmean(found["sitq"][what])},
        )
        for what in ("start", "result")
        for name, share in _SHARES.items()
    ]


async def _sample(side: Side, n: int, longest: float, samples: Samples) -> None:
    counts = side.counts
    cut = time.monotonic() + longest  # fewer samples are better than none, should the worker only poll
    for each in range(_WARM_UP + n):
        if time.monotonic() > cut and samples["start"]:
            return
        ended = counts.ended
        begun = time.monotonic()
        await side.value(await side.enqueue())
        done = time.monotonic()
        await side.until(lambda before=ended: counts.ended > before)  # type: ignore[misc]
        if each >= _WARM_UP:
            samples["start"].append((counts.last_start - begun) * 1000)
            samples["result"].append((done - begun) * 1000)
        await asyncio.sleep(_PAUSE)
