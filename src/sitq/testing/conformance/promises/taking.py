"""Claims: what they take, what they write, what they answer; and claims that are repeated."""

from __future__ import annotations

import asyncio

import pytest

from sitq.backends.base import PAUSE_QUEUE
from sitq.move import Cancel, Retry
from sitq.record import Edge, Limit, State
from sitq.testing.conformance.store import LONG, Store, fresh_claim, task, tasks


class TakePromises:
    """Claims."""

    async def test_a_claimed_task_runs_with_an_attempt_an_owner_a_token_and_a_lease(
        self, store: Store
    ) -> None:
        await store.place(task("a", payload=b"p"))
        taken = await store.claim(1, claim="the-claim", worker="the-worker", lease=50)
        (record,) = taken.records
        assert (record.id, record.payload, record.state) == ("a", b"p", State.RUNNING)
        assert (record.attempt, record.owner, record.token) == (1, "the-worker", "the-claim")
        assert record.lease_until == taken.now + store.span(50)
        assert record.started is not None

    async def test_what_a_claim_hands_out_is_what_is_stored(self, store: Store) -> None:
        await store.place(*tasks(3, priority=2, tags=("x",)))
        for record in await store.take(3):
            assert await store.get(record.id) == record

    async def test_a_claim_of_an_empty_store_takes_nothing(self, store: Store) -> None:
        assert await store.take(5) == []

    async def test_a_claim_without_queues_takes_nothing(self, store: Store) -> None:
        await store.place(task("a"))
        assert await store.take(5, queues=()) == []

    async def test_a_claim_of_more_than_there_is_takes_what_there_is(self, store: Store) -> None:
        await store.place(*tasks(3))
        assert len(await store.take(1000)) == 3

    async def test_a_claimed_task_is_not_claimed_again(self, store: Store) -> None:
        await store.place(*tasks(3))
        assert await store.take_ids(2) == ["t00000", "t00001"]
        assert await store.take_ids(2, worker="w2") == ["t00002"]
        assert await store.take_ids(2) == []

    async def test_blocked_and_ended_tasks_are_not_claimed(self, store: Store) -> None:
        await store.settle(await store.start(task("ended")))
        await store.place(task("parent", queue="other"), task("child", edges=(Edge("parent"),)))
        assert await store.take_ids(5) == []

    @pytest.mark.parametrize("limits", [(), (Limit("key", slots=1),)], ids=["plain", "limited"])
    async def test_each_claim_counts_an_attempt(self, store: Store, limits: tuple[Limit, ...]) -> None:
        await store.place(task("a", limits=limits))
        for attempt in (1, 2, 3):
            record = await store.start()
            assert record.attempt == attempt
            await store.apply(Retry(id="a", token=record.token or ""))

    async def test_no_two_of_many_concurrent_claims_share_a_task(self, store: Store) -> None:
        await store.backend.put([tasks(200)])
        claims = await asyncio.gather(*(store.take_ids(7, worker=f"w{n}") for n in range(40)))
        taken = [id for claim in claims for id in claim]
        assert len(taken) == len(set(taken)) == 200

    async def test_no_two_objects_on_one_store_share_a_task(self, store: Store) -> None:
        store.needs_second_object()
        await store.backend.put([tasks(100)])
        other = await store.reopened()
        claims = await asyncio.gather(
            *(one.take_ids(5, worker=f"w{n}") for n in range(15) for one in (store, other))
        )
        taken = [id for claim in claims for id in claim]
        assert len(taken) == len(set(taken)) == 100

    async def test_a_claim_leaves_the_functions_that_the_worker_leaves(self, store: Store) -> None:
        await store.place(task("a", name="unknown"), task("b", name="known"), task("c", name="unknown"))
        assert await store.take_ids(5, leave=("unknown", "others")) == ["b"]
        assert await store.states("a", "c") == [State.QUEUED, State.QUEUED]
        assert (await store.get("a")).attempt == 0
        assert await store.take_ids(5, worker="w2") == ["a", "c"]

    async def test_thousands_of_tasks_that_are_left_do_not_hide_the_one_behind_them(
        self, store: Store
    ) -> None:
        await store.backend.put([[*tasks(3000, name="unknown", priority=9), task("a")]])
        assert await store.take_ids(leave=("unknown",)) == ["a"]

    async def test_a_claim_leaves_what_another_python_must_read(self, store: Store) -> None:
        await store.place(task("a", python="3.12"), task("b", python="3.11"), task("c"))
        assert await store.take_ids(5, python="3.11") == ["b", "c"]
        assert await store.take_ids(5, python="3.12") == ["a"]

    async def test_the_answer_tells_the_stores_time(self, store: Store) -> None:
        first = (await store.claim()).now
        await store.advance(2)
        assert (await store.claim()).now >= first + store.span(2)

    async def test_the_answer_tells_the_next_due_time(self, store: Store) -> None:
        await store.place(task("a", delay=store.span(7)), task("b", delay=store.span(3)))
        next_time = (await store.claim()).next
        assert next_time is not None
        assert next_time <= (await store.get("b")).due

    async def test_the_answer_tells_the_end_of_the_next_lease(self, store: Store) -> None:
        running = await store.start(task("a"), lease=5)
        next_time = (await store.claim()).next
        assert next_time is not None
        assert running.lease_until is not None
        assert next_time <= running.lease_until

    async def test_the_answer_tells_the_end_of_a_pause(self, store: Store) -> None:
        await store.place(task("a"))
        await store.backend.swap(PAUSE_QUEUE + "default", None, b"", store.span(5))
        taken = await store.claim()
        assert taken.records == []
        assert taken.next is not None
        assert taken.next <= taken.now + store.span(5)

    async def test_the_answer_tells_when_a_rate_allows_more(self, store: Store) -> None:
        limit = Limit("key", rate=1, per=store.span(6))
        await store.place(*tasks(2, limits=(limit,)))
        taken = await store.claim(5)
        assert len(taken.records) == 1
        assert taken.next is not None
        assert taken.next <= taken.now + store.span(6)

    async def test_the_answer_tells_to_come_back_at_once_when_the_limit_was_reached(
        self, store: Store
    ) -> None:
        await store.place(*tasks(3))
        taken = await store.claim(2)
        assert taken.next == taken.now

    async def test_coming_back_at_the_told_time_finds_the_task(self, store: Store) -> None:
        await store.place(task("a", delay=store.span(3)))
        for _ in range(20):
            taken = await store.claim()
            if taken.records:
                break
            assert taken.next is not None
            await store.advance(max(0.0, (taken.next - taken.now) / store.span(1)))
        assert await store.state("a") is State.RUNNING


