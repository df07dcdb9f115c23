"""How a store is: what its settings make of the promises, and what is stuck in it."""

from __future__ import annotations

from typing import Final

from sitq.backends.base import PAUSE_QUEUE, Backend, Filter, Share, Want
from sitq.checkup import Finding
from sitq.copying.transit import home, is_aside
from sitq.ids import token
from sitq.keys import VARIABLE, KeyRing
from sitq.record import SECOND, TERMINAL, Record, State

LATE: Final = 300
"""Seconds that a task may be ready, or a lease be over, before it counts as stuck."""

_MOST: Final = 1000
"""How many tasks of a state are looked at."""


async def look(backend: Backend, keys: KeyRing | None) -> list[Finding]:
    """All findings about a store that is open; nothing is claimed, changed or unpickled."""
    tally = await backend.tally()
    counts = {state: sum(states.get(state, 0) for states in tally.values()) for state in State}
    now = await _now(backend)
    return [
        *await backend.checkup(),
        _trust(backend, keys),
        *_dead(counts),
        *await _leases(backend, counts, now),
        *await _late(backend, tally, now),
        *await _blocked(backend, counts),
        *_aside(tally),
    ]


async def _now(backend: Backend) -> int:
    """The store's clock, told by a claim of nothing."""
    want = Want(
        claim=token(),
        worker="doctor",
        queues=(Share("", 0),),
        limit=0,
        lease=SECOND,
        python="",
        reclaim=False,
    )
    return (await backend.take(want)).now


def _trust(backend: Backend, keys: KeyRing | None) -> Finding:
    if keys is not None:
        return Finding(about="signatures", level="fine", what="payloads are signed and verified")
    if backend.traits.local:
        return Finding(about="signatures", level="fine", what="none are needed: the store is local")
    return Finding(
        about="signatures",
        level="warning",
        what="others can write to this store and no keys are set here, so workers refuse pickled payloads",
        remedy=f"set {VARIABLE} for producers and workers, use JSONSerializer, or pass trust_store=True",
    )


def _dead(counts: dict[State, int]) -> list[Finding]:
    if not counts[State.DEAD]:
        return [Finding(about="quarantine", level="fine", what="no task is quarantined")]
    return [
        Finding(
            about="quarantine",
            level="warning",
            what=f"{counts[State.DEAD]:,} tasks are quarantined (dead)",
            remedy="see why in their errors, mend that, and retry or purge them",
        )
    ]


async def _leases(backend: Backend, counts: dict[State, int], now: int) -> list[Finding]:
    if not counts[State.RUNNING]:
        return []
    running = (await backend.scan(Filter(states=(State.RUNNING,)), None, _MOST)).records
    over = [one for one in running if one.lease_until is not None and one.lease_until < now - LATE * SECOND]
    if not over:
        return [Finding(about="leases", level="fine", what=f"{len(running):,} tasks run under their leases")]
    return [
        Finding(
            about="leases",
            level="warning",
            what=f"the leases of {len(over):,} running tasks are over for {LATE} s or more, such as that of "
            f"{over[0].id} in {over[0].queue!r}: no worker has come to claim them again",
            remedy=f"start a worker for {_names(over)}",
        )
    ]


async def _late(backend: Backend, tally: dict[str, dict[State, int]], now: int) -> list[Finding]:
    """Queues whose first task is ready for long while nothing of them runs."""
    found: list[Finding] = []
    for queue in sorted(tally):
        if not tally[queue].get(State.QUEUED) or tally[queue].get(State.RUNNING) or is_aside(queue):
            continue
        if any(cell.key == PAUSE_QUEUE + queue for cell in await backend.cells(PAUSE_QUEUE + queue)):
            continue
        page = await backend.scan(Filter(states=(State.QUEUED,), queue=queue), None, _MOST)
        late = [one for one in page.records if one.due < now - LATE * SECOND]
        if late:
            minutes = (now - min(one.due for one in late)) // (60 * SECOND)
            found.append(
                Finding(
                    about="waiting",
                    level="warning",
                    what=f"tasks of queue {queue!r} are ready for up to {minutes:,} minutes, and none runs",
                    remedy=f"start a worker that serves {queue!r}, or see why it passes them over",
                )
            )
    return found


async def _blocked(backend: Backend, counts: dict[State, int]) -> list[Finding]:
    """Blocked tasks that nothing can let go any more."""
    if not counts[State.BLOCKED]:
        return []
    blocked = (await backend.scan(Filter(states=(State.BLOCKED,)), None, _MOST)).records
    ids = sorted({edge.parent for one in blocked for edge in one.edges})
    parents = dict(zip(ids, await backend.get(ids), strict=True))
    stuck = [one for one in blocked if all(_is_over(parents[edge.parent]) for edge in one.edges)]
    if not stuck:
        return []
    return [
        Finding(
            about="blocked",
            level="warning",
            what=f"{len(stuck):,} tasks are blocked, such as {stuck[0].id}, by tasks that are over",
            remedy="cancel them, and enqueue them anew",
        )
    ]


def _is_over(record: Record | None) -> bool:
    return record is None or record.state in TERMINAL


def _aside(tally: dict[str, dict[State, int]]) -> list[Finding]:
    tasks = sum(sum(states.values()) for queue, states in tally.items() if is_aside(queue))
    if not tasks:
        return []
    return [
        Finding(
            about="copy",
            level="warning",
            what=f"{tasks:,} tasks lie aside, on their way from or to another store",
            remedy="if no copy is under way, give the same `sitq copy` again: it goes on where it stopped",
        )
    ]


def _names(records: list[Record]) -> str:
    return ", ".join(sorted({repr(home(one.queue)) for one in records}))
