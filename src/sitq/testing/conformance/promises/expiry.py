"""Tasks that are not started in time, and records that are past theirs."""

from __future__ import annotations

import pytest

from sitq.backends.base import Duplicate, Placed
from sitq.move import Release, Retry, Settle
from sitq.record import Edge, Limit, State, Unique
from sitq.testing.conformance.store import Store, task, tasks


class ExpiryPromises:
    """Tasks that are not started in time."""

    async def test_a_task_past_its_ttl_expires_instead_of_starting(self, store: Store) -> None:
        await store.place(task("a", ttl=store.span(2)), task("b"))
        await store.advance(3)
        assert await store.take_ids(5) == ["b"]
        stored = await store.get("a")
        assert (stored.state, stored.attempt) == (State.EXPIRED, 0)
        assert [failure.kind for failure in stored.errors] == ["expired"]
        assert stored.finished is not None
        assert stored.keep_until == stored.finished + stored.keep

    async def test_a_task_within_its_ttl_starts(self, store: Store) -> None:
        await store.place(task("a", ttl=store.span(10)))
        await store.advance(1)
        assert await store.take_ids() == ["a"]

    async def test_a_ttl_holds_to_its_last_microsecond(self, store: Store) -> None:
        store.needs_frozen_clock()
        await store.place(task("a", ttl=1000), task("b", ttl=1000))
        await store.pass_microseconds(1000)
        assert await store.take_ids(1) == ["a"]
        await store.pass_microseconds(1)
        assert await store.take_ids(1) == []
        assert await store.state("b") is State.EXPIRED

    async def test_a_ttl_counts_from_the_due_time(self, store: Store) -> None:
        await store.place(task("a", delay=store.span(4), ttl=store.span(6)))
        stored = await store.get("a")
        assert stored.expires == stored.due + store.span(6)
        await store.advance(7)
        assert await store.take_ids() == ["a"]

    async def test_a_ttl_is_about_the_first_start_only(self, store: Store) -> None:
        running = await store.start(task("a", ttl=store.span(2)))
        await store.advance(3)
        await store.apply(Retry(id="a", token=running.token or ""))
        assert await store.take_ids() == ["a"]

    async def test_a_running_task_does_not_expire(self, store: Store) -> None:
        running = await store.start(task("a", ttl=store.span(1), deadline=await store.now() + store.span(2)))
        await store.advance(3)
        await store.tend()
        assert await store.take_ids() == []
        assert await store.settle(running)

    async def test_a_task_past_its_deadline_expires(self, store: Store) -> None:
        await store.place(task("a", deadline=await store.now() + store.span(2)))
        await store.advance(3)
        assert await store.take_ids() == []
        assert await store.state("a") is State.EXPIRED

    async def test_a_deadline_is_about_each_start(self, store: Store) -> None:
        running = await store.start(task("a", deadline=await store.now() + store.span(4)))
        await store.apply(Release(id="a", token=running.token or "", delay=store.span(5)))
        await store.advance(6)
        assert await store.take_ids() == []
        assert await store.state("a") is State.EXPIRED

    async def test_a_reclaimed_task_past_its_deadline_expires(self, store: Store) -> None:
        await store.start(task("a", deadline=await store.now() + store.span(2)), lease=1)
        await store.advance(3)
        assert await store.take_ids(worker="w2") == []
        await store.reclaim()
        assert await store.take_ids(worker="w2") == []
        assert await store.state("a") is State.EXPIRED

    async def test_a_reclaimed_task_past_its_ttl_starts_again(self, store: Store) -> None:
        await store.start(task("a", ttl=store.span(1)), lease=1)
        await store.advance(3)
        assert await store.take_ids(worker="w2") == ["a"]

    async def test_an_expired_task_frees_its_room(self, store: Store) -> None:
        await store.place(task("a", ttl=store.span(1)))
        await store.advance(2)
        assert await store.take_ids() == []
        await store.place(task("b", room=1))

    async def test_an_expired_task_uses_no_rate(self, store: Store) -> None:
        limit = (Limit("key", rate=1, per=store.span(100)),)
        await store.place(task("a", ttl=store.span(1), limits=limit), task("b", limits=limit))
        await store.advance(2)
        assert await store.take_ids(5) == ["b"]

    async def test_expired_tasks_in_front_do_not_hide_the_one_behind_them(self, store: Store) -> None:
        await store.backend.put([[*tasks(3000, ttl=store.span(1)), task("z")]])
        await store.advance(2)
        taken: list[str] = []
        for _ in range(100):
            if not taken:
                taken = await store.take_ids(10)
        assert taken == ["z"]

    async def test_a_task_over_its_limit_expires_too(self, store: Store) -> None:
        await store.place(task("a", ttl=store.span(1), limits=(Limit("key", slots=0),)))
        await store.advance(2)
        await store.take(5)
        await store.tend()
        assert await store.state("a") is State.EXPIRED

    async def test_upkeep_expires_tasks_of_queues_that_nobody_serves(self, store: Store) -> None:
        await store.place(*tasks(5, queue="nobody", ttl=store.span(1)), task("fresh", ttl=store.span(500)))
        await store.advance(2)
        assert await store.tend() >= 5
        assert await store.tally() == {"nobody": {State.EXPIRED: 5}, "default": {State.QUEUED: 1}}


