"""Many callers, cancelled callers, other threads and loops, races."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Awaitable, Callable

import pytest

from sitq.backends.base import Answer, Duplicate, Placed, Refused, queue_topic
from sitq.exceptions import BackendError
from sitq.move import Cancel, Delete, Move, Retry, Settle
from sitq.record import Limit, Record, State, Unique
from sitq.testing.conformance.store import Store, task, tasks


def assert_speaks_of_loops(error: BackendError) -> None:
    """A store that cannot serve another event loop says that this is why."""
    assert "loop" in str(error)


class HygienePromises:
    """Many callers, and callers that are cancelled."""

    async def test_each_of_many_concurrent_callers_gets_its_own_answer(self, store: Store) -> None:
        await store.place(task("known"), task("holder", unique=Unique("key")))
        refusing = Unique("key", clash="refuse")
        pairs: list[tuple[Record, Answer]] = []
        for n in range(50):
            pairs += [
                (task(f"{n}"), Placed(f"{n}")),
                (task("known"), Duplicate("known")),
                (task(f"r{n}", unique=refusing), Refused(f"r{n}", "unique", "holder")),
                (task(unique=Unique("key")), Duplicate("holder")),
            ]
        answers = await asyncio.gather(*(store.put(record) for record, _ in pairs))
        assert [answer for (answer,) in answers] == [expected for _, expected in pairs]

    async def test_different_operations_at_once_do_not_mix_up_their_answers(self, store: Store) -> None:
        await store.place(*tasks(20))
        placed, got, cancelled, swapped = await asyncio.gather(
            asyncio.gather(*(store.put(task(f"n{n}", queue="new")) for n in range(20))),
            asyncio.gather(*(store.get(f"t{n:05}") for n in range(20))),
            asyncio.gather(*(store.apply(Cancel(id=f"t{n:05}" if n % 2 else "no")) for n in range(20))),
            asyncio.gather(*(store.backend.swap(f"c{n}", None, b"") for n in range(20))),
        )
        assert placed == [[Placed(f"n{n}")] for n in range(20)]
        assert [record.id for record in got] == [f"t{n:05}" for n in range(20)]
        assert cancelled == [bool(n % 2) for n in range(20)]
        assert swapped == [True] * 20

    @pytest.mark.parametrize("operation", ["put", "take", "apply", "get", "swap", "append", "tend"])
    async def test_a_caller_can_be_cancelled_at_each_await(self, store: Store, operation: str) -> None:
        """Whatever was cut off happened whole or not at all, and everybody else is served."""
        for awaits in range(12):
            victim, witness = f"victim-{awaits}", f"witness-{awaits}"
            await store.place(task(f"given-{awaits}", queue="given"))
            calls: dict[str, Callable[[str], Awaitable[object]]] = {
                "put": lambda id: store.put_group(task(id), task(id + "+")),
                "take": lambda id: store.take(1, claim=id, queues=("given",)),
                "apply": lambda id: store.apply(Cancel(id=id.replace("victim", "given"))),
                "get": store.find,
                "swap": lambda id: store.backend.swap(id, None, b""),
                "append": lambda id: store.backend.append(id, [b"a", b"b"]),
                "tend": lambda _: store.backend.tend(),
            }
            caller = asyncio.ensure_future(calls[operation](victim))
            for _ in range(awaits):
                await asyncio.sleep(0)
            caller.cancel()
            async with asyncio.timeout(20):
                answers, _ = await asyncio.gather(
                    store.put(task(witness)), asyncio.gather(caller, return_exceptions=True)
                )
            assert answers == [Placed(witness)]
            one, other = await store.states(victim, victim + "+")
            assert one == other
            assert len(await store.backend.read(victim)) in {0, 2}
        running = (await store.tally()).get("given", {}).get(State.RUNNING, 0)
        async with asyncio.timeout(20):  # a call that was cut off may still be under way
            while len(await store.scan_all()) != await _counted(store):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        # A claim that was cut off is found again by its id.
        if operation == "take":
            found = [await store.take(1, claim=f"victim-{n}", queues=("given",)) for n in range(12)]
            assert sum(map(len, found)) >= running

    async def test_cancelling_many_callers_leaves_the_others_their_answers(self, store: Store) -> None:
        callers = [asyncio.ensure_future(store.put(task(f"{n}"))) for n in range(100)]
        await asyncio.sleep(0)
        for caller in callers[::2]:
            caller.cancel()
        results = await asyncio.gather(*callers, return_exceptions=True)
        assert results[1::2] == [[Placed(f"{n}")] for n in range(1, 100, 2)]

    async def test_nothing_under_way_is_collected_as_garbage(self, store: Store) -> None:
        callers = [asyncio.ensure_future(store.put(task(f"{n}"))) for n in range(50)]
        while not all(caller.done() for caller in callers):
            gc.collect()
            await asyncio.sleep(0.001)
        assert await asyncio.gather(*callers) == [[Placed(f"{n}")] for n in range(50)]

    async def test_a_call_does_not_hold_up_the_loop(self, store: Store) -> None:
        longest = 0.0
        done = asyncio.Event()

        async def watch() -> None:
            nonlocal longest
            loop = asyncio.get_running_loop()
            while not done.is_set():
                before = loop.time()
                await asyncio.sleep(0)
                longest = max(longest, loop.time() - before)
                await asyncio.sleep(0.001)

        watcher = asyncio.ensure_future(watch())
        for n in range(20):
            await asyncio.gather(*(store.put(task()) for _ in range(10)), store.take(5, worker=f"w{n}"))
        done.set()
        await watcher
        assert longest < 1.0


class LoopPromises:
    """Other threads and their event loops: served, or told that they cannot be."""

    async def test_another_threads_loop_is_served_or_told(self, store: Store) -> None:
        async def use() -> list[str]:
            await store.place(task("there"))
            return await store.take_ids(5)

        try:
            taken = await asyncio.to_thread(lambda: asyncio.run(use()))
        except BackendError as error:
            assert_speaks_of_loops(error)
            return
        assert taken == ["there"]
        assert await store.state("there") is State.RUNNING

    async def test_threads_at_work_at_once_share_no_task(self, store: Store) -> None:
        await store.backend.put([tasks(200)])

        async def use() -> list[str]:
            taken: list[str] = []
            while batch := await store.take(5):
                taken += [record.id for record in batch]
                for record in batch:
                    assert await store.settle(record)
            return taken

        try:
            claims = await asyncio.gather(
                *(asyncio.to_thread(lambda: asyncio.run(use())) for _ in range(4)), use()
            )
        except BackendError as error:
            assert_speaks_of_loops(error)
            return
        taken = [id for claim in claims for id in claim]
        assert len(taken) == len(set(taken)) == 200

    async def test_a_hint_reaches_another_threads_loop(self, store: Store) -> None:
        ready = asyncio.Event()
        loop = asyncio.get_running_loop()

        async def wait() -> bool:
            listener = store.backend.listen([queue_topic("default")])
            loop.call_soon_threadsafe(ready.set)
            try:
                return await listener.wait(10)
            finally:
                listener.close()

        waiting = asyncio.ensure_future(asyncio.to_thread(lambda: asyncio.run(wait())))
        told = asyncio.ensure_future(ready.wait())
        await asyncio.wait([waiting, told], return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        await store.place(task("a"))
        try:
            assert await waiting
        except BackendError as error:
            assert_speaks_of_loops(error)

    async def test_a_loop_that_ended_harms_nobody(self, store: Store) -> None:
        def leave() -> None:
            async def use() -> None:
                store.backend.listen([queue_topic("default")])

            asyncio.run(use())

        try:
            await asyncio.to_thread(leave)
        except BackendError as error:
            assert_speaks_of_loops(error)
        await store.place(task("a"))
        assert await store.take_ids() == ["a"]


class RacePromises:
    """Two words about one task, in both orders and at once."""

    async def test_a_claim_after_a_cancellation_finds_nothing(self, store: Store) -> None:
        await store.place(task("a"))
        assert await store.apply(Cancel(id="a"))
        assert await store.take() == []
        assert (await store.get("a")).attempt == 0

    async def test_a_cancellation_after_a_claim_is_a_stop(self, store: Store) -> None:
        running = await store.start(task("a"))
        assert await store.apply(Cancel(id="a", reason="late"))
        assert [renewal.answer for renewal in await store.renew(running)] == ["stop"]

    async def test_claims_and_cancellations_at_once_agree(self, store: Store) -> None:
        await store.place(*tasks(60))
        claims, words = await asyncio.gather(
            asyncio.gather(*(store.take_ids(3, worker=f"w{n}") for n in range(10))),
            asyncio.gather(*(store.apply(Cancel(id=f"t{n:05}", running=False)) for n in range(60))),
        )
        claimed = {id for claim in claims for id in claim}
        cancelled = {f"t{n:05}" for n, kept in enumerate(words) if kept}
        assert not claimed & cancelled
        for id in claimed | cancelled:
            assert await store.state(id) is (State.RUNNING if id in claimed else State.CANCELLED)

    async def test_a_settle_before_the_reclaim_wins(self, store: Store) -> None:
        running = await store.start(task("a"), lease=1)
        await store.advance(2)
        assert await store.settle(running)
        assert await store.take_ids(worker="w2") == []
        assert (await store.get("a")).crashes == 0

    async def test_a_reclaim_before_the_settle_wins(self, store: Store) -> None:
        running = await store.start(task("a"), lease=1)
        await store.advance(2)
        assert await store.take_ids(worker="w2") == ["a"]
        assert not await store.settle(running)

    async def test_settles_and_reclaims_at_once_agree(self, store: Store) -> None:
        await store.place(*tasks(40))
        records = await store.take(40, lease=1)
        await store.advance(2)
        claims, words = await asyncio.gather(
            asyncio.gather(*(store.take_ids(4, worker=f"w{n}") for n in range(6))),
            asyncio.gather(*(store.settle(record, result=b"late") for record in records)),
        )
        again = {id for claim in claims for id in claim}
        settled = {record.id for record, kept in zip(records, words, strict=True) if kept}
        assert not again & settled
        for id in settled:
            assert await store.state(id) is State.COMPLETED
        for id in again:
            assert ((await store.get(id)).state, (await store.get(id)).attempt) == (State.RUNNING, 2)

    async def test_of_many_words_about_one_attempt_one_counts(self, store: Store) -> None:
        running = await store.start(task("a"))
        token = running.token or ""
        moves: list[Move] = [
            Settle(id="a", token=token, state=State.COMPLETED, result=b"1"),
            Settle(id="a", token=token, state=State.FAILED),
            Retry(id="a", token=token),
            Settle(id="a", token=token, state=State.CANCELLED),
        ]
        random.Random(7).shuffle(moves)
        await asyncio.gather(*(store.apply(move) for move in moves))
        stored = await store.get("a")
        assert stored.state in {State.COMPLETED, State.FAILED, State.QUEUED, State.CANCELLED}
        assert await store.tally() == {"default": {stored.state: 1}}
        assert stored.failures == (1 if stored.state is State.QUEUED else 0)

    async def test_puts_of_one_id_at_once_store_one(self, store: Store) -> None:
        answers = await asyncio.gather(*(store.put(task("a", payload=b"%d" % n)) for n in range(30)))
        assert sorted(type(answer).__name__ for (answer,) in answers) == ["Duplicate"] * 29 + ["Placed"]
        winner = next(n for n, (answer,) in enumerate(answers) if isinstance(answer, Placed))
        assert (await store.get("a")).payload == b"%d" % winner

    async def test_puts_of_one_key_at_once_store_one(self, store: Store) -> None:
        answers = await asyncio.gather(*(store.put(task(f"{n}", unique=Unique("k"))) for n in range(30)))
        (winner,) = [answer for (answer,) in answers if isinstance(answer, Placed)]
        others = [answer for (answer,) in answers if not isinstance(answer, Placed)]
        assert others == [Duplicate(winner.id)] * 29

    async def test_a_deletion_and_a_claim_at_once_agree(self, store: Store) -> None:
        for n in range(10):
            await store.place(task(f"{n}"))
            taken, deleted = await asyncio.gather(store.take(), store.apply(Delete(id=f"{n}")))
            assert bool(taken) != deleted
            for record in taken:
                await store.settle(record)

    async def test_two_objects_on_one_store_keep_one_count_of_slots(self, store: Store) -> None:
        store.needs_second_object()
        other = await store.reopened()
        await store.place(*tasks(20, limits=(Limit("key", slots=3),)))
        claims = await asyncio.gather(*(one.take(2) for _ in range(5) for one in (store, other)))
        assert sum(map(len, claims)) == 3


async def _counted(store: Store) -> int:
    return sum(sum(states.values()) for states in (await store.tally()).values())
