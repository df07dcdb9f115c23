"""Scans and counts."""

from __future__ import annotations

import asyncio

import pytest

from sitq.backends.base import Filter
from sitq.move import Cancel, Delete
from sitq.record import Edge, State
from sitq.testing.conformance.store import Store, task, tasks


async def found(store: Store, **where: object) -> list[str]:
    """The ids of a whole scan."""
    return [record.id for record in await store.scan_all(Filter(**where))]  # type: ignore[arg-type]


class ScanPromises:
    """Scans."""

    async def test_a_scan_reads_every_task_in_order_of_sequence(self, store: Store) -> None:
        await store.place(task("c"), task("a", priority=9), task("b", queue="other"))
        assert await found(store) == ["c", "a", "b"]

    @pytest.mark.parametrize("n", [1, 7, 1000])
    async def test_a_scan_can_go_from_the_newest_task_down(self, store: Store, n: int) -> None:
        await store.place(*tasks(25))
        found = await store.scan_all(Filter(newest_first=True), n)
        assert [one.id for one in found] == [f"t{k:05}" for k in reversed(range(25))]

    async def test_a_selective_scan_down_finds_its_tasks(self, store: Store) -> None:
        await store.start(task("running"))
        await store.settle(await store.start(task("done")))
        await store.backend.put([[*tasks(3000), task("needle", batch="b")]])
        assert await found(store, batch="b", newest_first=True) == ["needle"]
        assert await found(store, states=(State.RUNNING,), newest_first=True) == ["running"]
        assert await found(store, states=(State.COMPLETED, State.RUNNING), newest_first=True) == [
            "done",
            "running",
        ]

    async def test_a_scan_of_an_empty_store_ends(self, store: Store) -> None:
        assert await found(store) == []

    @pytest.mark.parametrize("n", [1, 7, 1000])
    async def test_pages_fit_together(self, store: Store, n: int) -> None:
        await store.place(*tasks(25))
        assert [one.id for one in await store.scan_all(n=n)] == [f"t{k:05}" for k in range(25)]

    async def test_a_scan_tells_what_is_stored(self, store: Store) -> None:
        await store.place(task("a", payload=b"\0", tags=("t",), preview="a()"))
        assert await store.scan_all() == [await store.get("a")]

    async def test_states_are_selected(self, store: Store) -> None:
        await store.settle(await store.start(task("done")))
        await store.start(task("running"))
        await store.place(task("queued"), task("blocked", edges=(Edge("queued"),)))
        assert await found(store, states=(State.COMPLETED,)) == ["done"]
        assert await found(store, states=(State.QUEUED, State.BLOCKED)) == ["queued", "blocked"]
        assert await found(store, states=(State.DEAD,)) == []
        assert await found(store, states=()) == []

    async def test_a_queue_is_selected(self, store: Store) -> None:
        await store.place(task("a", queue="x"), task("b", queue="y"), task("c", queue="x"))
        assert await found(store, queue="x") == ["a", "c"]

    async def test_a_function_is_selected(self, store: Store) -> None:
        await store.place(task("a", name="f"), task("b", name="g"))
        assert await found(store, name="g") == ["b"]

    async def test_a_batch_is_selected(self, store: Store) -> None:
        await store.place(task("a", batch="1"), task("b", batch="2"), task("c"))
        assert await found(store, batch="2") == ["b"]

    async def test_children_are_selected_by_their_parent_also_after_their_end(self, store: Store) -> None:
        await store.place(task("a"), task("b", edges=(Edge("a"), Edge("a", "ggggg"))), task("c"))
        await store.place(task("d", edges=(Edge("b"), Edge("a"))), task("e", edges=(Edge("c"), Edge("a"))))
        assert await found(store, parent="a") == ["b", "d", "e"]
        assert await found(store, parent="a", newest_first=True) == ["e", "d", "b"]
        assert await found(store, parent="a", states=(State.QUEUED,)) == []
        await store.settle(await store.start())
        assert await found(store, parent="a") == ["b", "d", "e"]
        await store.apply(Cancel(id="b"))
        assert await found(store, parent="a", states=(State.CANCELLED,)) == ["b", "d"]
        assert await found(store, parent="b") == ["d"]
        assert await found(store, parent="e") == await found(store, parent="nobody") == []

    @pytest.mark.parametrize("n", [1, 7, 1000])
    async def test_pages_of_children_fit_together(self, store: Store, n: int) -> None:
        await store.place(task("a"), task("b"))
        await store.put_group(
            *[
                each
                for pair in zip(
                    tasks(25, "x", edges=(Edge("a"),)), tasks(25, "y", edges=(Edge("b"),)), strict=True
                )
                for each in pair
            ]
        )
        children = [one.id for one in await store.scan_all(Filter(parent="b"), n=n)]
        assert children == [f"y{k:05}" for k in range(25)]

    async def test_children_that_were_removed_are_not_found(self, store: Store) -> None:
        await store.place(task("a"), task("b", edges=(Edge("a"),)), task("c", edges=(Edge("a"),)))
        await store.apply(Delete(id="b"))
        assert await found(store, parent="a") == ["c"]
        await store.apply(Delete(id="a", end=State.COMPLETED))
        assert await found(store, parent="a") == []
        await store.place(task("a"))
        assert await found(store, parent="a") == []

    async def test_a_parent_whose_children_have_ended_is_purged_before_them(self, store: Store) -> None:
        await store.place(task("a", keep=1), task("b", keep=store.span(1000), edges=(Edge("a"),)))
        await store.settle(await store.start())
        await store.advance(1)
        await store.tend()
        assert await store.find("a") is not None
        await store.settle(await store.start())
        await store.advance(1)
        await store.tend()
        assert [one is None for one in await store.backend.get(["a", "b"])] == [True, False]
        assert await found(store, parent="a") == []

    async def test_an_owner_is_selected(self, store: Store) -> None:
        await store.start(task("a"), worker="w1")
        await store.start(task("b"), worker="w2")
        assert await found(store, owner="w2", states=(State.RUNNING,)) == ["b"]

    async def test_text_is_found_in_id_name_and_preview(self, store: Store) -> None:
        await store.place(
            task("needle-1"), task("b", name="mod:needle"), task("c", preview="f('needle')"), task("d")
        )
        assert await found(store, text="needle") == ["needle-1", "b", "c"]
        assert await found(store, text="NEEDLE") == ["needle-1", "b", "c"]

    @pytest.mark.parametrize("text", ["%", "_", "*", "?", "[a]", "\\", "'", '"', "a.c", "^", "ü"])
    async def test_text_is_literal(self, store: Store, text: str) -> None:
        await store.place(task("with", preview=f"x{text}y"), task("without", preview="xabcy", name="axc"))
        assert await found(store, text=text) == ["with"]

    async def test_ended_before_and_created_before_are_selected(self, store: Store) -> None:
        await store.settle(await store.start(task("early")))
        await store.advance(2)
        between = await store.now()
        await store.advance(2)
        await store.settle(await store.start(task("late")))
        await store.place(task("waiting"))
        assert await found(store, finished_before=between) == ["early"]
        assert await found(store, created_before=between) == ["early"]

    async def test_conditions_add_up(self, store: Store) -> None:
        await store.place(task("a", queue="x", name="f"), task("b", queue="x", name="g"), task("c", name="f"))
        assert await found(store, queue="x", name="f") == ["a"]

    async def test_a_scan_sees_each_task_once_while_others_come_and_go(self, store: Store) -> None:
        await store.place(*tasks(60))
        seen: list[str] = []
        after: int | None = None
        for number in range(1000):
            page = await store.backend.scan(Filter(), after, 7)
            seen += [record.id for record in page.records]
            if page.after is None:
                break
            after = page.after
            if number < 5:
                await store.place(task(f"new-{number}"))
                await store.apply(Delete(id=f"t{number:05}"))
                await store.apply(Cancel(id=f"t{50 - number:05}"))
        old = [id for id in seen if not id.startswith("new")]
        assert old == sorted(set(old))
        assert set(old) >= {f"t{k:05}" for k in range(7, 60)}

    async def test_a_selective_scan_of_many_finds_its_task(self, store: Store) -> None:
        await store.backend.put([[*tasks(5000), task("needle", batch="b")]])
        assert await found(store, batch="b") == ["needle"]
        assert await found(store, text="need") == ["needle"]


