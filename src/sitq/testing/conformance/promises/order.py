"""Order: priority, then sequence; and due times."""

from __future__ import annotations

import pytest

from sitq.backends.base import Share
from sitq.move import Change, Release, Retry
from sitq.record import NEVER, Edge, State
from sitq.testing.conformance.store import Store, task, tasks


class OrderPromises:
    """Order: priority, then sequence; and due times."""

    async def test_tasks_start_in_the_order_of_putting(self, store: Store) -> None:
        await store.place(task("c"), task("a"), task("b"))
        assert await store.take_ids(5) == ["c", "a", "b"]

    async def test_the_order_holds_from_claim_to_claim(self, store: Store) -> None:
        await store.place(*tasks(30))
        taken = [id for _ in range(10) for id in await store.take_ids(3)]
        assert taken == [f"t{number:05}" for number in range(30)]

    async def test_higher_priorities_start_first(self, store: Store) -> None:
        await store.place(task("low", priority=-1), task("usual"), task("high", priority=1))
        assert await store.take_ids(5) == ["high", "usual", "low"]

    async def test_the_extremes_of_priority_are_told_apart(self, store: Store) -> None:
        for priority in (-100, 99, 0, 100, -99):
            await store.place(task(f"p{priority}", priority=priority))
        assert await store.take_ids(9) == ["p100", "p99", "p0", "p-99", "p-100"]

    async def test_equal_priorities_start_in_the_order_of_putting(self, store: Store) -> None:
        await store.place(
            task("a", priority=5), task("b", priority=7), task("c", priority=5), task("d", priority=7)
        )
        assert await store.take_ids(5) == ["b", "d", "a", "c"]

    async def test_order_holds_over_different_functions_and_limits(self, store: Store) -> None:
        await store.place(
            *(task(f"{number}", name=f"f{number % 3}", priority=number % 2) for number in range(12))
        )
        assert await store.take_ids(20) == [str(n) for n in (1, 3, 5, 7, 9, 11, 0, 2, 4, 6, 8, 10)]

    async def test_order_holds_over_tasks_bound_to_a_python_and_free_ones(self, store: Store) -> None:
        await store.place(
            task("a", python="3.11"), task("b"), task("c", python="3.11"), task("d", priority=1)
        )
        assert await store.take_ids(5, python="3.11") == ["d", "a", "b", "c"]

    async def test_a_retry_keeps_its_place(self, store: Store) -> None:
        await store.place(task("a"), task("b"))
        first = await store.start()
        await store.apply(Retry(id="a", token=first.token or ""))
        assert await store.take_ids(5) == ["a", "b"]

    async def test_a_release_keeps_its_place(self, store: Store) -> None:
        await store.place(task("a"), task("b"))
        first = await store.start()
        await store.apply(Release(id="a", token=first.token or ""))
        assert await store.take_ids(5) == ["a", "b"]

    async def test_a_reclaimed_task_keeps_its_place(self, store: Store) -> None:
        await store.place(task("a"), task("b"), task("c"))
        await store.start(lease=1)
        await store.advance(2)
        assert await store.take_ids(5, worker="w2") == ["a", "b", "c"]

    async def test_an_unblocked_task_starts_by_its_sequence(self, store: Store) -> None:
        await store.place(task("parent"), task("child", edges=(Edge("parent"),)), task("later"))
        await store.settle(await store.start())
        assert await store.take_ids(5) == ["child", "later"]

    async def test_a_due_task_starts_by_its_priority_and_sequence_not_its_due_time(
        self, store: Store
    ) -> None:
        await store.place(
            task("a", delay=store.span(3)),
            task("b", delay=store.span(1)),
            task("c", delay=store.span(2), priority=1),
            task("d"),
        )
        await store.advance(4)
        assert await store.take_ids(9) == ["c", "a", "b", "d"]

    async def test_a_delayed_task_does_not_start_early(self, store: Store) -> None:
        await store.place(task("a", delay=store.span(5)))
        await store.advance(1)
        assert await store.take_ids() == []
        await store.advance(5)
        assert await store.take_ids() == ["a"]

    async def test_a_due_time_is_met_to_the_microsecond(self, store: Store) -> None:
        store.needs_frozen_clock()
        await store.place(task("a", delay=1000))
        await store.pass_microseconds(999)
        assert await store.take_ids() == []
        await store.pass_microseconds(1)
        assert await store.take_ids() == ["a"]

    async def test_a_due_time_in_the_past_counts_as_now(self, store: Store) -> None:
        now = await store.now()
        await store.place(task("a", due=now - store.span(1000)))
        assert (await store.get("a")).due >= now
        assert await store.take_ids() == ["a"]

    async def test_a_due_time_in_the_future_is_kept(self, store: Store) -> None:
        due = await store.now() + store.span(5)
        await store.place(task("a", due=due))
        assert (await store.get("a")).due == due
        assert await store.take_ids() == []

    async def test_a_delay_is_added_to_the_due_time(self, store: Store) -> None:
        due = await store.now() + store.span(100)
        await store.place(task("a", due=due, delay=store.span(50)))
        assert (await store.get("a")).due == due + store.span(50)

    async def test_a_task_held_for_ever_never_starts(self, store: Store) -> None:
        await store.place(task("a", due=NEVER), task("b"))
        assert await store.take_ids(5) == ["b"]
        assert (await store.get("a")).due == NEVER

    async def test_a_delayed_task_of_high_priority_does_not_hold_others_back(self, store: Store) -> None:
        await store.place(*tasks(50, "late", priority=100, delay=store.span(500)), task("a"))
        assert await store.take_ids() == ["a"]

    async def test_thousands_that_become_due_at_once_start_in_order(self, store: Store) -> None:
        await store.backend.put([tasks(3000, delay=store.span(1))])
        assert await store.take_ids(10) == []
        await store.advance(2)
        taken: list[str] = []
        while batch := await store.take_ids(500):
            taken += batch
        assert taken == [f"t{number:05}" for number in range(3000)]

    async def test_a_changed_priority_counts(self, store: Store) -> None:
        await store.place(task("a"), task("b"), task("c"))
        assert await store.apply(Change(id="c", priority=10))
        assert await store.apply(Change(id="a", priority=-10))
        assert await store.take_ids(5) == ["c", "b", "a"]

    async def test_a_changed_due_time_counts(self, store: Store) -> None:
        now = await store.now()
        await store.place(task("a"), task("b", delay=store.span(500)))
        assert await store.apply(Change(id="a", due=now + store.span(500)))
        assert await store.apply(Change(id="b", due=now))
        assert await store.take_ids(5) == ["b"]

    async def test_queues_start_in_the_order_of_the_want(self, store: Store) -> None:
        await store.place(task("a", queue="x", priority=100), task("b", queue="y", priority=-100))
        assert await store.take_ids(5, queues=("y", "x")) == ["b", "a"]

    async def test_strict_queues_leave_the_second_until_the_first_is_empty(self, store: Store) -> None:
        await store.place(*tasks(3, "x", queue="x"), *tasks(3, "y", queue="y"))
        assert await store.take_ids(2, queues=("x", "y")) == ["x00000", "x00001"]
        assert await store.take_ids(2, queues=("x", "y")) == ["x00002", "y00000"]

    async def test_only_wanted_queues_are_claimed(self, store: Store) -> None:
        await store.place(task("a", queue="x"), task("b", queue="y"))
        assert await store.take_ids(5, queues=("y",)) == ["b"]
        assert await store.state("a") is State.QUEUED

    async def test_each_queue_fills_its_share_first(self, store: Store) -> None:
        await store.place(*tasks(9, "x", queue="x"), *tasks(9, "y", queue="y"))
        taken = await store.take_ids(3, queues=(Share("x", 2), Share("y", 1)))
        assert taken == ["x00000", "x00001", "y00000"]

    async def test_what_the_shares_leave_goes_to_the_queues_in_order(self, store: Store) -> None:
        await store.place(*tasks(9, "x", queue="x"), *tasks(9, "y", queue="y"))
        taken = await store.take_ids(6, queues=(Share("x", 2), Share("y", 1)))
        assert taken == ["x00000", "x00001", "y00000", "x00002", "x00003", "x00004"]

    async def test_the_share_of_an_empty_queue_goes_to_the_others(self, store: Store) -> None:
        await store.place(*tasks(9, "y", queue="y"))
        taken = await store.take_ids(4, queues=(Share("x", 3), Share("y", 1)))
        assert taken == ["y00000", "y00001", "y00002", "y00003"]

    async def test_a_queue_with_no_share_gets_what_is_left(self, store: Store) -> None:
        await store.place(*tasks(2, "x", queue="x"), *tasks(2, "y", queue="y"))
        taken = await store.take_ids(4, queues=(Share("x", 0), Share("y", 1)))
        assert sorted(taken) == ["x00000", "x00001", "y00000", "y00001"]
        assert taken[0] == "y00000"

    @pytest.mark.parametrize("limit", [0, 1, 3, 5, 100])
    async def test_a_claim_takes_at_most_its_limit(self, store: Store, limit: int) -> None:
        await store.place(*tasks(5))
        assert len(await store.take(limit)) == min(limit, 5)
