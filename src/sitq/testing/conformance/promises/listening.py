"""Listeners: hints that save polling."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from sitq.backends.base import (
    DONE_TOPIC,
    PAUSE_QUEUE,
    Listener,
    log_topic,
    queue_topic,
    task_topic,
    worker_topic,
)
from sitq.move import Cancel, Change, Lapse, Note, Release, Retry, Settle
from sitq.record import Edge, Limit, Progress, State
from sitq.testing.conformance.store import Store, task

SOON = 5.0
"""Seconds in which a hint must have come; it comes within milliseconds."""


async def drained(listener: Listener) -> Listener:
    """A listener that has no hint left from what was done before."""
    while await listener.wait(0.1):
        pass
    return listener


class Heard:
    """The ids that an observer was told, from whatever thread."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def told(self, ids: object) -> None:
        assert isinstance(ids, list)
        self.ids += ids

    async def all_of(self, *ids: str) -> None:
        """Wait until these and no others have been told, each once."""
        deadline = time.monotonic() + SOON
        while sorted(self.ids) != sorted(ids):
            assert time.monotonic() < deadline, self.ids
            await asyncio.sleep(0.001)


@asynccontextmanager
async def observed(store: Store) -> AsyncGenerator[Heard]:
    """An observer while the block lasts."""
    heard = Heard()
    end = store.backend.observe(heard.told)
    try:
        yield heard
    finally:
        end()


