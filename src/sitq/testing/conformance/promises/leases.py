"""Leases: renewing them, and what becomes of those that run out."""

from __future__ import annotations

import asyncio

import pytest

from sitq.backends.base import Lease, Renewal
from sitq.move import Cancel, Lapse, Release, Retry
from sitq.record import Limit, State, Unique
from sitq.testing.conformance.store import LONG, Store, task, tasks


class RenewalPromises:
    """Renewing leases."""

    async def test_a_live_lease_is_kept(self, store: Store) -> None:
        running = await store.start(task("a"))
        assert await store.renew(running) == [Renewal("a", "kept")]

    async def test_a_renewed_lease_lasts_from_the_stores_now(self, store: Store) -> None:
        running = await store.start(task("a"), lease=4)
        await store.advance(3)
        now = await store.now()
        await store.renew(running, lease=8)
        until = (await store.get("a")).lease_until
        assert until is not None
        assert now + store.span(8) <= until <= await store.now() + store.span(8)
        await store.advance(4)
        assert await store.take_ids(worker="w2") == []

    async def test_a_lease_that_is_renewed_in_time_is_never_lost(self, store: Store) -> None:
        running = await store.start(task("a"), lease=4)
        for _ in range(4):
            await store.advance(2)
            assert [renewal.answer for renewal in await store.renew(running, lease=4)] == ["kept"]
            assert await store.take_ids(worker="w2") == []
        assert (await store.get("a")).attempt == 1

    async def test_a_lease_under_a_wrong_token_is_lost(self, store: Store) -> None:
        running = await store.start(task("a"))
        before = await store.snapshot("a")
        (answer,) = await store.with_channel(lambda channel: channel.renew([Lease("a", "wrong")], 1))
        assert answer == Renewal("a", "lost")
        assert await store.snapshot("a") == before
        assert await store.renew(running) == [Renewal("a", "kept")]

    async def test_the_lease_of_an_unknown_task_is_lost(self, store: Store) -> None:
        (answer,) = await store.with_channel(lambda channel: channel.renew([Lease("unknown", "t")], 1))
        assert answer == Renewal("unknown", "lost")

    @pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED])
    async def test_the_lease_of_an_ended_task_is_lost(self, store: Store, state: State) -> None:
        running = await store.start(task("a"))
        await store.settle(running, state)
        assert await store.renew(running) == [Renewal("a", "lost")]

    async def test_the_lease_of_a_task_that_waits_for_its_retry_is_lost(self, store: Store) -> None:
        running = await store.start(task("a"))
        await store.apply(Retry(id="a", token=running.token or ""))
        assert await store.renew(running) == [Renewal("a", "lost")]
        assert await store.take_ids() == ["a"]

    async def test_the_lease_of_a_released_task_is_lost(self, store: Store) -> None:
        running = await store.start(task("a"))
        await store.apply(Release(id="a", token=running.token or ""))
        assert await store.renew(running) == [Renewal("a", "lost")]

    async def test_a_reclaimed_lease_is_lost(self, store: Store) -> None:
        stale = await store.start(task("a"), lease=1)
        await store.advance(2)
        (current,) = await store.take(worker="w2")
        assert await store.renew(stale) == [Renewal("a", "lost")]
        assert await store.renew(current) == [Renewal("a", "kept")]

    async def test_a_renewal_never_revives_a_task_that_queues_again(self, store: Store) -> None:
        stale = await store.start(task("a"), lease=1)
        await store.advance(2)
        await store.reclaim()
        assert await store.renew(stale) == [Renewal("a", "lost")]
        assert await store.state("a") is State.QUEUED

    async def test_a_lease_that_ran_out_but_was_claimed_by_nobody_is_kept(self, store: Store) -> None:
        running = await store.start(task("a"), lease=1)
        await store.advance(2)
        assert await store.renew(running) == [Renewal("a", "kept")]
        assert await store.take_ids(worker="w2") == []

    async def test_a_renewal_tells_a_task_to_stop_and_why(self, store: Store) -> None:
        running = await store.start(task("a"), lease=4)
        await store.apply(Cancel(id="a", reason="not needed any more"))
        await store.advance(2)
        assert await store.renew(running, lease=4) == [Renewal("a", "stop", "not needed any more")]
        await store.advance(3)
        assert await store.take_ids(worker="w2") == [], "a stop keeps the lease"

    async def test_a_stop_without_a_reason_is_a_stop(self, store: Store) -> None:
        running = await store.start(task("a"))
        await store.apply(Cancel(id="a"))
        assert [renewal.answer for renewal in await store.renew(running)] == ["stop"]

    async def test_each_lease_of_many_has_its_own_answer_in_order(self, store: Store) -> None:
        await store.place(*tasks(6))
        records = await store.take(6)
        await store.settle(records[1])
        await store.apply(Cancel(id=records[3].id, reason="why"))
        answers = await store.renew(records[5], records[1], task("unknown"), records[3], records[0])
        assert answers == [
            Renewal("t00005", "kept"),
            Renewal("t00001", "lost"),
            Renewal("unknown", "lost"),
            Renewal("t00003", "stop", "why"),
            Renewal("t00000", "kept"),
        ]

    async def test_a_renewal_of_nothing_does_nothing(self, store: Store) -> None:
        assert await store.renew() == []

    async def test_a_thousand_leases_are_renewed_at_once(self, store: Store) -> None:
        await store.backend.put([tasks(1000)])
        records = await store.take(1000, lease=3)
        await store.advance(2)
        assert {renewal.answer for renewal in await store.renew(*records, lease=3)} == {"kept"}
        await store.advance(2)
        assert await store.take_ids(worker="w2") == []

    async def test_renewals_get_through_while_the_loop_is_blocked(self, store: Store) -> None:
        running = await store.start(task("a"))
        pending = asyncio.ensure_future(store.renew(running))
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            assert await pending == [Renewal("a", "kept")]

    async def test_two_channels_can_be_open_at_once(self, store: Store) -> None:
        one, other = await store.start(task("a")), await store.start(task("b"))
        answers = await asyncio.gather(*(store.renew(one, other) for _ in range(4)))
        assert answers == [[Renewal("a", "kept"), Renewal("b", "kept")]] * 4


