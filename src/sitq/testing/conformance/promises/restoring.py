"""Restoring what another store kept, and sending waiting tasks to another queue."""

from __future__ import annotations

import msgspec
import pytest

from sitq.move import Change, Delete, Restore, Settle
from sitq.record import TERMINAL, Edge, Failure, Fair, Limit, Progress, Record, State, Unique
from sitq.testing.conformance.store import Store, task

ERRORS = (Failure(kind="raised", message="before", attempt=2, at=5, worker="w0"),)


async def restore(store: Store, record: Record) -> bool:
    """Whether the store took the record in."""
    return await store.apply(Restore(id=record.id, record=record))


async def seen(store: Store, record: Record) -> Record:
    """The stored record, with the sequence that the other one has."""
    return msgspec.structs.replace(await store.get(record.id), sequence=record.sequence)


def lived(now: int, id: str = "a", **fields: object) -> Record:
    """A record that has been through something."""
    past: dict[str, object] = {
        "payload": b"call",
        "preview": "('x')",
        "priority": 4,
        "tags": ("red",),
        "batch": "b",
        "retry": {"most": 3},
        "trace": {"t": "1"},
        "due": now,
        "created": now - 9_000_000,
        "attempt": 2,
        "failures": 1,
        "crashes": 1,
        "token": "elsewhere",
        "started": now - 5_000_000,
        "errors": ERRORS,
        "progress": (Progress(0.5, "half", 7),),
        "steps": {"s": b"kept"},
    }
    return task(id, **(past | fields))


