"""What time does to tasks: leases run out, last starts pass, records have been kept for long enough."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sitq.backends import rules
from sitq.backends.base import own_end_topic
from sitq.backends.tables.ending import end, fail, requeue, spread
from sitq.backends.tables.row import QUEUED, READY, RUNNING, Row
from sitq.backends.tables.unique import key_of
from sitq.backends.tables.work import Work
from sitq.record import SECOND, State

DUE = 2000
"""How many tasks that have become due a claim makes ready."""

CLAIM_KEPT = 600 * SECOND
"""How long it is remembered at the least what a claim returned."""

_sequences = msgspec.json.Decoder(list[int]).decode
_items = msgspec.json.Decoder(list[tuple[int, int, int]]).decode


def reclaim(work: Work, sequences: Sequence[int]) -> int:
    """Queue tasks again whose lease ran out, or cancel those that were asked to stop."""
    done = 0
    for row in work.load(sequences):
        if row.stage != RUNNING or row.lease_until is None or row.lease_until > work.now:
            continue  # it was settled or renewed since it was found
        done += 1
        if row.stop is not None:
            end(work, row, State.CANCELLED, rules.cancel_failure(row.stop, row.attempt, work.now))
            work.topics.add(own_end_topic(row.id))
            continue
        row.crashes = (row.crashes or 0) + 1
        fail(work, row, rules.crash_failure(row.attempt, row.owner, work.now))
        requeue(work, row, work.now)
    spread(work)
    return done


def promote(work: Work, queue: int) -> None:
    """Make a queue's tasks ready that have become due."""
    due = work.db.one("due", queue, work.now, DUE)
    work.line_up_ready(_items(work.db.one("promoted", due)))
    work.db.run("promote", due)


def expire(work: Work, sequences: Sequence[int]) -> int:
    """End tasks that are past their last start."""
    done = 0
    for row in work.load(sequences):
        if row.expire_at is None or row.expire_at > work.now:
            continue
        if row.stage not in {QUEUED, READY}:  # nothing writes it there, and it would hide the others
            row.expire_at = None
            work.touch(row)
        else:
            done += 1
            last = [one for one in (row.deadline, None if row.attempt else row.expires) if one is not None]
            end(work, row, State.EXPIRED, rules.expiry_failure(min(last, default=row.expire_at), work.now))
            work.topics.add(own_end_topic(row.id))
    spread(work)
    return done


def tend(work: Work, budget: int, *, leases: bool = True) -> int:
    """Do all that time asks for on at most `budget` tasks; answers how many they were.

    Args:
        work: The transaction.
        budget: At most so many.
        leases: Whether leases that ran out are among it.
    """
    db, now = work.db, work.now
    db.run("leaseless")
    done = reclaim(work, _sequences(db.one("lapsed", now, budget))) if leases else 0
    work.flush()
    if done < budget:
        done += expire(work, _sequences(db.one("overdue_anywhere", now, budget - done)))
        work.flush()
    if done < budget:
        gone = work.load(_sequences(db.one("purgeable", now, budget - done)))
        if gone:
            remove(work, gone)
            done += len(gone)
            work.flush()
    _tidy(work, budget)
    return done


def _tidy(work: Work, budget: int) -> None:
    """Forget what no task needs any more."""
    db, now = work.db, work.now
    db.run("drop_old_cells", now)
    work.write_counts()
    resting = db.one("resting_queues")
    if resting != "[]":
        for name in ("rest_queues", "rest_tenants", "rest_lanes"):
            db.run(name, resting)
    db.run("drop_claims", now - CLAIM_KEPT, 10 * budget)
    if db.run("drop_lanes", budget).fetchall():
        db.run("drop_lane_keys")
        db.run("drop_keys", now)
        db.run("drop_kinds")
        for name in ("drop_queues", "drop_counts", "drop_marks_of_queues"):
            db.run(name)
        work.lanes.forget()


def remove(work: Work, rows: Sequence[Row]) -> None:
    """Delete tasks with what they held."""
    for row in rows:
        work.forget(row)
    keys = [(key, row.id) for row in rows if (key := key_of(row)) is not None]
    work.drop([row.sequence for row in rows], keys)
