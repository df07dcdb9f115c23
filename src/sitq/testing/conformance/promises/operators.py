"""An operator's words: cancel, change, delete."""

from __future__ import annotations

import pytest

from sitq.backends.base import Placed
from sitq.move import Cancel, Change, Delete, Retry, Settle
from sitq.record import TERMINAL, Edge, State
from sitq.testing.conformance.store import Store, task, tasks


class CancelPromises:
    """Cancelling."""

    async def test_a_waiting_task_is_cancelled_with_its_reason(self, store: Store) -> None:
        await store.place(task("a"))
        assert await store.apply(Cancel(id="a", reason="not needed"))
        stored = await store.get("a")
        assert stored.state is State.CANCELLED
        assert [(failure.kind, failure.message) for failure in stored.errors] == [("cancelled", "not needed")]
        assert stored.finished is not None
        assert stored.keep_until == stored.finished + stored.keep
        assert await store.take_ids() == []

    async def test_a_delayed_task_is_cancelled(self, store: Store) -> None:
        await store.place(task("a", delay=store.span(3)))
        assert await store.apply(Cancel(id="a"))
        await store.advance(4)
        assert await store.take_ids() == []

    async def test_a_blocked_task_is_cancelled(self, store: Store) -> None:
        await store.place(task("parent"), task("a", edges=(Edge("parent"),)))
        assert await store.apply(Cancel(id="a"))
        await store.settle(await store.start())
        assert await store.state("a") is State.CANCELLED

    async def test_a_retry_that_waits_is_cancelled(self, store: Store) -> None:
        running = await store.start(task("a"))
        await store.apply(Retry(id="a", token=running.token or "", delay=store.span(3)))
        assert await store.apply(Cancel(id="a"))
        await store.advance(4)
        assert await store.take_ids() == []

    async def test_a_running_task_is_asked_to_stop(self, store: Store) -> None:
        await store.start(task("a"))
        assert await store.apply(Cancel(id="a", reason="why"))
        stored = await store.get("a")
        assert (stored.state, stored.stop) == (State.RUNNING, "why")

    async def test_a_task_that_was_asked_to_stop_may_still_complete(self, store: Store) -> None:
        running = await store.start(task("a"))
        await store.apply(Cancel(id="a"))
        assert await store.settle(running, result=b"done")
        stored = await store.get("a")
        assert (stored.state, stored.result) == (State.COMPLETED, b"done")

    async def test_the_first_reason_of_a_stop_stays(self, store: Store) -> None:
        running = await store.start(task("a"))
        assert await store.apply(Cancel(id="a", reason="first"))
        assert await store.apply(Cancel(id="a", reason="second"))
        assert [renewal.reason for renewal in await store.renew(running)] == ["first"]

    async def test_a_running_task_can_be_left_alone(self, store: Store) -> None:
        await store.start(task("a"))
        before = await store.snapshot("a")
        assert not await store.apply(Cancel(id="a", running=False))
        assert await store.snapshot("a") == before

    async def test_a_waiting_task_is_cancelled_even_if_running_ones_are_left_alone(
        self, store: Store
    ) -> None:
        await store.place(task("a"))
        assert await store.apply(Cancel(id="a", running=False))
        assert await store.state("a") is State.CANCELLED

    @pytest.mark.parametrize("state", TERMINAL)
    async def test_cancelling_an_ended_task_is_lost(self, store: Store, state: State) -> None:
        await store.settle(await store.start(task("a")), state)
        before = await store.snapshot("a")
        assert not await store.apply(Cancel(id="a"))
        assert await store.snapshot("a") == before

    async def test_cancelling_an_unknown_task_is_lost(self, store: Store) -> None:
        assert not await store.apply(Cancel(id="unknown"))

    async def test_a_thousand_waiting_tasks_are_cancelled_at_once(self, store: Store) -> None:
        await store.backend.put([tasks(1000)])
        kept = await store.backend.apply([Cancel(id=f"t{number:05}") for number in range(1000)])
        assert kept == [True] * 1000
        assert await store.tally() == {"default": {State.CANCELLED: 1000}}


