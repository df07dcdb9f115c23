"""A store of which each call may fail, before or after it took effect."""

import random
import time

import pytest

from sitq import ConcurrencyLimit, Worker
from sitq.exceptions import BackendError
from sitq.exceptions import ConnectionError as StoreAwayError
from sitq.record import State
from sitq.worker import claim, settle

RUNS: list[object] = []


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    for module in (claim, settle):
        monkeypatch.setattr(module, "_FIRST_PAUSE", 0.001)
        monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.01)


async def note(what):
    RUNS.append(what)
    return what


class Unreliable:
    """One call in five fails: half of them before, half of them after they took effect."""

    dice: random.Random
    chance = 0.0

    async def _risk(self, operation, call):
        if self.dice.random() < self.chance / 2:
            raise StoreAwayError(f"{operation} does not come through", operation=operation)
        answer = await call()
        if self.dice.random() < self.chance / 2:
            raise StoreAwayError(f"the answer to {operation} was lost", operation=operation)
        return answer

    async def take(self, want):
        return await self._risk("take", lambda: super(Unreliable, self).take(want))

    async def apply(self, moves):
        return await self._risk("apply", lambda: super(Unreliable, self).apply(moves))

    async def tend(self, budget=1000):
        return await self._risk("tend", lambda: super(Unreliable, self).tend(budget))

    async def get(self, ids):
        return await self._risk("get", lambda: super(Unreliable, self).get(ids))


async def test_failures_of_every_call_cost_time_and_nothing_else(make_backend, queue, backend, stored):
    """Oban, graphile-worker: an error of the database killed the rescuer, or locked a named queue for ever.

    https://github.com/oban-bg/oban/issues/1030
    https://github.com/graphile/worker/issues/254
    """
    RUNS.clear()
    store = make_backend(Unreliable)
    store.dice = random.Random(11)
    ids = []
    for number in range(60):
        options = {"limits": [ConcurrencyLimit(1, key="serial")]} if number % 3 == 0 else {"priority": 0}
        ids.append(await queue.options(**options).enqueue(note, number))
    async with store:
        store.chance = 0.2
        async with Worker(store, max_concurrency=5, grace=5, poll_interval=0.05):
            for task_id in ids:
                assert await queue.get_result(task_id, timeout=30)
            store.chance = 0.0
    assert sorted(RUNS) == list(range(60))
    for task_id in ids:
        record = await stored(task_id)
        assert (record.state, record.attempt, record.crashes) == (State.COMPLETED, 1, 0)


class Away:
    """Outcomes do not come through for a while."""

    until = 0.0

    async def apply(self, moves):
        if time.monotonic() < self.until:
            raise StoreAwayError("away", operation="apply")
        return await super().apply(moves)


async def test_a_task_whose_outcome_does_not_come_through_is_not_run_by_others(
    make_backend, queue, backend, stored, eventually
):
    """What was done and could not be told in time must not be done again by somebody else."""
    RUNS.clear()
    store = make_backend(Away)
    async with store:
        store.until = time.monotonic() + 2.5
        async with Worker(store, lease=0.5, grace=10):
            task_id = await queue.enqueue(note, "once")
            await eventually(lambda: RUNS)
            async with Worker(backend, lease=0.5):
                assert await queue.get_result(task_id, timeout=15)
    record = await stored(task_id)
    assert RUNS == ["once"]
    assert (record.attempt, record.crashes) == (1, 0)


async def test_who_waits_for_a_result_is_told_of_the_failure_and_can_wait_again(make_backend, queue):
    """Celery, nats.py: a consumer was alive, connected, and never heard of anything again.

    https://github.com/celery/celery/issues/10205
    https://github.com/nats-io/nats.py/issues/234
    """
    from sitq import TaskQueue  # noqa: PLC0415

    store = make_backend(Unreliable)
    store.dice = random.Random(3)
    task_id = await queue.enqueue(note, 1)
    async with store, TaskQueue(store) as waiting:
        store.chance = 1.0
        with pytest.raises(BackendError):
            await waiting.get_result(task_id, timeout=5)
        store.chance = 0.0
        async with Worker(store):
            assert await waiting.get_result(task_id, timeout=10)