class TallyPromises:
    """Counts."""

    async def test_an_empty_store_counts_nothing(self, store: Store) -> None:
        assert await store.tally() == {}

    async def test_tasks_are_counted_by_queue_and_state(self, store: Store) -> None:
        await store.settle(await store.start(task("done")))
        await store.settle(await store.start(task("failed")), State.FAILED)
        await store.start(task("running"))
        await store.place(task("a"), task("b", edges=(Edge("a"),)), task("c", queue="other"))
        await store.place(task("later", delay=store.span(100)))
        assert await store.tally() == {
            "default": {
                State.COMPLETED: 1,
                State.FAILED: 1,
                State.RUNNING: 1,
                State.QUEUED: 2,
                State.BLOCKED: 1,
            },
            "other": {State.QUEUED: 1},
        }

    async def test_counts_equal_a_scan_after_many_changes(self, store: Store) -> None:
        await store.place(*tasks(40, ttl=store.span(3)), task("child", edges=(Edge("t00000"),)))
        records = await store.take(10, lease=2)
        for record, state in zip(records[:4], State, strict=False):
            await store.settle(record, State.COMPLETED if state is State.BLOCKED else State.FAILED)
        await store.backend.apply([Cancel(id=f"t{k:05}") for k in range(12, 18)])
        await store.backend.apply([Delete(id=f"t{k:05}") for k in range(15, 22)])
        await store.advance(4)
        await store.take(3, worker="w2")
        await store.tend()
        counted: dict[State, int] = {}
        for record in await store.scan_all():
            counted[record.state] = counted.get(record.state, 0) + 1
        assert await store.tally() == {"default": counted}

    async def test_counts_hold_under_concurrent_writes(self, store: Store) -> None:
        async def life(number: int) -> None:
            await store.place(task(f"{number}", queue="q"))
            for record in await store.take(2, queues=("q",)):
                await store.settle(record)

        await asyncio.gather(*(life(number) for number in range(60)))
        while batch := await store.take(10, queues=("q",)):
            for record in batch:
                await store.settle(record)
        assert await store.tally() == {"q": {State.COMPLETED: 60}}