class ListenerPromises:
    """Listeners."""

    async def test_a_put_wakes_who_listens_to_the_queue(self, store: Store) -> None:
        listener = store.backend.listen([queue_topic("q")])
        waiter = asyncio.ensure_future(listener.wait(SOON))
        await asyncio.sleep(0)
        await store.place(task("a", queue="q"))
        assert await waiter
        listener.close()

    async def test_a_hint_between_two_waits_is_not_missed(self, store: Store) -> None:
        listener = await drained(store.backend.listen([queue_topic("default")]))
        await store.place(task("a"))
        assert await listener.wait(SOON)
        await drained(listener)
        await store.place(task("b"))
        assert await listener.wait(SOON)
        listener.close()

    async def test_a_wait_without_a_hint_ends_in_time(self, store: Store) -> None:
        listener = await drained(store.backend.listen(["nobody's"]))
        started = time.monotonic()
        assert not await listener.wait(0.05)
        assert 0.04 <= time.monotonic() - started < SOON
        assert not await listener.wait(0)
        listener.close()

    async def test_a_listener_can_be_closed_twice(self, store: Store) -> None:
        listener = store.backend.listen(["topic"])
        listener.close()
        listener.close()

    async def test_a_listener_of_many_topics_hears_each(self, store: Store) -> None:
        listener = store.backend.listen([queue_topic("a"), queue_topic("b")])
        for queue in ("a", "b"):
            await drained(listener)
            await store.place(task(queue=queue))
            assert await listener.wait(SOON)
        listener.close()

    async def test_every_listener_of_a_topic_is_woken(self, store: Store) -> None:
        listeners = [await drained(store.backend.listen([queue_topic("default")])) for _ in range(5)]
        await store.place(task("a"))
        assert await asyncio.gather(*(listener.wait(SOON) for listener in listeners)) == [True] * 5
        for listener in listeners:
            listener.close()

    @pytest.mark.parametrize("kind", ["settle", "retry", "release"])
    async def test_a_freed_slot_wakes_the_queue(self, store: Store, kind: str) -> None:
        limit = (Limit("key", slots=1),)
        running = await store.start(task("a", limits=limit))
        await store.place(task("b", limits=limit))
        assert await store.take() == [], "whoever waits has looked first"
        listener = await drained(store.backend.listen([queue_topic("default")]))
        token = running.token or ""
        match kind:
            case "settle":
                await store.settle(running)
            case "retry":
                await store.apply(Retry(id="a", token=token))
            case _:
                await store.apply(Release(id="a", token=token))
        assert await listener.wait(SOON)
        listener.close()

    async def test_a_retry_that_is_due_wakes_the_queue(self, store: Store) -> None:
        running = await store.start(task("a"))
        listener = await drained(store.backend.listen([queue_topic("default")]))
        await store.apply(Retry(id="a", token=running.token or ""))
        assert await listener.wait(SOON)
        listener.close()

    async def test_a_follow_up_wakes_its_queue(self, store: Store) -> None:
        running = await store.start(task("a"))
        listener = await drained(store.backend.listen([queue_topic("next")]))
        follow = (task("next", queue="next"),)
        await store.apply(Settle(id="a", token=running.token, state=State.COMPLETED, follow=follow))
        assert await listener.wait(SOON)
        listener.close()

    async def test_an_unblocked_child_wakes_its_queue(self, store: Store) -> None:
        running = await store.start(task("parent"))
        await store.place(task("child", queue="q", edges=(Edge("parent"),)))
        listener = await drained(store.backend.listen([queue_topic("q")]))
        await store.settle(running)
        assert await listener.wait(SOON)
        listener.close()

    async def test_a_note_on_progress_wakes_who_follows_the_task(self, store: Store) -> None:
        running = await store.start(task("a"))
        listener = await drained(store.backend.listen([task_topic("a")]))
        await store.apply(Note(id="a", token=running.token or "", progress=Progress(0.5)))
        assert await listener.wait(SOON)
        listener.close()

    async def test_a_task_that_was_brought_forward_wakes_its_queue(self, store: Store) -> None:
        await store.place(task("a", delay=store.span(500)))
        listener = await drained(store.backend.listen([queue_topic("default")]))
        await store.apply(Change(id="a", due=await store.now()))
        assert await listener.wait(SOON)
        listener.close()

    async def test_a_resumed_queue_is_woken(self, store: Store) -> None:
        await store.place(task("a"))
        await store.backend.swap(PAUSE_QUEUE + "default", None, b"")
        listener = await drained(store.backend.listen([queue_topic("default")]))
        await store.backend.swap(PAUSE_QUEUE + "default", b"", None)
        assert await listener.wait(SOON)
        listener.close()

    async def test_a_lapsed_lease_wakes_the_queue(self, store: Store) -> None:
        running = await store.start(task("a"))
        listener = await drained(store.backend.listen([queue_topic("default")]))
        await store.apply(Lapse(id="a", token=running.token or ""))
        assert await listener.wait(SOON)
        listener.close()

    async def test_an_end_wakes_who_waits_for_the_reply(self, store: Store) -> None:
        running = await store.start(task("a", reply="caller/1"))
        listener = await drained(store.backend.listen(["caller/1"]))
        await store.settle(running)
        assert await listener.wait(SOON)
        listener.close()

    async def test_an_end_wakes_who_waits_for_any_end(self, store: Store) -> None:
        running = await store.start(task("a"))
        listener = await drained(store.backend.listen([DONE_TOPIC]))
        await store.settle(running, State.FAILED)
        assert await listener.wait(SOON)
        listener.close()

    @pytest.mark.parametrize("topic", ["caller/1", DONE_TOPIC])
    async def test_a_cancellation_wakes_who_waits_for_the_end(self, store: Store, topic: str) -> None:
        await store.place(task("a", reply="caller/1"))
        listener = await drained(store.backend.listen([topic]))
        await store.apply(Cancel(id="a"))
        assert await listener.wait(SOON)
        listener.close()

    async def test_a_childs_end_with_its_parent_wakes_who_waits_for_it(self, store: Store) -> None:
        await store.place(task("parent"), task("child", reply="caller/1", edges=(Edge("parent"),)))
        listener = await drained(store.backend.listen(["caller/1"]))
        await store.apply(Cancel(id="parent"))
        assert await listener.wait(SOON)
        listener.close()

    async def test_an_expiry_wakes_who_waits_for_the_end(self, store: Store) -> None:
        await store.place(task("a", reply="caller/1", ttl=store.span(1)))
        listener = await drained(store.backend.listen(["caller/1"]))
        await store.advance(2)
        assert await store.take() == []
        assert await listener.wait(SOON)
        listener.close()

    async def test_a_stop_wakes_the_worker_that_holds_the_task(self, store: Store) -> None:
        await store.start(task("a"), worker="w7")
        listener = await drained(store.backend.listen([worker_topic("w7")]))
        await store.apply(Cancel(id="a"))
        assert await listener.wait(SOON)
        listener.close()

    async def test_what_another_object_did_wakes_a_listener(self, store: Store) -> None:
        store.needs("pushes")
        store.needs_second_object()
        other = await store.reopened()
        listener = await drained(store.backend.listen([queue_topic("default")]))
        await other.place(task("a"))
        assert await listener.wait(SOON)
        listener.close()

    async def test_a_cancelled_wait_leaves_the_listener_usable(self, store: Store) -> None:
        listener = await drained(store.backend.listen([queue_topic("default")]))
        waiter = asyncio.ensure_future(listener.wait(SOON))
        await asyncio.sleep(0.01)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        await store.place(task("a"))
        assert await listener.wait(SOON)
        listener.close()

    async def test_an_addition_to_a_log_wakes_who_listens_to_it(self, store: Store) -> None:
        listener = await drained(store.backend.listen([log_topic("log")]))
        await store.backend.append("log", [b"one"])
        assert await listener.wait(SOON)
        listener.close()

    async def test_an_observer_is_told_what_was_not_started_in_time(self, store: Store) -> None:
        late = store.span(2)
        await store.place(task("a", ttl=late), task("b"), task("c", ttl=late, queue="other"))
        await store.advance(3)
        async with observed(store) as heard:
            assert await store.take_ids() == ["b"]
            await heard.all_of("a")
            await store.tend()
            await heard.all_of("a", "c")

    async def test_an_observer_is_told_what_ended_with_its_parent(self, store: Store) -> None:
        await store.place(task("a"), task("b", edges=(Edge("a"),)), task("c", edges=(Edge("b"),)))
        record = await store.start()
        async with observed(store) as heard:
            await store.settle(record, State.FAILED)
            await heard.all_of("b", "c")

    async def test_an_observer_is_told_of_a_stopped_task_that_came_back(self, store: Store) -> None:
        a, b = await store.start(task("a")), await store.start(task("b"))
        await store.backend.apply([Cancel(id="a"), Cancel(id="b")])
        async with observed(store) as heard:
            assert await store.apply(Release(id="a", token=a.token or ""))
            await heard.all_of("a")
            assert await store.apply(Lapse(id="b", token=b.token or ""))
            await store.reclaim()
            await heard.all_of("a", "b")

    async def test_an_observer_is_not_told_what_was_said_to_the_store(self, store: Store) -> None:
        record = await store.start(task("a"))
        await store.place(task("b"), task("c", ttl=store.span(2)))
        async with observed(store) as heard:
            await store.settle(record, State.FAILED)
            assert await store.apply(Cancel(id="b"))
            await store.advance(3)
            await store.tend()
            await heard.all_of("c")

    async def test_one_observer_is_told_and_none_after_its_end(self, store: Store) -> None:
        await store.place(task("a", ttl=store.span(2)))
        await store.advance(3)
        heard = Heard()
        ends = [store.backend.observe(lambda ids: heard.told(ids)) for _ in range(2)]  # noqa: PLW0108 - two
        await store.tend()
        await heard.all_of("a")
        for end in (*ends, *ends):
            end()
        await store.place(task("b", ttl=store.span(2)), task("c", ttl=store.span(10)))
        await store.advance(3)
        await store.tend()
        async with observed(store) as again:
            await store.advance(10)
            await store.tend()
            await again.all_of("c")
        assert heard.ids == ["a"]