class ReclaimPromises:
    """Leases that ran out."""

    async def test_a_dead_workers_task_starts_again(self, store: Store) -> None:
        await store.start(task("a"), lease=1)
        await store.advance(2)
        (again,) = await store.take(worker="w2")
        assert (again.id, again.attempt, again.owner) == ("a", 2, "w2")

    async def test_a_death_is_counted_and_recorded(self, store: Store) -> None:
        await store.start(task("a"), lease=1, worker="mortal")
        await store.advance(2)
        (again,) = await store.take(worker="w2")
        assert (again.crashes, again.failures) == (1, 0)
        (failure,) = again.errors
        assert (failure.kind, failure.attempt, failure.worker) == ("crashed", 1, "mortal")

    async def test_deaths_add_up(self, store: Store) -> None:
        await store.place(task("a"))
        for crashes in range(4):
            (record,) = await store.take(lease=1, worker=f"w{crashes}")
            assert (record.crashes, record.attempt) == (crashes, crashes + 1)
            await store.advance(2)

    async def test_a_live_lease_is_not_reclaimed(self, store: Store) -> None:
        await store.start(task("a"), lease=20)
        await store.advance(1)
        assert await store.take_ids(worker="w2") == []
        assert (await store.get("a")).crashes == 0

    async def test_a_lease_holds_to_its_last_microsecond(self, store: Store) -> None:
        store.needs_frozen_clock()
        await store.start(task("a"), lease=1)
        await store.pass_microseconds(store.span(1) - 1)
        assert await store.take_ids(worker="w2") == []
        await store.pass_microseconds(1)
        assert await store.take_ids(worker="w2") == ["a"]

    async def test_a_worker_that_must_not_reclaim_leaves_dead_leases(self, store: Store) -> None:
        await store.start(task("a"), lease=1)
        await store.advance(2)
        assert await store.take_ids(worker="w2", reclaim=False) == []
        assert (await store.get("a")).crashes == 0
        assert await store.take_ids(worker="w2") == ["a"]

    async def test_a_claim_brings_dead_leases_of_every_queue_back(self, store: Store) -> None:
        await store.start(task("a", queue="nobody serves it"), lease=1)
        await store.advance(2)
        await store.reclaim()
        stored = await store.get("a")
        assert (stored.state, stored.crashes, stored.attempt) == (State.QUEUED, 1, 1)
        assert stored.due <= await store.now()

    async def test_a_dead_lease_is_reclaimed_once_by_many(self, store: Store) -> None:
        await store.start(task("a"), lease=1)
        await store.advance(2)
        claims = await asyncio.gather(*(store.take(worker=f"w{n}") for n in range(10)))
        (again,) = [record for claim in claims for record in claim]
        assert (again.attempt, again.crashes) == (2, 1)

    async def test_a_dead_task_that_was_asked_to_stop_is_cancelled(self, store: Store) -> None:
        await store.start(task("a"), lease=1)
        await store.apply(Cancel(id="a", reason="enough"))
        await store.advance(2)
        assert await store.take_ids(worker="w2") == []
        stored = await store.get("a")
        assert stored.state is State.CANCELLED
        assert stored.finished is not None
        assert any("enough" in failure.message for failure in stored.errors)

    async def test_upkeep_brings_dead_leases_back(self, store: Store) -> None:
        await store.start(task("a"), lease=1)
        await store.advance(2)
        assert await store.tend() >= 1
        stored = await store.get("a")
        assert (stored.state, stored.crashes) == (State.QUEUED, 1)

    async def test_the_dead_come_back_in_the_order_in_which_their_leases_ran_out(self, store: Store) -> None:
        """So whoever ran longest without a holder is not passed over by a bounded step."""
        await store.place(*tasks(3))
        for lease in (3, 1, 2):
            await store.take(1, lease=lease)
        await store.advance(4)
        await store.backend.tend(1)
        states = [State.RUNNING, State.QUEUED, State.RUNNING]
        assert await store.states("t00000", "t00001", "t00002") == states

    async def test_a_dead_holder_frees_its_slot(self, store: Store) -> None:
        limit = Limit("key", slots=1)
        await store.start(task("a", limits=(limit,)), lease=1)
        await store.place(task("b", limits=(limit,)))
        assert await store.take_ids(5, worker="w2") == []
        await store.advance(2)
        assert await store.take_ids(5, worker="w2") == ["a"]

    async def test_a_dead_holder_of_another_queue_frees_its_slot(self, store: Store) -> None:
        limit = Limit("key", slots=1)
        await store.start(task("a", queue="x", limits=(limit,)), lease=1)
        await store.place(task("b", queue="y", limits=(limit,)))
        await store.advance(2)
        assert await store.take_ids(5, worker="w2", queues=("y",)) == ["b"]

    async def test_the_dead_one_behind_ten_thousand_live_leases_is_found(self, store: Store) -> None:
        await store.start(task("dead", queue="q"), lease=5)
        await store.backend.put([tasks(10_000)])
        taken = 0
        while batch := await store.take(2500, lease=LONG):
            taken += len(batch)
        assert taken == 10_000
        await store.advance(6)
        assert await store.take_ids(queues=("q",), worker="w2") == ["dead"]
        assert await store.tally() == {"default": {State.RUNNING: 10_000}, "q": {State.RUNNING: 1}}

    async def test_thousands_of_dead_leases_all_come_back(self, store: Store) -> None:
        await store.backend.put([tasks(3000)])
        while await store.take(1500, lease=5):
            pass
        await store.advance(6)
        again: set[str] = set()
        for _ in range(200):
            again.update(await store.take_ids(100, worker="w2"))
            if len(again) == 3000:
                break
        assert len(again) == 3000

    async def test_the_end_of_one_lease_leaves_those_of_the_same_claim_alone(self, store: Store) -> None:
        await store.place(task("a"), task("b"))
        first, _ = await store.take(2)
        assert await store.apply(Lapse(id="a", token=first.token or ""))
        assert await store.take_ids(5, worker="w2") == ["a"]
        assert (await store.get("b")).crashes == 0

    async def test_a_holder_known_to_be_dead_is_replaced_at_once(self, store: Store) -> None:
        running = await store.start(task("a"))
        assert await store.apply(Lapse(id="a", token=running.token or ""))
        (again,) = await store.take(worker="w2")
        assert (again.id, again.attempt, again.crashes) == ("a", 2, 1)

    async def test_an_orphan_with_a_unique_key_and_a_slot_runs_again(self, store: Store) -> None:
        record = task("a", unique=Unique("key", "active"), limits=(Limit("key", slots=1),))
        await store.start(record, lease=1)
        await store.advance(2)
        (again,) = await store.take(worker="w2")
        assert await store.settle(again)
        await store.place(task("b", unique=Unique("key")))

    async def test_a_task_may_run_longer_than_many_leases(self, store: Store) -> None:
        """Without a timeout of its own, only a missing renewal ends an attempt."""
        running = await store.start(task("a", timeout=None), lease=2)
        for _ in range(20):
            await store.advance(1)
            await store.renew(running, lease=2)
        assert await store.take_ids(worker="w2") == []
        assert await store.settle(running)

    async def test_a_worker_may_come_back_under_the_same_name(self, store: Store) -> None:
        stale = await store.start(task("a"), lease=1, worker="pod-0")
        await store.advance(2)
        (again,) = await store.take(worker="pod-0")
        assert again.attempt == 2
        assert not await store.settle(stale)
        assert await store.settle(again)
