"""Namespaces on one store do not see each other, and objects on one namespace do."""

from __future__ import annotations

from sitq.backends.base import PAUSE_QUEUE, Placed
from sitq.move import Cancel
from sitq.record import Limit, State, Unique
from sitq.testing.conformance.store import Store, task, tasks


class NamespacePromises:
    """Namespaces."""

    async def test_a_namespace_sees_no_task_of_another(self, store: Store) -> None:
        store.needs_second_object()
        other = await store.reopened("other")
        await store.place(task("a"))
        assert await other.find("a") is None
        assert await other.take() == []
        assert await other.tally() == {}
        assert await other.scan_all() == []
        assert not await other.apply(Cancel(id="a"))

    async def test_an_id_may_live_in_each_namespace(self, store: Store) -> None:
        store.needs_second_object()
        other = await store.reopened("other")
        await store.place(task("a", payload=b"1"))
        assert await other.put(task("a", payload=b"2")) == [Placed("a")]
        assert ((await store.get("a")).payload, (await other.get("a")).payload) == (b"1", b"2")

    async def test_keys_limits_and_pauses_are_each_namespaces_own(self, store: Store) -> None:
        store.needs_second_object()
        other = await store.reopened("other")
        limit = (Limit("key", slots=1),)
        await store.start(task("a", unique=Unique("key"), limits=limit))
        await store.backend.swap(PAUSE_QUEUE + "default", None, b"")
        assert await other.put(task("b", unique=Unique("key"), limits=limit)) == [Placed("b")]
        assert await other.take_ids(5) == ["b"]

    async def test_cells_and_logs_are_each_namespaces_own(self, store: Store) -> None:
        store.needs_second_object()
        other = await store.reopened("other")
        await store.backend.swap("key", None, b"")
        await store.backend.append("log", [b"x"])
        assert await other.backend.cells("") == []
        assert await other.backend.read("log") == []

    async def test_the_dead_of_one_namespace_are_no_others_to_reclaim(self, store: Store) -> None:
        store.needs_second_object()
        other = await store.reopened("other")
        await store.start(task("a"), lease=1)
        await store.advance(2)
        await other.reclaim()
        await other.tend()
        assert await store.state("a") is State.RUNNING

    async def test_two_objects_on_one_namespace_see_the_same_tasks(self, store: Store) -> None:
        store.needs_second_object()
        other = await store.reopened()
        await store.place(*tasks(3))
        (running,) = await other.take()
        assert await store.settle(running)
        assert await other.state("t00000") is State.COMPLETED
        assert await store.tally() == await other.tally()

    async def test_the_namespace_is_told(self, store: Store) -> None:
        assert isinstance(store.backend.namespace, str)
        assert store.backend.namespace