class RetentionPromises:
    """Records that are past their time."""

    async def test_an_ended_record_is_purged_after_its_time(self, store: Store) -> None:
        await store.settle(await store.start(task("a", keep=store.span(5))))
        await store.tend()
        assert await store.state("a") is State.COMPLETED
        await store.advance(6)
        assert await store.tend() >= 1
        assert await store.find("a") is None
        assert await store.tally() == {}

    async def test_failures_are_kept_longer(self, store: Store) -> None:
        keep = {"keep": store.span(1), "keep_failed": store.span(500)}
        await store.settle(await store.start(task("failed", **keep)), State.FAILED)
        await store.settle(await store.start(task("dead", **keep)), State.DEAD)
        await store.settle(await store.start(task("done", **keep)))
        await store.advance(2)
        await store.tend()
        assert await store.states("failed", "dead", "done") == [State.FAILED, State.DEAD, None]

    async def test_no_task_without_an_end_is_ever_purged(self, store: Store) -> None:
        await store.start(task("running", keep=0, keep_failed=0))
        await store.place(task("queued", keep=0, keep_failed=0))
        await store.place(task("blocked", keep=0, keep_failed=0, edges=(Edge("queued"),)))
        await store.place(task("later", keep=0, keep_failed=0, delay=store.span(500)))
        await store.advance(3)
        await store.tend()
        assert await store.states("running", "queued", "blocked", "later") == [
            State.RUNNING,
            State.QUEUED,
            State.BLOCKED,
            State.QUEUED,
        ]

    async def test_a_parent_is_not_purged_before_its_children_have_ended(self, store: Store) -> None:
        await store.place(task("parent", keep=0), task("child", keep=0, edges=(Edge("parent"),)))
        await store.settle(await store.start())
        await store.advance(1)
        await store.tend()
        assert await store.state("parent") is State.COMPLETED
        await store.settle(await store.start())
        await store.advance(1)
        await store.tend()
        assert await store.tally() == {}

    async def test_a_record_is_not_purged_while_its_window_is_open(self, store: Store) -> None:
        window = Unique("key", "window", window=store.span(6))
        await store.settle(await store.start(task("a", keep=0, unique=window)))
        await store.advance(1)
        await store.tend()
        assert await store.put(task("b", unique=window)) == [Duplicate("a")]
        await store.advance(6)
        await store.tend()
        assert await store.find("a") is None

    async def test_a_purged_id_is_free(self, store: Store) -> None:
        await store.settle(await store.start(task("a", keep=0)))
        await store.advance(1)
        await store.tend()
        assert await store.put(task("a")) == [Placed("a")]

    async def test_upkeep_does_no_more_than_its_budget(self, store: Store) -> None:
        await store.place(*tasks(10, queue="nobody", ttl=store.span(1)))
        await store.advance(2)
        assert await store.backend.tend(3) <= 3
        assert (await store.tally())["nobody"].get(State.QUEUED, 0) >= 7
        for _ in range(10):
            assert await store.backend.tend(3) <= 3
        assert await store.tally() == {"nobody": {State.EXPIRED: 10}}

    async def test_upkeep_that_finds_nothing_says_so(self, store: Store) -> None:
        await store.start(task("running"))
        await store.place(task("queued"))
        assert await store.tend() == 0
        assert await store.backend.tend() == 0

    @pytest.mark.parametrize("n", [1, 2500])
    async def test_purging_ends(self, store: Store, n: int) -> None:
        await store.backend.put([tasks(n, keep=0)])
        while batch := await store.take(500):
            moves = [Settle(id=one.id, token=one.token, state=State.COMPLETED) for one in batch]
            assert all(await store.backend.apply(moves))
        await store.advance(1)
        await store.tend()
        assert await store.tally() == {}
