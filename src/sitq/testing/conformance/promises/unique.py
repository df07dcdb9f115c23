"""Unique keys."""

from __future__ import annotations

import pytest

from sitq.backends.base import Duplicate, Placed, Refused
from sitq.move import Cancel, Delete, Release, Retry
from sitq.record import TERMINAL, Edge, State, Unique
from sitq.testing.conformance.store import Store, task, tasks


class UniquePromises:
    """Unique keys."""

    async def test_a_key_that_is_held_answers_with_its_holder(self, store: Store) -> None:
        await store.place(task("a", unique=Unique("key")))
        assert await store.put(task("b", unique=Unique("key"))) == [Duplicate("a")]
        assert await store.find("b") is None

    async def test_different_keys_do_not_clash(self, store: Store) -> None:
        await store.place(task("a", unique=Unique("key")), task("b", unique=Unique("Key")), task("c"))

    async def test_a_key_holds_across_queues_and_functions(self, store: Store) -> None:
        await store.place(task("a", unique=Unique("key")))
        other = task("b", queue="other", name="different", unique=Unique("key"))
        assert await store.put(other) == [Duplicate("a")]

    async def test_a_key_can_refuse(self, store: Store) -> None:
        await store.place(task("a", unique=Unique("key")))
        assert await store.put(task("b", unique=Unique("key", clash="refuse"))) == [
            Refused("b", "unique", "a")
        ]

    async def test_a_key_is_unique_within_one_call(self, store: Store) -> None:
        assert await store.put(task("a", unique=Unique("key")), task("b", unique=Unique("key"))) == [
            Placed("a"),
            Duplicate("a"),
        ]

    async def test_a_key_is_unique_within_one_group(self, store: Store) -> None:
        answers = await store.put_group(task("a", unique=Unique("key")), task("b", unique=Unique("key")))
        assert answers == [Placed("a"), Duplicate("a")]
        assert await store.tally() == {"default": {State.QUEUED: 1}}

    async def test_of_a_thousand_with_one_key_one_is_placed(self, store: Store) -> None:
        answers = await store.put(*tasks(1000, unique=Unique("key")))
        assert answers == [Placed("t00000")] + [Duplicate("t00000")] * 999

    async def test_a_known_id_is_judged_before_its_key(self, store: Store) -> None:
        await store.place(task("a", unique=Unique("key")), task("b"))
        assert await store.put(task("b", unique=Unique("key", clash="refuse"))) == [Duplicate("b")]

    async def test_a_key_is_judged_before_room_and_parents(self, store: Store) -> None:
        await store.place(task("a", unique=Unique("key")))
        crowded = task("b", unique=Unique("key"), room=1, edges=(Edge("unknown"),))
        assert await store.put(crowded) == [Duplicate("a")]

    @pytest.mark.parametrize("end", TERMINAL)
    async def test_an_active_key_is_held_until_the_task_ends(self, store: Store, end: State) -> None:
        running = await store.start(task("a", unique=Unique("key", "active")))
        assert await store.put(task("b", unique=Unique("key"))) == [Duplicate("a")]
        await store.settle(running, end)
        assert await store.put(task("b", unique=Unique("key"))) == [Placed("b")]

    async def test_an_active_key_is_held_while_a_retry_waits(self, store: Store) -> None:
        running = await store.start(task("a", unique=Unique("key", "active")))
        await store.apply(Retry(id="a", token=running.token or "", delay=store.span(50)))
        assert await store.put(task("b", unique=Unique("key"))) == [Duplicate("a")]

    async def test_an_active_key_is_held_by_a_blocked_task(self, store: Store) -> None:
        await store.place(task("parent"), task("a", unique=Unique("key"), edges=(Edge("parent"),)))
        assert await store.put(task("b", unique=Unique("key"))) == [Duplicate("a")]

    async def test_cancelling_a_waiting_task_frees_its_key(self, store: Store) -> None:
        await store.place(task("a", unique=Unique("key")))
        await store.apply(Cancel(id="a"))
        assert await store.put(task("b", unique=Unique("key"))) == [Placed("b")]

    async def test_deleting_a_task_frees_its_key(self, store: Store) -> None:
        await store.place(task("a", unique=Unique("key")))
        await store.apply(Delete(id="a"))
        assert await store.put(task("b", unique=Unique("key"))) == [Placed("b")]

    async def test_expiry_frees_the_key(self, store: Store) -> None:
        await store.place(task("a", unique=Unique("key"), ttl=store.span(1)))
        await store.advance(2)
        assert await store.take_ids() == []
        assert await store.put(task("b", unique=Unique("key"))) == [Placed("b")]

    async def test_a_failed_dependency_frees_the_key(self, store: Store) -> None:
        await store.place(task("parent"), task("a", unique=Unique("key"), edges=(Edge("parent"),)))
        await store.apply(Cancel(id="parent"))
        assert await store.put(task("b", unique=Unique("key"))) == [Placed("b")]

    async def test_an_orphan_keeps_its_key_until_it_has_run_again(self, store: Store) -> None:
        await store.start(task("a", unique=Unique("key")), lease=1)
        await store.advance(2)
        assert await store.put(task("b", unique=Unique("key"))) == [Duplicate("a")]
        (again,) = await store.take(worker="w2")
        await store.settle(again)
        assert await store.put(task("b", unique=Unique("key"))) == [Placed("b")]

    async def test_the_end_of_one_holder_does_not_free_the_key_of_the_next(self, store: Store) -> None:
        first = await store.start(task("a", unique=Unique("key")))
        await store.settle(first)
        await store.place(task("b", unique=Unique("key")))
        assert await store.settle(first)
        assert await store.apply(Delete(id="a"))
        assert await store.put(task("c", unique=Unique("key"))) == [Duplicate("b")]

    async def test_a_waiting_key_is_free_when_the_task_starts(self, store: Store) -> None:
        await store.place(task("a", unique=Unique("key", "waiting")))
        assert await store.put(task("b", unique=Unique("key", "waiting"))) == [Duplicate("a")]
        await store.start()
        assert await store.put(task("b", unique=Unique("key", "waiting"))) == [Placed("b")]

    async def test_the_scope_is_the_holders(self, store: Store) -> None:
        await store.start(task("a", unique=Unique("key", "active")))
        assert await store.put(task("b", unique=Unique("key", "waiting"))) == [Duplicate("a")]

    async def test_a_task_that_queues_again_takes_its_waiting_key_back(self, store: Store) -> None:
        running = await store.start(task("a", unique=Unique("key", "waiting")))
        await store.apply(Retry(id="a", token=running.token or ""))
        assert await store.put(task("b", unique=Unique("key", "waiting"))) == [Duplicate("a")]

    async def test_a_task_takes_back_a_key_that_another_had_meanwhile(self, store: Store) -> None:
        first = await store.start(task("a", unique=Unique("key", "waiting")))
        await store.start(task("b", unique=Unique("key", "waiting")))
        await store.apply(Retry(id="a", token=first.token or ""))
        assert await store.put(task("c", unique=Unique("key", "waiting"))) == [Duplicate("a")]

    async def test_a_release_takes_a_waiting_key_back(self, store: Store) -> None:
        running = await store.start(task("a", unique=Unique("key", "waiting")))
        await store.apply(Release(id="a", token=running.token or ""))
        assert await store.put(task("b", unique=Unique("key", "waiting"))) == [Duplicate("a")]

    async def test_a_task_that_queues_again_goes_without_a_key_that_another_holds(self, store: Store) -> None:
        running = await store.start(task("a", unique=Unique("key", "waiting")))
        await store.place(task("b", unique=Unique("key", "waiting")))
        assert await store.apply(Retry(id="a", token=running.token or ""))
        assert await store.put(task("c", unique=Unique("key", "waiting"))) == [Duplicate("b")]
        assert await store.take_ids(5) == ["a", "b"]

    async def test_starting_without_the_key_does_not_free_anothers(self, store: Store) -> None:
        running = await store.start(task("a", unique=Unique("key", "waiting")))
        await store.place(task("b", unique=Unique("key", "waiting")))
        await store.apply(Retry(id="a", token=running.token or ""))
        assert await store.take_ids() == ["a"]
        assert await store.put(task("c", unique=Unique("key", "waiting"))) == [Duplicate("b")]

    async def test_a_reclaimed_task_goes_without_a_waiting_key_that_another_holds(self, store: Store) -> None:
        await store.start(task("a", unique=Unique("key", "waiting")), lease=1)
        await store.place(task("b", unique=Unique("key", "waiting")))
        await store.advance(2)
        assert await store.take_ids(5) == ["a", "b"]

    async def test_a_window_is_held_for_its_time_whatever_becomes_of_the_task(self, store: Store) -> None:
        window = Unique("key", "window", window=store.span(10))
        await store.settle(await store.start(task("a", unique=window)))
        assert await store.put(task("b", unique=window)) == [Duplicate("a")]
        await store.advance(11)
        assert await store.put(task("b", unique=window)) == [Placed("b")]

    async def test_a_window_ends_even_if_its_task_still_waits(self, store: Store) -> None:
        window = Unique("key", "window", window=store.span(3))
        await store.place(task("a", unique=window))
        await store.advance(4)
        assert await store.put(task("b", unique=window)) == [Placed("b")]
        assert await store.put(task("c", unique=window)) == [Duplicate("b")]
        assert await store.take_ids(5) == ["a", "b"]
