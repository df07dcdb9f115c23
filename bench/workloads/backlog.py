"""Backlog: whether a claim costs the same however many tasks wait, and whatever keeps them waiting."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Final

from bench.plan import Plan
from bench.row import Row
from bench.side import RawSide, SitqSide, sides
from bench.stores.store import Store
from bench.workloads import claims
from sitq.backends.base import PAUSE_KEY, PAUSE_NAME, Backend
from sitq.record import Limit, Record

_BLOCKS: Final = 5
_ROUNDS: Final = 8
_TAKEN: Final = _BLOCKS * _ROUNDS * claims.BATCH

_OTHER: Final = "bench.bodies:another"
_KEY: Final = "bench"
_WIDE: Final = 1_000_000


async def measure(store: Store, plan: Plan) -> Sequence[Row]:
    """Tasks a second that are claimed by hundreds and settled, beside the same with a short backlog."""
    depths = {
        "10k": plan.size(10_000, 5000),
        "100k": plan.size(100_000, 10_000),
        "1m": plan.size(1_000_000, 20_000),
    }
    sitq, raw = sides(store, plan)
    assert isinstance(sitq, SitqSide)
    assert isinstance(raw, RawSide)
    found = await _by_depth(sitq, depths)
    obstructed, _ = sides(store, plan)
    assert isinstance(obstructed, SitqSide)
    hindered = depths["1m"] if plan.named else plan.size(200_000, depths["1m"])
    for name, rate in (await _by_obstacle(obstructed, hindered)).items():
        found[name] = hindered, rate
    _, short = found.pop("10k")
    return [
        Row("backlog-10k", store.name, f"/s at {depths['10k']:,}", short, await _raw(raw, depths["10k"])),
        *(
            Row(f"backlog-{name}", store.name, f"/s at {depth:,}", rate, short, beside="10k")
            for name, (depth, rate) in found.items()
        ),
    ]


async def _by_depth(side: SitqSide, depths: dict[str, int]) -> dict[str, tuple[int, float]]:
    """The same tasks, more and more of them."""
    found: dict[str, tuple[int, float]] = {}
    waiting = 0
    async with side:
        for name, depth in depths.items():
            await claims.put(side.backend, claims.plain(depth - waiting))
            blocks = await _blocks(side.backend)
            found[name] = depth, statistics.median(blocks)
            waiting = depth - _TAKEN
    found[f"{name}-just-loaded"] = depth, blocks[0]
    return found


async def _by_obstacle(side: SitqSide, depth: int) -> dict[str, float]:
    """Nine of ten tasks may not start, for one reason after another, and all of them come first in order."""
    async with side:
        backend = side.backend
        hindered = depth * 9 // 10
        await claims.put(backend, _hindered(hindered, slots=_WIDE))
        await claims.put(backend, claims.plain(max(depth - hindered, 4 * _TAKEN)))
        found: dict[str, float] = {}
        found["left"] = statistics.median(await _blocks(backend, frozenset({_OTHER})))
        for name, cell in (("paused", PAUSE_NAME + _OTHER), ("key-paused", PAUSE_KEY + _KEY)):
            await backend.swap(cell, None, b"1")
            found[name] = statistics.median(await _blocks(backend))
            await backend.swap(cell, b"1", None)
        await claims.put(backend, _hindered(1, slots=0))  # the figures placed last hold for the key
        found["limited"] = statistics.median(await _blocks(backend))
        return found


def _hindered(n: int, slots: int) -> Iterator[Record]:
    limits = (Limit(_KEY, slots=slots),)
    for record in claims.plain(n):
        record.name = _OTHER
        record.limits = limits
        yield record


async def _blocks(backend: Backend, leave: frozenset[str] = frozenset()) -> list[float]:
    return [await claims.rate(backend, _ROUNDS, leave) for _ in range(_BLOCKS)]


async def _raw(side: RawSide, depth: int) -> float:
    async with side:
        await side.load(depth)
        return statistics.median([await claims.raw_rate(side.raw, _ROUNDS) for _ in range(_BLOCKS)])
