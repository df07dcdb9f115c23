"""What an attempt says: settle, retry, release, note."""

from __future__ import annotations

import pytest

from sitq.move import Cancel, Note, Release, Retry, Settle
from sitq.record import (
    DAY,
    ERRORS_KEPT,
    PROGRESS_KEPT,
    TERMINAL,
    Edge,
    Failure,
    Fair,
    Limit,
    Progress,
    State,
)
from sitq.testing.conformance.store import Store, task


class SettlePromises:
    """The end of a task."""

    @pytest.mark.parametrize("state", TERMINAL)
    async def test_a_task_ends_in_each_terminal_state(self, store: Store, state: State) -> None:
        assert await store.settle(await store.start(task("a")), state)
        assert await store.state("a") is state
        assert await store.take_ids(5) == []
        assert await store.tally() == {"default": {state: 1}}

    async def test_a_result_is_kept_to_the_byte(self, store: Store) -> None:
        result = bytes(range(256)) * 4 + b"\0"
        await store.settle(await store.start(task("a")), result=result)
        assert (await store.get("a")).result == result

    async def test_a_tenants_task_keeps_its_result_as_any_other(self, store: Store) -> None:
        tied = task("a", fair=Fair("tenant", 2.0))
        limited = task("b", limits=(Limit("key", slots=1),), fair=Fair("tenant"))
        for one in (tied, limited):
            assert await store.settle(await store.start(one), result=b"r")
            stored = await store.get(one.id)
            assert (stored.state, stored.result) == (State.COMPLETED, b"r")

    async def test_an_empty_result_is_told_from_none(self, store: Store) -> None:
        await store.settle(await store.start(task("a")), result=b"")
        await store.settle(await store.start(task("b")), result=None)
        assert ((await store.get("a")).result, (await store.get("b")).result) == (b"", None)

    async def test_what_follows_a_move_sees_the_moves_after_it(self, store: Store) -> None:
        first, second = await store.start(task("a")), await store.start(task("b"))
        after = task("c", edges=(Edge("b"),))
        await store.backend.apply(
            [
                Settle(id="a", token=first.token, state=State.COMPLETED, follow=(after,)),
                Settle(id="b", token=second.token, state=State.COMPLETED),
            ]
        )
        assert await store.take_ids(5) == ["c"]

    async def test_a_failure_is_kept_whole(self, store: Store) -> None:
        running = await store.start(task("a"))
        failure = Failure("raised", "module.Error", "it broke: \0 ü", "Traceback …\n" * 100, 1, 12345, "w1")
        await store.apply(Settle(id="a", token=running.token, state=State.FAILED, failure=failure))
        assert (await store.get("a")).errors == (failure,)

    async def test_the_end_is_dated_by_the_store(self, store: Store) -> None:
        running = await store.start(task("a"))
        await store.advance(1)
        before = await store.now()
        await store.settle(running)
        finished = (await store.get("a")).finished
        assert finished is not None
        assert before <= finished <= await store.now()

    async def test_the_start_is_that_of_the_last_attempt(self, store: Store) -> None:
        running = await store.start(task("a"))
        await store.advance(1)
        await store.apply(Retry(id="a", token=running.token or ""))
        before = await store.now()
        again = await store.start()
        assert again.started is not None
        assert before <= again.started

    async def test_a_success_is_kept_as_long_as_the_record_says(self, store: Store) -> None:
        await store.settle(await store.start(task("a", keep=7 * DAY, keep_failed=1)))
        stored = await store.get("a")
        assert stored.finished is not None
        assert stored.keep_until == stored.finished + 7 * DAY

    @pytest.mark.parametrize("state", [State.FAILED, State.DEAD])
    async def test_a_failure_is_kept_as_long_as_the_record_says(self, store: Store, state: State) -> None:
        await store.settle(await store.start(task("a", keep=1, keep_failed=7 * DAY)), state)
        stored = await store.get("a")
        assert stored.finished is not None
        assert stored.keep_until == stored.finished + 7 * DAY

    async def test_a_terminal_state_has_no_way_out(self, store: Store) -> None:
        running = await store.start(task("a"))
        await store.settle(running, result=b"first")
        for state in TERMINAL:
            await store.settle(running, state, result=b"second")
            await store.apply(Settle(id="a", state=state, result=b"third"))
        stored = await store.get("a")
        assert (stored.state, stored.result) == (State.COMPLETED, b"first")

    async def test_a_large_result_is_kept(self, store: Store) -> None:
        result = b"\xff\0" * (store.traits.max_payload // 4)
        await store.settle(await store.start(task("a")), result=result)
        assert (await store.get("a")).result == result

    async def test_many_tasks_are_settled_at_once(self, store: Store) -> None:
        await store.backend.put([[task(f"t{n}") for n in range(500)]])
        moves = [
            Settle(id=record.id, token=record.token, state=State.COMPLETED, result=record.id.encode())
            for record in await store.take(500)
        ]
        assert await store.backend.apply(moves) == [True] * 500
        assert {(await store.get(move.id)).result == move.id.encode() for move in moves[::50]} == {True}
        assert await store.tally() == {"default": {State.COMPLETED: 500}}


class RetryPromises:
    """Retries and releases."""

    async def test_a_retry_queues_the_task_again_and_counts_a_failure(self, store: Store) -> None:
        running = await store.start(task("a"))
        failure = Failure("raised", "ValueError", "boom", attempt=1)
        assert await store.apply(Retry(id="a", token=running.token or "", failure=failure))
        stored = await store.get("a")
        assert (stored.state, stored.failures, stored.attempt) == (State.QUEUED, 1, 1)
        assert stored.errors == (failure,)
        (again,) = await store.take()
        assert (again.attempt, again.failures) == (2, 1)

    @pytest.mark.parametrize("move", [Retry, Release])
    async def test_a_task_that_was_asked_to_stop_does_not_queue_again(
        self, store: Store, move: type[Retry | Release]
    ) -> None:
        running = await store.start(task("a"))
        await store.apply(Cancel(id="a", reason="enough"))
        said = move(id="a", token=running.token or "", follow=(task("next", queue="q"),))
        assert await store.apply(said)
        stored = await store.get("a")
        assert (stored.state, stored.failures) == (State.CANCELLED, 1 if move is Retry else 0)
        assert stored.errors[-1].message == "enough"
        assert await store.state("next") is State.QUEUED

    async def test_a_task_that_does_not_run_has_no_owner_lease_or_stop(self, store: Store) -> None:
        for name in ("retry", "release", "settle", "reclaim"):
            running = await store.start(task(name), lease=1)
            token = running.token or ""
            match name:
                case "retry":
                    await store.apply(Retry(id=name, token=token, delay=store.span(500)))
                case "release":
                    await store.apply(Release(id=name, token=token, delay=store.span(500)))
                case "settle":
                    await store.apply(Cancel(id=name))
                    await store.settle(running)
                case _:
                    await store.advance(2)
                    await store.reclaim()
            stored = await store.get(name)
            assert stored.state is not State.RUNNING
            assert (stored.owner, stored.lease_until, stored.stop) == (None, None, None)
            assert stored.token == token

    async def test_a_retry_waits_for_its_delay(self, store: Store) -> None:
        running = await store.start(task("a"))
        await store.apply(Retry(id="a", token=running.token or "", delay=store.span(5)))
        assert await store.take_ids() == []
        await store.advance(6)
        assert await store.take_ids() == ["a"]

    async def test_a_retry_forgets_the_crashes(self, store: Store) -> None:
        await store.start(task("a"), lease=1)
        await store.advance(2)
        (again,) = await store.take(worker="w2")
        await store.apply(Note(id="a", token=again.token or "", alone=1))
        await store.apply(Retry(id="a", token=again.token or ""))
        stored = await store.get("a")
        assert (stored.crashes, stored.alone, stored.failures) == (0, 0, 1)

    async def test_a_note_of_a_run_alone_that_is_said_twice_counts_once(self, store: Store) -> None:
        running = await store.start(task("a"))
        note = Note(id="a", token=running.token or "", alone=running.alone + 1)
        assert await store.apply(note)
        assert await store.apply(note)
        assert (await store.get("a")).alone == 1

    async def test_the_newest_failures_are_kept(self, store: Store) -> None:
        await store.place(task("a"))
        for number in range(ERRORS_KEPT + 3):
            running = await store.start()
            failure = Failure("raised", message=str(number))
            await store.apply(Retry(id="a", token=running.token or "", failure=failure))
        stored = await store.get("a")
        assert [failure.message for failure in stored.errors] == [str(n) for n in range(3, ERRORS_KEPT + 3)]
        assert stored.failures == ERRORS_KEPT + 3

    async def test_a_long_chain_of_retries_ends_well(self, store: Store) -> None:
        """Thirty days of retries, a day apart, do not outlive the record."""
        store.needs_frozen_clock()
        await store.place(task("a"))
        for attempt in range(1, 31):
            running = await store.start()
            assert running.attempt == attempt
            await store.apply(Retry(id="a", token=running.token or "", delay=DAY))
            await store.pass_microseconds(DAY)
            await store.tend()
        assert await store.settle(await store.start())

    async def test_a_release_costs_no_budget(self, store: Store) -> None:
        running = await store.start(task("a"))
        assert await store.apply(Release(id="a", token=running.token or ""))
        stored = await store.get("a")
        assert (stored.state, stored.failures, stored.errors) == (State.QUEUED, 0, ())
        assert (await store.start()).attempt == 2

    async def test_a_release_waits_for_its_delay(self, store: Store) -> None:
        running = await store.start(task("a"))
        await store.apply(Release(id="a", token=running.token or "", delay=store.span(5)))
        assert await store.take_ids() == []
        await store.advance(6)
        assert await store.take_ids() == ["a"]

    async def test_a_release_forgets_runs_alone_but_not_crashes(self, store: Store) -> None:
        await store.start(task("a"), lease=1)
        await store.advance(2)
        (again,) = await store.take(worker="w2")
        await store.apply(Note(id="a", token=again.token or "", alone=1))
        await store.apply(Release(id="a", token=again.token or ""))
        stored = await store.get("a")
        assert (stored.crashes, stored.alone) == (1, 0)

    async def test_a_release_may_tell_of_a_crash_and_does_so_once(self, store: Store) -> None:
        running = await store.start(task("a"))
        failure = Failure("crashed", message="its process was killed", attempt=1)
        said = Release(id="a", token=running.token or "", failure=failure, crashes=3, alone=2)
        assert await store.apply(said)
        assert await store.apply(said)
        stored = await store.get("a")
        assert (stored.state, stored.failures, stored.errors) == (State.QUEUED, 0, (failure,))
        assert (stored.crashes, stored.alone) == (3, 2)
        again = await store.start()
        assert (again.crashes, again.alone, again.errors) == (3, 2, (failure,))

    async def test_a_crash_that_the_store_saw_is_not_the_word_of_its_attempt(self, store: Store) -> None:
        running = await store.start(task("a"), lease=1)
        await store.advance(2)
        await store.reclaim()
        failure = Failure("crashed", message="its process was killed", attempt=1)
        said = Release(id="a", token=running.token or "", failure=failure, crashes=1, alone=1)
        assert not await store.apply(said)
        assert (await store.get("a")).alone == 0

    async def test_a_task_that_queues_again_keeps_its_notes_and_steps(self, store: Store) -> None:
        running = await store.start(task("a"))
        note = Note(id="a", token=running.token or "", progress=Progress(0.5, "half"), step=("s", b"bytes"))
        await store.apply(note)
        await store.apply(Retry(id="a", token=running.token or ""))
        (again,) = await store.take()
        assert again.steps == {"s": b"bytes"}
        assert [progress.message for progress in again.progress] == ["half"]


class NotePromises:
    """Notes of an attempt that goes on."""

    async def test_progress_is_kept_in_order(self, store: Store) -> None:
        running = await store.start(task("a"))
        for number in range(3):
            progress = Progress(number / 4, f"step {number}", at=number)
            assert await store.apply(Note(id="a", token=running.token or "", progress=progress))
        stored = await store.get("a")
        assert stored.progress == (
            Progress(0.0, "step 0", 0),
            Progress(0.25, "step 1", 1),
            Progress(0.5, "step 2", 2),
        )
        assert stored.state is State.RUNNING

    async def test_the_newest_notes_are_kept(self, store: Store) -> None:
        running = await store.start(task("a"))
        notes = [
            Note(id="a", token=running.token or "", progress=Progress(None, str(number)))
            for number in range(PROGRESS_KEPT + 5)
        ]
        assert all(await store.backend.apply(notes))
        messages = [progress.message for progress in (await store.get("a")).progress]
        assert messages == [str(number) for number in range(5, PROGRESS_KEPT + 5)]

    async def test_the_first_result_of_a_step_wins(self, store: Store) -> None:
        running = await store.start(task("a"))
        for value in (b"first", b"second"):
            await store.apply(Note(id="a", token=running.token or "", step=("step", value)))
        await store.apply(Note(id="a", token=running.token or "", step=("other", b"\0")))
        assert (await store.get("a")).steps == {"step": b"first", "other": b"\0"}

    async def test_runs_alone_are_counted(self, store: Store) -> None:
        await store.place(task("a"))
        for alone in (1, 2):
            (running,) = await store.take(lease=1)
            await store.apply(Note(id="a", token=running.token or "", alone=alone))
            assert (await store.get("a")).alone == alone
            await store.advance(2)

    async def test_a_note_does_not_touch_the_lease(self, store: Store) -> None:
        running = await store.start(task("a"))
        await store.apply(Note(id="a", token=running.token or "", progress=Progress(1.0)))
        assert (await store.get("a")).lease_until == running.lease_until
