"""Upkeep: what time alone does to tasks, each by a bounded amount."""

from __future__ import annotations

from collections.abc import Iterable

from sitq.backends import rules
from sitq.backends.base import own_end_topic
from sitq.backends.memory.changes import stopped
from sitq.backends.memory.lanes import Queue
from sitq.backends.memory.store import Claimed, Store
from sitq.record import ERRORS_KEPT, Record, State, last_start


def tend(store: Store, budget: int, now: int) -> int:
    """Do all of it, for at most `budget` tasks; answers how many it were."""
    done = reclaim(store, budget, now)
    done += expire(store, list(store.queues.values()), budget - done, now)
    done += _purge(store, budget - done, now)
    store.cells.sweep(now)
    store.meters.sweep(now)
    for queue in list(store.queues.values()):
        queue.rest()
        if not queue.counts():
            del store.queues[queue.name]
    return done


def reclaim(store: Store, most: int, now: int) -> int:
    """Let tasks whose lease ran out wait again, or be cancelled if they were asked to stop."""
    claims: dict[int, Claimed] = {}
    while found := store.leases.pop_until(now):
        if found[1] in store.numbered:
            claims[found[1]] = store.numbered[found[1]]
    lapsed: list[tuple[int, int, Record]] = []
    for claim in claims.values():
        ends = [(record.lease_until or 0, record.sequence, record) for record in claim.running.values()]
        lapsed += [end for end in ends if end[0] <= now]
        later = [end[0] for end in ends if end[0] > now]
        if later:
            store.leases.push(min(later), claim.number)
    lapsed.sort()
    left = {store.claims[record.token or ""].number: until for until, _, record in lapsed[most:]}
    for number, until in left.items():
        store.leases.push(until, number)
    for _, _, record in lapsed[:most]:
        _reclaim_one(store, record, now)
    return min(most, len(lapsed))


def _reclaim_one(store: Store, record: Record, now: int) -> None:
    if record.stop is not None:
        stopped(store, record, now)
        return
    record.crashes += 1
    failure = rules.crash_failure(record.attempt, record.owner, now)
    record.errors = rules.newest(record.errors, failure, ERRORS_KEPT)
    store.requeue(record, now, now)


def expire(store: Store, queues: Iterable[Queue], most: int, now: int) -> int:
    """Let queued tasks end that are past their last start."""
    done = 0
    for queue in queues:
        while done < most and (record := queue.next_overdue(now)):
            expire_one(store, record, now)
            done += 1
    return done


def expire_one(store: Store, record: Record, now: int) -> None:
    """Let one task end that is past its last start."""
    store.end(record, State.EXPIRED, now, rules.expiry_failure(last_start(record) or now, now))
    store.topics.add(own_end_topic(record.id))


def _purge(store: Store, most: int, now: int) -> int:
    done = 0
    while done < most and (found := store.retention.pop_until(now)):
        record = store.by_sequence.get(found[1])
        # One that is still needed comes back to the agenda when the last child of its ends.
        if record is not None and store.may_be_purged(record, now):
            store.remove(record, None, now)
            done += 1
    return done