class ChangePromises:
    """Changing a waiting task."""

    async def test_a_change_writes_only_what_it_names(self, store: Store) -> None:
        await store.place(task("a", priority=3))
        before = await store.get("a")
        due = await store.now() + store.span(40)
        assert await store.apply(Change(id="a", due=due))
        assert ((await store.get("a")).due, (await store.get("a")).priority) == (due, 3)
        assert await store.apply(Change(id="a", priority=0))
        after = await store.get("a")
        assert (after.due, after.priority, after.sequence) == (due, 0, before.sequence)

    async def test_a_blocked_task_can_be_changed(self, store: Store) -> None:
        await store.place(task("parent"), task("a", edges=(Edge("parent"),)), task("b"))
        assert await store.apply(Change(id="a", priority=-5))
        await store.settle(await store.start())
        assert await store.take_ids(5) == ["b", "a"]

    async def test_a_running_task_cannot_be_changed(self, store: Store) -> None:
        await store.start(task("a"))
        before = await store.snapshot("a")
        assert not await store.apply(Change(id="a", due=1, priority=9))
        assert await store.snapshot("a") == before

    async def test_an_ended_task_cannot_be_changed(self, store: Store) -> None:
        await store.settle(await store.start(task("a")))
        before = await store.snapshot("a")
        assert not await store.apply(Change(id="a", due=1, priority=9))
        assert await store.snapshot("a") == before

    async def test_an_unknown_task_cannot_be_changed(self, store: Store) -> None:
        assert not await store.apply(Change(id="unknown", priority=1))

    async def test_a_due_time_in_the_past_is_changed_to_now(self, store: Store) -> None:
        await store.place(task("a", delay=store.span(50)))
        before = await store.now()
        assert await store.apply(Change(id="a", due=1))
        assert (await store.get("a")).due >= before
        assert await store.take_ids() == ["a"]

    async def test_a_task_can_be_put_off_from_the_now_of_the_store(self, store: Store) -> None:
        await store.place(task("a"), task("b"))
        before, length = await store.now(), store.span(40)
        assert await store.apply(Change(id="a", delay=length))
        assert before + length <= (await store.get("a")).due <= await store.now() + length
        assert await store.apply(Change(id="b", due=before + length, delay=length))
        assert (await store.get("b")).due == before + 2 * length
        assert await store.take_ids(5) == []
        assert await store.apply(Change(id="a", delay=0))
        assert await store.take_ids(5) == ["a"]

    async def test_a_task_that_was_put_off_has_its_whole_ttl_then(self, store: Store) -> None:
        await store.place(task("a", ttl=store.span(5)))
        await store.apply(Change(id="a", due=await store.now() + store.span(20)))
        await store.advance(21)
        assert await store.take_ids() == ["a"]


class OperatorSettlePromises:
    """An operator's word about how a task ended."""

    @pytest.mark.parametrize("state", TERMINAL)
    async def test_a_waiting_task_can_be_given_its_end(self, store: Store, state: State) -> None:
        await store.place(task("a"), task("child", edges=(Edge("a", "ggggg"),)))
        assert await store.apply(Settle(id="a", state=state, result=b"given"))
        stored = await store.get("a")
        assert (stored.state, stored.result) == (state, b"given")
        assert await store.take_ids(5) == ["child"]

    async def test_a_blocked_task_can_be_given_its_end(self, store: Store) -> None:
        await store.place(task("parent"), task("a", edges=(Edge("parent"),)))
        assert await store.apply(Settle(id="a", state=State.COMPLETED))
        await store.settle(await store.start(), State.FAILED)
        assert await store.state("a") is State.COMPLETED

    async def test_a_running_task_is_its_attempts_to_end(self, store: Store) -> None:
        running = await store.start(task("a"))
        before = await store.snapshot("a")
        assert not await store.apply(Settle(id="a", state=State.COMPLETED, follow=(task("next"),)))
        assert await store.snapshot("a") == before
        assert await store.find("next") is None
        assert await store.settle(running)

    async def test_an_ended_task_is_not_given_another_end(self, store: Store) -> None:
        await store.settle(await store.start(task("a")))
        before = await store.snapshot("a")
        assert not await store.apply(Settle(id="a", state=State.FAILED))
        assert not await store.apply(Settle(id="a", state=State.COMPLETED))
        assert await store.snapshot("a") == before


