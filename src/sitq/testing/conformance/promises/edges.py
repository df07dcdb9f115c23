"""Edges: what a parent's end does to its children."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sitq.backends.base import Placed
from sitq.move import Cancel, Delete, Retry, Settle
from sitq.record import AFTER_ANY_END, AFTER_SUCCESS, TERMINAL, Edge, State
from sitq.testing.conformance.store import Store, task, tasks

ENDS = {"g": State.QUEUED, "a": State.QUEUED, "c": State.CANCELLED, "f": State.FAILED}


def only(state: State, letter: str, other: str) -> str:
    """The effects with one letter for one state and another for the rest."""
    return "".join(letter if one is state else other for one in TERMINAL)


class EdgePromises:
    """Edges."""

    async def test_a_blocked_task_starts_when_its_parent_completed(self, store: Store) -> None:
        await store.place(task("parent"), task("child", edges=(Edge("parent"),)))
        assert await store.state("child") is State.BLOCKED
        parent = await store.start()
        assert await store.take_ids() == []
        await store.settle(parent)
        assert await store.take_ids() == ["child"]

    @pytest.mark.parametrize("letter", "gacf")
    @pytest.mark.parametrize("state", TERMINAL)
    async def test_each_letter_takes_its_effect_for_its_state(
        self, store: Store, state: State, letter: str
    ) -> None:
        opposite = "c" if letter in "ga" else "g"
        edge = Edge("parent", only(state, letter, opposite))
        await store.place(task("parent"), task("child", edges=(edge,)))
        await store.settle(await store.start(), state)
        assert await store.state("child") is ENDS[letter]

    @pytest.mark.parametrize("letter", "gacf")
    @pytest.mark.parametrize("state", TERMINAL)
    async def test_the_effect_of_a_parent_that_has_ended_is_taken_at_once(
        self, store: Store, state: State, letter: str
    ) -> None:
        await store.settle(await store.start(task("parent")), state)
        opposite = "c" if letter in "ga" else "g"
        child = task("child", edges=(Edge("parent", only(state, letter, opposite)),))
        assert await store.put(child) == [Placed("child")]
        assert await store.state("child") is ENDS[letter]

    async def test_a_task_waits_for_all_of_its_parents(self, store: Store) -> None:
        await store.place(*tasks(3, "p"))
        await store.place(task("child", edges=tuple(Edge(f"p{n:05}") for n in range(3))))
        for _ in range(3):
            assert await store.state("child") is State.BLOCKED
            await store.settle(await store.start())
        assert await store.take_ids() == ["child"]

    async def test_one_parents_failure_is_not_waited_out(self, store: Store) -> None:
        await store.place(*tasks(2, "p"), task("child", edges=(Edge("p00000"), Edge("p00001"))))
        await store.settle(await store.start(), State.FAILED)
        assert await store.state("child") is State.CANCELLED
        await store.settle(await store.start())
        assert await store.state("child") is State.CANCELLED

    async def test_a_dependency_that_failed_says_which(self, store: Store) -> None:
        await store.place(task("parent"), task("child", edges=(Edge("parent"),)))
        await store.settle(await store.start(), State.FAILED)
        child = await store.get("child")
        (failure,) = child.errors
        assert failure.kind == "dependency"
        assert "parent" in failure.message
        assert "failed" in failure.message
        assert child.finished is not None
        assert child.keep_until is not None

    async def test_a_child_that_failed_with_its_parent_is_kept_as_a_failure(self, store: Store) -> None:
        child = task("child", keep=1, keep_failed=store.span(9), edges=(Edge("parent", "gffff"),))
        await store.place(task("parent"), child)
        await store.settle(await store.start(), State.FAILED)
        stored = await store.get("child")
        assert stored.state is State.FAILED
        assert stored.finished is not None
        assert stored.keep_until == stored.finished + store.span(9)

    async def test_an_end_goes_down_a_chain(self, store: Store) -> None:
        await store.place(task("a"), task("b", edges=(Edge("a"),)))
        await store.place(task("c", edges=(Edge("b"),)), task("d", edges=(Edge("c", AFTER_ANY_END),)))
        await store.settle(await store.start(), State.FAILED)
        assert await store.states("b", "c", "d") == [State.CANCELLED, State.CANCELLED, State.QUEUED]

    async def test_cancelling_a_parent_takes_effect_on_its_children(self, store: Store) -> None:
        await store.place(task("a"), task("b", edges=(Edge("a"),)), task("c", edges=(Edge("b"),)))
        await store.apply(Cancel(id="a"))
        assert await store.states("a", "b", "c") == [State.CANCELLED] * 3

    async def test_the_expiry_of_a_parent_takes_effect_on_its_children(self, store: Store) -> None:
        await store.place(task("a", ttl=store.span(1)), task("b", edges=(Edge("a", "gggcg"),)))
        await store.advance(2)
        assert await store.take_ids() == []
        assert await store.states("a", "b") == [State.EXPIRED, State.CANCELLED]

    async def test_a_stopped_parent_that_died_takes_effect_on_its_children(self, store: Store) -> None:
        await store.start(task("a"), lease=1)
        await store.place(task("b", edges=(Edge("a"),)))
        await store.apply(Cancel(id="a"))
        await store.advance(2)
        await store.reclaim()
        assert await store.states("a", "b") == [State.CANCELLED, State.CANCELLED]

    async def test_a_retry_of_the_parent_takes_no_effect_on_its_children(self, store: Store) -> None:
        running = await store.start(task("a"))
        await store.place(task("b", edges=(Edge("a"),)))
        await store.apply(Retry(id="a", token=running.token or ""))
        assert await store.state("b") is State.BLOCKED

    async def test_a_lost_settle_takes_no_effect_on_children(self, store: Store) -> None:
        await store.start(task("a"))
        await store.place(task("b", edges=(Edge("a"),)))
        assert not await store.apply(Settle(id="a", token="wrong", state=State.COMPLETED))
        assert await store.state("b") is State.BLOCKED

    async def test_a_child_that_nobody_armed_is_cancelled_at_the_last_end(self, store: Store) -> None:
        arming = "gaaaa"
        await store.place(*tasks(2, "p"))
        await store.place(task("child", edges=(Edge("p00000", arming), Edge("p00001", arming))))
        await store.settle(await store.start())
        assert await store.state("child") is State.BLOCKED
        await store.settle(await store.start())
        child = await store.get("child")
        assert child.state is State.CANCELLED
        assert [failure.kind for failure in child.errors] == ["dependency"]

    async def test_a_child_that_one_parent_armed_runs_after_the_last_end(self, store: Store) -> None:
        arming = "gaaaa"
        await store.place(*tasks(3, "p"))
        await store.place(task("child", edges=tuple(Edge(f"p{n:05}", arming) for n in range(3))))
        await store.settle(await store.start())
        await store.settle(await store.start(), State.FAILED)
        assert await store.state("child") is State.BLOCKED
        await store.settle(await store.start())
        assert await store.state("child") is State.QUEUED

    async def test_one_edge_that_can_arm_makes_arming_needed(self, store: Store) -> None:
        await store.place(*tasks(2, "p"))
        edges = (Edge("p00000", AFTER_ANY_END), Edge("p00001", "gaggg"))
        await store.place(task("child", edges=edges))
        await store.settle(await store.start(), State.FAILED)
        await store.settle(await store.start())
        assert await store.state("child") is State.CANCELLED

    async def test_a_parent_that_had_ended_can_arm(self, store: Store) -> None:
        await store.settle(await store.start(task("ended")), State.FAILED)
        await store.place(task("open"))
        await store.place(task("child", edges=(Edge("ended", "gaaaa"), Edge("open", "gaaaa"))))
        assert await store.state("child") is State.BLOCKED
        await store.settle(await store.start())
        assert await store.state("child") is State.QUEUED

    async def test_a_child_whose_parents_had_all_ended_unarmed_is_cancelled_at_once(
        self, store: Store
    ) -> None:
        await store.settle(await store.start(task("ended")))
        await store.place(task("child", edges=(Edge("ended", "gaaaa"),)))
        assert await store.state("child") is State.CANCELLED

    async def test_an_end_at_put_goes_on_to_the_rest_of_the_group(self, store: Store) -> None:
        await store.settle(await store.start(task("ended")), State.FAILED)
        await store.put_group(
            task("c", edges=(Edge("b"),)),
            task("b", edges=(Edge("ended"),)),
            task("d", edges=(Edge("c", AFTER_ANY_END),)),
        )
        assert await store.states("b", "c", "d") == [State.CANCELLED, State.CANCELLED, State.QUEUED]

    async def test_an_end_at_put_counts_once_for_those_that_wait_for_others_too(self, store: Store) -> None:
        await store.settle(await store.start(task("ended")), State.FAILED)
        await store.place(task("open"))
        ends_with_it = task("middle", edges=(Edge("ended"),))
        waits = task("last", edges=(Edge("middle", AFTER_ANY_END), Edge("open", AFTER_ANY_END)))
        await store.put_group(ends_with_it, waits)
        assert (await store.state("middle"), await store.state("last")) == (State.CANCELLED, State.BLOCKED)
        await store.settle(await store.start())
        assert await store.take_ids() == ["last"]

    async def test_a_parent_that_had_ended_counts_once_though_it_is_deleted_as_an_end(
        self, store: Store
    ) -> None:
        await store.place(task("first"), task("second"))
        await store.place(task("child", edges=(Edge("first"), Edge("second"))))
        await store.settle(await store.start())
        assert await store.apply(Delete(id="first", end=State.COMPLETED))
        assert await store.state("child") is State.BLOCKED
        await store.settle(await store.start())
        assert await store.take_ids() == ["child"]

    async def test_the_delay_of_a_blocked_task_counts_from_its_parents_end(self, store: Store) -> None:
        await store.place(task("parent"), task("child", delay=store.span(6), edges=(Edge("parent"),)))
        await store.advance(7)
        await store.settle(await store.start())
        assert await store.take_ids() == []
        await store.advance(7)
        assert await store.take_ids() == ["child"]

    async def test_the_due_time_of_a_blocked_task_holds_after_its_parents_end(self, store: Store) -> None:
        due = await store.now() + store.span(10)
        await store.place(task("parent"), task("child", due=due, edges=(Edge("parent"),)))
        await store.settle(await store.start())
        assert await store.take_ids() == []
        assert (await store.get("child")).due == due
        await store.advance(11)
        assert await store.take_ids() == ["child"]

    async def test_the_ttl_of_a_blocked_task_counts_from_its_parents_end(self, store: Store) -> None:
        await store.place(task("parent"), task("child", ttl=store.span(10), edges=(Edge("parent"),)))
        await store.advance(15)
        await store.settle(await store.start())
        await store.advance(5)
        assert await store.take_ids() == ["child"]

    async def test_children_may_live_in_other_queues(self, store: Store) -> None:
        await store.place(task("a", queue="x"), task("b", queue="y", edges=(Edge("a"),)))
        await store.settle(await store.start(queues=("x",)))
        assert await store.take_ids(queues=("y",)) == ["b"]

    async def test_an_end_goes_down_a_chain_of_ten_thousand(self, store: Store) -> None:
        chain = tasks(10_000)
        for earlier, later in pairwise(chain):
            later.edges = (Edge(earlier.id),)
        await store.put_group(*chain)
        assert await store.apply(Cancel(id="t00000"))
        await store.tend()
        assert await store.tally() == {"default": {State.CANCELLED: 10_000}}

    async def test_ten_thousand_children_go_when_their_parent_completed(self, store: Store) -> None:
        await store.put_group(task("parent", queue="q"), *tasks(10_000, edges=(Edge("parent"),)))
        await store.settle(await store.start(queues=("q",)))
        await store.tend()
        assert await store.tally() == {"default": {State.QUEUED: 10_000}, "q": {State.COMPLETED: 1}}
        assert await store.take_ids(3) == ["t00000", "t00001", "t00002"]

    @pytest.mark.parametrize("effects", ["gcccc", "ggggg", "gaaaa", "cgggg"])
    @pytest.mark.parametrize("state", TERMINAL)
    async def test_a_milestone_completes_where_another_task_would_queue(
        self, store: Store, state: State, effects: str
    ) -> None:
        await store.place(task("parent"), task("usual", edges=(Edge("parent", effects),)))
        await store.place(task("milestone", milestone=True, edges=(Edge("parent", effects),)))
        await store.settle(await store.start(), state)
        usual = await store.get("usual")
        milestone = await store.get("milestone")
        assert milestone.state is (State.COMPLETED if usual.state is State.QUEUED else usual.state)
        assert milestone.attempt == 0
        assert milestone.result is None
        assert milestone.finished is not None
        assert milestone.keep_until == milestone.finished + milestone.keep

    async def test_a_milestones_end_lets_its_children_go_in_the_same_step(self, store: Store) -> None:
        await store.place(*tasks(3, "p"))
        await store.put_group(
            task("last", edges=(Edge("middle"),)),
            task(
                "middle",
                milestone=True,
                delay=store.span(50),
                edges=tuple(Edge(f"p{n:05}") for n in range(3)),
            ),
        )
        for _ in range(3):
            assert await store.states("middle", "last") == [State.BLOCKED, State.BLOCKED]
            await store.settle(await store.start())
        assert await store.states("middle", "last") == [State.COMPLETED, State.QUEUED]
        assert await store.take_ids() == ["last"]
        assert await store.tally() == {"default": {State.COMPLETED: 4, State.RUNNING: 1}}

    async def test_a_milestone_without_parents_completes_when_it_is_put(self, store: Store) -> None:
        await store.put_group(
            task("child", edges=(Edge("now"),)),
            task("now", milestone=True, due=await store.now() + store.span(50)),
        )
        await store.place(task("later", edges=(Edge("now"),)))
        assert await store.states("now", "child", "later") == [State.COMPLETED, State.QUEUED, State.QUEUED]
        assert await store.tally() == {"default": {State.COMPLETED: 1, State.QUEUED: 2}}
        assert await store.take_ids(5) == ["child", "later"]

    async def test_a_milestone_behind_parents_that_had_ended_completes_at_once(self, store: Store) -> None:
        await store.settle(await store.start(task("ended")))
        await store.place(task("milestone", milestone=True, edges=(Edge("ended"),)))
        assert await store.state("milestone") is State.COMPLETED

    async def test_a_milestone_cannot_be_cancelled_and_goes_on_counting(self, store: Store) -> None:
        edges = (Edge("a", AFTER_ANY_END), Edge("b", AFTER_ANY_END))
        await store.place(task("a"), task("b"), task("milestone", milestone=True, edges=edges))
        assert not await store.apply(Cancel(id="milestone"))
        assert await store.apply(Cancel(id="a"))
        assert await store.state("milestone") is State.BLOCKED
        await store.settle(await store.start())
        assert await store.state("milestone") is State.COMPLETED
        assert (await store.get("milestone")).ends == (1, 0, 1, 0, 0)
        assert not await store.apply(Cancel(id="milestone"))

    async def test_a_child_counts_how_its_parents_ended(self, store: Store) -> None:
        await store.settle(await store.start(task("before")), State.DEAD)
        await store.place(*tasks(4, "p"))
        edges = tuple(Edge(f"p{n:05}", AFTER_ANY_END) for n in range(4))
        await store.place(task("child", edges=(Edge("before", AFTER_ANY_END), *edges, *edges)))
        assert (await store.get("child")).ends == (0, 0, 0, 0, 1)
        for state in (State.COMPLETED, State.FAILED, State.COMPLETED):
            await store.settle(await store.start(), state)
        assert (await store.get("child")).ends == (2, 1, 0, 0, 1)
        await store.settle(await store.start(), State.EXPIRED)
        child = await store.start()
        assert child.ends == (2, 1, 0, 1, 1)
        await store.settle(child)
        assert (await store.get("child")).ends == (2, 1, 0, 1, 1)

    async def test_what_ended_a_child_is_counted_and_nothing_after_it(self, store: Store) -> None:
        await store.place(*tasks(2, "p"), task("child", edges=(Edge("p00000"), Edge("p00001"))))
        assert (await store.get("child")).ends == ()
        await store.settle(await store.start(), State.FAILED)
        await store.settle(await store.start())
        assert (await store.get("child")).ends == (0, 1, 0, 0, 0)

    async def test_what_a_producer_says_of_ends_does_not_count(self, store: Store) -> None:
        await store.place(task("a"), task("b", ends=(9, 9, 9, 9, 9), edges=(Edge("a"),)))
        assert (await store.get("b")).ends == ()

    async def test_a_diamond_of_a_hundred_by_a_hundred_runs_to_its_end(self, store: Store) -> None:
        upper = tasks(100, "u", edges=(Edge("top"),))
        lower = tasks(100, "v", edges=tuple(Edge(record.id) for record in upper))
        bottom = task("bottom", edges=tuple(Edge(record.id, AFTER_SUCCESS) for record in lower))
        await store.put_group(task("top"), *upper, *lower, bottom)
        started: list[str] = []
        for size in (1, 100, 100, 1):
            layer = await store.take(1000)
            assert len(layer) == size
            started += [record.id for record in layer]
            moves = [Settle(id=one.id, token=one.token, state=State.COMPLETED) for one in layer]
            assert all(await store.backend.apply(moves))
        assert started[-1] == "bottom"
        assert await store.tally() == {"default": {State.COMPLETED: 202}}

    async def test_a_failure_goes_through_a_diamond_once(self, store: Store) -> None:
        upper = tasks(100, "u", edges=(Edge("top"),))
        lower = tasks(100, "v", edges=tuple(Edge(record.id) for record in upper))
        await store.put_group(task("top"), *upper, *lower)
        await store.settle(await store.start(), State.FAILED)
        await store.tend()
        assert await store.tally() == {"default": {State.FAILED: 1, State.CANCELLED: 200}}
        assert len((await store.get("v00050")).errors) == 1