class RestorePromises:
    """Restoring."""

    async def test_a_waiting_task_is_what_it_was(self, store: Store) -> None:
        record = lived(await store.now(), fair=Fair("t"), limits=(Limit("k", slots=1),), ttl=50_000_000)
        assert await restore(store, record)
        assert await seen(store, record) == record
        assert await store.tally() == {"default": {State.QUEUED: 1}}

    async def test_it_starts_with_the_next_attempt_and_all_it_had(self, store: Store) -> None:
        record = lived(await store.now())
        await restore(store, record)
        (started,) = await store.take()
        assert (started.attempt, started.failures, started.crashes) == (3, 1, 1)
        assert (started.errors, started.steps) == (ERRORS, {"s": b"kept"})
        assert await store.settle(started)

    async def test_one_that_never_started_starts_like_any_other(self, store: Store) -> None:
        now = await store.now()
        await restore(store, task("a", due=now, created=now - 7, payload=b"call"))
        (started,) = await store.take()
        assert (started.attempt, started.created, started.payload) == (1, now - 7, b"call")

    async def test_restored_tasks_start_by_priority_and_then_in_the_order_of_their_coming(
        self, store: Store
    ) -> None:
        now = await store.now()
        await store.place(task("first"))
        for id, priority in (("b", 0), ("a", 0), ("urgent", 9)):
            assert await restore(store, task(id, priority=priority, due=now))
        assert await store.take_ids(9) == ["urgent", "first", "b", "a"]

    async def test_a_later_due_time_is_waited_for(self, store: Store) -> None:
        await restore(store, lived(0, due=await store.now() + store.span(20)))
        assert await store.take_ids() == []
        await store.advance(21)
        assert await store.take_ids() == ["a"]

    async def test_what_is_left_of_a_ttl_counts(self, store: Store) -> None:
        now = await store.now()
        await restore(store, task("a", due=now, ttl=store.span(90), expires=now + store.span(5)))
        await store.advance(6)
        assert await store.take_ids() == []
        assert await store.state("a") is State.EXPIRED

    @pytest.mark.parametrize("state", TERMINAL)
    async def test_an_ended_task_is_what_it_was(self, store: Store, state: State) -> None:
        now = await store.now()
        record = lived(
            now,
            state=state,
            finished=now - 3,
            keep_until=now + store.span(50),
            result=b"r",
            ends=(1, 0, 0, 0, 0),
        )
        assert await restore(store, record)
        assert await seen(store, record) == record
        assert await store.take_ids() == []
        assert await store.tally() == {"default": {state: 1}}
        await store.advance(51)
        await store.tend()
        assert await store.find("a") is None

    async def test_a_known_id_is_left_as_it_is(self, store: Store) -> None:
        await store.place(task("a", payload=b"here"))
        assert not await restore(store, lived(await store.now()))
        assert (await store.get("a")).payload == b"here"
        assert await store.take_ids(5) == ["a"]

    async def test_a_running_task_is_not_taken_in(self, store: Store) -> None:
        assert not await restore(store, lived(await store.now(), state=State.RUNNING))
        assert await store.find("a") is None

    async def test_a_payload_that_is_too_large_is_not_taken_in(self, store: Store) -> None:
        large = bytes(store.traits.max_payload + 1)
        assert not await restore(store, lived(await store.now(), payload=large))
        assert await store.find("a") is None

    async def test_a_blocked_task_waits_for_its_parents(self, store: Store) -> None:
        await store.place(task("p"))
        record = lived(await store.now(), edges=(Edge("p"),), state=State.BLOCKED)
        assert await restore(store, record)
        assert not await store.apply(Delete(id="p"))
        assert await store.state("a") is State.BLOCKED
        await store.settle(await store.start())
        assert (await store.get("a")).ends == (1, 0, 0, 0, 0)
        assert await store.take_ids(5) == ["a"]

    async def test_a_blocked_task_is_not_taken_in_without_its_parents(self, store: Store) -> None:
        record = lived(await store.now(), edges=(Edge("p"),), state=State.BLOCKED)
        assert not await restore(store, record)
        assert await store.find("a") is None

    async def test_parents_that_have_ended_take_effect(self, store: Store) -> None:
        now = await store.now()
        failed = task("p", state=State.FAILED, finished=now, keep_until=now + store.span(90))
        blocked = task("a", edges=(Edge("p"),), state=State.BLOCKED, ends=(1, 0, 0, 0, 0))
        moves = [Restore(id=one.id, record=one) for one in (failed, blocked)]
        assert await store.backend.apply(moves) == [True, True]
        assert await store.state("a") is State.CANCELLED
        assert (await store.get("a")).ends == (1, 1, 0, 0, 0)

    async def test_a_queued_task_keeps_its_parents_that_have_ended(self, store: Store) -> None:
        now = await store.now()
        parent = task("p", state=State.COMPLETED, finished=now, keep_until=now + 1, result=b"r")
        child = lived(now, edges=(Edge("p"), Edge("gone")), inputs=("p",), ends=(2, 0, 0, 0, 0))
        assert await restore(store, parent)
        assert await restore(store, child)
        assert await store.state("a") is State.QUEUED
        await store.advance(1)
        await store.tend()
        assert (await store.get("p")).result == b"r"
        (started,) = await store.take()
        assert await store.settle(started)
        await store.tend()
        assert await store.find("p") is None

    async def test_a_milestone_completes_with_the_last_of_its_parents(self, store: Store) -> None:
        await store.place(task("p"))
        assert await restore(store, task("m", milestone=True, edges=(Edge("p"),), state=State.BLOCKED))
        await store.settle(await store.start())
        assert await store.state("m") is State.COMPLETED

    async def test_a_unique_key_is_taken(self, store: Store) -> None:
        await restore(store, lived(await store.now(), unique=Unique("key", clash="keep")))
        (answer,) = await store.put(task("b", unique=Unique("key", clash="keep")))
        assert answer.id == "a"

    async def test_a_unique_key_that_is_held_stays_with_its_holder(self, store: Store) -> None:
        await store.place(task("b", unique=Unique("key")))
        assert await restore(store, lived(await store.now(), unique=Unique("key")))
        await store.settle(await store.start(queues=("default",)))
        (answer,) = await store.put(task("c", unique=Unique("key")))
        assert answer.id in {"b", "c"}

    async def test_room_is_not_asked_for(self, store: Store) -> None:
        await store.place(task("b"))
        assert await restore(store, lived(await store.now(), room=1))

    async def test_those_who_wait_for_the_queue_are_woken(self, store: Store) -> None:
        store.needs("pushes")
        listener = store.backend.listen({"queue/default"})
        try:
            await restore(store, lived(await store.now()))
            assert await listener.wait(5)
        finally:
            listener.close()