class RepeatedClaimPromises:
    """Claims whose answer was lost."""

    async def test_a_repeated_claim_returns_the_same_tasks(self, store: Store) -> None:
        await store.place(task("low", priority=-1), task("high", priority=1), task("usual"))
        claim = fresh_claim()
        first = await store.take_ids(2, claim=claim)
        assert first == ["high", "usual"]
        assert await store.take_ids(2, claim=claim) == first

    async def test_a_repeated_claim_returns_its_tasks_as_they_are_by_sequence(self, store: Store) -> None:
        await store.place(task("low", priority=-1), task("high", priority=1))
        claim = fresh_claim()
        assert await store.take_ids(2, claim=claim) == ["high", "low"]
        await store.apply(Cancel(id="high", reason="why"))
        again = await store.claim(2, claim=claim)
        assert again.records == [await store.get("low"), await store.get("high")]
        assert again.next == again.now

    async def test_a_repeated_claim_counts_no_attempt(self, store: Store) -> None:
        await store.place(task("a"))
        claim = fresh_claim()
        await store.take(claim=claim)
        (again,) = await store.take(claim=claim)
        assert (again.attempt, again.crashes, again.state) == (1, 0, State.RUNNING)

    async def test_a_repeated_claim_takes_nothing_new(self, store: Store) -> None:
        claim = fresh_claim()
        await store.place(task("a"))
        assert await store.take_ids(5, claim=claim) == ["a"]
        await store.place(task("b"))
        assert await store.take_ids(5, claim=claim) == ["a"]
        assert await store.state("b") is State.QUEUED

    async def test_a_repeated_claim_leaves_out_what_was_settled(self, store: Store) -> None:
        claim = fresh_claim()
        await store.place(task("a"), task("b"))
        first, _ = await store.take(2, claim=claim)
        await store.settle(first)
        assert await store.take_ids(2, claim=claim) == ["b"]

    async def test_a_repeated_claim_leaves_out_what_another_has_claimed_since(self, store: Store) -> None:
        claim = fresh_claim()
        await store.place(task("a"), task("b"))
        await store.take(2, claim=claim, lease=1)
        await store.advance(2)
        (stolen,) = await store.take(1, worker="w2")
        assert stolen.id == "a"
        ids = await store.take_ids(2, claim=claim, reclaim=False)
        assert "a" not in ids
        assert (await store.get("a")).token == stolen.token

    async def test_a_repeated_claim_does_not_use_a_rate_again(self, store: Store) -> None:
        limit = Limit("key", rate=2, per=store.span(1000), burst=2)
        await store.place(*tasks(3, limits=(limit,)))
        claim = fresh_claim()
        await store.take(1, claim=claim)
        await store.take(1, claim=claim)
        assert await store.take_ids(5) == ["t00001"]

    async def test_a_repeated_claim_does_not_shorten_the_lease(self, store: Store) -> None:
        claim = fresh_claim()
        await store.place(task("a"))
        (first,) = await store.take(claim=claim, lease=LONG)
        (again,) = await store.take(claim=claim, lease=LONG)
        assert again.lease_until is not None
        assert first.lease_until is not None
        assert again.lease_until >= first.lease_until

    async def test_a_claim_sent_twice_at_once_claims_once(self, store: Store) -> None:
        await store.place(*tasks(4))
        claim = fresh_claim()
        first, second = await asyncio.gather(store.take_ids(2, claim=claim), store.take_ids(2, claim=claim))
        assert first == second == ["t00000", "t00001"]

    async def test_a_claim_that_took_nothing_may_take_later(self, store: Store) -> None:
        claim = fresh_claim()
        assert await store.take(claim=claim) == []
        await store.place(task("a"))
        assert await store.take_ids(claim=claim) == ["a"]

    async def test_all_tasks_of_a_claim_carry_its_token(self, store: Store) -> None:
        await store.place(*tasks(5))
        claim = fresh_claim()
        assert {record.token for record in await store.take(5, claim=claim)} == {claim}
