"""Putting tasks: what is stored, and what is answered."""

from __future__ import annotations

from sitq.backends.base import Duplicate, Placed, Refused
from sitq.record import NEVER, Edge, Fair, Limit, State, Unique
from sitq.testing.conformance.store import Store, task, tasks

SAID = [
    "id",
    "queue",
    "name",
    "payload",
    "preview",
    "priority",
    "deadline",
    "ttl",
    "timeout",
    "retry",
    "unique",
    "limits",
    "fair",
    "room",
    "inputs",
    "batch",
    "schedule",
    "instant",
    "retry_of",
    "executor",
    "tags",
    "keep",
    "keep_failed",
    "trace",
    "reply",
    "python",
    "version",
]


class PutPromises:
    """Putting tasks."""

    async def test_put_places_a_record_under_its_own_id(self, store: Store) -> None:
        assert await store.put(task("a")) == [Placed("a")]
        assert (await store.get("a")).id == "a"

    async def test_put_of_nothing_does_nothing(self, store: Store) -> None:
        assert await store.backend.put([]) == []
        assert await store.backend.put([[]]) == [[]]
        assert await store.tally() == {}

    async def test_what_the_producer_said_is_kept_to_the_letter(self, store: Store) -> None:
        record = task(
            "a",
            queue="q",
            name="module:function",
            payload=bytes(range(256)),
            preview="function(1, 2)",
            priority=100,
            deadline=NEVER,
            ttl=5_000_000,
            timeout=30_000_000,
            retry={"max_retries": 3, "base": 1.5, "nested": {"on": ["a", "b"]}},
            unique=Unique("key", "window", 7, "replace", ("due",)),
            limits=(Limit("l", 1, 2, 3, 4), Limit("m")),
            fair=Fair("tenant", 2.5),
            room=10,
            inputs=("p", "q"),
            batch="batch",
            schedule="nightly",
            instant=123,
            retry_of="before",
            executor="process",
            tags=("x", "y"),
            keep=1,
            keep_failed=2,
            trace={"traceparent": "00-11-22-01"},
            reply="reply/1",
            python="3.12",
            version=1,
        )
        await store.place(record)
        stored = await store.get("a")
        for field in SAID:
            assert getattr(stored, field) == getattr(record, field), field

    async def test_a_new_record_is_queued_with_the_stores_own_fields(self, store: Store) -> None:
        before = await store.now()
        await store.place(task("a"))
        stored = await store.get("a")
        after = await store.now()
        assert stored.state is State.QUEUED
        assert before <= stored.created <= after
        assert before <= stored.due <= after
        assert (stored.attempt, stored.failures, stored.crashes, stored.alone) == (0, 0, 0, 0)
        assert (stored.token, stored.owner, stored.lease_until, stored.stop) == (None, None, None, None)
        assert (stored.started, stored.finished, stored.result, stored.errors) == (None, None, None, ())

    async def test_of_a_record_only_the_producers_part_counts(self, store: Store) -> None:
        sly = task("a")
        sly.state = State.COMPLETED
        sly.attempt, sly.failures, sly.crashes, sly.sequence = 5, 6, 7, 10**9
        sly.token, sly.owner, sly.lease_until, sly.stop = "t", "w", 1, "stop"
        sly.finished, sly.keep_until, sly.result, sly.steps = 1, 1, b"r", {"s": b"s"}
        await store.place(sly, task("b"))
        stored = await store.get("a")
        assert (stored.state, stored.attempt, stored.failures, stored.crashes) == (State.QUEUED, 0, 0, 0)
        assert (stored.token, stored.owner, stored.lease_until, stored.stop) == (None, None, None, None)
        assert (stored.finished, stored.keep_until, stored.result, stored.steps) == (None, None, None, {})
        assert stored.sequence < (await store.get("b")).sequence
        assert await store.tend() == 0

    async def test_a_delay_is_folded_into_the_due_time(self, store: Store) -> None:
        await store.place(task("a", delay=store.span(5)), task("b", delay=7, edges=(Edge("a"),)))
        stored = await store.get("a")
        assert (stored.delay, stored.due) == (0, stored.created + store.span(5))
        assert (await store.get("b")).delay == 7

    async def test_sequences_rise_in_the_order_of_putting(self, store: Store) -> None:
        await store.backend.put([tasks(3, "a"), tasks(3, "b", queue="other")])
        await store.place(task("last"))
        ids = ["a00000", "a00001", "a00002", "b00000", "b00001", "b00002", "last"]
        sequences = [(await store.get(id)).sequence for id in ids]
        assert sequences == sorted(set(sequences))

    async def test_the_same_id_again_is_a_duplicate_and_changes_nothing(self, store: Store) -> None:
        await store.place(task("a", payload=b"first", priority=1))
        before = await store.snapshot("a")
        assert await store.put(task("a", payload=b"second", priority=9, queue="other")) == [Duplicate("a")]
        assert await store.snapshot("a") == before
        assert await store.tally() == {"default": {State.QUEUED: 1}}

    async def test_the_id_of_a_running_task_is_a_duplicate(self, store: Store) -> None:
        await store.start(task("a"))
        assert await store.put(task("a")) == [Duplicate("a")]
        assert await store.state("a") is State.RUNNING

    async def test_the_id_of_an_ended_task_is_a_duplicate(self, store: Store) -> None:
        await store.settle(await store.start(task("a")))
        assert await store.put(task("a")) == [Duplicate("a")]
        assert await store.state("a") is State.COMPLETED

    async def test_the_id_of_a_blocked_task_is_a_duplicate(self, store: Store) -> None:
        await store.place(task("parent"), task("a", edges=(Edge("parent"),)))
        assert await store.put(task("a")) == [Duplicate("a")]
        assert await store.state("a") is State.BLOCKED

    async def test_an_id_twice_in_one_call_is_stored_once(self, store: Store) -> None:
        assert await store.put(task("a", payload=b"1"), task("a", payload=b"2")) == [
            Placed("a"),
            Duplicate("a"),
        ]
        assert (await store.get("a")).payload == b"1"

    async def test_an_id_twice_in_one_group_is_stored_once(self, store: Store) -> None:
        answers = await store.put_group(task("a", payload=b"1"), task("a", payload=b"2"))
        assert answers == [Placed("a"), Duplicate("a")]
        assert (await store.get("a")).payload == b"1"
        assert await store.tally() == {"default": {State.QUEUED: 1}}

    async def test_a_put_whose_answer_was_lost_can_be_repeated(self, store: Store) -> None:
        group = [task("a", unique=Unique("key")), task("b", edges=(Edge("a"),), unique=Unique("other"))]
        assert await store.put_group(*group) == [Placed("a"), Placed("b")]
        before = await store.snapshot("a", "b")
        assert await store.put_group(*group) == [Duplicate("a"), Duplicate("b")]
        assert await store.snapshot("a", "b") == before

    async def test_a_payload_of_exactly_the_limit_is_taken(self, store: Store) -> None:
        payload = bytes(range(256)) * (store.traits.max_payload // 256)
        payload += b"x" * (store.traits.max_payload - len(payload))
        await store.place(task("a", payload=payload))
        assert (await store.get("a")).payload == payload
        (taken,) = await store.take()
        assert taken.payload == payload

    async def test_a_payload_one_byte_over_the_limit_is_refused_with_its_size(self, store: Store) -> None:
        size = store.traits.max_payload + 1
        answers = await store.put(task("a", payload=b"x" * size), task("b"))
        assert answers == [Refused("a", "payload", str(size)), Placed("b")]
        assert await store.find("a") is None

    async def test_an_empty_payload_is_a_payload(self, store: Store) -> None:
        await store.place(task("a", payload=b""))
        (taken,) = await store.take()
        assert taken.payload == b""

    async def test_a_full_queue_refuses(self, store: Store) -> None:
        await store.place(task("a", room=2), task("b", room=2))
        assert await store.put(task("c", room=2)) == [Refused("c", "full", "default")]
        assert await store.find("c") is None

    async def test_room_is_counted_within_one_call(self, store: Store) -> None:
        answers = await store.put(*tasks(4, room=3))
        assert [type(answer) for answer in answers] == [Placed, Placed, Placed, Refused]

    async def test_room_is_counted_within_one_group(self, store: Store) -> None:
        *_, last = answers = await store.put_group(*tasks(4, room=3))
        assert last == Refused("t00003", "full", "default")
        assert all(isinstance(answer, Refused) for answer in answers)
        assert await store.tally() == {}

    async def test_room_counts_blocked_and_delayed_tasks(self, store: Store) -> None:
        await store.place(task("parent", queue="elsewhere"))
        await store.place(task("blocked", edges=(Edge("parent"),)), task("later", delay=store.span(100)))
        assert await store.put(task("c", room=2)) == [Refused("c", "full", "default")]

    async def test_room_does_not_count_running_and_ended_tasks(self, store: Store) -> None:
        await store.settle(await store.start(task("ended")))
        await store.start(task("running"))
        await store.place(task("a", room=1))

    async def test_room_is_each_queues_own(self, store: Store) -> None:
        await store.place(*tasks(3, queue="crowded"), task("a", room=1))

    async def test_only_the_record_that_says_room_is_refused(self, store: Store) -> None:
        await store.place(task("a", room=1), task("b"), task("c", room=3))

    async def test_a_duplicate_is_no_ground_for_a_full_queue(self, store: Store) -> None:
        await store.place(task("a", room=1))
        assert await store.put(task("a", room=1)) == [Duplicate("a")]

    async def test_writing_to_a_record_handed_out_changes_nothing_stored(self, store: Store) -> None:
        await store.place(task("a", retry={"max": 1}, trace={"k": "v"}))
        record = await store.get("a")
        record.payload = b"spoilt"
        record.state = State.DEAD
        record.steps["step"] = b"spoilt"
        if record.retry is not None:
            record.retry["max"] = 99
        stored = await store.get("a")
        assert (stored.payload, stored.state, stored.steps) == (b"", State.QUEUED, {})
        assert stored.retry == {"max": 1}

    async def test_writing_to_a_claimed_record_changes_nothing_stored(self, store: Store) -> None:
        running = await store.start(task("a"))
        token = running.token
        running.token = "spoilt"
        running.steps["step"] = b"spoilt"
        stored = await store.get("a")
        assert stored.token == token
        assert stored.steps == {}

    async def test_writing_to_a_record_after_its_put_changes_nothing_stored(self, store: Store) -> None:
        record = task("a", payload=b"right")
        await store.place(record)
        record.payload = b"wrong"
        record.priority = 50
        stored = await store.get("a")
        assert (stored.payload, stored.priority) == (b"right", 0)

    async def test_get_answers_in_the_order_of_asking(self, store: Store) -> None:
        await store.place(task("a"), task("b"))
        records = await store.backend.get(["b", "unknown", "a", "b"])
        assert [record and record.id for record in records] == ["b", None, "a", "b"]
        assert await store.backend.get([]) == []

    async def test_get_reads_thousands_of_tasks_at_once(self, store: Store) -> None:
        await store.backend.put([tasks(3000)])
        ids = [f"t{number:05}" for number in reversed(range(3000))]
        assert [record and record.id for record in await store.backend.get(ids)] == ids
