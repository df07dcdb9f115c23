"""Changes: how moves are carried out, each under its condition."""

from __future__ import annotations

from collections.abc import Sequence

from sitq.backends import rules
from sitq.backends.base import Lease, Renewal, own_end_topic, task_topic, worker_topic
from sitq.backends.memory.admission import put_group
from sitq.backends.memory.restoring import restore
from sitq.backends.memory.store import Store
from sitq.move import Cancel, Change, Delete, Lapse, Move, Note, Release, Restore, Retry, Settle
from sitq.record import ERRORS_KEPT, PROGRESS_KEPT, WAITING, Record, State


def carry_out(store: Store, move: Move, now: int) -> bool:
    """Carry out one move; False if its condition does not hold, and then nothing is changed."""
    if isinstance(move, Restore):
        return restore(store, move.record, now)
    record = store.records.get(move.id)
    if record is None:
        return False
    match move:
        case Settle():
            return _settle(store, record, move, now)
        case Retry() | Release():
            return _hand_back(store, record, move, now)
        case Note():
            return _note(store, record, move)
        case Lapse():
            return _lapse(store, record, move, now)
        case Cancel():
            return _cancel(store, record, move, now)
        case Change():
            return _change(store, record, move, now)
        case Delete():
            return _delete(store, record, move, now)


def renew(store: Store, leases: Sequence[Lease], length: int, now: int) -> list[Renewal]:
    """Make leases last `length` microseconds from now."""
    return [_renew(store, lease, now + length) for lease in leases]


def _renew(store: Store, lease: Lease, until: int) -> Renewal:
    record = store.records.get(lease.id)
    if record is None or not _runs_under(record, lease.token):
        return Renewal(lease.id, "lost")
    _lease_until(store, record, until)
    if record.stop is not None:
        return Renewal(lease.id, "stop", record.stop)
    return Renewal(lease.id, "kept")


def _lease_until(store: Store, record: Record, until: int) -> None:
    if record.lease_until is not None and until < record.lease_until:
        store.shorten(record, until)
    else:
        record.lease_until = until


def _runs_under(record: Record, token: str) -> bool:
    return record.state is State.RUNNING and record.token == token


def _settle(store: Store, record: Record, move: Settle, now: int) -> bool:
    if move.token is None:
        if record.state not in WAITING:
            return False
    elif not _runs_under(record, move.token):
        return rules.already_said(record, move)
    record.result = move.result
    store.end(record, move.state, now, move.failure)
    _follow(store, move.follow, now)
    return True


def _hand_back(store: Store, record: Record, move: Retry | Release, now: int) -> bool:
    if not _runs_under(record, move.token):
        return rules.already_said(record, move)
    if isinstance(move, Retry):
        record.failures += 1
        record.crashes = record.alone = 0
    else:
        record.alone = move.alone
        if move.crashes is not None:
            record.crashes = move.crashes
    record.errors = rules.newest(record.errors, move.failure, ERRORS_KEPT)
    if move.freeze is not None:
        store.meters.freeze(move.freeze, now + move.delay)
    if record.stop is None:
        store.requeue(record, now + move.delay, now)
    else:
        stopped(store, record, now)
    _follow(store, move.follow, now)
    return True


def stopped(store: Store, record: Record, now: int) -> None:
    """Cancel a running task that was asked to stop."""
    failure = rules.cancel_failure(record.stop or "", record.attempt, now)
    store.end(record, State.CANCELLED, now, failure)
    store.topics.add(own_end_topic(record.id))


def _follow(store: Store, records: Sequence[Record], now: int) -> None:
    for record in records:
        put_group(store, (record,), now)


def _note(store: Store, record: Record, move: Note) -> bool:
    if not _runs_under(record, move.token):
        return False
    if move.progress is not None:
        record.progress = (*record.progress, move.progress)[-PROGRESS_KEPT:]
        store.topics.add(task_topic(record.id))
    if move.step is not None:
        name, value = move.step
        if name not in record.steps:
            record.steps = {**record.steps, name: value}
    if move.alone is not None:
        record.alone = move.alone
    return True


def _lapse(store: Store, record: Record, move: Lapse, now: int) -> bool:
    if not _runs_under(record, move.token):
        return False
    if record.lease_until is not None and now < record.lease_until:
        _lease_until(store, record, now)
    store.topics.add(store.queue(record.queue).topic)
    return True


def _cancel(store: Store, record: Record, move: Cancel, now: int) -> bool:
    if record.state in WAITING:
        if record.milestone:
            return False
        failure = rules.cancel_failure(move.reason, record.attempt, now)
        store.end(record, State.CANCELLED, now, failure)
        return True
    if record.state is not State.RUNNING or not move.running:
        return False
    if record.stop is None:
        record.stop = move.reason or "cancelled"
    if record.owner is not None:
        store.topics.add(worker_topic(record.owner))
    return True


def _change(store: Store, record: Record, move: Change, now: int) -> bool:
    if record.state not in WAITING:
        return False
    if move.priority is not None:
        store.reorder(record, move.priority, now)
    due = rules.changed_due(move, now)
    if due is not None:
        store.line_up_anew(record, due, now)
    if move.queue is not None and move.queue != record.queue:
        store.send(record, move.queue, now)
    return True


def _delete(store: Store, record: Record, move: Delete, now: int) -> bool:
    if record.state is State.RUNNING or (move.states is not None and record.state not in move.states):
        return False
    if move.end is None and record.id in store.family.children:
        return False
    store.remove(record, move.end, now)
    return True
