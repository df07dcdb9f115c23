"""Fleet-wide limits: slots, rates, and keys that are frozen."""

from __future__ import annotations

import asyncio

import pytest

from sitq.move import Cancel, Move, Release, Retry, Settle
from sitq.record import Limit, Record, State
from sitq.testing.conformance.store import Store, task, tasks


def leaving(kind: str, record: Record) -> Move:
    """A way in which a running task gives up its slot."""
    token = record.token or ""
    match kind:
        case "settle":
            return Settle(id=record.id, token=token, state=State.FAILED)
        case "retry":
            return Retry(id=record.id, token=token, delay=10**12)
        case _:
            return Release(id=record.id, token=token, delay=10**12)


class SlotPromises:
    """Slots."""

    async def test_no_more_than_the_slots_run_at_once(self, store: Store) -> None:
        await store.place(*tasks(5, limits=(Limit("key", slots=2),)))
        assert await store.take_ids(5) == ["t00000", "t00001"]
        assert await store.take_ids(5) == []

    @pytest.mark.parametrize("kind", ["settle", "retry", "release"])
    async def test_a_task_that_leaves_frees_its_slot(self, store: Store, kind: str) -> None:
        await store.place(*tasks(3, limits=(Limit("key", slots=1),)))
        (first,) = await store.take(5)
        assert await store.take_ids(5) == []
        await store.apply(leaving(kind, first))
        assert await store.take_ids(5) == ["t00001"]
        assert await store.take_ids(5) == []

    async def test_a_slot_is_freed_once_by_a_word_said_twice(self, store: Store) -> None:
        await store.place(*tasks(4, limits=(Limit("key", slots=2),)))
        first, _ = await store.take(5)
        await store.settle(first)
        await store.settle(first)
        assert await store.take_ids(5) == ["t00002"]

    async def test_a_stop_does_not_free_a_slot(self, store: Store) -> None:
        await store.place(*tasks(2, limits=(Limit("key", slots=1),)))
        await store.take(5)
        await store.apply(Cancel(id="t00000"))
        assert await store.take_ids(5) == []

    async def test_slots_hold_across_queues_and_functions(self, store: Store) -> None:
        limit = (Limit("key", slots=1),)
        await store.place(task("a", queue="x", limits=limit), task("b", queue="y", name="g", limits=limit))
        assert await store.take_ids(5, queues=("x", "y")) == ["a"]
        assert await store.take_ids(5, queues=("y",)) == []

    async def test_slots_hold_under_many_concurrent_claims(self, store: Store) -> None:
        await store.place(*tasks(50, limits=(Limit("key", slots=7),)))
        claims = await asyncio.gather(*(store.take(3, worker=f"w{n}") for n in range(20)))
        assert sum(map(len, claims)) == 7

    async def test_zero_slots_block(self, store: Store) -> None:
        await store.place(task("a", limits=(Limit("key", slots=0),)), task("b"))
        assert await store.take_ids(5) == ["b"]

    async def test_a_limit_without_figures_limits_nothing(self, store: Store) -> None:
        await store.place(*tasks(5, limits=(Limit("key"),)))
        assert len(await store.take(5)) == 5

    async def test_every_limit_of_a_task_must_allow_it(self, store: Store) -> None:
        wide, narrow = Limit("wide", slots=3), Limit("narrow", slots=1)
        await store.place(*tasks(3, "n", limits=(wide, narrow)), *tasks(3, "w", limits=(wide,)))
        assert await store.take_ids(9) == ["n00000", "w00000", "w00001"]

    async def test_keys_are_limited_each_for_itself(self, store: Store) -> None:
        await store.place(
            *(task(f"{key}{n}", limits=(Limit(key, slots=1),)) for n in range(2) for key in "ab")
        )
        assert await store.take_ids(9) == ["a0", "b0"]

    async def test_what_is_over_its_limit_holds_nothing_back(self, store: Store) -> None:
        await store.place(*tasks(5, limits=(Limit("key", slots=1),), priority=9), task("free"))
        assert await store.take_ids(9) == ["t00000", "free"]

    async def test_thousands_over_their_limit_do_not_hide_the_one_behind_them(self, store: Store) -> None:
        limit = (Limit("key", slots=0),)
        await store.backend.put([[*tasks(3000, limits=limit, priority=9), task("free")]])
        assert await store.take_ids() == ["free"]

    async def test_the_newest_records_slots_hold_for_the_key(self, store: Store) -> None:
        await store.place(
            task("a", limits=(Limit("key", slots=1),)), task("b", limits=(Limit("key", slots=3),))
        )
        await store.place(task("c", limits=(Limit("key", slots=2),)))
        assert await store.take_ids(9) == ["a", "b"]

    async def test_the_newest_record_can_lift_a_limit(self, store: Store) -> None:
        await store.place(*tasks(3, limits=(Limit("key", slots=0, rate=0),)))
        assert await store.take_ids(9) == []
        await store.place(task("newest", limits=(Limit("key"),)))
        assert len(await store.take_ids(9)) == 4

    async def test_a_record_that_was_not_placed_changes_no_limit(self, store: Store) -> None:
        await store.place(
            task("a", limits=(Limit("key", slots=1),)), task("b", limits=(Limit("key", slots=1),))
        )
        await store.put(task("a", limits=(Limit("key", slots=5),)))
        assert await store.take_ids(9) == ["a"]

    async def test_a_key_that_is_named_twice_counts_once_with_the_later_figures(self, store: Store) -> None:
        await store.place(*tasks(4, limits=(Limit("key", slots=1), Limit("key", slots=2))))
        first, _ = await store.take(9)
        assert await store.take_ids(9) == []
        await store.settle(first)
        assert await store.take_ids(9) == ["t00002"]

    async def test_a_slot_of_one_serialises(self, store: Store) -> None:
        await store.place(*tasks(5, limits=(Limit("key", slots=1),)))
        order: list[str] = []
        while batch := await store.take(5):
            (running,) = batch
            order.append(running.id)
            await store.settle(running)
        assert order == [f"t{n:05}" for n in range(5)]


