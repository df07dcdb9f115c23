"""Restoring: how a record that another store kept is stored as it is."""

from __future__ import annotations

from sitq.backends import rules
from sitq.backends.memory.store import Store, handed_out
from sitq.record import Record, State


def restore(store: Store, record: Record, now: int) -> bool:
    """Store a record with all that another store knew of it; False if it cannot be."""
    parents = {edge.parent for edge in record.edges}
    if (
        record.id in store.records
        or record.state is State.RUNNING
        or len(record.payload) > store.max_payload
        or (record.state is State.BLOCKED and not parents <= store.records.keys())
    ):
        return False
    new = handed_out(record)
    new.owner = new.lease_until = new.stop = None
    store.enter(new)
    if record.state is State.BLOCKED:
        store.block(new, now)
        store.meet_ended_parents((new,), now)
    elif record.state is State.QUEUED:
        new.delay = 0
        store.line_up_restored(new, now)
    else:
        store.keep(new)
    if new.unique and rules.holds_key(new, now) and store.key_holder(new.unique.key, now) is None:
        store.keys[new.unique.key] = new.id
    return True
