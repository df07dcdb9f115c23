"""Records that cannot be read any more."""

from __future__ import annotations

from sitq.move import Cancel, Delete
from sitq.record import Edge, State
from sitq.testing.conformance.store import Store, task, tasks


class DamagePromises:
    """Records that cannot be read any more: one never stops the queue."""

    async def test_a_damaged_record_does_not_stop_the_queue(self, store: Store) -> None:
        store.needs_corruption()
        await store.place(task("damaged", priority=9), *tasks(5))
        await store.harness.corrupt(store.backend, "damaged")
        taken: list[str] = []
        for _ in range(5):
            taken += await store.take_ids(2)
        assert taken == [f"t{n:05}" for n in range(5)]

    async def test_a_damaged_record_is_put_aside_with_its_reason(self, store: Store) -> None:
        store.needs_corruption()
        await store.place(task("damaged"), task("a"))
        await store.harness.corrupt(store.backend, "damaged")
        while await store.take(2):
            pass
        await store.tend()
        assert (await store.tally())["default"] == {State.RUNNING: 1, State.DEAD: 1}
        stored = await store.find("damaged")
        assert stored is not None
        assert stored.state is State.DEAD
        assert stored.errors[-1].message

    async def test_a_damaged_running_record_does_not_stop_the_reclaim(self, store: Store) -> None:
        store.needs_corruption()
        await store.place(task("damaged"), task("a"))
        assert len(await store.take(2, lease=1)) == 2
        await store.harness.corrupt(store.backend, "damaged")
        await store.advance(2)
        taken: list[str] = []
        for _ in range(3):
            taken += await store.take_ids(2, worker="w2")
        assert taken == ["a"]

    async def test_a_damaged_record_does_not_stop_reading(self, store: Store) -> None:
        store.needs_corruption()
        await store.place(task("damaged"), *tasks(3))
        await store.harness.corrupt(store.backend, "damaged")
        records = await store.backend.get(["t00000", "damaged", "t00001"])
        assert [record and record.id for record in (records[0], records[2])] == ["t00000", "t00001"]
        found = [record.id for record in await store.scan_all() if record.id != "damaged"]
        assert found == ["t00000", "t00001", "t00002"]
        assert sum((await store.tally())["default"].values()) == 4

    async def test_a_damaged_record_can_be_deleted(self, store: Store) -> None:
        store.needs_corruption()
        await store.place(task("damaged"))
        await store.harness.corrupt(store.backend, "damaged")
        await store.take()
        assert await store.apply(Delete(id="damaged"))
        assert await store.find("damaged") is None

    async def test_a_damaged_child_does_not_lose_its_parents_end(self, store: Store) -> None:
        store.needs_corruption()
        await store.place(task("parent"), task("damaged", edges=(Edge("parent"),)))
        await store.place(task("child", edges=(Edge("parent"),)))
        await store.harness.corrupt(store.backend, "damaged")
        assert await store.settle(await store.start())
        assert await store.state("child") is State.QUEUED

    async def test_moves_about_a_damaged_record_leave_the_others_of_their_call_alone(
        self, store: Store
    ) -> None:
        store.needs_corruption()
        await store.place(task("damaged"), task("a"))
        await store.harness.corrupt(store.backend, "damaged")
        _, kept = await store.backend.apply([Cancel(id="damaged"), Cancel(id="a")])
        assert kept
        assert await store.state("a") is State.CANCELLED
