"""Pauses of queues, functions, limit keys and tenants."""

from __future__ import annotations

import pytest

from sitq.backends.base import PAUSE_KEY, PAUSE_NAME, PAUSE_QUEUE
from sitq.move import Retry
from sitq.record import Fair, Limit, State
from sitq.testing.conformance.store import Store, task, tasks

PAUSES = {
    "queue": PAUSE_QUEUE + "held",
    "function": PAUSE_NAME + "held",
    "limit key": PAUSE_KEY + "held",
    "tenant": PAUSE_KEY + "held-tenant",
}


def held(id: str) -> dict[str, object]:
    """What makes a task one that each of the pauses holds."""
    return {
        "id": id,
        "queue": "held",
        "name": "held",
        "limits": (Limit("other"), Limit("held")),
        "fair": Fair("held-tenant"),
    }


class PausePromises:
    """Pauses."""

    @pytest.mark.parametrize("what", PAUSES)
    async def test_what_is_paused_does_not_start_until_it_is_resumed(self, store: Store, what: str) -> None:
        key = PAUSES[what]
        await store.place(task(**held("a")))  # type: ignore[arg-type]
        assert await store.backend.swap(key, None, b"")
        assert await store.take_ids(5, queues=("held",)) == []
        assert await store.backend.swap(key, b"", None)
        assert await store.take_ids(5, queues=("held",)) == ["a"]

    @pytest.mark.parametrize("what", PAUSES)
    async def test_what_is_put_during_a_pause_waits_too(self, store: Store, what: str) -> None:
        await store.backend.swap(PAUSES[what], None, b"by hand")
        await store.place(task(**held("a")))  # type: ignore[arg-type]
        assert await store.take_ids(5, queues=("held",)) == []
        assert await store.state("a") is State.QUEUED

    @pytest.mark.parametrize("what", PAUSES)
    async def test_a_pause_ends_by_itself(self, store: Store, what: str) -> None:
        await store.place(task(**held("a")))  # type: ignore[arg-type]
        await store.backend.swap(PAUSES[what], None, b"", store.span(4))
        await store.advance(1)
        assert await store.take_ids(5, queues=("held",)) == []
        await store.advance(4)
        assert await store.take_ids(5, queues=("held",)) == ["a"]

    @pytest.mark.parametrize("what", ["queue", "function", "limit key"])
    async def test_a_pause_holds_nothing_else(self, store: Store, what: str) -> None:
        await store.backend.swap(PAUSES[what], None, b"")
        free = task("free", queue="free", name="he", limits=(Limit("he"), Limit("held2")))
        await store.place(task(**held("a")), free)  # type: ignore[arg-type]
        assert await store.take_ids(5, queues=("held", "free")) == ["free"]

    async def test_the_pause_of_a_tenant_holds_no_other_tenant(self, store: Store) -> None:
        await store.backend.swap(PAUSE_KEY + "a", None, b"")
        await store.place(*tasks(3, "a", fair=Fair("a")), *tasks(2, "b", fair=Fair("b")), task("c"))
        assert sorted(await store.take_ids(9)) == ["b00000", "b00001", "c"]

    async def test_the_pause_of_a_function_holds_it_in_every_queue(self, store: Store) -> None:
        await store.backend.swap(PAUSE_NAME + "f", None, b"")
        await store.place(task("a", queue="x", name="f"), task("b", queue="y", name="f"))
        await store.place(task("c", queue="x", name="g"))
        assert await store.take_ids(9, queues=("x", "y")) == ["c"]

    async def test_a_paused_queue_gives_no_reason_to_look_again_soon(self, store: Store) -> None:
        running = await store.start(task("a", limits=(Limit("key", slots=1),)))
        await store.put(task("b", limits=(Limit("key", slots=1),)))
        assert await store.take_ids(5) == []
        await store.backend.swap(PAUSE_QUEUE + "default", None, b"")
        await store.settle(running)
        taken = await store.claim(5)
        assert taken.records == []
        assert taken.next is None or taken.next > taken.now

    async def test_a_running_task_goes_on_through_a_pause(self, store: Store) -> None:
        running = await store.start(task("a"))
        await store.backend.swap(PAUSE_QUEUE + "default", None, b"")
        assert [renewal.answer for renewal in await store.renew(running)] == ["kept"]
        assert await store.settle(running)

    async def test_a_retry_during_a_pause_waits(self, store: Store) -> None:
        running = await store.start(task("a"))
        await store.backend.swap(PAUSE_QUEUE + "default", None, b"")
        await store.apply(Retry(id="a", token=running.token or ""))
        assert await store.take_ids() == []

    async def test_thousands_of_paused_tasks_do_not_hide_the_one_behind_them(self, store: Store) -> None:
        await store.backend.swap(PAUSE_NAME + "held", None, b"")
        await store.backend.put([[*tasks(3000, name="held", priority=5), task("a")]])
        assert await store.take_ids(5) == ["a"]

    async def test_two_pauses_must_both_end(self, store: Store) -> None:
        await store.place(task("a", name="f"))
        await store.backend.swap(PAUSE_QUEUE + "default", None, b"")
        await store.backend.swap(PAUSE_NAME + "f", None, b"")
        await store.backend.swap(PAUSE_QUEUE + "default", b"", None)
        assert await store.take_ids() == []
        await store.backend.swap(PAUSE_NAME + "f", b"", None)
        assert await store.take_ids() == ["a"]

    async def test_the_order_after_a_pause_is_that_before_it(self, store: Store) -> None:
        await store.place(task("a"), task("b", priority=1), task("c"))
        await store.backend.swap(PAUSE_QUEUE + "default", None, b"")
        assert await store.take_ids(5) == []
        await store.backend.swap(PAUSE_QUEUE + "default", b"", None)
        assert await store.take_ids(5) == ["b", "a", "c"]
