"""Fairness between the tenants of a queue."""

from __future__ import annotations

from sitq.backends.base import PAUSE_KEY
from sitq.record import Fair, Limit
from sitq.testing.conformance.store import Store, task, tasks


class FairPromises:
    """Fairness between the tenants of a queue."""

    async def test_tenants_take_turns(self, store: Store) -> None:
        await store.place(*tasks(4, "a", fair=Fair("a")), *tasks(4, "b", fair=Fair("b")))
        taken = await store.take_ids(8)
        assert "".join(id[0] for id in taken) == "abababab"

    async def test_turns_go_on_from_claim_to_claim(self, store: Store) -> None:
        await store.place(*tasks(4, "a", fair=Fair("a")), *tasks(4, "b", fair=Fair("b")))
        taken = [id for _ in range(8) for id in await store.take_ids(1)]
        assert "".join(id[0] for id in taken) == "abababab"

    async def test_a_tenants_own_tasks_start_in_order(self, store: Store) -> None:
        await store.place(*tasks(5, "a", fair=Fair("a")), *tasks(5, "b", fair=Fair("b")))
        taken = await store.take_ids(10)
        for tenant in "ab":
            own = [id for id in taken if id.startswith(tenant)]
            assert own == sorted(own)

    async def test_weights_share_the_starts_in_proportion(self, store: Store) -> None:
        await store.place(
            *tasks(90, "a", fair=Fair("a", 1.0)),
            *tasks(90, "b", fair=Fair("b", 2.0)),
            *tasks(90, "c", fair=Fair("c", 3.0)),
        )
        taken = await store.take_ids(120)
        counts = [sum(id.startswith(tenant) for id in taken) for tenant in "abc"]
        assert [abs(count - share) <= 1 for count, share in zip(counts, (20, 40, 60), strict=True)] == [
            True
        ] * 3

    async def test_weights_below_one_share_too(self, store: Store) -> None:
        await store.place(*tasks(40, "a", fair=Fair("a", 0.25)), *tasks(40, "b", fair=Fair("b", 0.75)))
        taken = await store.take_ids(40)
        assert abs(sum(id.startswith("a") for id in taken) - 10) <= 1

    async def test_a_tenant_of_few_tasks_does_not_wait_for_one_of_many(self, store: Store) -> None:
        await store.backend.put([tasks(1000, "many", fair=Fair("many"))])
        await store.place(task("few", fair=Fair("few")))
        assert "few" in await store.take_ids(2)

    async def test_a_tenant_that_comes_late_catches_up_on_nothing(self, store: Store) -> None:
        await store.place(*tasks(20, "a", fair=Fair("a")))
        assert len(await store.take(10)) == 10
        await store.place(*tasks(10, "b", fair=Fair("b")))
        taken = await store.take_ids(6)
        assert sum(id.startswith("b") for id in taken) == 3

    async def test_a_tenant_that_was_away_catches_up_on_nothing(self, store: Store) -> None:
        await store.place(*tasks(20, "a", fair=Fair("a")), *tasks(10, "b", fair=Fair("b")))
        await store.backend.swap(PAUSE_KEY + "b", None, b"")
        assert len(await store.take(10)) == 10
        await store.backend.swap(PAUSE_KEY + "b", b"", None)
        taken = await store.take_ids(6)
        assert sum(id.startswith("b") for id in taken) == 3

    async def test_turns_come_before_priorities(self, store: Store) -> None:
        await store.place(*tasks(3, "a", fair=Fair("a"), priority=50), *tasks(3, "b", fair=Fair("b")))
        taken = await store.take_ids(6)
        assert "".join(id[0] for id in taken) == "ababab"

    async def test_priorities_hold_within_a_tenant(self, store: Store) -> None:
        await store.place(task("low", fair=Fair("a")), task("high", fair=Fair("a"), priority=1))
        assert await store.take_ids(2) == ["high", "low"]

    async def test_equal_turns_are_decided_by_priority(self, store: Store) -> None:
        await store.place(task("a", fair=Fair("a")), task("b", fair=Fair("b"), priority=1))
        assert await store.take_ids(2) == ["b", "a"]

    async def test_tasks_without_a_tenant_are_one_tenant(self, store: Store) -> None:
        await store.place(*tasks(4, "n"), *tasks(4, "a", fair=Fair("a")))
        taken = await store.take_ids(8)
        assert "".join(id[0] for id in taken) == "nananana"

    async def test_turns_are_each_queues_own(self, store: Store) -> None:
        await store.place(*tasks(5, "x", queue="x", fair=Fair("a")))
        await store.take(5, queues=("x",))
        await store.place(
            *tasks(2, "a", queue="y", fair=Fair("a")), *tasks(2, "b", queue="y", fair=Fair("b"))
        )
        taken = await store.take_ids(4, queues=("y",))
        assert "".join(id[0] for id in taken) == "abab"

    async def test_a_tenant_over_its_limit_does_not_hold_the_others_up(self, store: Store) -> None:
        slot = (Limit("a", slots=1),)
        await store.place(*tasks(5, "a", fair=Fair("a"), limits=slot), *tasks(5, "b", fair=Fair("b")))
        taken = await store.take_ids(9)
        assert taken == ["a00000", *(f"b{n:05}" for n in range(5))]

    async def test_the_weight_is_that_of_the_task_that_started_last(self, store: Store) -> None:
        await store.place(task("a0", fair=Fair("a", 10.0)), *tasks(9, "a1", fair=Fair("a", 0.1)))
        await store.place(*tasks(9, "b", fair=Fair("b")))
        assert "".join(id[0] for id in await store.take_ids(12)) == "ababbbbbbbba"

    async def test_a_hundred_tenants_each_get_their_turn(self, store: Store) -> None:
        for tenant in range(100):
            await store.backend.put([tasks(3, f"{tenant}-", fair=Fair(f"tenant {tenant}"))])
        taken = await store.take_ids(100)
        assert len({id.partition("-")[0] for id in taken}) == 100

    async def test_a_tenants_functions_share_its_turns(self, store: Store) -> None:
        await store.place(
            *(task(f"a{n}", name=f"f{n % 2}", fair=Fair("a")) for n in range(4)),
            *(task(f"b{n}", fair=Fair("b")) for n in range(4)),
        )
        taken = await store.take_ids(8)
        assert "".join(id[0] for id in taken) == "abababab"