class SendPromises:
    """Sending a waiting task to another queue."""

    async def test_it_is_claimed_from_the_other_queue_only(self, store: Store) -> None:
        await store.place(task("a"), task("b"))
        before = await store.get("a")
        assert await store.apply(Change(id="a", queue="other"))
        assert await seen(store, before) == msgspec.structs.replace(before, queue="other")
        assert await store.tally() == {"default": {State.QUEUED: 1}, "other": {State.QUEUED: 1}}
        assert await store.take_ids(5) == ["b"]
        assert await store.take_ids(5, queues=("other",)) == ["a"]

    async def test_there_and_back_it_is_where_it_was(self, store: Store) -> None:
        await store.place(task("a"), task("b"))
        for queue in ("other", "default", "other", "default"):
            assert await store.apply(Change(id="a", queue=queue))
        assert await store.take_ids(5, queues=("other",)) == []
        assert await store.take_ids(5) == ["a", "b"]

    async def test_it_is_claimed_once(self, store: Store) -> None:
        await store.place(task("a"))
        await store.apply(Change(id="a", queue="other"))
        await store.apply(Change(id="a", queue="default"))
        (first,) = await store.take(5)
        assert await store.take_ids(5) == []
        await store.settle(first)
        assert await store.take_ids(5) == []

    async def test_one_that_is_due_later_goes_too(self, store: Store) -> None:
        await store.place(task("a", delay=store.span(20)))
        assert await store.apply(Change(id="a", queue="other"))
        await store.advance(21)
        assert await store.take_ids(5) == []
        assert await store.take_ids(5, queues=("other",)) == ["a"]

    async def test_a_blocked_one_goes_too(self, store: Store) -> None:
        await store.place(task("p"), task("a", edges=(Edge("p"),)))
        assert await store.apply(Change(id="a", queue="other"))
        assert await store.tally() == {"default": {State.QUEUED: 1}, "other": {State.BLOCKED: 1}}
        await store.settle(await store.start())
        assert await store.take_ids(5) == []
        assert await store.take_ids(5, queues=("other",)) == ["a"]

    async def test_one_that_was_tried_before_keeps_all_it_has(self, store: Store) -> None:
        record = lived(await store.now())
        await restore(store, record)
        assert await store.apply(Change(id="a", queue="other"))
        assert await seen(store, record) == msgspec.structs.replace(record, queue="other")

    async def test_it_expires_in_the_other_queue(self, store: Store) -> None:
        await store.place(task("a", ttl=store.span(5)))
        await store.apply(Change(id="a", queue="other"))
        await store.advance(6)
        assert await store.take_ids(5, queues=("other",)) == []
        assert await store.state("a") is State.EXPIRED

    async def test_a_running_or_ended_one_stays(self, store: Store) -> None:
        running = await store.start(task("a"))
        assert not await store.apply(Change(id="a", queue="other"))
        await store.settle(running)
        assert not await store.apply(Change(id="a", queue="other"))
        assert (await store.get("a")).queue == "default"

    async def test_who_waits_for_the_other_queue_is_woken(self, store: Store) -> None:
        store.needs("pushes")
        await store.place(task("a"))
        listener = store.backend.listen({"queue/other"})
        try:
            await store.apply(Change(id="a", queue="other"))
            assert await listener.wait(5)
        finally:
            listener.close()

    async def test_limits_hold_there_too(self, store: Store) -> None:
        limited = (Limit("k", slots=1),)
        await store.place(task("a", limits=limited), task("b", limits=limited))
        await store.apply(Change(id="b", queue="other"))
        (running,) = await store.take(5)
        assert await store.take_ids(5, queues=("other",)) == []
        await store.settle(running)
        assert await store.take_ids(5, queues=("other",)) == ["b"]

    async def test_its_unique_key_is_not_replaced_from_the_old_queue(self, store: Store) -> None:
        await store.place(task("a", unique=Unique("key", clash="replace"), payload=b"1"))
        await store.apply(Change(id="a", queue="other"))
        (answer,) = await store.put(task("b", unique=Unique("key", clash="replace"), payload=b"2"))
        assert answer.id == "b"
        assert type(answer).__name__ == "Refused"
        assert (await store.get("a")).payload == b"1"

    async def test_an_operators_end_reaches_its_children(self, store: Store) -> None:
        await store.place(task("p"), task("a", edges=(Edge("p"),)))
        await store.apply(Change(id="p", queue="other"))
        assert await store.apply(Settle(id="p", state=State.COMPLETED))
        assert await store.take_ids(5) == ["a"]
        assert await store.tally() == {"default": {State.RUNNING: 1}, "other": {State.COMPLETED: 1}}
