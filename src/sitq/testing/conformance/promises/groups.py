"""Groups: all or nothing."""

from __future__ import annotations

from itertools import pairwise

from sitq.backends.base import Answer, Duplicate, Placed, Refused
from sitq.record import Edge, State, Unique
from sitq.testing.conformance.store import Store, task, tasks


def refusals(answers: list[Answer]) -> list[tuple[str, str]]:
    """Which records of a group were refused, and why."""
    return [(answer.id, answer.why) for answer in answers if isinstance(answer, Refused)]


class GroupPromises:
    """Groups: all or nothing."""

    async def test_a_group_with_one_refused_record_is_not_stored_at_all(self, store: Store) -> None:
        await store.place(task("holder", unique=Unique("key")))
        answers = await store.put_group(task("a"), task("b", unique=Unique("key", clash="refuse")), task("c"))
        assert refusals(answers) == [("a", "group"), ("b", "unique"), ("c", "group")]
        assert await store.states("a", "b", "c") == [None, None, None]
        assert await store.tally() == {"default": {State.QUEUED: 1}}

    async def test_a_refused_group_touches_no_other(self, store: Store) -> None:
        answers = await store.backend.put(
            [[task("a")], [task("b"), task("c", edges=(Edge("unknown"),))], [task("d")]]
        )
        assert answers[0] == [Placed("a")]
        assert refusals(answers[1]) == [("b", "group"), ("c", "parent")]
        assert answers[2] == [Placed("d")]
        assert await store.states("a", "b", "c", "d") == [State.QUEUED, None, None, State.QUEUED]

    async def test_a_refused_group_holds_no_unique_key(self, store: Store) -> None:
        await store.put_group(task("a", unique=Unique("key")), task("b", edges=(Edge("unknown"),)))
        assert await store.put(task("c", unique=Unique("key", clash="refuse"))) == [Placed("c")]

    async def test_a_refused_group_uses_no_room(self, store: Store) -> None:
        await store.put_group(task("a", room=1), task("b", edges=(Edge("unknown"),)))
        await store.place(task("c", room=1))

    async def test_a_refused_group_replaces_nothing(self, store: Store) -> None:
        await store.place(task("holder", payload=b"old", unique=Unique("key")))
        before = await store.snapshot("holder")
        answers = await store.put_group(
            task("a", payload=b"new", unique=Unique("key", clash="replace")),
            task("b", edges=(Edge("unknown"),)),
        )
        assert ("b", "parent") in refusals(answers)
        assert await store.snapshot("holder") == before

    async def test_a_refused_group_leaves_no_edges_behind(self, store: Store) -> None:
        await store.place(task("parent"))
        await store.put_group(task("child", edges=(Edge("parent"),)), task("bad", edges=(Edge("unknown"),)))
        await store.place(task("child"))
        await store.settle(await store.start(), State.FAILED)
        assert await store.state("child") is State.QUEUED

    async def test_a_refused_group_can_be_put_again_when_its_ground_is_gone(self, store: Store) -> None:
        group = [task("a"), task("b", edges=(Edge("late"),))]
        assert refusals(await store.put_group(*group)) == [("a", "group"), ("b", "parent")]
        await store.place(task("late"))
        assert await store.put_group(*group) == [Placed("a"), Placed("b")]

    async def test_a_duplicate_is_no_ground_to_refuse_its_group(self, store: Store) -> None:
        await store.place(task("a"))
        assert await store.put_group(task("a"), task("b")) == [Duplicate("a"), Placed("b")]

    async def test_a_kept_holder_is_no_ground_to_refuse_its_group(self, store: Store) -> None:
        await store.place(task("holder", unique=Unique("key")))
        answers = await store.put_group(task("a", unique=Unique("key")), task("b"))
        assert answers == [Duplicate("holder"), Placed("b")]

    async def test_the_first_refusal_of_a_group_is_told_and_no_other(self, store: Store) -> None:
        await store.place(task("known"))
        answers = await store.put_group(
            task("a"),
            task("known"),
            task("b", edges=(Edge("unknown"),)),
            task("c", edges=(Edge("unknown too"),)),
        )
        assert refusals(answers) == [("a", "group"), ("b", "parent"), ("c", "group")]
        assert answers[1] == Duplicate("known")

    async def test_an_unknown_parent_is_told_after_everything_else(self, store: Store) -> None:
        answers = await store.put_group(task("a", edges=(Edge("unknown"),)), task("b", room=0))
        assert refusals(answers) == [("a", "group"), ("b", "full")]

    async def test_an_oversized_payload_refuses_its_group(self, store: Store) -> None:
        size = store.traits.max_payload + 1
        answers = await store.put_group(task("a"), task("b", payload=b"x" * size))
        assert refusals(answers) == [("a", "group"), ("b", "payload")]
        assert await store.tally() == {}

    async def test_an_unknown_parent_is_refused_by_name(self, store: Store) -> None:
        assert await store.put(task("a", edges=(Edge("nobody"),))) == [Refused("a", "parent", "nobody")]

    async def test_a_parent_may_stand_anywhere_in_its_group(self, store: Store) -> None:
        answers = await store.put_group(
            task("child", edges=(Edge("before"), Edge("after"))),
            task("after"),
            task("before"),
        )
        assert answers == [Placed("child"), Placed("after"), Placed("before")]
        assert await store.state("child") is State.BLOCKED

    async def test_a_parent_may_be_in_an_earlier_group_of_the_call(self, store: Store) -> None:
        answers = await store.backend.put([[task("parent")], [task("child", edges=(Edge("parent"),))]])
        assert answers == [[Placed("parent")], [Placed("child")]]

    async def test_a_parent_in_a_refused_group_is_unknown(self, store: Store) -> None:
        answers = await store.backend.put(
            [
                [task("parent"), task("bad", edges=(Edge("unknown"),))],
                [task("child", edges=(Edge("parent"),))],
            ]
        )
        assert answers[1] == [Refused("child", "parent", "parent")]

    async def test_a_parent_that_has_been_deleted_is_unknown(self, store: Store) -> None:
        await store.settle(await store.start(task("parent", keep=0)))
        await store.advance(1)
        await store.tend()
        assert await store.put(task("a", edges=(Edge("parent"),))) == [Refused("a", "parent", "parent")]

    async def test_a_task_that_depends_on_itself_is_refused(self, store: Store) -> None:
        assert await store.put(task("a", edges=(Edge("a"),))) == [Refused("a", "cycle", "a")]
        assert await store.find("a") is None

    async def test_a_cycle_within_a_group_is_refused(self, store: Store) -> None:
        answers = await store.put_group(
            task("a", edges=(Edge("c"),)),
            task("b", edges=(Edge("a"),)),
            task("c", edges=(Edge("b"),)),
            task("d"),
        )
        cycles = [answer for answer in answers if isinstance(answer, Refused) and answer.why == "cycle"]
        (cycle,) = cycles
        assert cycle.detail in {"a", "b", "c"}
        assert [why for id, why in refusals(answers) if id != cycle.id] == ["group"] * 3
        assert await store.tally() == {}

    async def test_a_large_group_is_stored_whole(self, store: Store) -> None:
        """10,000 tasks, each but the first behind the one before."""
        chain = tasks(10_000)
        for earlier, later in pairwise(chain):
            later.edges = (Edge(earlier.id),)
        answers = await store.put_group(*chain)
        assert answers == [Placed(record.id) for record in chain]
        assert await store.tally() == {"default": {State.QUEUED: 1, State.BLOCKED: 9999}}
        assert await store.take_ids(5) == ["t00000"]

    async def test_a_large_group_is_refused_whole(self, store: Store) -> None:
        group = tasks(10_000)
        group[-1].edges = (Edge("unknown"),)
        answers = await store.put_group(*group)
        assert refusals(answers)[-1] == ("t09999", "parent")
        assert len(refusals(answers)) == 10_000
        assert await store.tally() == {}

    async def test_a_large_cycle_is_found(self, store: Store) -> None:
        ring = tasks(3000)
        for earlier, later in zip(ring, [*ring[1:], ring[0]], strict=True):
            later.edges = (Edge(earlier.id),)
        answers = await store.put_group(*ring)
        assert "cycle" in {why for _, why in refusals(answers)}
        assert await store.tally() == {}

    async def test_many_groups_of_one_call_are_each_answered(self, store: Store) -> None:
        groups = [
            [task(f"{number}a"), task(f"{number}b", edges=(Edge(f"{number}a" if number % 3 else "no"),))]
            for number in range(300)
        ]
        answers = await store.backend.put(groups)
        for number, group in enumerate(answers):
            if number % 3:
                assert group == [Placed(f"{number}a"), Placed(f"{number}b")]
            else:
                assert refusals(group) == [(f"{number}a", "group"), (f"{number}b", "parent")]
        assert await store.tally() == {"default": {State.QUEUED: 200, State.BLOCKED: 200}}
