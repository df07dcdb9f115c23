"""Limits that a queue has of its own, whatever its tasks name."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from sitq.backends.base import LIMIT_QUEUE, queue_topic
from sitq.move import Release, Retry
from sitq.record import NEVER, Fair, Limit
from sitq.testing.conformance.store import Store, tasks

CELL = LIMIT_QUEUE + "default"


async def limit(store: Store, figures: Limit | None, seen: bytes | None = None) -> bytes | None:
    """Set the limit of the queue `default`, or lift it."""
    value = None if figures is None else msgspec.json.encode(figures)
    assert await store.backend.swap(CELL, seen, value)
    return value


class QueueLimitPromises:
    """Limits of queues."""

    async def test_no_more_tasks_of_a_queue_run_than_its_slots(self, store: Store) -> None:
        await store.place(*tasks(2, "a"), *tasks(2, "b", name="g", fair=Fair("x"), limits=(Limit("k"),)))
        await limit(store, Limit("", slots=3))
        assert len(await store.take_ids(2)) == 2
        assert len(await store.take_ids(9)) == 1
        assert await store.take_ids(9) == []

    @pytest.mark.parametrize("kind", ["settle", "retry", "release"])
    async def test_a_task_that_leaves_makes_room_and_that_is_news(self, store: Store, kind: str) -> None:
        await limit(store, Limit("", slots=1))
        await store.place(*tasks(3))
        (first,) = await store.take(5)
        listener = store.backend.listen({queue_topic("default")})
        try:
            await listener.wait(0)
            token = first.token or ""
            match kind:
                case "settle":
                    await store.settle(first)
                case "retry":
                    await store.apply(Retry(id=first.id, token=token, delay=store.span(10**6)))
                case _:
                    await store.apply(Release(id=first.id, token=token, delay=store.span(10**6)))
            assert await listener.wait(5)
        finally:
            listener.close()
        assert await store.take_ids(5) == ["t00001"]
        assert await store.take_ids(5) == []

    async def test_tasks_that_ran_before_the_limit_was_set_count(self, store: Store) -> None:
        await store.place(*tasks(5))
        assert len(await store.take_ids(2)) == 2
        await limit(store, Limit("", slots=3))
        assert await store.take_ids(5) == ["t00002"]

    async def test_a_dead_holder_frees_its_room(self, store: Store) -> None:
        await limit(store, Limit("", slots=1))
        await store.place(*tasks(2))
        await store.take(5, lease=4)
        assert await store.take_ids(5, lease=4) == []
        await store.advance(5)
        assert await store.take_ids(5) == ["t00000"]

    async def test_starts_are_spaced_by_the_rate_and_the_claim_tells_when_the_next_is(
        self, store: Store
    ) -> None:
        await limit(store, Limit("", rate=1, per=store.span(100), burst=2))
        await store.place(*tasks(5))
        assert len(await store.take_ids(5)) == 2
        taken = await store.claim(5)
        assert taken.records == []
        assert taken.next is not None
        assert taken.now < taken.next <= taken.now + store.span(100)
        await store.advance(100)
        assert await store.take_ids(5) == ["t00002"]
        assert await store.take_ids(5) == []

    async def test_a_claim_that_starts_some_tells_when_the_next_one_may_start(self, store: Store) -> None:
        await limit(store, Limit("", rate=1, per=store.span(100)))
        await store.place(*tasks(5))
        taken = await store.claim(5)
        assert [record.id for record in taken.records] == ["t00000"]
        assert taken.next is not None
        assert taken.now < taken.next <= taken.now + store.span(100)

    async def test_a_limit_of_nothing_blocks_and_one_that_is_lifted_holds_nobody(self, store: Store) -> None:
        await store.place(*tasks(2))
        for figures in (Limit("", slots=0), Limit("", rate=0)):
            seen = await limit(store, figures)
            taken = await store.claim(5)
            assert (taken.records, taken.next or NEVER) == ([], NEVER)
            await limit(store, None, seen)
        assert len(await store.take_ids(5)) == 2

    async def test_setting_and_lifting_it_is_news(self, store: Store) -> None:
        await store.place(*tasks(2))
        seen = await limit(store, Limit("", slots=0))
        listener = store.backend.listen({queue_topic("default")})
        try:
            await listener.wait(0)
            await limit(store, None, seen)
            assert await listener.wait(5)
        finally:
            listener.close()

    async def test_it_holds_no_other_queue_and_takes_nothing_from_its_share(self, store: Store) -> None:
        await limit(store, Limit("", slots=1))
        await store.place(*tasks(3, "a"), *tasks(3, "b", queue="other"))
        assert await store.take_ids(3, queues=("default", "other")) == ["a00000", "b00000", "b00001"]

    async def test_it_holds_together_with_the_limits_of_tasks(self, store: Store) -> None:
        await limit(store, Limit("", slots=2))
        await store.place(*tasks(3, "a", limits=(Limit("k", slots=1),)), *tasks(3, "b"))
        assert await store.take_ids(5) == ["a00000", "b00000"]
        assert await store.take_ids(5) == []

    async def test_what_is_no_limit_holds_nobody(self, store: Store) -> None:
        await store.backend.swap(CELL, None, b"\xff no limit")
        await store.place(*tasks(2))
        assert len(await store.take_ids(5)) == 2

    async def test_a_limit_that_vanishes_by_itself_holds_nobody_any_more(self, store: Store) -> None:
        value = msgspec.json.encode(Limit("", slots=0))
        await store.backend.swap(CELL, None, value, store.span(3))
        await store.place(*tasks(2))
        assert await store.take_ids(5) == []
        await store.advance(4)
        assert len(await store.take_ids(5)) == 2

    async def test_claims_at_the_same_instant_do_not_pass_it(self, store: Store) -> None:
        await limit(store, Limit("", slots=3))
        await store.place(*tasks(20))
        taken = await asyncio.gather(*(store.take_ids(2) for _ in range(8)))
        assert sum(map(len, taken)) == 3
