"""Fences: what an attempt says holds only under its token, and saying it twice is no fault."""

from __future__ import annotations

import pytest

from sitq.move import Lapse, Move, Note, Release, Retry, Settle
from sitq.record import Edge, Failure, Progress, Record, State
from sitq.testing.conformance.store import Store, task

WORDS = ("settle", "retry", "release", "note", "lapse")
FINAL_WORDS = ("settle", "retry", "release")


def word(kind: str, record: Record, token: str | None = None, follow: tuple[Record, ...] = ()) -> Move:
    """Something that an attempt may say."""
    fence = token or record.token or ""
    failure = Failure(kind="raised", message="boom")
    match kind:
        case "settle":
            return Settle(
                id=record.id, token=fence, state=State.COMPLETED, result=b"r", follow=follow, failure=failure
            )
        case "retry":
            return Retry(id=record.id, token=fence, failure=failure, follow=follow)
        case "release":
            return Release(id=record.id, token=fence, follow=follow)
        case "note":
            return Note(id=record.id, token=fence, progress=Progress(0.5, "note"), step=("s", b"s"))
        case _:
            return Lapse(id=record.id, token=fence)


class FencePromises:
    """Fences."""

    @pytest.mark.parametrize("kind", WORDS)
    async def test_a_word_under_the_token_is_kept(self, store: Store, kind: str) -> None:
        assert await store.apply(word(kind, await store.start(task("a"))))

    @pytest.mark.parametrize("kind", WORDS)
    async def test_a_word_under_a_wrong_token_is_lost_and_changes_nothing(
        self, store: Store, kind: str
    ) -> None:
        running = await store.start(task("a"))
        before = await store.snapshot("a")
        assert not await store.apply(word(kind, running, token="wrong"))
        assert not await store.apply(word(kind, running, token=(running.token or "") + " "))
        assert await store.snapshot("a") == before

    @pytest.mark.parametrize("kind", WORDS)
    async def test_a_word_about_an_unknown_task_is_lost(self, store: Store, kind: str) -> None:
        assert not await store.apply(word(kind, task("unknown"), token="any"))
        assert await store.find("unknown") is None

    @pytest.mark.parametrize("kind", WORDS)
    async def test_a_word_about_a_task_that_never_ran_is_lost(self, store: Store, kind: str) -> None:
        await store.place(task("a"))
        before = await store.snapshot("a")
        assert not await store.apply(word(kind, task("a"), token="any"))
        assert await store.snapshot("a") == before

    @pytest.mark.parametrize("kind", WORDS)
    async def test_the_word_of_an_attempt_that_was_reclaimed_is_lost(self, store: Store, kind: str) -> None:
        stale = await store.start(task("a"), lease=1)
        await store.advance(2)
        (current,) = await store.take(worker="w2")
        before = await store.snapshot("a")
        assert not await store.apply(word(kind, stale))
        assert await store.snapshot("a") == before
        assert await store.settle(current)

    @pytest.mark.parametrize("kind", WORDS)
    async def test_the_word_of_an_attempt_whose_task_queues_again_is_lost(
        self, store: Store, kind: str
    ) -> None:
        stale = await store.start(task("a"), lease=1)
        await store.advance(2)
        await store.reclaim()
        before = await store.snapshot("a")
        assert (await store.get("a")).state is State.QUEUED
        assert not await store.apply(word(kind, stale))
        assert await store.snapshot("a") == before

    @pytest.mark.parametrize("kind", WORDS)
    async def test_a_word_after_the_end_changes_nothing(self, store: Store, kind: str) -> None:
        running = await store.start(task("a"))
        await store.settle(running, State.FAILED)
        before = await store.snapshot("a")
        assert not await store.apply(word(kind, running)), "another word than the first"
        assert await store.snapshot("a") == before

    @pytest.mark.parametrize("kind", WORDS)
    async def test_a_word_after_a_retry_changes_nothing(self, store: Store, kind: str) -> None:
        running = await store.start(task("a"))
        await store.apply(Retry(id="a", token=running.token or "", failure=Failure(kind="raised")))
        before = await store.snapshot("a")
        kept = await store.apply(word(kind, running))
        assert await store.snapshot("a") == before
        assert kind in {"retry", "release"} or not kept

    @pytest.mark.parametrize("kind", WORDS)
    async def test_a_word_after_a_release_changes_nothing(self, store: Store, kind: str) -> None:
        running = await store.start(task("a"))
        await store.apply(Release(id="a", token=running.token or ""))
        before = await store.snapshot("a")
        kept = await store.apply(word(kind, running))
        assert await store.snapshot("a") == before
        assert kind in {"retry", "release"} or not kept

    @pytest.mark.parametrize("kind", FINAL_WORDS)
    async def test_a_word_said_twice_is_kept_twice_and_takes_effect_once(
        self, store: Store, kind: str
    ) -> None:
        running = await store.start(task("a"))
        assert await store.apply(word(kind, running))
        before = await store.snapshot("a")
        await store.advance(1)
        assert await store.apply(word(kind, running))
        assert await store.snapshot("a") == before

    @pytest.mark.parametrize("kind", FINAL_WORDS)
    async def test_a_word_said_twice_in_one_call_takes_effect_once(self, store: Store, kind: str) -> None:
        running = await store.start(task("a"))
        said = word(kind, running)
        assert await store.backend.apply([said, said]) == [True, True]
        stored = await store.get("a")
        assert stored.failures == (1 if kind == "retry" else 0)
        assert len(stored.errors) == (0 if kind == "release" else 1)

    @pytest.mark.parametrize("kind", ["retry", "release"])
    async def test_a_word_said_again_after_the_next_claim_does_not_touch_it(
        self, store: Store, kind: str
    ) -> None:
        first = await store.start(task("a"))
        await store.apply(word(kind, first))
        (second,) = await store.take(worker="w2")
        before = await store.snapshot("a")
        await store.apply(word(kind, first))
        assert await store.snapshot("a") == before
        assert await store.settle(second)

    @pytest.mark.parametrize("kind", FINAL_WORDS)
    async def test_follow_ups_are_put_with_the_move(self, store: Store, kind: str) -> None:
        running = await store.start(task("a", queue="q"))
        next_one = task("next", payload=b"next", delay=store.span(5))
        assert await store.apply(word(kind, running, follow=(next_one, task("more"))))
        assert await store.states("next", "more") == [State.QUEUED, State.QUEUED]
        assert (await store.get("next")).payload == b"next"
        assert await store.take_ids(5) == ["more"]

    @pytest.mark.parametrize("kind", FINAL_WORDS)
    async def test_follow_ups_of_a_lost_move_are_dropped(self, store: Store, kind: str) -> None:
        running = await store.start(task("a"))
        assert not await store.apply(word(kind, running, token="wrong", follow=(task("next"),)))
        assert await store.find("next") is None

    @pytest.mark.parametrize("kind", FINAL_WORDS)
    async def test_follow_ups_of_a_word_said_twice_are_put_once(self, store: Store, kind: str) -> None:
        running = await store.start(task("a", queue="q"))
        said = word(kind, running, follow=(task("next"),))
        assert await store.backend.apply([said, said]) == [True, True]
        await store.settle(await store.start())
        assert await store.apply(said)
        assert await store.tally() == {
            "default": {State.COMPLETED: 1},
            "q": {State.COMPLETED if kind == "settle" else State.QUEUED: 1},
        }

    @pytest.mark.parametrize("kind", FINAL_WORDS)
    async def test_a_follow_up_that_is_there_already_does_not_lose_the_move(
        self, store: Store, kind: str
    ) -> None:
        running = await store.start(task("a", queue="q"))
        await store.place(task("next", payload=b"first"))
        assert await store.apply(word(kind, running, follow=(task("next", payload=b"second"), task("more"))))
        assert (await store.get("next")).payload == b"first"
        assert await store.state("more") is State.QUEUED

    @pytest.mark.parametrize("kind", FINAL_WORDS)
    async def test_a_follow_up_that_is_refused_is_left_out_and_the_rest_holds(
        self, store: Store, kind: str
    ) -> None:
        running = await store.start(task("a", queue="q"))
        follow = (task("full", room=0), task("orphan", edges=(Edge("unknown"),)), task("next"))
        assert await store.apply(word(kind, running, follow=follow))
        assert await store.states("full", "orphan", "next") == [None, None, State.QUEUED]

    async def test_a_follow_up_may_depend_on_the_task_that_it_follows(self, store: Store) -> None:
        running = await store.start(task("a"))
        assert await store.apply(word("settle", running, follow=(task("next", edges=(Edge("a"),)),)))
        assert await store.take_ids() == ["next"]

    @pytest.mark.parametrize("kind", FINAL_WORDS)
    async def test_a_lease_that_ran_out_but_was_claimed_by_nobody_is_still_the_holders(
        self, store: Store, kind: str
    ) -> None:
        running = await store.start(task("a"), lease=1)
        await store.advance(2)
        assert await store.apply(word(kind, running))

    async def test_the_token_of_one_task_says_nothing_about_another(self, store: Store) -> None:
        one, other = await store.start(task("a")), await store.start(task("b"))
        assert not await store.apply(word("settle", one, token=other.token))
        assert await store.states("a", "b") == [State.RUNNING, State.RUNNING]

    async def test_lost_and_kept_moves_of_one_call_do_not_touch_each_other(self, store: Store) -> None:
        await store.place(task("a"), task("b"), task("c"))
        records = await store.take(3)
        moves = [
            word("settle", records[0]),
            word("settle", records[1], token="wrong"),
            word("settle", task("unknown"), token="any"),
            word("settle", records[2]),
        ]
        assert await store.backend.apply(moves) == [True, False, False, True]
        assert await store.states("a", "b", "c") == [State.COMPLETED, State.RUNNING, State.COMPLETED]

    async def test_moves_of_one_call_take_effect_in_order(self, store: Store) -> None:
        running = await store.start(task("a"))
        moves = [
            word("note", running),
            word("settle", running),
            word("note", running),
            word("retry", running),
        ]
        assert await store.backend.apply(moves) == [True, True, False, False]
        assert (await store.get("a")).state is State.COMPLETED

    async def test_a_thousand_zombies_are_refused(self, store: Store) -> None:
        await store.backend.put([[task(f"z{n}") for n in range(1000)]])
        stale = await store.take(1000, lease=1)
        await store.advance(2)
        current = await store.take(1000, worker="w2")
        assert len(current) == 1000
        zombies = await store.backend.apply([word("settle", record) for record in stale])
        assert zombies == [False] * 1000
        assert await store.backend.apply([word("settle", record) for record in current]) == [True] * 1000

    async def test_an_apply_of_nothing_does_nothing(self, store: Store) -> None:
        assert await store.backend.apply([]) == []