class RatePromises:
    """Rates."""

    async def test_a_rate_spaces_the_starts(self, store: Store) -> None:
        await store.place(*tasks(5, limits=(Limit("key", rate=1, per=store.span(4)),)))
        assert await store.take_ids(5) == ["t00000"]
        await store.advance(1)
        assert await store.take_ids(5) == []
        await store.advance(4)
        assert await store.take_ids(5) == ["t00001"]

    async def test_a_rate_is_met_to_the_microsecond(self, store: Store) -> None:
        store.needs_frozen_clock()
        await store.place(*tasks(9, limits=(Limit("key", rate=3, per=1000),)))
        assert await store.take_ids(5) == ["t00000"]
        await store.pass_microseconds(332)
        assert await store.take_ids(5) == []
        await store.pass_microseconds(1)
        assert await store.take_ids(5) == ["t00001"]

    async def test_a_burst_may_start_at_once(self, store: Store) -> None:
        await store.place(*tasks(9, limits=(Limit("key", rate=1, per=store.span(100), burst=3),)))
        assert await store.take_ids(9) == ["t00000", "t00001", "t00002"]
        assert await store.take_ids(9) == []

    async def test_quiet_times_do_not_add_up_over_the_burst(self, store: Store) -> None:
        store.needs_frozen_clock()
        await store.place(*tasks(9, limits=(Limit("key", rate=1, per=store.span(1), burst=2),)))
        await store.advance(50)
        assert len(await store.take(9)) == 2
        await store.advance(50)
        assert len(await store.take(9)) == 2
        await store.advance(1)
        assert len(await store.take(9)) == 1

    async def test_a_rate_of_zero_blocks(self, store: Store) -> None:
        await store.place(task("a", limits=(Limit("key", rate=0),)), task("b"))
        assert await store.take_ids(5) == ["b"]

    async def test_a_rate_holds_across_queues(self, store: Store) -> None:
        limit = (Limit("key", rate=1, per=store.span(100)),)
        await store.place(task("a", queue="x", limits=limit), task("b", queue="y", limits=limit))
        assert await store.take_ids(5, queues=("y",)) == ["b"]
        assert await store.take_ids(5, queues=("x", "y")) == []

    async def test_a_rate_holds_under_many_concurrent_claims(self, store: Store) -> None:
        limit = Limit("key", rate=1, per=store.span(1000), burst=5)
        await store.place(*tasks(50, limits=(limit,)))
        claims = await asyncio.gather(*(store.take(3, worker=f"w{n}") for n in range(20)))
        assert sum(map(len, claims)) == 5

    async def test_an_end_gives_no_rate_back(self, store: Store) -> None:
        await store.place(*tasks(2, limits=(Limit("key", rate=1, per=store.span(100)),)))
        await store.settle(await store.start())
        assert await store.take_ids(5) == []

    async def test_a_task_that_another_limit_holds_uses_no_rate(self, store: Store) -> None:
        rate = Limit("rate", rate=1, per=store.span(100))
        await store.place(task("a", limits=(rate, Limit("blocked", slots=0))), task("b", limits=(rate,)))
        assert await store.take_ids(5) == ["b"]

    async def test_the_newest_records_rate_holds_for_the_key(self, store: Store) -> None:
        slow, fast = Limit("key", rate=1, per=store.span(100)), Limit("key", rate=1, burst=9)
        await store.place(*tasks(3, limits=(slow,)))
        await store.place(task("newest", limits=(fast,)))
        assert len(await store.take(9)) == 4