class DeletePromises:
    """Deleting records."""

    async def test_a_deleted_task_is_gone(self, store: Store) -> None:
        await store.place(task("a"), task("b"))
        assert await store.apply(Delete(id="a"))
        assert await store.find("a") is None
        assert await store.take_ids(5) == ["b"]
        assert await store.tally() == {"default": {State.RUNNING: 1}}

    async def test_an_ended_task_can_be_deleted(self, store: Store) -> None:
        await store.settle(await store.start(task("a")))
        assert await store.apply(Delete(id="a"))
        assert await store.find("a") is None

    async def test_a_running_task_cannot_be_deleted(self, store: Store) -> None:
        running = await store.start(task("a"))
        assert not await store.apply(Delete(id="a"))
        assert not await store.apply(Delete(id="a", end=State.CANCELLED))
        assert await store.settle(running)

    async def test_deleting_an_unknown_task_is_lost(self, store: Store) -> None:
        assert not await store.apply(Delete(id="unknown"))

    async def test_deleting_twice_is_lost_the_second_time(self, store: Store) -> None:
        await store.place(task("a"))
        assert await store.backend.apply([Delete(id="a"), Delete(id="a")]) == [True, False]

    async def test_only_the_named_states_are_deleted(self, store: Store) -> None:
        await store.place(task("a"))
        assert not await store.apply(Delete(id="a", states=(State.COMPLETED, State.FAILED)))
        assert await store.state("a") is State.QUEUED
        assert await store.apply(Delete(id="a", states=(State.QUEUED, State.FAILED)))

    async def test_a_parent_that_a_blocked_task_waits_for_is_not_deleted(self, store: Store) -> None:
        await store.place(task("parent"), task("child", edges=(Edge("parent"),)))
        assert not await store.apply(Delete(id="parent"))
        await store.settle(await store.start())
        assert await store.take_ids() == ["child"]

    @pytest.mark.parametrize(
        ("end", "state"), [(State.COMPLETED, State.QUEUED), (State.FAILED, State.CANCELLED)]
    )
    async def test_a_deleted_parent_counts_as_ended_as_the_move_says(
        self, store: Store, end: State, state: State
    ) -> None:
        await store.place(task("parent"), task("child", edges=(Edge("parent"),)))
        assert await store.apply(Delete(id="parent", end=end))
        assert await store.states("parent", "child") == [None, state]

    async def test_an_ended_parent_is_not_deleted_before_its_children_have_ended(self, store: Store) -> None:
        await store.place(task("parent"), task("child", edges=(Edge("parent"),)))
        await store.settle(await store.start())
        assert not await store.apply(Delete(id="parent"))
        child = await store.start()
        assert not await store.apply(Delete(id="parent"))
        await store.settle(child)
        assert await store.apply(Delete(id="parent"))

    async def test_a_parent_that_had_ended_counts_as_it_did_when_it_is_deleted(self, store: Store) -> None:
        await store.place(task("parent"), task("other", queue="q"))
        await store.place(task("child", edges=(Edge("parent"), Edge("other"))))
        await store.settle(await store.start())
        assert await store.apply(Delete(id="parent", end=State.FAILED))
        await store.settle(await store.start(queues=("q",)))
        assert await store.take_ids() == ["child"]

    async def test_the_edges_of_a_deleted_child_hold_no_parent(self, store: Store) -> None:
        await store.place(task("parent"), task("child", edges=(Edge("parent"),)))
        await store.settle(await store.start())
        await store.apply(Delete(id="child"))
        assert await store.apply(Delete(id="parent"))

    async def test_a_blocked_task_can_be_deleted(self, store: Store) -> None:
        await store.place(task("parent"), task("child", edges=(Edge("parent"),)))
        assert await store.apply(Delete(id="child"))
        assert await store.apply(Delete(id="parent"))
        assert await store.tally() == {}

    async def test_the_id_of_a_deleted_task_is_free(self, store: Store) -> None:
        await store.place(task("a", payload=b"old"))
        await store.apply(Delete(id="a"))
        assert await store.put(task("a", payload=b"new")) == [Placed("a")]
        assert (await store.get("a")).payload == b"new"

    async def test_a_new_task_under_a_deleted_id_inherits_no_children(self, store: Store) -> None:
        await store.place(task("a"), task("child", edges=(Edge("a"),)))
        await store.apply(Delete(id="child"))
        await store.place(task("child"))
        await store.settle(await store.start(), State.FAILED)
        assert await store.state("child") is State.QUEUED

    async def test_the_room_of_a_deleted_task_is_free(self, store: Store) -> None:
        await store.place(task("a"))
        await store.apply(Delete(id="a"))
        await store.place(task("b", room=1))
