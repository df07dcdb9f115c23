"""The whole of a copy: settings, waiting tasks again and again, results."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta

from sitq import validation
from sitq.backends import open_backend
from sitq.backends.base import DONE_TOPIC, Backend, Filter
from sitq.copying.carrier import Carrier
from sitq.copying.families import Families
from sitq.copying.hold import Hold
from sitq.copying.passage import PAGE, Passage, get, scan
from sitq.copying.report import Copied
from sitq.copying.settings import copy_settings
from sitq.copying.transit import is_aside
from sitq.exceptions import SitqError
from sitq.keys import KeyRing
from sitq.move import Restore
from sitq.record import TERMINAL, WAITING, Record, State
from sitq.spill import Spill

_LIVING = (*WAITING, State.RUNNING)


async def copy_tasks(
    source: Backend | str,
    destination: Backend | str,
    *,
    results: float | timedelta | None = timedelta(days=1),
    settings: bool = True,
    wait: bool = True,
    keys: KeyRing | None = None,
    trust_store: bool = False,
    spill: Spill | None = None,
    told: Callable[[Copied], None] | None = None,
) -> Copied:
    """Move what waits in one store to another, while producers and workers of both run.

    Tasks that wait, for their time or for others, are moved with all that is known of them; those that run at
    the source end there, and what comes of it is moved then. A flow is moved when none of its tasks runs.
    Records of tasks that ended are copied and stay at the source, too. Cut short at any instant, it goes on
    when it is called again for the same stores: no task is lost, and none can start in both.

    Args:
        source: A backend or its URL.
        destination: The same.
        results: How old the ends of tasks may be that are copied, in seconds; None copies none.
        settings: Whether pauses, limits of queues and schedules are copied.
        wait: Whether to go on until nothing waits or runs at the source; otherwise it ends when all is moved
            that could be.
        keys: The keys that sign; by default those of `SITQ_SECRET_KEYS`.
        trust_store: Vouch for what is in both stores, signed or not.
        spill: Where payloads lie that are too large for the stores.
        told: Is called after each step with what was done so far.

    Raises:
        CopyError: Another copy is under way, or an interrupted one went elsewhere, or both are one store.
        ConnectionError: A store cannot be reached.
    """
    age = None if results is None else validation.duration(results, "results")
    here, there = open_backend(source), open_backend(destination)
    ring = KeyRing.from_environment() if keys is None else keys
    report = Copied()
    async with AsyncExitStack() as stack:
        for backend in (here, there):
            await backend.acquire()
            stack.push_async_callback(backend.release)
        hold = await stack.enter_async_context(Hold(here, there))
        carrier = Carrier(here, there, ring, trusted=trust_store, spill=spill)
        passage = Passage(here, there, hold, carrier, report)
        if settings:
            await copy_settings(here, there, report)
        await _move_all(passage, report, told, wait=wait)
        if age is not None:
            await _copy_results(passage, carrier, report, age)
        if not any(is_aside(queue, hold.run) for queue in await _living(here)):
            await hold.finish()
    if told is not None:
        told(report)
    return report


async def _move_all(
    passage: Passage, report: Copied, told: Callable[[Copied], None] | None, *, wait: bool
) -> None:
    listener = passage.source.listen({DONE_TOPIC})
    try:
        while True:
            families = await _families(passage.source)
            moved = await passage.resume(families)
            moved += await _move_families(passage, families)
            moved += await _move_others(passage, families)
            await _forget_ended(passage)
            report.left = sum((await _living(passage.source)).values())
            if told is not None:
                told(report)
            if moved:
                continue
            waits = report.left > len(report.refused)
            if not waits or not wait:
                return
            await listener.wait(1.0)
    finally:
        listener.close()


async def _move_families(passage: Passage, families: Families) -> int:
    moved = 0
    for ids in families.all():
        members = [one for one in await get(passage.source, ids) if one is not None]
        if any(one.state is State.RUNNING for one in members):
            continue
        waiting = [one for one in members if one.state in WAITING]
        if not waiting or any(one.id in passage.report.refused for one in waiting):
            continue
        moved += await passage.move(waiting)
    return moved


async def _move_others(passage: Passage, families: Families) -> int:
    moved, batch = 0, list[Record]()
    async for record in scan(passage.source, Filter(states=(State.QUEUED,))):
        if record.id in families or record.id in passage.report.refused or is_aside(record.queue):
            continue
        batch.append(record)
        if len(batch) == PAGE:
            moved += await passage.move(batch)
            batch = []
    return moved + (await passage.move(batch) if batch else 0)


async def _forget_ended(passage: Passage) -> None:
    """Those that were refused and have ended at the source are refused no more."""
    refused = passage.report.refused
    ids = list(refused)
    for id, record in zip(ids, await get(passage.source, ids), strict=True):
        if record is None or record.state in TERMINAL:
            del refused[id]


async def _families(backend: Backend) -> Families:
    families = Families()
    async for record in scan(backend, Filter(states=(State.BLOCKED,))):
        for edge in record.edges:
            families.tie(edge.parent, record.id)
    return families


async def _copy_results(passage: Passage, carrier: Carrier, report: Copied, age: int) -> None:
    batch: list[Restore] = []
    oldest = time.time_ns() // 1000 - age
    async for record in scan(passage.source, Filter(states=TERMINAL)):
        if (record.finished or 0) < oldest:
            continue
        try:
            batch.append(Restore(id=record.id, record=await carrier.carry(record)))
        except SitqError as error:
            report.refused[record.id] = str(error)
        if len(batch) == PAGE:
            report.results += sum(await passage.destination.apply(batch))
            batch = []
    report.results += sum(await passage.destination.apply(batch)) if batch else 0


async def _living(backend: Backend) -> dict[str, int]:
    """How many tasks have not ended, by queue."""
    counts = {
        queue: sum(states.get(state, 0) for state in _LIVING)
        for queue, states in (await backend.tally()).items()
    }
    return {queue: count for queue, count in counts.items() if count}