class FreezePromises:
    """Keys that are frozen."""

    @pytest.mark.parametrize("kind", ["retry", "release"])
    async def test_nobody_starts_under_a_frozen_key_until_the_task_is_due_again(
        self, store: Store, kind: str
    ) -> None:
        await store.place(*tasks(3, limits=(Limit("key"),)), task("free", limits=(Limit("other"),)))
        first = await store.start()
        make = Retry if kind == "retry" else Release
        await store.apply(make(id=first.id, token=first.token or "", delay=store.span(4), freeze="key"))
        assert await store.take_ids(9) == ["free"]
        await store.advance(1)
        assert await store.take_ids(9) == []
        await store.advance(4)
        assert await store.take_ids(9) == ["t00000", "t00001", "t00002"]

    async def test_a_lost_move_freezes_nothing(self, store: Store) -> None:
        await store.place(*tasks(2, limits=(Limit("key"),)))
        first = await store.start()
        assert not await store.apply(Retry(id=first.id, token="wrong", delay=store.span(100), freeze="key"))
        assert await store.take_ids(9) == ["t00001"]

    async def test_a_frozen_key_holds_what_is_put_later(self, store: Store) -> None:
        first = await store.start(task("a", limits=(Limit("key"),)))
        await store.apply(Release(id="a", token=first.token or "", delay=store.span(50), freeze="key"))
        await store.place(task("b", limits=(Limit("key"),)))
        assert await store.take_ids(9) == []

    async def test_a_longer_freeze_stays(self, store: Store) -> None:
        await store.place(*tasks(3, limits=(Limit("key"),)))
        first, second = await store.take(2)
        await store.apply(Release(id=first.id, token=first.token or "", delay=store.span(50), freeze="key"))
        await store.apply(Release(id=second.id, token=second.token or "", delay=store.span(1), freeze="key"))
        await store.advance(2)
        assert await store.take_ids(9) == []

    async def test_running_tasks_go_on_under_a_frozen_key(self, store: Store) -> None:
        await store.place(*tasks(2, limits=(Limit("key"),)))
        first, second = await store.take(2)
        await store.apply(Release(id=first.id, token=first.token or "", delay=store.span(50), freeze="key"))
        assert [renewal.answer for renewal in await store.renew(second)] == ["kept"]
        assert await store.settle(second)
