"""Clashes of unique keys that replace, and those that queue again."""

from __future__ import annotations

from sitq.backends.base import Duplicate, Placed, Refused, Replaced
from sitq.move import Cancel, Retry
from sitq.record import Edge, State, Unique
from sitq.testing.conformance.store import Store, task

AGAIN = Unique("key", clash="again")
REPLACE = Unique("key", clash="replace")


class ClashPromises:
    """Clashes of unique keys that replace, and those that queue again."""

    async def test_replace_writes_the_new_payload_into_the_waiting_holder(self, store: Store) -> None:
        await store.place(task("a", payload=b"old", unique=Unique("key")))
        assert await store.put(task("b", payload=b"new", unique=REPLACE)) == [Replaced("a")]
        assert await store.find("b") is None
        (taken,) = await store.take(5)
        assert (taken.id, taken.payload) == ("a", b"new")

    async def test_replace_writes_the_new_due_time_into_the_waiting_holder(self, store: Store) -> None:
        await store.place(task("a", unique=Unique("key")))
        assert await store.put(task("b", delay=store.span(10), unique=REPLACE)) == [Replaced("a")]
        assert await store.take_ids() == []
        await store.advance(11)
        assert await store.take_ids() == ["a"]

    async def test_replace_can_bring_a_holder_forward(self, store: Store) -> None:
        await store.place(task("a", delay=store.span(100), unique=Unique("key")))
        assert await store.put(task("b", unique=REPLACE)) == [Replaced("a")]
        assert await store.take_ids() == ["a"]

    async def test_replace_writes_only_the_named_fields(self, store: Store) -> None:
        await store.place(task("a", payload=b"old", delay=store.span(10), unique=Unique("key")))
        due = (await store.get("a")).due
        only_payload = Unique("key", clash="replace", fields=("payload",))
        assert await store.put(task("b", payload=b"new", unique=only_payload)) == [Replaced("a")]
        assert ((await store.get("a")).payload, (await store.get("a")).due) == (b"new", due)
        only_due = Unique("key", clash="replace", fields=("due",))
        assert await store.put(task("c", payload=b"newer", unique=only_due)) == [Replaced("a")]
        assert (await store.get("a")).payload == b"new"
        assert (await store.get("a")).due < due

    async def test_replace_keeps_the_holders_place(self, store: Store) -> None:
        await store.place(task("a", unique=Unique("key")), task("z"))
        before = await store.get("a")
        await store.put(task("b", payload=b"new", priority=50, unique=REPLACE))
        after = await store.get("a")
        assert (after.sequence, after.priority, after.created) == (
            before.sequence,
            before.priority,
            before.created,
        )
        assert await store.take_ids(5) == ["a", "z"]

    async def test_replace_takes_over_the_newcomers_key(self, store: Store) -> None:
        await store.place(task("a", unique=Unique("key", "active")))
        newer = Unique("key", "waiting", clash="replace")
        assert await store.put(task("b", unique=newer)) == [Replaced("a")]
        assert (await store.get("a")).unique == newer
        await store.start()
        assert await store.put(task("c", unique=Unique("key"))) == [Placed("c")]

    async def test_replace_keeps_a_running_holder(self, store: Store) -> None:
        await store.start(task("a", payload=b"old", unique=Unique("key")))
        assert await store.put(task("b", payload=b"new", unique=REPLACE)) == [Duplicate("a")]
        assert (await store.get("a")).payload == b"old"

    async def test_replace_keeps_an_ended_holder(self, store: Store) -> None:
        window = Unique("key", "window", window=store.span(50))
        await store.settle(await store.start(task("a", payload=b"old", unique=window)))
        before = await store.snapshot("a")
        assert await store.put(task("b", payload=b"new", unique=REPLACE)) == [Duplicate("a")]
        assert await store.snapshot("a") == before

    async def test_replace_refuses_to_write_into_another_function(self, store: Store) -> None:
        await store.place(task("a", payload=b"old", unique=Unique("key")))
        answer = await store.put(task("b", name="other", payload=b"new", unique=REPLACE))
        assert answer == [Refused("b", "unique", "a")]
        assert (await store.get("a")).payload == b"old"

    async def test_replace_refuses_to_write_into_another_queue(self, store: Store) -> None:
        await store.place(task("a", payload=b"old", unique=Unique("key")))
        answer = await store.put(task("b", queue="other", payload=b"new", unique=REPLACE))
        assert answer == [Refused("b", "unique", "a")]
        assert await store.put(task("c", python="3.99", unique=REPLACE)) == [Refused("c", "unique", "a")]

    async def test_a_payload_that_was_brought_names_whose_it_was(self, store: Store) -> None:
        await store.place(task("a", payload=b"old", preview="old", unique=Unique("key")))
        assert (await store.get("a")).payload_of is None
        await store.put(task("b", payload=b"new", preview="new", unique=REPLACE))
        held = await store.get("a")
        assert (held.payload_of, held.preview) == ("b", "new")
        due = Unique("key", clash="replace", fields=("due",))
        await store.put(task("c", payload=b"newer", preview="newer", unique=due))
        held = await store.get("a")
        assert (held.payload, held.payload_of, held.preview) == (b"new", "b", "new")

    async def test_replace_refuses_to_write_arguments_into_a_blocked_holder(self, store: Store) -> None:
        waiting = task("a", payload=b"old", edges=(Edge("parent"),), unique=Unique("key"))
        await store.place(task("parent"), waiting)
        assert await store.put(task("b", payload=b"new", unique=REPLACE)) == [Refused("b", "unique", "a")]
        held = await store.get("a")
        assert (held.state, held.payload) == (State.BLOCKED, b"old")

    async def test_replace_refuses_to_write_arguments_into_a_holder_of_its_group_that_waits(
        self, store: Store
    ) -> None:
        holder = task("a", edges=(Edge("parent"),), unique=Unique("key"))
        answers = await store.put_group(task("parent"), holder, task("b", payload=b"new", unique=REPLACE))
        assert answers[-1] == Refused("b", "unique", "a")
        assert await store.find("a") is None

    async def test_replace_writes_arguments_into_a_holder_whose_parents_have_ended(
        self, store: Store
    ) -> None:
        await store.place(task("parent"), task("a", edges=(Edge("parent"),), unique=Unique("key")))
        await store.settle(await store.start())
        assert await store.put(task("b", payload=b"new", unique=REPLACE)) == [Replaced("a")]
        (taken,) = await store.take(5)
        assert (taken.id, taken.payload) == ("a", b"new")

    async def test_replace_writes_the_due_time_into_a_blocked_holder(self, store: Store) -> None:
        await store.place(task("parent"), task("a", edges=(Edge("parent"),), unique=Unique("key")))
        due = Unique("key", clash="replace", fields=("due",))
        assert await store.put(task("b", delay=store.span(10), unique=due)) == [Replaced("a")]
        await store.settle(await store.start())
        assert await store.take_ids() == []
        await store.advance(11)
        assert await store.take_ids() == ["a"]

    async def test_replace_writes_into_a_retry_that_waits(self, store: Store) -> None:
        running = await store.start(task("a", payload=b"old", unique=Unique("key")))
        await store.apply(Retry(id="a", token=running.token or "", delay=store.span(50)))
        assert await store.put(task("b", payload=b"new", unique=REPLACE)) == [Replaced("a")]
        (again,) = await store.take()
        assert (again.id, again.payload, again.attempt) == ("a", b"new", 2)

    async def test_a_burst_of_replacements_runs_once_with_the_last_payload(self, store: Store) -> None:
        debounce = Unique("key", clash="replace")
        await store.put(
            *(task(f"r{n}", payload=b"%d" % n, delay=store.span(5), unique=debounce) for n in range(50))
        )
        assert await store.tally() == {"default": {State.QUEUED: 1}}
        await store.advance(6)
        assert [record.payload for record in await store.take(5)] == [b"49"]

    async def test_an_oversized_replacement_is_refused(self, store: Store) -> None:
        await store.place(task("a", payload=b"old", unique=Unique("key")))
        size = store.traits.max_payload + 1
        answer = await store.put(task("b", payload=b"x" * size, unique=REPLACE))
        assert answer == [Refused("b", "payload", str(size))]
        assert (await store.get("a")).payload == b"old"

    async def test_replace_with_a_free_key_places(self, store: Store) -> None:
        assert await store.put(task("a", unique=REPLACE)) == [Placed("a")]

    async def test_replacing_the_due_time_gives_the_ttl_anew(self, store: Store) -> None:
        await store.place(task("a", ttl=store.span(5), unique=Unique("key")))
        await store.put(task("b", delay=store.span(20), unique=REPLACE))
        await store.advance(21)
        assert await store.take_ids() == ["a"]

    async def test_again_queues_one_more_behind_a_running_holder(self, store: Store) -> None:
        running = await store.start(task("a", unique=AGAIN))
        assert await store.put(task("b", unique=AGAIN)) == [Placed("b")]
        assert await store.state("b") is State.BLOCKED
        assert await store.take_ids() == []
        await store.settle(running)
        assert await store.take_ids() == ["b"]

    async def test_again_runs_whatever_end_the_holder_takes(self, store: Store) -> None:
        running = await store.start(task("a", unique=AGAIN))
        await store.place(task("b", unique=AGAIN))
        await store.settle(running, State.FAILED)
        assert await store.take_ids() == ["b"]

    async def test_again_keeps_a_waiting_holder(self, store: Store) -> None:
        await store.place(task("a", unique=AGAIN))
        assert await store.put(task("b", unique=AGAIN)) == [Duplicate("a")]

    async def test_again_queues_no_third(self, store: Store) -> None:
        await store.start(task("a", unique=AGAIN))
        assert await store.put(task("b", unique=AGAIN), task("c", unique=AGAIN)) == [
            Placed("b"),
            Duplicate("b"),
        ]

    async def test_again_hands_the_key_to_the_newcomer(self, store: Store) -> None:
        running = await store.start(task("a", unique=AGAIN))
        await store.place(task("b", unique=AGAIN))
        await store.settle(running)
        assert await store.put(task("c", unique=Unique("key"))) == [Duplicate("b")]

    async def test_again_waits_through_a_retry_of_the_holder(self, store: Store) -> None:
        running = await store.start(task("a", unique=AGAIN))
        await store.place(task("b", unique=AGAIN))
        await store.apply(Retry(id="a", token=running.token or ""))
        (second,) = await store.take(5)
        assert second.id == "a"
        await store.settle(second)
        assert await store.take_ids(5) == ["b"]

    async def test_again_keeps_its_own_edges_too(self, store: Store) -> None:
        running = await store.start(task("a", unique=AGAIN))
        await store.place(task("parent", queue="other"))
        await store.place(task("b", unique=AGAIN, edges=(Edge("parent"),)))
        await store.settle(running)
        assert await store.state("b") is State.BLOCKED
        await store.apply(Cancel(id="parent"))
        assert await store.state("b") is State.CANCELLED
